"""A flow as a command: its server, its signals, its exit status."""

import signal
import sys
from collections.abc import Callable
from typing import Any

import httpx
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_URL

from facegan.core.addresses import public_text
from facegan.core.errors import FaceganError
from pipelines.server import check_server, start_temporary_server


def run_flow(run: Callable[[], State[Any]]) -> None:
    """Run a flow once, and exit with status 1 and one line unless it completes."""
    for number in (signal.SIGHUP, signal.SIGTERM):  # as Ctrl-C: end the stage and the server
        if signal.getsignal(number) == signal.SIG_DFL:  # nohup ignores SIGHUP, and so do we
            signal.signal(number, signal.default_int_handler)
    try:
        if PREFECT_API_URL.value():
            check_server("start it, or unset PREFECT_API_URL for a temporary one")
        else:
            start_temporary_server()
        state = run()
    except KeyboardInterrupt:
        sys.exit("interrupted")
    except httpx.HTTPError as error:
        gone = f"the Prefect server does not answer any more ({public_text(str(error))})"
        sys.exit(f"error: {gone}; what has run stays in the workspace, and the next run goes on")
    except FaceganError as error:
        sys.exit(f"error: {error}")
    if not state.is_completed():
        sys.exit(f"error: {state.message}")
