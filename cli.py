#!/usr/bin/env python3
"""The command line. Its commands are in bach_keras/commands: each parses, calls one function and prints."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - older ones parse this file, and learn what is wrong
    found = sys.version.split()[0]
    print(f"Error: {sys.executable} is Python {found}, and 3.11 is needed: use .venv/bin/python.", file=sys.stderr)
    sys.exit(2)
try:
    import click
except ImportError as error:
    print(
        f"Error: {error}: the packages of this project are not installed for {sys.executable}. Run `make "
        ".venv/installed` once, and `source .venv/bin/activate` in each new shell.",
        file=sys.stderr,
    )
    sys.exit(2)

from bach_keras.commands.app import app
from bach_keras.commands.bulk import bulk
from bach_keras.commands.calibration import calibrate
from bach_keras.commands.console import start_console
from bach_keras.commands.data import data
from bach_keras.commands.doctor import doctor
from bach_keras.commands.evaluation import compare, evaluate, stability, verify_result
from bach_keras.commands.monitor import monitor
from bach_keras.commands.options import Failure, Stopped
from bach_keras.commands.options_file import take_options_file
from bach_keras.commands.predict import predict
from bach_keras.commands.reproduce import reproduce
from bach_keras.commands.runs import runs
from bach_keras.commands.serving import export, parity, serve
from bach_keras.commands.slide import slide
from bach_keras.commands.submit import submit
from bach_keras.commands.training import lr_find, train
from bach_keras.commands.version import version_option
from bach_keras.commands.weights import weights
from bach_keras.signals import exit_code, interrupt_in, terminable
from datasets.errors import UserError, WorkError, in_words
from datasets.escape import for_terminal


class Commands(click.Group):
    """A group whose commands end in one sentence where the user can mend what is wrong.

    Every other error is a bug of this project, so it shows its traceback.
    """

    def invoke(self, ctx):
        try:
            with terminable():
                return super().invoke(ctx)
        except BrokenPipeError:
            raise  # click ends quietly when the reader, such as head, has had enough
        except KeyboardInterrupt as error:
            raise Stopped("Interrupted.", exit_code(error)) from error
        except click.ClickException as error:
            error.message = for_terminal(error.message)
            raise
        except (UserError, OSError) as error:  # an OSError of work that has started is a WorkError
            raise Failure(_sentence(error)) from error
        except WorkError as error:
            raise click.ClickException(_sentence(error)) from error
        except Exception as error:
            if interrupt := interrupt_in(error):
                raise Stopped("Interrupted.", exit_code(interrupt)) from error
            if not _is_damaged_record(error):
                raise
            raise Failure(
                f"A prepared data set cannot be read ({_sentence(error.message)}): run `data verify`, then "
                "`data prepare --overwrite`."
            ) from error


def _sentence(error) -> str:
    """Return what an error says, on one line that is safe to print."""
    return for_terminal(" ".join(in_words(error).split()))


def _is_damaged_record(error: Exception) -> bool:
    """Say whether TensorFlow could not read a record file; it is imported by then, or it cannot have failed."""
    errors = getattr(sys.modules.get("tensorflow"), "errors", None)
    return errors is not None and isinstance(error, (errors.DataLossError, errors.NotFoundError))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@version_option
def cli():
    """Sort H&E breast histology images into normal, benign, in situ and invasive carcinoma.

    Research software, not a medical device.

    \b
    Example:
      python cli.py train --node norbe
    """
    start_console()


COMMANDS = (
    data, weights, lr_find, train, reproduce, runs, calibrate, evaluate, stability, compare, verify_result, export,
    predict, slide, bulk, monitor, submit, serve, app, parity, doctor,
)  # fmt: skip
for command in COMMANDS:
    cli.add_command(command)
take_options_file(cli)

if __name__ == "__main__":
    cli()
