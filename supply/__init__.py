"""What the project is made of: the files of its packages by their digests, and their licences."""
