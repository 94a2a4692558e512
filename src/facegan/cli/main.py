"""The `facegan` command: parses arguments, calls a stage and prints its result.

Commands import what they need when they run, so that `facegan --help` is fast.
"""

import os
import shlex
import sys

import typer

from facegan.cli import checkpoints, models, stages, view
from facegan.core.errors import FaceganError, Interrupted

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train a face generator on a folder of photographs.",
)


app.add_typer(stages.app)
app.add_typer(view.app)
app.add_typer(checkpoints.app)
app.add_typer(models.app, name="models")


def _command_line() -> str:
    """The command that resumes this one."""
    if "DVC_STAGE" in os.environ:  # set by DVC for the commands of its stages
        return "dvc repro"
    command = shlex.join(["facegan", *sys.argv[1:]])
    if "TORCHELASTIC_RUN_ID" not in os.environ:  # set by torchrun
        return command
    from facegan.runtime.distributed import command_line

    return command_line(command)


def main() -> None:
    """Run the command. User errors print one line and exit with status 1."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        app(prog_name="facegan")
    except Interrupted as error:
        print(f"facegan: {error}; to resume: {_command_line()}", file=sys.stderr)
        sys.exit(1)
    except FaceganError as error:
        for line in str(error).splitlines():
            print(f"facegan: {line}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:  # a full disk, a folder without permission
        path = f"{error.filename}: " if error.filename else ""
        print(f"facegan: {path}{error.strerror or error}", file=sys.stderr)
        sys.exit(1)
