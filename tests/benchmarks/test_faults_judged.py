"""Commands that break a promise under a fault, and what the campaign says of each."""

import pytest

from benchmarks.faults.commands import OLD, Command
from benchmarks.faults.ended import Ended
from benchmarks.faults.kinds import FAULTS, tries
from benchmarks.faults.tries import Outcome, Runner, judge, undisturbed

ERROR = "Error: The disk is full."


def ended(code=0, said="", answer="", **more):
    return Ended(code, said, answer, 1.0, (), **more)


@pytest.mark.parametrize(
    ("fault", "code", "said", "complaint"),
    [
        ("", 0, "a warning", ""),
        ("", 1, ERROR, ""),
        ("SIGTERM", 143, "Interrupted.", ""),
        ("SIGINT", 130, "Interrupted: 3 of 4 are kept.", ""),
        ("SIGKILL", -9, "", ""),
        ("", 1, f"epoch 2/9\n{ERROR}", ""),
        ("", 1, "Traceback (most recent call last):\nKeyError: 3", "a traceback: KeyError: 3"),
        ("", 1, "something", "no sentence at exit code 1: something"),
        ("", 1, f"HDF5: a page\nof it\n{ERROR}", "2 lines beside its sentence: HDF5: a page"),
        ("", 2, f"{ERROR}\n{ERROR}", f"1 lines beside its sentence: {ERROR}"),
        ("SIGTERM", -15, "", "it ended with -15: nothing was said"),
        ("SIGTERM", 130, "Interrupted.", "it ended with 130: Interrupted."),
        ("SIGINT", 143, "Interrupted.", "it ended with 143: Interrupted."),
        ("SIGINT", 1, ERROR, f"it ended with 1: {ERROR}"),
        ("full disk", 130, "Interrupted.", "it ended with 130: Interrupted."),
        ("SIGINT", 130, "", "no sentence at exit code 130: nothing was said"),
        ("", None, "", "it hangs"),
    ],
)
def test_how_a_command_may_end(fault, code, said, complaint):
    assert ended(code, said).complaint(fault, ended(0, "epoch 1/9").lines) == complaint


def test_a_command_that_goes_on_after_a_signal_is_seen():
    assert "went on after the signal" in ended(0, after=5).complaint("SIGTERM")
    assert ended(0, after=1).complaint("SIGTERM") == ""
    assert ended(0, after=5).complaint("full disk") == ""


def test_a_failed_input_is_said_by_its_row_and_not_by_the_name_of_a_column():
    rows = "path,label,error\na.png,benign,{}\n"
    assert ended(1, answer=rows.format("")).complaint().startswith("no sentence")
    assert ended(1, answer=rows.format("It is cut.")).sentence == "It is cut."
    assert ended(1, "1 of 2 failed", rows.format("It is cut.")).complaint() == ""
    assert ended(1, "1 of 2 failed\nmore", rows.format("It is cut.")).complaint().startswith("1 lines beside")


COMMAND = Command("make", ("make",), ("input",), ("result",))
REPLACING = Command("make --overwrite", ("make", "--overwrite"), ("input",), ("result",), old=("result",),
                    replaces_at_once=True)  # fmt: skip


class Fake(Runner):
    """Gives commands that are functions of the folder, one after the other."""

    def __init__(self, folder):
        super().__init__(folder)
        (self.base / OLD / "result").mkdir(parents=True)
        for name, text in (("input", "x"), (f"{OLD}/result/a", "old a"), (f"{OLD}/result/b", "old b")):
            (self.base / name).write_text(text)
        self.acts, self.given = [], []

    def give(self, words, folder=None, **fault):
        self.given.append(words)
        act = self.acts.pop(0)
        return act(self.folder) or ended()


def make(folder):
    (folder / "result").mkdir(exist_ok=True)
    for name in ("a", "b"):
        (folder / "result" / name).write_text(f"new {name}")


def half(folder):
    (folder / "result").mkdir(exist_ok=True)
    (folder / "result" / "a").write_text("new a")
    return ended(1, ERROR)


