import shutil
from pathlib import Path

import pytest

from conftest import make_params
from project import LONG_ENOUGH, Project

SMALL = make_params(train=LONG_ENOUGH)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, digits: Path, empty_store: Path) -> Project:
    """A committed project that has run every stage; its version 1 is in Production."""
    project = Project(tmp_path_factory.mktemp("finished"), digits, SMALL)
    shutil.copyfile(empty_store, project.folder / "mlflow.db")
    project.run("dvc", "repro")
    project.commit("the first result")
    return project
