"""The result as an artifact on the run's page in Prefect's UI."""

import re
import shlex

from prefect.artifacts import create_link_artifact, create_markdown_artifact

from pipelines.dag import Step
from pipelines.locks import Workspace
from pipelines.processes import output

LINK = re.compile(r"\[run\]\((https?://[^)\s]+)\)")


def publish(steps: list[Step], workspace: Workspace) -> None:
    """Create an artifact of the Markdown that the report commands of `dvc.yaml` print, and one
    of its link `run`.

    A failure is a warning, because the result itself is safe.
    """
    for step in steps:
        if not step.report:
            continue
        command = shlex.split(step.report)
        if markdown := output(command, workspace.repository, "no report"):
            create_markdown_artifact(markdown, key=f"{step.name}-report")
            if link := LINK.search(markdown):
                create_link_artifact(link[1], "run", key=f"{step.name}-run")
