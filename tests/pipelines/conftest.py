import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import DVC_YAML, ROOT, TRAIN, Api, Copy, Environment, prefect_server


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment without a Prefect server and without the user's own settings."""
    # Without PYTHONDONTWRITEBYTECODE, Prefect is compiled once, not in every run.
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "DVC_", "PYTHON"))}
    identity = ("AUTHOR_NAME", "AUTHOR_EMAIL", "COMMITTER_NAME", "COMMITTER_EMAIL")
    kept |= {f"GIT_{name}": "a@example.com" for name in identity}
    return kept | {
        "SHELL": "/bin/sh",
        "PREFECT_HOME": str(tmp_path_factory.mktemp("home")),
        "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}",
    }


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory, environment: Environment) -> Path:
    """A git and DVC repository in which no stage has run."""
    root = tmp_path_factory.mktemp("repository")
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").write_text("[core]\nanalytics = false\ncheck_update = false\n")
    (root / ".dvc" / ".gitignore").write_text("/tmp\n/cache\n")
    (root / "data").mkdir()
    (root / "data" / "photograph").write_text("a face\n")
    (root / "dvc.yaml").write_text(DVC_YAML)
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "add", "-q", "data"]):
        subprocess.run(command, cwd=root, env=environment, check=True)
    return root


@pytest.fixture(scope="session")
def copy(
    repository: Path, environment: Environment, tmp_path_factory: pytest.TempPathFactory
) -> Copy:
    """Copies the repository, and commits it with another command for its training."""

    def make(train: str = TRAIN) -> Path:
        root = tmp_path_factory.mktemp("copy") / "a repository"
        shutil.copytree(repository, root)
        (root / "dvc.yaml").write_text(DVC_YAML.replace(TRAIN, train))
        for command in (["git", "add", "--all"], ["git", "commit", "-qm", "all"]):
            subprocess.run(command, cwd=root, env=environment, check=True)
        return root

    return make


@pytest.fixture(scope="session")
def served(
    environment: Environment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Environment]:
    """The environment with a shared Prefect server, so that runs need not start their own."""
    with prefect_server(environment, tmp_path_factory.mktemp("server")) as url:
        yield environment | {"PREFECT_API_URL": url}


@pytest.fixture(scope="session")
def api(served: Environment) -> Iterator[Api]:
    api = Api(served["PREFECT_API_URL"])
    yield api
    api.client.close()
