"""Whether new photographs have arrived, in a folder and in a real S3 server's prefix."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from buckets import UNREMEMBERED, credentials, rclone
from facegan.core.errors import FaceganError
from flows import Copy, Environment, flow_runs, ran, serving
from pipelines.photographs import Watched
from servers import wait

pytestmark = pytest.mark.faults


def run(root: Path, environment: Environment, *arguments: str) -> None:
    done = subprocess.run(arguments, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def reimport(root: Path, environment: Environment, source: str) -> None:
    """Import the photographs from a source instead of having them in the folder."""
    shutil.rmtree(root / "data")
    (root / "data.dvc").unlink()
    run(root, environment, sys.executable, "-m", "dvc", "import-url", source, "data")


def arrivals(watched: Watched) -> list[bool]:
    found = []
    for _ in range(4):
        found.append(bool(watched.arrived()))
        if found[-1]:
            watched.answer()
    return found


def check(watched: Watched, add: Callable[[str], object]) -> None:
    assert not any(arrivals(watched))  # DVC has those on record
    add("second")
    assert not watched.arrived()  # others may follow
    add("third")
    assert not watched.arrived()
    key = watched.arrived()
    assert key and watched.arrived() == key  # until it is answered
    assert arrivals(watched) == [True, False, False, False]
    # After a restart they are still new, and the same.
    restarted = Watched(watched.repository)
    assert [restarted.arrived() for _ in range(3)] == ["", key, key]


def test_photographs_copied_into_the_folder_have_arrived_once_all_are_there(copy: Copy) -> None:
    root = copy()
    watched = Watched(root)
    assert watched.places == "data"
    check(watched, lambda name: (root / "data" / name).write_text("a face\n"))
    (root / "data" / ".DS_Store").write_text("no photograph")
    (root / ".dvcignore").write_text(".DS_Store\n")
    assert arrivals(Watched(root))[1]  # of the two others


def test_objects_below_an_imported_prefix_have_arrived(
    copy: Copy, environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "root" / "bucket" / "faces"
    folder.mkdir(parents=True)
    (folder / "first").write_text("a face\n")
    root = copy()
    with rclone(tmp_path / "root", *UNREMEMBERED) as url:
        # DVC reads no configuration from os.devnull.
        variables = {k: v for k, v in credentials(url).items() if v != os.devnull}
        reimport(root, environment | variables, "s3://bucket/faces")
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        watched = Watched(root)
        assert watched.places == "s3://bucket/faces"
        check(watched, lambda name: (folder / name).write_text("a face\n"))


def test_a_project_without_photographs_to_watch_is_refused(
    copy: Copy, environment: Environment
) -> None:
    root, source = copy(), copy()
    shutil.rmtree(root / "data")
    (root / "data.dvc").unlink()
    with pytest.raises(FaceganError, match=r"no stage of dvc\.yaml has photographs that DVC"):
        Watched(root)
    run(root, environment, sys.executable, "-m", "dvc", "import", str(source), "data")
    with pytest.raises(FaceganError, match=r"data\.dvc is imported from a git repository"):
        Watched(root)


def test_new_photographs_start_one_run(served: Environment, copy: Copy) -> None:
    root = copy()
    source = root.parent / "source"
    source.mkdir()
    (source / "first").write_text("a face\n")
    reimport(root, served, str(source))
    run(root, served, "git", "add", "--all")
    run(root, served, "git", "commit", "-qm", "imported")
    options = ("--cron", "0 0 1 1 *", "--on-new-photographs", "1")
    with serving(served, root, *options) as log:
        wait(lambda: "after photographs have arrived in" in log.read_text())
        (source / "second").write_text("another face\n")
        wait(lambda: "Finished in state Completed()" in flow_runs(log))
    assert ran(root)[:4] == ["preprocess", "train", "evaluate", "register"]
    assert {path.name for path in (root / "data").iterdir()} == {"first", "second"}
    assert log.read_text().count("new photographs in") == 1
