"""The commands of the guides, run as they are written, in a project that has run every stage."""

import re
import shutil
from pathlib import Path

import pytest

from conftest import make_params
from project import Project

pytestmark = pytest.mark.faults
DOCS = Path(__file__).parents[2] / "docs"
GUIDES = ("faces.md",)
# Long enough to be better than the untrained network, which the gate refuses.
SMALL = make_params(train={"epochs": 6, "eval_interval": 540, "lr": 0.003})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, digits: Path, empty_store: Path) -> Project:
    project = Project(tmp_path_factory.mktemp("guides"), digits, SMALL)
    shutil.copyfile(empty_store, project.folder / "mlflow.db")
    project.run("dvc", "repro")
    return project


def commands(guide: str) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", (DOCS / guide).read_text("utf-8"), re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if line]


@pytest.mark.parametrize("guide", GUIDES)
def test_every_command_of_a_guide_works(guide: str, finished: Project) -> None:
    assert commands(guide)
    for command in commands(guide):
        finished.run("bash", "-c", command)
