"""How sentences name what a user gave: as an option of a command, or as an argument in Python."""


class Option:
    """Names of the command line."""

    # What to do where a server is named and only an export will do.
    export_itself = "name it with --model EXPORT in place of --server"

    @staticmethod
    def named(name: str, value=None) -> str:
        return f"--{name.replace('_', '-')}" + ("" if value is None else f" {value}")


class Argument:
    """Names in Python."""

    export_itself = "load its folder in place of the server"

    @staticmethod
    def named(name: str, value=None) -> str:
        return name if value is None else f"{name}={value!r}"
