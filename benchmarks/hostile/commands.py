"""The commands as doors: each is run in this process, as its user would, and all that it prints is looked at."""

import functools
import gzip
import json
import traceback
from pathlib import Path

from click.testing import CliRunner

from benchmarks.hostile.answer import ANSWERED, CRASHED, Answer, of_refusal
from benchmarks.hostile.watch import faults_of


def run(words, form: str = "terminal", allow: int = 3) -> Answer:
    """Run a command; ``form`` is what it prints on stdout, ``allow`` how many lines beside the sentence are usual."""
    from cli import cli

    done = CliRunner().invoke(cli, [str(word) for word in words])
    said, warned = (part.decode(errors="surrogateescape") for part in (done.stdout_bytes, done.stderr_bytes))
    if not isinstance(done.exception, SystemExit | None) or done.exit_code not in (0, 1, 2):
        shown = "".join(traceback.format_exception(*done.exc_info)) if done.exc_info else str(done.exit_code)
        return Answer(CRASHED, shown[-3000:])
    faults = [*_faults(form, said), *_faults("terminal", warned)]
    faults += ["it shows our code"] * ("Traceback (most" in said + warned)
    if done.exit_code == 0:
        return Answer(ANSWERED, said[-300:], faults)
    sentence = [line for line in warned.splitlines() if line.strip()]
    answer = of_refusal("\n".join([*(said.splitlines() if done.exit_code == 1 else []), *sentence[-allow:]]))
    return Answer(answer.kind, answer.words, faults + answer.faults)


def written(answer: Answer, out: Path) -> Answer:
    """Return an answer with the faults of what was written into a folder."""
    forms = {".html": "html", ".csv": "csv", ".json": "json file", ".geojson": "json file", ".gz": "json file",
             ".svg": "html"}  # fmt: skip
    for path in sorted(out.rglob("*")) if out.exists() else ():
        if path.is_file() and path.suffix in forms:
            data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            text = data.decode(errors="replace")
            answer.faults += [f"{path.name}: {fault}" for fault in _faults(forms[path.suffix], text)]
        answer.faults += [f"{path.name} is a link"] * path.is_symlink()
    return answer


def _faults(form, text) -> list[str]:
    try:
        return faults_of(form, text.encode(errors="surrogateescape").decode(errors="replace"))
    except json.JSONDecodeError as error:
        return [f"{form} cannot be read: {error}"]


def load_once() -> None:
    """Let the commands of this process share one loaded export: it is not what is attacked, and takes seconds."""
    from bach_keras.serving import exported

    exported.Export = functools.cache(exported.Export)
