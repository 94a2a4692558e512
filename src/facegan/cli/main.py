"""The `facegan` command. It parses, calls a step and prints; modules load when a step needs them,
so that `facegan --help` is quick.
"""

import os
import shlex
import sys

import typer

from facegan.cli import checkpoints, stages, view
from facegan.core.errors import FaceganError, Interrupted

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From a folder of photographs to the best face generator it can train.",
)


app.add_typer(stages.app)
app.add_typer(view.app)
app.add_typer(checkpoints.app)


def _command_line() -> str:
    if "DVC_STAGE" in os.environ:  # which DVC sets for the commands of its stages
        return "dvc repro"
    command = shlex.join(["facegan", *sys.argv[1:]])
    if "TORCHELASTIC_RUN_ID" not in os.environ:  # which torchrun sets
        return command
    from facegan.runtime.distributed import command_line

    return command_line(command)


def main() -> None:
    """Run the command; a user's mistake ends it with one line and exit status 1."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        app(prog_name="facegan")
    except Interrupted as error:
        again = _command_line()
        print(f"facegan: {error}; to go on: {again}", file=sys.stderr)
        sys.exit(1)
    except FaceganError as error:
        for line in str(error).splitlines():
            print(f"facegan: {line}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:  # a full disk, a folder without permission
        where = f"{error.filename}: " if error.filename else ""
        print(f"facegan: {where}{error.strerror or error}", file=sys.stderr)
        sys.exit(1)
