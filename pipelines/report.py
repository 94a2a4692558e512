"""The result as an artifact on the run's page in Prefect's UI."""

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from prefect import get_run_logger
from prefect.artifacts import create_link_artifact, create_markdown_artifact

from facegan.core.addresses import public_text
from pipelines.dag import Step
from pipelines.locks import Workspace
from pipelines.processes import output
from pipelines.server import wait_for_server

LINK = re.compile(r"\[run\]\((https?://[^)\s]+)\)")


def publish(steps: list[Step], workspace: Workspace) -> None:
    """Create an artifact of the Markdown that the report commands of `dvc.yaml` print, and one
    of its link `run`.

    A server that is away is waited for. A failure is a warning, because the result itself is safe.
    """
    wait_for_server()
    for step in steps:
        if not step.report:
            continue
        command = shlex.split(step.report)
        if markdown := output(command, workspace.repository, "no report"):
            with optional("no report"):
                create_markdown_artifact(markdown, key=f"{step.name}-report")
                if link := LINK.search(markdown):
                    create_link_artifact(link[1], "run", key=f"{step.name}-run")


@contextmanager
def optional(lacking: str) -> Iterator[None]:
    """Make a warning of a server that does not answer; `lacking` is what there is not then."""
    try:
        yield
    except httpx.HTTPError as error:
        get_run_logger().warning("%s: Prefect: %s", lacking, public_text(str(error)))
