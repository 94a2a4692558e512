"""The result as an artifact on the run's page in Prefect's UI."""

import shlex
import subprocess

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact

from pipelines.dag import Step
from pipelines.locks import Workspace
from pipelines.processes import environment

TIMEOUT = 300  # seconds; the registry may be far away


def publish(steps: list[Step], workspace: Workspace) -> None:
    """Create an artifact of what the report commands of `dvc.yaml` print: Markdown.

    A failure is a warning, because the result itself is safe.
    """
    for step in steps:
        if step.report and (markdown := _run(step.report, workspace)):
            create_markdown_artifact(markdown, key=f"{step.name}-report")


def _run(command: str, workspace: Workspace) -> str:
    try:
        done = subprocess.run(
            shlex.split(command),
            cwd=workspace.repository,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=TIMEOUT,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        last = str(getattr(error, "stderr", "") or error).strip().rpartition("\n")[2]
        get_run_logger().warning("no report: %s", last)
        return ""
    return done.stdout
