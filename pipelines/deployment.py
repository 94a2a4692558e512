"""A schedule's deployment on the Prefect server: its name, its runs."""

import hashlib
import platform
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled

from facegan.core.errors import FaceganError

SCHEDULED = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))


def place(root: Path) -> str:
    """The tag that says where a deployment's runs take place."""
    return f"{platform.node()}:{root}"


def default_name(root: Path) -> str:
    """A name for the project in this folder, so that its clones have schedules of their own."""
    folder = re.sub(r"[^\w.-]+", "-", root.name)
    return f"{folder}-{hashlib.sha256(place(root).encode()).hexdigest()[:8]}"


def check_name(name: str) -> None:
    """Raise a FaceganError unless this can be the name of a deployment."""
    if not re.fullmatch(r"\w([\w. -]*[\w.-])?", name):  # `.` alone would be a part of an address
        valid = "letters, digits, spaces, '.', '_' and '-', of which a letter or digit is first"
        raise FaceganError(f"--name {name!r}: valid: {valid}")


def find(client: SyncPrefectClient, name: str) -> DeploymentResponse | None:
    """Return the deployment `FLOW/NAME`, if the server has it."""
    try:
        return client.read_deployment_by_name(name)
    except ObjectNotFound:
        return None


def is_scheduled(client: SyncPrefectClient, deployment: DeploymentResponse) -> bool:
    """Return whether the server has scheduled a run, or somebody has paused the deployment.

    Raises:
        httpx.HTTPError: if the server is down or returns an error.
    """
    if deployment.paused or not any(schedule.active for schedule in deployment.schedules):
        return True
    return bool(_auto_scheduled(client, deployment, FlowRunFilter(state=SCHEDULED)))


def skip_missed(client: SyncPrefectClient, deployment: DeploymentResponse) -> None:
    """Cancel the runs that fell due while nothing ran, or another run did, except the last.

    Raises:
        httpx.HTTPError: if the server is down or returns an error.
    """
    before = FlowRunFilterNextScheduledStartTime.model_validate({"before_": datetime.now(UTC)})
    due = FlowRunFilter(state=SCHEDULED, next_scheduled_start_time=before)
    message = "fell due while nothing ran, or another run did; a later one replaces it"
    while missed := _auto_scheduled(client, deployment, due)[1:]:  # the server limits its answer
        for run in missed:
            client.set_flow_run_state(run.id, Cancelled(name="Skipped", message=message))


def _auto_scheduled(
    client: SyncPrefectClient, deployment: DeploymentResponse, runs: FlowRunFilter
) -> Sequence[FlowRun]:
    """Return runs that no person started, the last one first."""
    found = client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id])),
        flow_run_filter=runs,
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
    )
    return [run for run in found if run.auto_scheduled]
