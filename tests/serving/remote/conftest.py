"""A card as a server gives it: what is read of one, and no more."""

SAID = {
    "configs": ["bach"],
    "image_size": 32,
    "members": [{"node": "carci"}, {"node": "norbe"}, {"node": "invis"}],
    "trained_on": ["a.tif"],
    "chosen_on": ["b.tif"],
}
