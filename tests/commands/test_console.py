import logging

import pytest

from bach_keras.commands import console


@pytest.fixture
def shown(capsys):
    """Return a function that logs under a name and returns what stdout and stderr got."""
    handler = console.Console()

    def log(name, level, message):
        handler.handle(logging.LogRecord(name, level, "", 0, message, (), None))
        return tuple(capsys.readouterr())

    return log


def test_progress_goes_to_stdout_and_warnings_to_stderr(shown):
    assert shown("bach_keras.training.fit", logging.INFO, "epoch 1") == ("epoch 1\n", "")
    assert shown("datasets.catalogue", logging.WARNING, "beware") == ("", "beware\n")


def test_a_line_of_the_log_cannot_forge_another(shown):
    assert shown("datasets.catalogue", logging.INFO, "a\nb\x1b") == ("a\\nb\\x1b\n", "")


def test_other_packages_show_their_warnings_under_their_name_and_nothing_else(shown):
    assert shown("keras", logging.INFO, "hello") == ("", "")
    assert shown("keras", logging.WARNING, "one\ntwo") == ("", "keras: one\nkeras: two\n")


def test_a_warning_that_a_user_can_do_nothing_about_is_left_out(shown):
    assert shown("tensorflow", logging.WARNING, "5 out of 5 calls triggered tf.function retracing.") == ("", "")


def test_each_line_is_shown_once_though_absl_logs_too(monkeypatch, capsys):
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    console.show_log()
    console.show_log()
    from absl import logging as absl_logging

    absl_logging.info("would give the root a handler of absl's own")
    logging.getLogger("callbacks.sgdr").info("once")
    captured = capsys.readouterr()
    assert captured.out.splitlines() == ["once"]
    assert "once" not in captured.err
