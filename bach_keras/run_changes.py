"""In words, where the settings of a run differ from those that are wanted."""

import json

from bach_keras.fields import plain
from bach_keras.wording import counted

# What split_origin says beside the cause of a split. Earlier versions worded it otherwise, or left it out.
_SAID_OF_A_SPLIT = ("note", "patients")


def differences(settings: dict, wanted: dict) -> list[str]:
    """Compare what config.json says with what it would say of a run that starts now; only what is wanted counts."""
    found = []
    # JSON has lists and no tuples, so the settings are compared as a file gives them back.
    held = _as_read({name: settings.get(name) for name in wanted})
    for name, value in _as_read(wanted).items():
        own = held[name]
        if name in ("recipe", "versions"):
            own = own or {}
            keys = sorted({*own, *value})
            found += [_changed(key, own.get(key), value.get(key)) for key in keys if own.get(key) != value.get(key)]
        elif name == "split":
            moved = sum(set(own.get(part, [])) != set(value.get(part, [])) for part in {*own, *value})
            if moved:
                found.append(f"{counted(moved, 'part')} of the split hold{'s' if moved == 1 else ''} other images")
        elif name == "split_origin":
            if _cause(own) != _cause(value):
                found.append(_changed(name, _cause(own), _cause(value)))
        elif name == "weights_origin":
            if _file(own) != _file(value):
                found.append(_changed(name, own, value))
        elif own != value:
            found.append(_changed(name, own, value))
    return found


def _cause(split_origin: dict | None) -> dict:
    return {name: value for name, value in (split_origin or {}).items() if name not in _SAID_OF_A_SPLIT}


def _file(weights_origin: dict | None):
    """Return what tells a file of weights; what is known of it beside that, earlier versions said otherwise."""
    return (weights_origin or {}).get("sha256") or weights_origin


def _as_read(value):
    return json.loads(json.dumps(value))


def _changed(name: str, was, now) -> str:
    return f"{plain(name, 60)} was {plain(str(was), 200)}, is {plain(str(now), 200)}"
