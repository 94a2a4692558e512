"""The `facegan` command: parses arguments, calls a stage and prints its result.

Commands import what they need when they run, so that `facegan --help` is fast.
"""

import contextlib
import errno
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Annotated

import typer

from facegan.cli import (
    animate,
    checkpoints,
    doctor,
    export,
    faces,
    models,
    stages,
    track,
    view,
)
from facegan.cli import app as page
from facegan.cli.command import command_line
from facegan.cli.own_code import run_code_of_stage
from facegan.core.addresses import public_text
from facegan.core.errors import FaceganError, Interrupted, Unavailable

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option("--debug", envvar="FACEGAN_DEBUG", help="Show tracebacks of errors.")
    ] = False,
) -> None:
    """Train a face generator on a folder of photographs."""
    if debug:
        os.environ["FACEGAN_DEBUG"] = "1"


app.add_typer(stages.app)
app.add_typer(faces.app)
app.add_typer(animate.app)
app.add_typer(page.app)
app.add_typer(export.app)
app.add_typer(view.app)
app.add_typer(track.app)
app.add_typer(checkpoints.app)
app.add_typer(doctor.app)
app.add_typer(models.app, name="models")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception, and those that led to it."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _show_traceback(error: BaseException) -> None:
    """Print the traceback with `--debug`, and those of the exceptions that led to it."""
    if os.environ.get("FACEGAN_DEBUG") != "1":
        return
    for cause in _causes(error):
        cause.__suppress_context__ = False  # undoes `raise ... from None`
    from facegan.tracking.errors import redact

    sys.stderr.write(public_text(redact("".join(traceback.format_exception(error)))))


@contextlib.contextmanager
def _noted_interrupts() -> Iterator[list[int]]:
    """Yield a list that gets an entry with each Ctrl-C."""
    received = list[int]()

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.default_int_handler(number, frame)

    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler  # as with nohup
    ):
        yield received
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield received
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def main() -> None:
    """Run the command. User errors print one line and exit with status 1; tracebacks are for bugs.

    With `--debug` or `FACEGAN_DEBUG=1`, user errors have a traceback, too.
    """
    run_code_of_stage()
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")  # ASCII has no ±
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    received = list[int]()
    try:
        with _noted_interrupts() as received:
            app(prog_name="facegan")
    except Interrupted as error:
        _show_traceback(error)
        print(f"facegan: {error}; to resume: {command_line()}", file=sys.stderr)
        sys.exit(1)
    except FaceganError as error:
        _show_traceback(error)
        for line in str(error).splitlines():
            print(f"facegan: {public_text(line)}", file=sys.stderr)
        sys.exit(Unavailable.STATUS if isinstance(error, Unavailable) else 1)
    except OSError as error:  # a full disk, a folder without permission
        _show_traceback(error)
        # A copy names what it reads first; of a full disk, what it writes says where.
        name = (error.errno == errno.ENOSPC and error.filename2) or error.filename
        path = f"{name}: " if name else ""
        # Pillow's errors have no number, and with a filename no text other than their argument.
        reason = error.strerror or next(iter(error.args), type(error).__name__)
        print(f"facegan: {public_text(f'{path}{reason}')}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        # During their import, libraries turn Ctrl-C into other exceptions, or fail after it.
        was_interrupted = any(isinstance(cause, KeyboardInterrupt) for cause in _causes(error))
        if not (received or was_interrupted):
            raise
        _show_traceback(error)
        sys.exit(128 + signal.SIGINT)
