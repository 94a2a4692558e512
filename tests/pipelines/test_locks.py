"""Several flows, and DVC by hand, in one workspace and on one GPU."""

import fcntl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from flows import WAITING, Api, Copy, Environment, Flow, ran, running
from servers import wait

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def prepared(copy: Copy, environment: Environment) -> Copy:
    """Copies of the repository with a training that waits, and that is all there is to run."""

    def make() -> Path:
        root = copy(WAITING)
        command = [sys.executable, "-m", "dvc", "repro", "-q", "preprocess"]
        subprocess.run(command, cwd=root, env=environment, check=True)
        return root

    return make


def test_flows_wait_for_the_workspace_and_the_gpu_until_their_holder_is_killed(
    prepared: Copy, served: Environment, api: Api
) -> None:
    root, other = prepared(), prepared()
    with running(served, root, "--stage", "train") as killed:
        name, pid = api.flow_run(killed.log)["name"], killed.process.pid
        with Flow(served, root, "--stage", "train") as same_workspace:
            same_workspace.wait_for(f"waiting for flow run '{name}' (PID {pid}), which uses {root}")
            wait(lambda: api.flow_run(same_workspace.log)["state"]["name"] == "Waiting")
            with Flow(served, other, "--stage", "train") as same_gpu:
                same_gpu.wait_for(f"waiting for flow run '{name}' (PID {pid}), which uses gpu-0")
                children = psutil.Process(pid).children(recursive=True)
                killed.process.kill()
                _, alive = psutil.wait_procs(children, timeout=15)
                assert not alive
                assert (root / "saved").exists()
                (root / "go").touch()
                (other / "go").touch()
    assert same_workspace.process.returncode == 0, same_workspace.log
    assert same_gpu.process.returncode == 0, same_gpu.log
    assert ran(root) == ran(other) == ["preprocess", "train"]
    state = api.flow_run(killed.log)["state"]
    assert state["name"] == "Crashed"
    assert f"process {pid} was killed" in state["message"]


def test_a_killed_flow_leaves_no_process_and_no_temporary_server(
    prepared: Copy, environment: Environment
) -> None:
    with running(environment, prepared(), "--stage", "train") as flow:
        children = psutil.Process(flow.process.pid).children(recursive=True)
        commands = [" ".join(child.cmdline()) for child in children]
        assert any("prefect server start" in command for command in commands)
        flow.process.kill()
        _, alive = psutil.wait_procs(children, timeout=15)
    assert not alive


def test_a_flow_waits_for_dvc_by_hand(prepared: Copy, served: Environment) -> None:
    root = prepared()
    command = [sys.executable, "-m", "dvc", "repro", "-q", "train"]
    by_hand = subprocess.Popen(command, cwd=root, env=served, stdout=subprocess.DEVNULL)
    wait((root / "started").exists)
    with Flow(served, root, "--stage", "train") as flow:
        with dvc_locked(root):  # as by `dvc push`
            flow.wait_for("waiting for DVC, which runs in this workspace\n")
        flow.wait_for(f"waiting for DVC, which runs in this workspace: (PID {by_hand.pid})")
        (root / "go").touch()
        assert by_hand.wait(60) == 0
    assert flow.process.returncode == 0, flow.log
    assert "Finished in state Unchanged" in flow.log
    assert ran(root) == ["preprocess", "train"]


def test_a_training_that_ends_while_dvc_is_locked_is_not_lost(
    prepared: Copy, served: Environment
) -> None:
    root = prepared()
    with running(served, root, "--stage", "train") as flow:
        with dvc_locked(root):
            (root / "go").touch()
            time.sleep(6)  # DVC gives up after 3
        flow.wait_for("Finished in state Completed()")
    assert ran(root) == ["preprocess", "train"]


@contextmanager
def dvc_locked(root: Path) -> Iterator[None]:
    with (root / ".dvc" / "tmp" / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
