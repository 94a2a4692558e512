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
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.exceptions import PrefectHTTPStatusError
from prefect.runner import Runner
from prefect.schedules import Cron
from prefect.settings import PREFECT_API_URL

from facegan.core.errors import FaceganError
from pipelines.cron import next_times, shown
from pipelines.training import ROOT, training

NAME = "schedule"
DEPLOYMENT = f"{training.name}/{NAME}"
# Seconds between checks. A server schedules a new deployment within seconds, three runs ahead.
WATCH_INTERVAL = 60
START = "run `prefect server start`, and set PREFECT_API_URL=http://127.0.0.1:4200/api"


def server_problem() -> str | None:
    """Return why no Prefect server can be used, or None if one can."""
    url = PREFECT_API_URL.value()
    if not url:  # Prefect would start a temporary server, which ends with this process
        return "no Prefect server, because PREFECT_API_URL is not set"
    with get_client(sync_client=True) as client:
        error = client.api_healthcheck()
    return f"no Prefect server at {url} ({error!r})" if error else None


def is_scheduled(client: SyncPrefectClient) -> bool:
    """Return whether the server has scheduled a run of the deployment, or the user has paused it.

    Raises:
        httpx.HTTPError, PrefectHTTPStatusError: if the server is down or returns an error.
    """
    deployment = client.read_deployment_by_name(DEPLOYMENT)
    if deployment.paused or not any(schedule.active for schedule in deployment.schedules):
        return True
    scheduled = FlowRunFilterStateType(any_=[StateType.SCHEDULED])
    runs = client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id])),
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=scheduled)),
        limit=1,
    )
    return bool(runs)


def watch() -> None:
    """Print a line when the server has scheduled no run, because its UI does not show that."""
    was_scheduled = True
    with get_client(sync_client=True) as client:
        while True:
            time.sleep(WATCH_INTERVAL)
            try:
                scheduled = is_scheduled(client)
            except (httpx.HTTPError, PrefectHTTPStatusError):
                continue  # Prefect's runner reports that the server is down
            if was_scheduled and not scheduled:
                problem = f"the Prefect server at {PREFECT_API_URL.value()} has scheduled no run"
                advice = "see its log; it needs its scheduler service and the locked packages"
                print(f"error: {problem} of {DEPLOYMENT}; {advice}", file=sys.stderr, flush=True)
            was_scheduled = scheduled


def stop(*_: Any) -> None:
    """Stop serving, as Ctrl-C in a terminal does, and terminate the current run."""
    for run in multiprocessing.active_children():
        run.terminate()
    signal.raise_signal(signal.SIGINT)


def main() -> None:
    """Serve until stopped. The exit status is 2 for a bad schedule, 1 if there is no server."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.schedule", description=__doc__)
    parser.add_argument("--cron", required=True, help="when to run, such as '0 2 * * *'")
    parser.add_argument("--timezone", default="UTC", help="of --cron, such as Europe/Zurich")
    options = parser.parse_args()
    try:
        times = next_times(options.cron, options.timezone)
    except FaceganError as error:
        parser.exit(2, f"error: {error}\n")
    if problem := server_problem():
        parser.exit(1, f"error: {problem}; {START}\n")
    print(f"{DEPLOYMENT}; next runs: {shown(times)}", flush=True)
    os.chdir(ROOT)  # Prefect finds and runs the flow's file relative to the current directory
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in background jobs
    # Prefect 3.8.8's own handler deadlocks: it waits for an event loop that waits for the handler.
    Runner.handle_sigterm = stop  # type: ignore[assignment,method-assign]
    threading.Thread(target=watch, daemon=True).start()
    # One run at a time, because two would write the same artifacts.
    schedule = Cron(options.cron, timezone=options.timezone)
    training.serve(name=NAME, schedule=schedule, limit=1)


if __name__ == "__main__":
    main()
