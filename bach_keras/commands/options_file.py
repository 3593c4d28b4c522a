"""``--options FILE``: a command's options from a TOML file, or those of a training from a run's config.json."""

import difflib
import os
import tomllib
from pathlib import Path

import click

from bach_keras.commands.options import FOLDER, Failure
from bach_keras.fields import shown

MAX_BYTES = 2**20

HELP = "TOML file with options, under the command's name, here [{}]{}. What the command line says wins."
# Only train writes a file that says its own options.
OR_RUN = ", or a run's config.json to train it again"


def take_options_file(commands: click.Group, above: tuple[str, ...] = ()) -> None:
    """Give each command of a group, and of the groups in it, the option ``--options``."""
    for name, command in commands.commands.items():
        names = (*above, name)
        if isinstance(command, click.Group):
            take_options_file(command, names)
        else:
            words = HELP.format(".".join(names), OR_RUN if names == ("train",) else "")
            command.params.append(
                click.Option(
                    ["--options", "options_file"], type=FOLDER, metavar="FILE", help=words,
                    # Before the others, which then find their defaults.
                    is_eager=True, expose_value=False, callback=_take,
                )
            )  # fmt: skip


def _take(context, option, file):
    if file is None or context.resilient_parsing:
        return
    if file.suffix == ".json":
        context.default_map = _of_run(context, file)
        return
    tables = _read(file)
    commands = _commands(context.find_root().command)
    for names, table in _named(file, tables, commands):
        for key, value in table.items():
            _raw(file, names, _option(file, names, commands[names], key), key, value)
    names = _names(context)
    table = _table(tables, names)
    if table is None:
        raise Failure(
            f"{file} has no table [{'.'.join(names)}] of options for this command: add one, or leave --options out."
        )
    context.default_map = _defaults(context, file, names, table)


def _of_run(context, file: Path) -> dict:
    """Return the defaults of ``train`` by a run's config.json."""
    from bach_keras.commands.run_options import options_of_run

    names = _names(context)
    if names != ("train",):
        raise Failure(f"--options {file}: a run's config.json is for train; {' '.join(names)} takes a TOML file.")
    return _defaults(context, file, names, options_of_run(context, file))


def _names(context) -> tuple[str, ...]:
    """Return the words that name a command, such as data and prepare."""
    return (*_names(context.parent), context.info_name) if context.parent else ()


def _commands(group, above: tuple[str, ...] = ()) -> dict[tuple[str, ...], click.Command]:
    """Return every command by the words that name it."""
    found = {}
    for name, command in group.commands.items():
        names = (*above, name)
        found |= _commands(command, names) if isinstance(command, click.Group) else {names: command}
    return found


def _read(file: Path) -> dict:
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise Failure(f"--options {file}: it is larger than {MAX_BYTES} bytes, so it is not a file of options.")
        return tomllib.loads(content.decode("utf-8-sig"))  # some editors begin a file with a mark
    except OSError as error:
        raise Failure(f"--options {file} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:  # a number of too many digits too
        raise Failure(f"--options {file} is not TOML ({error}).") from error


def _named(file: Path, tables: dict, commands: dict, above: tuple[str, ...] = ()):
    """Yield the words and the table of each command that a file names; refuses every other name."""
    for name, table in tables.items():
        names = (*above, name)
        known = sorted({other[len(above)] for other in commands if other[: len(above)] == above})
        if name not in known:
            what = "a group or command" if not above else f"a command of {' '.join(above)}"
            meant = _meant(name, known) or ": options stand under the name of their command, such as [train]."
            raise Failure(f"{file}: {shown(name)} is not {what}{meant}")
        if not isinstance(table, dict):
            raise Failure(f"{file}: {'.'.join(names)} must be a table, [{'.'.join(names)}], of options.")
        if names in commands:
            yield names, table
        else:
            yield from _named(file, table, commands, names)


def _table(tables: dict, names: tuple[str, ...]) -> dict | None:
    for name in names:
        tables = tables.get(name)
        if tables is None:
            return None
    return tables


def _option(file: Path, names: tuple[str, ...], command: click.Command, key: str) -> click.Option:
    """Return the option of a command that a key names, as the command line does, without the hyphens before it."""
    options = {name[2:]: each for each in command.params for name in _long_names(each)}
    if key in options:
        return options[key]
    said = f"{file}: [{'.'.join(names)}] has no option {shown(key)}"
    switches = {
        name[2:]: each.opts[0][2:] for each in command.params for name in each.secondary_opts if name.startswith("--")
    }
    if key in switches:
        raise Failure(f"{said}: write {switches[key]} = false.")
    arguments = {each.name for each in command.params if isinstance(each, click.Argument)}
    if key.lower() in arguments:
        raise Failure(f"{said}: {key.upper()} is given on the command line.")
    raise Failure(said + (_meant(key, sorted(options)) or ": --help lists them."))


def _long_names(parameter) -> list[str]:
    is_option = isinstance(parameter, click.Option) and parameter.name != "options_file"
    return [name for name in parameter.opts if is_option and name.startswith("--")]


def _meant(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word.replace("_", "-"), known, n=1)
    return f": did you mean {close[0]}?" if close else ""


def _defaults(context, file: Path, names: tuple[str, ...], table: dict) -> dict:
    """Return what options are by a table, under the names that their command takes them by."""
    found = {}
    for key, value in table.items():
        option = _option(file, names, context.command, key)
        raw = _raw(file, names, option, key, value)
        if option.name in found:
            raise Failure(f"{file}: [{'.'.join(names)}] gives {key} twice, as the option has two names.")
        try:
            option.type_cast_value(context, raw)
        except click.BadParameter as error:
            raise Failure(f"{file}: {key} in [{'.'.join(names)}]: {error.message}") from error
        found[option.name] = raw
    return found


def _raw(file: Path, names: tuple[str, ...], option: click.Option, key: str, value):
    """Return a value as the command line would give it; refuses one of another type."""
    wanted, fits = _kind(option)
    values = value if option.multiple and isinstance(value, list) else [value]
    for each in values:
        if not fits(each):
            several = " or a list of such" if option.multiple else ""
            raise Failure(f"{file}: {key} in [{'.'.join(names)}] must be {wanted}{several}, not {shown(each)}.")
    if option.is_flag:
        return value
    # As a shell does, which knows nothing of types either: a run with its weight and a list of paths are plain text.
    raw = [os.path.expanduser(each) if _is_text(each) and each.startswith("~/") else str(each) for each in values]
    return raw if option.multiple else raw[0]


def _kind(option: click.Option):
    """Return what an option's value in TOML must be: in words, and as a test."""
    if option.is_flag:
        return "true or false", lambda value: isinstance(value, bool)
    if isinstance(option.type, click.types.IntParamType):
        return "a whole number", lambda value: _is_number(value) and isinstance(value, int)
    if isinstance(option.type, click.types.FloatParamType):
        return "a number", _is_number
    if isinstance(option.type, click.types.StringParamType | click.Path):
        return "text", _is_text
    # A choice of numbers, and what is a number or a word.
    return "text or a number", lambda value: _is_text(value) or _is_number(value)


def _is_text(value) -> bool:
    return isinstance(value, str) and "\0" not in value  # which no command line can hold


def _is_number(value) -> bool:
    # Python does not print whole numbers of very many digits.
    return isinstance(value, int | float) and not isinstance(value, bool) and not (value < -(2**63) or value > 2**63)
