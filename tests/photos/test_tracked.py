from pathlib import Path

import pytest

from facegan.core.errors import FaceganError
from facegan.photos.inputs import MANIFEST, Folder
from facegan.photos.tracked import refuse_unrecorded
from samples import fill

RECORD = "outs:\n- md5: 4b6290328493fbe186fa22e2867c08fb.dir\n  nfiles: {}\n  path: data\n"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return fill(tmp_path / "data", {"a.jpg": b"a", "below/b.jpg": b"b", MANIFEST: b"{}"})


@pytest.mark.parametrize("recorded", [0, 1, 2])
def test_files_that_dvc_has_not_recorded_are_refused(recorded: int, data: Path) -> None:
    (data.parent / "data.dvc").write_text(RECORD.format(recorded))
    with pytest.raises(FaceganError, match=f"has 3 files, of which data.dvc records {recorded};"):
        refuse_unrecorded(Folder(data))


@pytest.mark.parametrize("recorded", [3, 4])  # a manifest, and what file managers write
def test_more_recorded_files_than_photographs_are_accepted(recorded: int, data: Path) -> None:
    (data.parent / "data.dvc").write_text(RECORD.format(recorded))
    refuse_unrecorded(Folder(data))


LISTED = "- relpath: {}\n    md5: 0cc175b9c0f1b6a831c399e269772661\n    size: 1\n"


@pytest.mark.parametrize("names", [["a.jpg"], ["a.jpg", "below/b.jpg", MANIFEST]])
def test_files_that_a_remote_with_versions_lists_are_counted(names: list[str], data: Path) -> None:
    """As `dvc push` to a remote with `version_aware` writes the record."""
    files = "".join(f"  {LISTED.format(name)}" for name in names)
    deps = f"deps:\n- path: s3://faces\n  files:\n{files}"
    outs = f"outs:\n- hash: md5\n  path: data\n  files:\n{files}"
    (data.parent / "data.dvc").write_text(deps + outs)
    if len(names) == 3:
        refuse_unrecorded(Folder(data))
    else:
        with pytest.raises(FaceganError, match=r"has 3 files, of which data\.dvc records 1;"):
            refuse_unrecorded(Folder(data))


def test_a_record_without_a_number_is_not_compared(data: Path) -> None:
    """As of DVC before 1.11."""
    record = "outs:\n- md5: 4b6290328493fbe186fa22e2867c08fb.dir\n  path: data\n"
    (data.parent / "data.dvc").write_text(record)
    refuse_unrecorded(Folder(data))


def test_a_folder_that_dvc_does_not_track_is_accepted(data: Path) -> None:
    refuse_unrecorded(Folder(data))


def test_a_record_of_an_import_has_the_number_of_its_output(data: Path) -> None:
    deps = "deps:\n- path: s3://faces\n  nfiles: 9\n"
    (data.parent / "data.dvc").write_text(deps + RECORD.format(1))
    with pytest.raises(FaceganError, match=r"of which data\.dvc records 1;"):
        refuse_unrecorded(Folder(data))
