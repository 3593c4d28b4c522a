"""All checks in order; one that fails in a way it did not foresee does not end the others."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from bach_keras.doctor import disk, images, memory, packages, ports, settings, tried
from bach_keras.doctor.child import Inside, inside
from bach_keras.doctor.finding import FAIL, PASS, WARN, Asked, Finding, failed, in_a_line

Found = Finding | list[Finding]

# Of this machine: they need nothing but Python, and are there at once.
FIRST: tuple[Callable[[Asked], Found], ...] = (
    packages.python,
    packages.packages,
    packages.parts,
    settings.variables,
    settings.text,
    settings.proxy,
    ports.ports,
    memory.memory,
    disk.disk,
    images.patients,
    images.sets,
)
# Of what is tried inside TensorFlow meanwhile.
THEN: tuple[Callable[[Asked, Inside], Found], ...] = (
    tried.tensorflow,
    tried.keras,
    tried.onednn,
    tried.convolutions,
    tried.half_precision,
    tried.gpu,
    tried.records,
    tried.weights,
)


def examine(asked: Asked) -> Iterator[Finding]:
    """Yield what each check found, as soon as it is known."""
    with inside(_files(asked), str(asked.model.absolute()) if asked.model else None) as tries:
        for check in FIRST:
            yield from guarded(check, asked)
        for check in (*THEN, *([tried.export] if asked.model else [])):
            yield from guarded(check, asked, tries)
        yield from guarded(settings.clock, asked)  # last, as it also looks at how the clock ran meanwhile


def guarded(check: Callable[..., Found], *given) -> list[Finding]:
    """Return what a check found; what it did not foresee is a FAIL too, with the reason."""
    try:
        found = check(*given)
    except Exception as error:
        name = f"{check.__module__.rpartition('.')[2]}.{check.__name__}"
        return [failed(name, f"the check itself failed: {in_a_line(error)}", "mend the other FAILs first")]
    return found if isinstance(found, list) else [found]


def _files(asked: Asked) -> dict[str, list[str]]:
    """Return the files of records of each set that is prepared; none where that cannot be found out."""
    try:
        found = [prepared for prepared in images.reachable_sets(asked) if prepared.is_built]
        return {prepared.config: images.record_files(prepared) for prepared in found}
    except Exception:  # the check of the sets says why
        return {}


def count(findings: Iterable[Finding]) -> dict[str, int]:
    counted = Counter(finding.status for finding in findings)
    return {status: counted[status] for status in (PASS, WARN, FAIL)}


def exit_code(counted: dict[str, int]) -> int:
    """Return 2 where something FAILs, 1 where something is to be warned of, else 0."""
    return 2 if counted[FAIL] else 1 if counted[WARN] else 0
