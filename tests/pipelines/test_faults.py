"""Flows that lose their process in each stage, or the space in their workspace."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import make_params
from disks import small_disk
from facegan.register.registry import GENERATOR
from flows import DVC_YAML, Copy, Environment, Flow, ran
from project import LONG_ENOUGH, Project
from servers import wait

pytestmark = pytest.mark.faults

STAGES = ["preprocess", "train", "evaluate", "register"]
WAIT = "touch started; until test -e go; do sleep 0.1 & wait; done; "


@pytest.mark.parametrize("stage", STAGES)
def test_a_flow_killed_in_any_stage_goes_on_with_that_stage(
    stage: str, copy: Copy, served: Environment
) -> None:
    root = copy()
    before, command, after = re.split(rf"(?m)(?<=  {stage}:\n)((?:    .*\n)*?    cmd: )", DVC_YAML)
    (root / "dvc.yaml").write_text(f"{before}{command}{WAIT}{after}")
    subprocess.run(
        ["git", "commit", "-qam", "a stage that waits"], cwd=root, env=served, check=True
    )
    with Flow(served, root) as killed:
        wait(lambda: (root / "started").exists() or killed.process.poll() is not None)
        killed.process.kill()
    (root / "go").touch()
    with Flow(served, root) as second:
        pass
    assert second.process.returncode == 0, second.log
    assert ran(root) == STAGES


@pytest.fixture(name="small_disk")
def make_small_disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "200m") as folder:
        yield folder


def test_a_disk_that_fills_up_in_a_training_costs_nothing(small_disk: Path, digits: Path) -> None:
    params = make_params(train=LONG_ENOUGH | {"epochs": 30, "eval_interval": 1080})
    project = Project(small_disk / "project", digits, params)
    environment = project.environment | {"FACEGAN_DEVICE": "cpu"}
    with Flow(environment, project.folder) as full:
        full.wait_for(" left  quick FID")
        fill(small_disk / "other people's file")
    assert full.process.returncode == 1 and "Traceback" not in full.log, full.log
    assert "No space left on device" in full.log
    (small_disk / "other people's file").unlink()
    with Flow(environment, project.folder) as second:
        pass
    assert second.process.returncode == 0, second.log
    assert re.search(r"resuming from [1-9]", second.log)
    (version,) = project.registry.search_model_versions("name='facegan-test'")
    result = version.tags[GENERATOR]
    undisturbed = Project(small_disk.parent / "undisturbed", digits, params)
    undisturbed.run("dvc", "repro")
    (version,) = undisturbed.registry.search_model_versions("name='facegan-test'")
    assert version.tags[GENERATOR] == result


def fill(file: Path) -> None:
    with file.open("wb") as content:
        try:
            while True:
                content.write(bytes(100_000))
                content.flush()
        except OSError:
            return
