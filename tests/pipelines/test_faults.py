"""Flows that lose their process in each stage, or the space in their workspace."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import make_params
from disks import small_disk
from facegan.register.registry import GENERATOR
from flows import DVC_YAML, WAITING, Api, Copy, Environment, Flow, prefect_server, ran
from project import LONG_ENOUGH, Project
from servers import free_port, wait

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


@pytest.fixture
def port() -> int:
    """Of a Prefect server that is restarted."""
    return free_port()


@pytest.fixture
def at_home(environment: Environment, tmp_path: Path, port: int) -> Environment:
    """With a home of its own for that server, which then finds its database again."""
    url = f"http://127.0.0.1:{port}/api"
    own = {"PREFECT_HOME": str(tmp_path), "PREFECT_API_URL": url}
    # By default, Prefect's client tries again for a minute, the length of a restart.
    return environment | own | {"PREFECT_CLIENT_MAX_RETRIES": "0"}


def test_a_flow_whose_server_is_away_at_its_end_keeps_the_result_and_waits(
    copy: Copy, at_home: Environment, tmp_path: Path, port: int
) -> None:
    root = copy(WAITING)
    (root / "report.md").write_text("# The result\n")
    with prefect_server(at_home, tmp_path, port):
        flow = Flow(at_home, root)
        wait(lambda: (root / "started").exists() or flow.process.poll() is not None)
    with flow:
        (root / "go").touch()
        flow.wait_for("the Prefect server does not answer")
        refs = ["git", "for-each-ref", "--format", "%(refname)", "refs/exps"]
        assert subprocess.check_output(refs, cwd=root), flow.log
        with prefect_server(at_home, tmp_path, port) as url:
            flow.process.wait(100)
            api = Api(url)
            run = api.flow_run(flow.log)
            (artifact,) = api.post("artifacts/filter")
            api.client.close()
    assert (flow.process.returncode, run["state_type"]) == (0, "COMPLETED"), flow.log
    assert artifact["data"] == "# The result\n"
    assert ran(root) == STAGES


WHOLE = """
from prefect import flow
from pipelines.pools import Part, run_part

@flow
def whole():
    run = run_part(Part(deployment="part/here", stages=[]), {})
    print(run.state.type.value)

whole()
"""


def test_a_flow_on_pools_finds_its_part_again_after_a_restart_of_the_server(
    at_home: Environment, tmp_path: Path, port: int
) -> None:
    with prefect_server(at_home, tmp_path, port) as url:
        api = Api(url)
        flow = api.post("flows/", name="part")
        api.post("deployments/", name="here", flow_id=flow["id"])
        whole = subprocess.Popen(
            [sys.executable, "-c", WHOLE], env=at_home, stdout=subprocess.PIPE, text=True
        )
        parts = {"deployments": {"name": {"any_": ["here"]}}}
        wait(lambda: api.post("flow_runs/filter", **parts) or whole.poll() is not None)
    time.sleep(10)  # longer than between two looks at the part
    with prefect_server(at_home, tmp_path, port):
        (run,) = api.post("flow_runs/filter", **parts)
        api.post(f"flow_runs/{run['id']}/set_state", state={"type": "COMPLETED"}, force=True)
        assert whole.communicate(timeout=100)[0] == "COMPLETED\n"
        assert len(api.post("flow_runs/filter", **parts)) == 1
        api.client.close()


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
