"""The terms of use of a model: of the code, of the data, and of the public weights that its members started from."""

_OURS = "Code: Apache-2.0. BACH is CC BY-NC-ND 4.0; weights trained on it inherit its terms of use."


def licence_of(members, has_own: bool) -> str:
    """Return what an export's card says of its licence; ``has_own`` where somebody's own images trained a member."""
    starts = {each["source"]: each.get("licence") for member in members if (each := member.weights_origin)}
    words = [
        _OURS,
        *(["So do weights that trained on somebody's own images."] if has_own else []),
        *(
            f"Started from the weights {source}: {licence or 'their licence is not known here'}."
            for source, licence in sorted(starts.items())
        ),
    ]
    return " ".join(words)
