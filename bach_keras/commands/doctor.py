"""The command that examines this machine."""

import json
import sys
import time

import click

from bach_keras.commands.console import echo, say
from bach_keras.commands.options import FOLDER, new_data_dir_option


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: the checks, and a summary.")
@click.option("--model", type=FOLDER, help="An export to open as well.")
@click.option("--gpu", "expects_gpu", is_flag=True, help="Let it be a FAIL that TensorFlow sees no GPU.")
@new_data_dir_option
def doctor(as_json, model, expects_gpu, data_dir):
    """Say what is wrong with this machine, its packages and files, and what to do: PASS, WARN or FAIL a line.

    It takes about ten seconds, and works where other commands do not even start. What may be missing, such
    as an optional part or a data set, is a PASS. The exit code is 0 where everything is a PASS, 2 where anything is a
    FAIL, and else 1.

    \b
    Example:
      python cli.py doctor
      python cli.py doctor --json --model saved_models/demo/1
    """
    from bach_keras.doctor.examine import count, examine, exit_code
    from bach_keras.doctor.finding import Asked

    began, findings = time.monotonic(), []
    for finding in examine(Asked(data_dir, model, expects_gpu)):
        findings.append(finding)
        if not as_json:
            say(f"{finding.status}  {finding.name}: {finding.value}")
            if finding.fix:
                say(f"      fix: {finding.fix}")
    counted, seconds = count(findings), round(time.monotonic() - began, 1)
    if as_json:
        summary = {**counted, "exit_code": exit_code(counted), "seconds": seconds}
        echo(json.dumps({"checks": [finding.as_json for finding in findings], "summary": summary}, indent=1))
    else:
        words = ", ".join(f"{number} {status}" for status, number in counted.items())
        say(f"{len(findings)} checks in {seconds:.0f} s: {words}")
    sys.exit(exit_code(counted))