def refuses(sentence=ERROR, code=2):
    return lambda folder: ended(code, sentence)


def wrong(folder):
    make(folder)
    (folder / "result" / "b").write_text("other")


def also(name, act=make):
    def acts(folder):
        found = act(folder)
        (folder / name).mkdir() if name.endswith("/") else (folder / name).write_text("y")
        return found

    return acts


@pytest.fixture
def runner(tmp_path):
    return Fake(tmp_path)


def judged(runner, *acts, command=COMMAND, fault="full disk"):
    """Let a command end under a fault as the first act does, and after it as the others do."""
    runner.acts = [make, *acts]
    whole = undisturbed(runner, command)
    runner.lay_out(command)
    return judge(runner, command, whole, Outcome(command.name, fault, ""), runner.give(command.words))


def test_a_command_that_holds_its_promises_has_no_complaints(runner):
    assert judged(runner, half, make).complaints == []
    outcome = judged(runner, refuses())
    assert outcome.complaints == []
    assert outcome.is_untouched


@pytest.mark.parametrize(
    ("acts", "column", "said"),
    [
        ((lambda folder: ended(1, "Traceback"),), "said", "a traceback"),
        ((lambda folder: ended(None),), "said", "it hangs"),
        ((lambda folder: ended(1, ERROR, left=("process 7",)),), "clean", "left: process 7"),
        ((wrong,), "equals", "not equal: result/b"),
        ((half, wrong), "equals", "not equal: result/b"),
        ((also("input"),), "equals", "not equal: its input input"),
        ((half, half, half, half), "finishes", ERROR),
        ((half, refuses("something")), "finishes", "no sentence at exit code 2"),
        ((also(".part", half), make), "clean", "left: .part"),
        ((also("empty/", refuses()), make), "clean", "left: empty"),
    ],
)
def test_a_promise_that_is_broken_is_named(runner, acts, column, said):
    outcome = judged(runner, *acts)
    assert said in getattr(outcome, column)
    assert len(outcome.complaints) == 1


@pytest.mark.parametrize(
    ("acts", "is_lost"),
    [
        ((refuses(),), False),
        ((make,), False),
        ((also("result/.part", refuses()), make), False),
        ((half, make), True),
        ((lambda folder: (folder / "result" / "a").unlink(), make), True),
    ],
)
def test_what_was_there_is_kept_or_replaced_completely(runner, acts, is_lost):
    outcome = judged(runner, *acts, command=REPLACING)
    assert ("neither kept nor replaced: result/a, result/b" in outcome.equals) == is_lost


def test_a_command_is_given_again_as_its_sentence_says_and_else_as_it_was(runner):
    command = Command("make", ("make",), ("input",), ("result",), resume=("resume",))
    for sentence, words in (
        ("resume it with --resume, or start over with --overwrite", ("resume",)),
        ("start over with --overwrite", ("make", "--overwrite")),
        ("answer them with --again changed", ("make", "--again", "changed")),
        ("it is damaged", ("make",)),
    ):
        runner.given.clear()
        judged(runner, half, refuses(f"Error: {sentence}"), make, command=command)
        assert runner.given == [("make",)] * 3 + [words]


def test_what_cannot_be_read_undisturbed_is_not_compared(runner):
    def unreadable(folder):
        make(folder)
        (folder / "result" / "c.json").write_text("{")

    runner.acts = [unreadable]
    with pytest.raises(RuntimeError, match=r"result/c.json is unreadable"):
        undisturbed(runner, COMMAND)


def test_a_fault_that_has_not_come_is_not_taken_for_held(runner):
    runner.acts = [make]
    whole = undisturbed(runner, COMMAND)
    command = Command("make", ("make",), ("input",), ("result",), damages=("nothing",))
    runner.start = lambda words: type("", (), {"ended": lambda self: runner.give(words), "is_running": False})()
    for each in tries(command, whole, True, False):
        runner.acts = [make, make]
        outcome = each.run(runner, command, whole)
        assert not outcome.is_planted or each.fault == "read-only folder", each
    assert {each.fault for each in tries(command, whole, True, False)} == set(FAULTS)
