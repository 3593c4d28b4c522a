"""What the shell completes, beyond the names of commands, options, choices and files, which click knows."""

from pathlib import Path

from click.shell_completion import CompletionItem

from datasets.config_names import KNOWN

# Where train puts its runs.
_RUNS = "runs/"
# Where config.json is below what is typed: a run may lie in folders, such as that of a tree of runs.
_PLACES = ("*/config.json", "*/*/config.json", "*/*/*/config.json")
_MOST = 200


def complete_run(context, option, incomplete: str) -> list[CompletionItem]:
    """Complete the folder of a run; where there is none, what the shell finds."""
    typed = incomplete or _RUNS
    found = [run for place in _PLACES for run in _matching(typed, place)]
    return [CompletionItem(path) for path in found[:_MOST]] or [CompletionItem(incomplete, type="file")]


def complete_init(context, option, incomplete: str) -> list[CompletionItem]:
    """Complete the words that ``--init`` takes, and the folders of runs."""
    words = [word for word in ("best", "histology", "imagenet", "none") if word.startswith(incomplete)]
    runs = complete_run(context, option, incomplete)
    return [CompletionItem(word) for word in words] + [item for item in runs if not words or item.type == "plain"]


def complete_config(context, option, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a configuration, own ones included, or of the last one of a join."""
    joined, _, last = incomplete.rpartition("+")
    names = (*KNOWN, *_own(context.params.get("data_dir")))
    before = f"{joined}+" if joined else ""
    return [CompletionItem(before + name) for name in names if name.startswith(last)]


def complete_protocol(context, option, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(word) for word in ("all", "kfold:5/1", "paper", "patient") if word.startswith(incomplete)]


def _matching(typed: str, pattern: str) -> list[str]:
    folder, _, start = typed.rpartition("/")
    root = Path(f"{folder}/" if folder or typed.startswith("/") else ".").expanduser()
    escaped = "".join(f"[{letter}]" if letter in "*?[" else letter for letter in start)
    try:
        return sorted(str(path.parent) for path in root.glob(escaped + pattern))
    except OSError:
        return []


def _own(data_dir) -> list[str]:
    try:
        from datasets.bach_bisque.prepared import own_sets

        return list(own_sets(data_dir))
    except (ImportError, OSError):  # a shell that completes shows no reasons
        return []
