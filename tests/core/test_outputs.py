"""Output paths are checked before the work."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from disks import bind_mount, small_disk
from facegan.core.errors import FaceganError
from facegan.core.outputs import check_output_file, check_output_folder
from samples import unprivileged

Check = Callable[..., None]


def ours(tmp_path: Path) -> Path:
    folder = tmp_path / "ours"
    folder.mkdir()
    (folder / "marker").touch()
    (folder / "below").mkdir()
    return folder


def test_new_empty_and_own_outputs_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", ours(tmp_path), tmp_path / "a" / "b" / "new"):
        check_output_folder(folder, "marker")
    (tmp_path / "empty.json").touch()
    (tmp_path / "ours.json").write_text('{"marker": 1}')
    for name in ("empty.json", "ours.json", "a/b/new.json"):
        check_output_file(tmp_path / name, "marker")
    assert not (tmp_path / "a").exists()  # a check leaves nothing behind


def test_outputs_of_others_are_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").touch()
    (tmp_path / "thesis.tex").write_text("text")
    with pytest.raises(FaceganError, match="thesis: was not written by this stage; move it away"):
        check_output_folder(tmp_path / "thesis", "marker")
    with pytest.raises(FaceganError, match=r"thesis\.tex: was not written by this stage"):
        check_output_file(tmp_path / "thesis.tex", "marker")


def test_a_file_for_a_folder_and_a_folder_for_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FaceganError, match="file: is a file, expected a folder; move it away"):
        check_output_folder(tmp_path / "file", "marker")
    with pytest.raises(FaceganError, match="is a folder, expected a file; move it away"):
        check_output_file(tmp_path, "marker")


def test_a_pipe_or_a_device_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/null")
    for name in ("pipe", "device"):
        with pytest.raises(FaceganError, match=f"{name}: is not a regular file; name another one$"):
            check_output_file(tmp_path / name, "marker")
        with pytest.raises(FaceganError, match=f"{name}: is a file, expected a folder"):
            check_output_folder(tmp_path / name, "marker")


@pytest.mark.parametrize("check", [check_output_folder, check_output_file])
@pytest.mark.parametrize("name", ["data", "data/below", "."])
def test_an_output_that_overlaps_an_input_is_refused(
    check: Check, name: str, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(FaceganError, match="data: overlaps the output f"):
        check(tmp_path / name, "marker", [tmp_path / "data"])


def test_a_link_to_an_input_is_refused_only_where_the_input_is_named_by_it(tmp_path: Path) -> None:
    """A write replaces the link and keeps its target."""
    folder = ours(tmp_path)
    (tmp_path / "out").symlink_to(folder)
    check_output_folder(tmp_path / "out", "marker", [folder])
    with pytest.raises(FaceganError, match="overlaps"):
        check_output_folder(tmp_path / "out" / "below", "marker", [folder])


@pytest.mark.parametrize("check", [check_output_folder, check_output_file])
def test_a_parent_that_cannot_be_written_is_noticed(check: Check, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "closed").mkdir(0o755)
    with unprivileged(tmp_path):
        for parent in ("closed", "closed/a/b"):
            with pytest.raises(FaceganError, match=r"closed: cannot be written to \(Permission"):
                check(tmp_path / parent / "out", "marker")
        with pytest.raises(FaceganError, match=r"file: cannot be written to \(Not a directory"):
            check(tmp_path / "file" / "out", "marker")


@pytest.mark.parametrize("closed", ["ours", "ours/below"])
def test_a_folder_that_cannot_be_deleted_is_noticed(closed: str, tmp_path: Path) -> None:
    for folder in (ours(tmp_path), tmp_path / "ours" / "below", tmp_path):
        folder.chmod(0o777)
    (tmp_path / closed).chmod(0o755)
    with (
        unprivileged(tmp_path),
        pytest.raises(FaceganError, match=f"{closed}: is read-only; make it writable"),
    ):
        check_output_folder(tmp_path / "ours", "marker")


def test_protected_files_are_no_obstacle(tmp_path: Path) -> None:
    """DVC makes the files of outputs read-only."""
    (tmp_path / "metrics.json").write_text("marker")
    (ours(tmp_path) / "marker").chmod(0o444)
    (tmp_path / "metrics.json").chmod(0o444)
    for folder in (tmp_path, tmp_path / "ours", tmp_path / "ours" / "below"):
        folder.chmod(0o777)
    with unprivileged(tmp_path):
        check_output_folder(tmp_path / "ours", "marker")
        check_output_file(tmp_path / "metrics.json", "marker")


def test_a_mount_point_is_refused_and_what_is_in_it_is_not(tmp_path: Path) -> None:
    with small_disk(tmp_path / "a disk", "64k") as disk:
        (disk / "marker").touch()
        with pytest.raises(FaceganError, match="a disk: something is mounted there, so it cannot"):
            check_output_folder(disk, "marker")
        check_output_folder(disk / "below", "marker")


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_mount_of_the_same_file_system_is_refused(kind: str, tmp_path: Path) -> None:
    """As with `docker run --volume`."""
    folder = ours(tmp_path)
    (tmp_path / "metrics.json").write_text("marker")
    volume = folder if kind == "folder" else tmp_path / "metrics.json"
    check: Check = check_output_folder if kind == "folder" else check_output_file
    check(volume, "marker")
    with bind_mount(volume), pytest.raises(FaceganError, match="something is mounted there"):
        check(volume, "marker")
    check(volume, "marker")
