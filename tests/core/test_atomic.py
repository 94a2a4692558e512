from pathlib import Path

import pytest

from facegan.core.atomic import replacing
from facegan.core.errors import FaceganError


@pytest.mark.parametrize("folder", [False, True])
def test_a_full_disk_is_reported_with_the_path(folder: bool, tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="No space left on device") as caught,
        replacing(tmp_path / "out") as temporary,
    ):
        if folder:
            temporary.mkdir()
        Path("/dev/full").write_text("text")
    assert caught.value.filename == str(tmp_path / "out")
    assert names(tmp_path) == []


class BrokenError(Exception):
    pass


def write(path: Path, text: str, folder: bool) -> None:
    """Write a file, or a folder with a file in a subfolder."""
    if folder:
        (path / "below").mkdir(parents=True)
        (path / "below" / "file").write_text(text)
    else:
        path.write_text(text)


def read(path: Path) -> str:
    return (path / "below" / "file" if path.is_dir() else path).read_text()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("existing", [False, True])
def test_written_content_replaces_the_path(folder: bool, existing: bool, tmp_path: Path) -> None:
    path = tmp_path / "out"
    if existing:
        write(path, "old", folder)
    with replacing(path) as temporary:
        assert temporary.parent == path.parent  # or the rename could cross file systems
        assert path.exists() == existing
        write(temporary, "new", folder)
    assert read(path) == "new"
    assert names(tmp_path) == ["out"]


def test_a_replaced_folder_keeps_none_of_its_old_files(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write(path, "old", folder=True)
    (path / "extra").write_text("old")
    with replacing(path) as temporary:
        write(temporary, "new", folder=True)
    assert names(path) == ["below"]


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("error", [BrokenError, KeyboardInterrupt, SystemExit])
def test_a_block_that_raises_keeps_the_old_content(
    folder: bool, error: type[BaseException], tmp_path: Path
) -> None:
    path = tmp_path / "out"
    write(path, "old", folder)
    with pytest.raises(error), replacing(path) as temporary:
        write(temporary, "new", folder)
        raise error
    assert read(path) == "old"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("folder", [False, True])
def test_a_block_that_raises_creates_nothing(folder: bool, tmp_path: Path) -> None:
    with pytest.raises(BrokenError), replacing(tmp_path / "out") as temporary:
        write(temporary, "new", folder)
        raise BrokenError
    assert names(tmp_path) == []


@pytest.mark.parametrize("folder", [False, True])
def test_a_block_that_writes_nothing_keeps_the_old_content(folder: bool, tmp_path: Path) -> None:
    path = tmp_path / "out"
    write(path, "old", folder)
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert read(path) == "old"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("folder", [False, True])
def test_leftovers_of_a_killed_writer_are_discarded(folder: bool, tmp_path: Path) -> None:
    path = tmp_path / "out"
    with replacing(path) as temporary:
        name = temporary.name
        write(temporary, "first", folder)
    write(tmp_path / name, "half", folder=True)
    with replacing(path) as temporary:
        assert not temporary.exists()
        write(temporary, "second", folder)
    assert read(path) == "second"
    assert names(tmp_path) == ["out"]


def test_missing_parents_are_created(tmp_path: Path) -> None:
    with replacing(tmp_path / "a" / "b" / "out") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a" / "b" / "out").read_text() == "new"


@pytest.mark.parametrize("folder", [False, True])
def test_a_file_never_replaces_a_folder_nor_a_folder_a_file(folder: bool, tmp_path: Path) -> None:
    path = tmp_path / "photographs"
    write(path, "dear", folder)
    with pytest.raises(FaceganError, match=str(path)), replacing(path) as temporary:
        write(temporary, "new", not folder)
    assert read(path) == "dear"
    assert names(tmp_path) == ["photographs"]


def test_the_target_of_a_symlink_is_replaced_and_the_link_kept(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    write(tmp_path / "disk" / "real", "old", folder=True)
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "real")
    with replacing(tmp_path / "out") as temporary:
        write(temporary, "new", folder=True)
    assert (tmp_path / "out").is_symlink()
    assert read(tmp_path / "disk" / "real") == "new"
    assert names(tmp_path / "disk") == ["real"]
    assert names(tmp_path) == ["disk", "out"]
