"""Run the stages on several machines, one Prefect work pool after another.

`infra/prefect.yaml` deploys both flows. Prefect sends flow runs to pools, not tasks, so that each
pool gets one run of `stages_on_worker`, in a clean clone. Results go on through DVC's remote.
"""

from pathlib import Path
from typing import Any

import httpx
from dvc.exceptions import DvcException
from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
)
from prefect.client.schemas.objects import FlowRun, State
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from pydantic import BaseModel, ConfigDict

from facegan.core.errors import FaceganError
from facegan.core.parsing import parse_json
from pipelines import report, storage
from pipelines.dag import git, read_dag, stage_names
from pipelines.locks import exclusive
from pipelines.server import ensure_automation, wait_for_server
from pipelines.training import ALWAYS, run_stages

ROOT = Path(__file__).resolve().parents[1]
HASHES = "dvc-files"  # key of the artifact with the files that name the results
STARTS = 4  # of the same stages, if their worker or its machine is lost


class Part(BaseModel):
    """Stages, and the deployment of `stages_on_worker` whose pool runs them."""

    model_config = ConfigDict(extra="forbid")

    deployment: str
    stages: list[str]


@flow(name="facegan-stages")
def stages_on_worker(
    stages: list[str],
    commit: str | None = None,
    dvc_files: dict[str, str] | None = None,
    force: bool = False,
) -> State[Any]:
    """Run some stages in the clean clone that this file is in, and push the results.

    Args:
        stages: which ones.
        commit: which one to check out; by default the clone's.
        dvc_files: contents of `dvc.lock` and the `.dvc` files after the stages before, by path; by
            default the commit's.
        force: also run unchanged stages.
    """
    try:
        check_out(commit)
        dag = read_dag(ROOT)
        steps = dag.choose(stages)
        if not dag.has_remote:
            advice = "results pass through it from machine to machine: dvc remote add --default"
            raise FaceganError(f"dvc: no default remote; {advice} NAME URL, and commit .dvc/config")
    except (DvcException, OSError, FaceganError) as error:
        return Failed(message=str(error))
    with exclusive(ROOT, dag.tmp_dir) as workspace:
        for path, content in (dvc_files or {}).items():
            (ROOT / path).write_text(content, "utf-8")
        state = storage.pull(workspace, dag, steps)
        if state.is_completed():
            state = run_stages(steps, workspace, force, pull=True, keep=ALWAYS in stages)
        if state.is_completed():
            state = storage.push(workspace, dag)
        report.publish(steps if state.is_completed() else [], workspace)
        if not state.is_completed():
            return Failed(message=state.message)
        names = ["dvc.lock", *(step.name for step in dag.steps if step.is_file)]
        table = [{"path": name, "content": (ROOT / name).read_text("utf-8")} for name in names]
    create_table_artifact(table, key=HASHES, description="DVC's files after these stages")
    return Completed()


def check_out(commit: str | None) -> None:
    """Bring the clone to a commit, which may not be its branch's last one any more.

    Raises:
        FaceganError: if the commit is nowhere.
    """
    if commit and git(ROOT, "rev-parse", "HEAD") != commit:
        git(ROOT, "fetch", "--quiet", "origin", commit)
        git(ROOT, "checkout", "--quiet", "--detach", commit)
        if git(ROOT, "rev-parse", "HEAD") != commit:
            raise FaceganError(f"commit {commit}: git's remote does not have it; push it")


@flow(name="facegan-pools")
def training_on_pools(parts: list[Part], force: bool = False) -> State[Any]:
    """Run the stages on work pools, and compare the result with the champion.

    All parts run the same commit, the last one of this flow's clone. A part whose worker is lost
    starts again; its training resumes from its checkpoint. A part that fails does not.

    Args:
        parts: stages and their deployments, in order.
        force: also run unchanged stages.
    """
    try:
        check(parts)
    except (DvcException, OSError, FaceganError) as error:
        return Failed(message=str(error))
    parameters = {"commit": git(ROOT, "rev-parse", "HEAD"), "force": force}
    for part in parts:
        done = run_part(part, parameters)
        if done.state is None or not done.state.is_completed():
            message = done.state.message if done.state else "no state"
            return Failed(message=f"{part.deployment}: flow run '{done.name}': {message}")
        parameters["dvc_files"] = read_dvc_files(done)
    return Completed()


def check(parts: list[Part]) -> None:
    """Check that parts have each stage once, in DVC's order, and that their deployments exist.

    Raises:
        FaceganError: if not.
    """
    known = stage_names(read_dag(ROOT).steps)
    chosen = [name for part in parts for name in part.stages]
    if chosen != known:
        raise FaceganError(f"parts: stages {', '.join(chosen)}; valid: {', '.join(known)}")
    with get_client(sync_client=True) as client:
        ensure_automation(client, stages_on_worker.name)
        ensure_automation(client, training_on_pools.name)
        for part in parts:
            try:
                client.read_deployment_by_name(part.deployment)
            except ObjectNotFound as error:
                advice = "run `prefect deploy --all --prefect-file infra/prefect.yaml`"
                raise FaceganError(f"parts: no deployment {part.deployment}; {advice}") from error


def run_part(part: Part, parameters: dict[str, Any]) -> FlowRun:
    """Run a part until it ends, again if its worker is lost."""
    number = 1
    while True:
        try:
            run = run_deployment(
                part.deployment,
                parameters={"stages": part.stages, **parameters},
                idempotency_key=f"{flow_run.id}-{part.deployment}-{number}",
            )
        except httpx.HTTPError as error:
            refused = isinstance(error, httpx.HTTPStatusError) and error.response.status_code < 500
            if refused or not wait_for_server():
                raise
            continue  # the part goes on while the server is away, and its key finds it again
        assert isinstance(run, FlowRun)  # a coroutine in asynchronous flows
        if run.state is None or not run.state.is_crashed() or number == STARTS:
            return run
        number += 1
        message = "flow run '%s' of %s was lost (%s); starting it again"
        get_run_logger().warning(message, run.name, part.deployment, run.state.message)


def read_dvc_files(run: FlowRun) -> dict[str, str]:
    """Return what a run of `stages_on_worker` has left as `dvc_files`."""
    with get_client(sync_client=True) as client:
        (artifact,) = client.read_artifacts(
            artifact_filter=ArtifactFilter(
                flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]),
                key=ArtifactFilterKey(any_=[HASHES]),
            )
        )
    rows = parse_json(str(artifact.data))
    return {row["path"]: row["content"] for row in rows}
