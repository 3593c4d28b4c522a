"""What may be wrong with a machine: each check says how it is, and what to do."""
