"""The guard of a flow's child processes, with real processes."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pipelines import guard
from servers import wait

GUARD = [sys.executable, "-P", guard.__file__]
# A stage as DVC runs it: the shell that gets the signal first is gone before its child has saved.
STAGE = (
    "sh -c 'trap \"sleep 0.5; touch saved; exit\" TERM; touch started; while :; do sleep 0.1; done'"
)


@pytest.mark.parametrize("kill", [False, True])
def test_a_command_may_save_when_its_parent_ends(tmp_path: Path, kill: bool) -> None:
    parent = f"import subprocess; subprocess.run({[*GUARD, 'sh', '-c', f'{STAGE} & wait']})"
    # The guard's standard input is a pipe that the parent alone holds.
    parent = parent.replace("run(", "Popen(").replace("])", "], stdin=subprocess.PIPE).wait()")
    with subprocess.Popen([sys.executable, "-c", parent], cwd=tmp_path) as process:
        wait((tmp_path / "started").exists)
        children = psutil.Process(process.pid).children(recursive=True)
        if kill:
            process.kill()
        else:
            process.terminate()
        _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    assert (tmp_path / "saved").exists()


def test_a_command_that_goes_on_is_killed_after_the_grace(tmp_path: Path) -> None:
    folder = str(Path(guard.__file__).parent)
    short = f"import sys; sys.path.insert(0, {folder!r}); import guard"
    short += "; guard.GRACE = 0.5; guard.main()"
    stubborn = "trap '' TERM; touch started; while :; do sleep 0.1; done"
    command = [sys.executable, "-c", short, "sh", "-c", stubborn]
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE) as process:
        wait((tmp_path / "started").exists)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 128 + 9


@pytest.mark.parametrize(("command", "status"), [("exit 3", 3), ("kill -9 $$", 128 + 9)])
def test_the_exit_status_is_the_commands(command: str, status: int) -> None:
    with subprocess.Popen([*GUARD, "sh", "-c", command], stdin=subprocess.PIPE) as process:
        assert process.wait(10) == status


def test_what_a_command_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    command = [*GUARD, "sh", "-c", "sleep 600 & echo $! > pid"]
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE) as process:
        assert process.wait(10) == 0
    pid = int((tmp_path / "pid").read_text())
    wait(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", 10)
