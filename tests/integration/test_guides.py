"""The commands of README and guides, run in their order as they are written."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

import pytest

from conftest import make_params
from project import LONG_ENOUGH, ROOT, Project
from servers import answers, wait

pytestmark = pytest.mark.faults
WAYS = ("## Five ways to use it", "## Your own photographs")  # of the README: from, to
ALERTS = (
    "from prefect.blocks.notifications import SlackWebhook; "
    "SlackWebhook(url='https://example.com').save('alerts')"
)
# What a guide takes for granted -> commands that provide it.
GUIDES = {
    "README.md": (),
    "docs/faces.md": (),
    "docs/app.md": (),
    "docs/sharing.md": (),
    "docs/pipeline.md": (
        "prefect server start",
        "export PREFECT_API_URL=http://127.0.0.1:4200/api",
        f'python -c "{ALERTS}"',
    ),
    "docs/photographs.md": ("facegan sample photographs --count 400",),
    "docs/scores.md": (
        "facegan sample samples.zip --count 64",
        "facegan sample samples --count 64",
        "cp -r artifacts/reference other",
    ),
    "docs/training.md": (),
}
PLACEHOLDERS = {"SOURCE": "photographs", "SCHEDULER": "127.0.0.1"}
# Commands that run until they are stopped -> the address that answers, or the line that they print.
SERVERS = {
    "dask scheduler": "Scheduler at:",
    "dask worker": "Registered to:",
    "facegan app": "http://127.0.0.1:7860",
    "facegan ui": "http://127.0.0.1:5000",
    "mlflow models serve": "http://127.0.0.1:5001/ping",
    "prefect server start": "http://127.0.0.1:4200/api/health",
    "python -m http.server": "http://127.0.0.1:8000",
    "python -m pipelines.schedule": "next runs: ",
}
# The environment has them; a daemon and images; two machines.
NOT_RUN = ("pip install", "docker", "torchrun --nnodes")
ELSEWHERE = ("create_webhook", "X-MLflow-")  # of Python that tests/integration/test_servers.py runs


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Project:
    """One that has run every stage, with the names and shapes of the guides."""
    train = {**LONG_ENOUGH, "latent_dim": 100}
    params = make_params(train=train, register={"name": "facegan-digits"})
    project = Project(tmp_path_factory.mktemp("guides"), digits, params)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "pipelines", project.folder / "pipelines", ignore=ignored)
    project.run("dvc", "repro")
    project.commit("the first result")
    return project


def blocks(guide: str) -> list[tuple[str, str]]:
    """The language and the text of each block of commands or Python."""
    text = (ROOT / guide).read_text("utf-8")
    if guide == "README.md":
        start, end = map(text.index, WAYS)
        text = text[start:end]
    found = re.findall(r"^ *```(sh|python)\n(.*?)^ *```", text, re.M | re.S)
    return [(language, dedent(block)) for language, block in found]


def commands(text: str) -> list[str]:
    """The commands of a block, with values for its placeholders."""
    for name, value in PLACEHOLDERS.items():
        text = re.sub(rf"\b{name}\b", value, text)
    return text.replace("\\\n", " ").splitlines()


@dataclass
class Terminal:
    """Runs commands in a project, as in a terminal; those that serve, in the background."""

    project: Project
    folder: Path
    exports: list[str] = field(default_factory=list)
    servers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self, command: str) -> None:
        if command.startswith("export "):
            self.exports.append(command)
        elif sign := next((SERVERS[name] for name in SERVERS if command.startswith(name)), ""):
            self._serve(command, sign)
        elif not command.startswith(NOT_RUN):
            self.project.run("bash", "-c", "\n".join([*self.exports, self._named(command)]))

    def _named(self, command: str) -> str:
        """With the name of the last experiment."""
        if "dvc exp apply NAME" not in command:
            return command
        names = self.project.run("dvc", "exp", "list", "--name-only").split()
        return command.replace("NAME", names[0])

    def _serve(self, command: str, sign: str) -> None:
        assert not sign.startswith("http") or not answers(sign), f"{sign}: another program serves"
        path = self.folder / f"server-{len(self.servers)}.log"
        with path.open("wb") as log:
            server = subprocess.Popen(
                ["bash", "-c", "\n".join([*self.exports, f"exec {command}"])],
                cwd=self.project.folder, env=self.project.environment | {"BROWSER": "true"},
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.servers.append(server)

        def is_ready() -> bool:
            assert server.poll() is None, path.read_text()
            return answers(sign) if sign.startswith("http") else sign in path.read_text()

        wait(is_ready)


@contextmanager
def terminal(project: Project, folder: Path) -> Iterator[Terminal]:
    opened = Terminal(project, folder)
    opened.exports.append(
        f"export PREFECT_HOME={folder}/prefect PREFECT_SERVER_ANALYTICS_ENABLED=0"
    )
    try:
        yield opened
    finally:
        for server in reversed(opened.servers):
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(60)


@pytest.mark.parametrize("guide", GUIDES)
def test_every_command_of_a_guide_works(guide: str, project: Project, tmp_path: Path) -> None:
    found = blocks(guide)
    assert found
    with terminal(project, tmp_path) as opened:
        for command in GUIDES[guide]:
            opened.run(command)
        for language, text in found:
            if language == "python":
                if not any(words in text for words in ELSEWHERE):
                    project.run("python", "-c", text)
                continue
            for command in commands(text):
                opened.run(command)
            project.run("git", "add", "--all")
            project.run("git", "commit", "--quiet", "--allow-empty", "--message", "next")
