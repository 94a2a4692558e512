"""Serve the training flow on a cron schedule: `python -m pipelines.schedule --cron '0 2 * * *'`.

The schedule is active while this process runs. The Prefect UI shows the flow, and can trigger it.
"""

import argparse
import multiprocessing
import os
import signal
import sys
import threading
import time
from typing import Any

import httpx
from dvc.exceptions import DvcException
from prefect.client.orchestration import get_client
from prefect.runner import Runner
from prefect.schedules import Cron
from prefect.settings import PREFECT_API_URL

from facegan.core.errors import FaceganError
from pipelines.cron import next_times, shown
from pipelines.deployment import check_name, default_name, find, is_scheduled, place, skip_missed
from pipelines.photographs import Watched
from pipelines.photographs import watch as watch_photographs
from pipelines.server import START, check_server, ensure_automation
from pipelines.training import ROOT, training

# Seconds between checks. A server schedules a new deployment within seconds, three runs ahead.
WATCH_INTERVAL = 60
DAY = 86_400  # seconds


def watch(name: str) -> None:
    """Skip missed runs, and print a line when the server has scheduled none: its UI does not."""
    was_scheduled = True
    with get_client(sync_client=True) as client:
        while True:
            time.sleep(WATCH_INTERVAL)
            try:
                deployment = find(client, name)
                if deployment is None:  # deleted by a person
                    continue
                skip_missed(client, deployment)
                scheduled = is_scheduled(client, deployment)
            except httpx.HTTPError:
                continue  # Prefect's runner reports that the server is down
            if was_scheduled and not scheduled:
                problem = f"the Prefect server at {PREFECT_API_URL.value()} has scheduled no run"
                advice = "see its log; it needs its scheduler service and the locked packages"
                print(f"error: {problem} of {name}; {advice}", file=sys.stderr, flush=True)
            was_scheduled = scheduled


def stop(*_: Any) -> None:
    """Stop serving, as Ctrl-C in a terminal does, and terminate the current run."""
    for run in multiprocessing.active_children():
        run.terminate()
    signal.raise_signal(signal.SIGINT)


def read_options() -> argparse.Namespace:
    """Read the command line, and end with exit status 2 if something is wrong with it."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.schedule", description=__doc__)
    add = parser.add_argument
    add("--cron", required=True, help="when to run, such as '0 2 * * *'")
    add("--timezone", default="UTC", help="of --cron, such as Europe/Zurich")
    add("--paused", action="store_true", help="until resumed in the Prefect UI")
    help_photographs = "also run after photographs have arrived; checked every %(const)s SECONDS"
    add("--on-new-photographs", type=int, nargs="?", const=60, metavar="SECONDS",
        help=help_photographs)  # fmt: skip
    add("--name", default=default_name(ROOT), help="of the deployment; default: %(default)s")
    options = parser.parse_args()
    try:
        options.times = next_times(options.cron, options.timezone)
        check_name(options.name)
        interval = options.on_new_photographs
        if interval is not None and not 1 <= interval <= DAY:
            raise FaceganError(f"--on-new-photographs {interval}: valid: 1 to {DAY} seconds")
        options.watched = Watched(ROOT) if interval else None
    except (FaceganError, DvcException) as error:
        parser.exit(2, f"error: {error}\n")
    return options


def ready_server(deployment: str) -> None:
    """Check and prepare the server.

    Raises:
        FaceganError: if there is none, or another folder's schedule has the same name.
    """
    check_server(START)
    with get_client(sync_client=True) as client:
        ensure_automation(client, training.name)
        existing = find(client, deployment)
        if existing is None:
            return
        if place(ROOT) not in existing.tags:
            other = ", ".join(existing.tags) or "another folder"
            advice = f"choose another name, or: prefect deployment delete {deployment}"
            raise FaceganError(f"--name: {deployment} is the schedule of {other}; {advice}")
        skip_missed(client, existing)


def main() -> None:
    """Serve until stopped. The exit status is 2 for a bad schedule, 1 if there is no server."""
    options = read_options()
    deployment = f"{training.name}/{options.name}"
    try:
        ready_server(deployment)
    except FaceganError as error:
        sys.exit(f"error: {error}")
    print(f"{deployment}; next runs: {shown(options.times)}", flush=True)
    if options.watched:
        print(f"and after photographs have arrived in {options.watched.places}", flush=True)
    os.chdir(ROOT)  # Prefect finds and runs the flow's file relative to the current directory
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in background jobs
    # Prefect 3.8.8's own handler deadlocks: it waits for an event loop that waits for the handler.
    Runner.handle_sigterm = stop  # type: ignore[assignment,method-assign]
    threading.Thread(target=watch, args=(deployment,), daemon=True).start()
    if options.watched:
        arguments = (options.watched, deployment, options.on_new_photographs)
        threading.Thread(target=watch_photographs, args=arguments, daemon=True).start()
    training.serve(
        name=options.name,
        schedule=Cron(options.cron, timezone=options.timezone),
        paused=options.paused,
        tags=[place(ROOT)],
        limit=1,  # a second one would wait for the workspace
    )


if __name__ == "__main__":
    main()
