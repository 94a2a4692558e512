"""The result as an artifact on the run's page in Prefect's UI."""

import shlex

from prefect.artifacts import create_markdown_artifact

from pipelines.dag import Step
from pipelines.locks import Workspace
from pipelines.processes import output


def publish(steps: list[Step], workspace: Workspace) -> None:
    """Create an artifact of what the report commands of `dvc.yaml` print: Markdown.

    A failure is a warning, because the result itself is safe.
    """
    for step in steps:
        if not step.report:
            continue
        command = shlex.split(step.report)
        if markdown := output(command, workspace.repository, "no report"):
            create_markdown_artifact(markdown, key=f"{step.name}-report")
