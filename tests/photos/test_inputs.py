import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facegan.core.errors import FaceganError
from facegan.photos.inputs import MANIFEST, Folder, safe_name, shown
from samples import fill, unprivileged

# Characters that sort before, as and after the slash.
PART = st.text("a-.0B ", min_size=1, max_size=3).filter(lambda part: part.strip("."))
NAMES = st.lists(PART, min_size=1, max_size=3).map("/".join)
RAW_NAMES = st.binary(min_size=1, max_size=6).map(os.fsdecode)


def listed(folder: Path) -> list[tuple[str, str | None]]:
    return list(Folder(folder).files())


@given(names=st.sets(NAMES, max_size=12))
def test_files_come_sorted_by_their_path_however_deep(
    names: set[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, made = tmp_path_factory.mktemp("data"), []
    for name in sorted(names):
        # A name is a file or a folder.
        if not any(other.startswith(f"{name}/") for other in names):
            fill(folder, {name: b""})
            made.append(name)
    assert listed(folder) == [(name, None) for name in made]


def test_a_link_is_named_and_never_followed(tmp_path: Path) -> None:
    data = fill(tmp_path / "data", {"below/a.jpg": b"a"})
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.jpg").write_bytes(b"secret")
    (data / "below" / "loop").symlink_to(data)
    (data / "folder").symlink_to(tmp_path / "outside")
    (data / "out.jpg").symlink_to(tmp_path / "outside" / "secret.jpg")
    (data / "nowhere.jpg").symlink_to(tmp_path / "absent")
    (data / "inside.jpg").symlink_to(data / "below" / "a.jpg")
    assert listed(data) == [
        ("below/a.jpg", None),
        ("below/loop", "link"),
        ("folder", "link"),
        ("inside.jpg", "link"),
        ("nowhere.jpg", "link"),
        ("out.jpg", "link"),
    ]


def test_what_is_no_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "fifo.jpg")
    monkeypatch.chdir(tmp_path)  # a socket's path has to be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.jpg")
    assert listed(tmp_path) == [("fifo.jpg", "not-a-file"), ("socket.jpg", "not-a-file")]


def test_a_folder_without_permission_is_named_and_the_rest_comes(tmp_path: Path) -> None:
    data = fill(tmp_path / "data", {"a/x.jpg": b"", "b/x.jpg": b"", "c.jpg": b""})
    (data / "a").chmod(0)
    with unprivileged(data):
        assert listed(data) == [("a", "no-permission"), ("b/x.jpg", None), ("c.jpg", None)]


def test_the_folder_itself_without_permission_is_named(tmp_path: Path) -> None:
    data = fill(tmp_path / "data", {"a.jpg": b""})
    data.chmod(0)
    with unprivileged(tmp_path):
        assert listed(data) == [(".", "no-permission")]


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Makes a folder with so many below each other, and a file at the bottom."""

    def make(depth: int) -> Path:
        top = fill(tmp_path / "data", {"b.jpg": b""})
        here = os.open(top, os.O_RDONLY)
        for _ in range(depth):
            os.mkdir("a", dir_fd=here)  # a path cannot be as long
            above, here = here, os.open("a", os.O_RDONLY, dir_fd=here)
            os.close(above)
        os.close(os.open("x.jpg", os.O_CREAT, dir_fd=here))
        os.close(here)
        return top

    yield make
    # shutil, and with it pytest, fails on it.
    subprocess.run(["rm", "-rf", tmp_path / "data"], check=True)


@pytest.mark.parametrize("depth", [100, 1500])
def test_folders_may_lie_deeper_than_calls_may(depth: int, deep: Callable[[int], Path]) -> None:
    assert listed(deep(depth)) == [("a/" * depth + "x.jpg", None), ("b.jpg", None)]


def test_a_folder_deeper_than_a_path_may_say_is_named(deep: Callable[[int], Path]) -> None:
    (below, status), last = listed(deep(2200))
    assert (below.strip("a/"), status) == ("", "unreadable")
    assert last == ("b.jpg", None)


def test_a_folder_that_vanishes_is_named(tmp_path: Path) -> None:
    data = fill(tmp_path / "data", {"a/x.jpg": b"", "b/x.jpg": b"", "c.jpg": b""})
    found = Folder(data).files()
    assert next(found) == ("a/x.jpg", None)
    (data / "b" / "x.jpg").unlink()
    (data / "b").rmdir()
    assert list(found) == [("b", "vanished"), ("c.jpg", None)]


def test_the_manifest_of_fetch_is_no_input_but_one_of_the_same_name_below_is(
    tmp_path: Path,
) -> None:
    fill(tmp_path, {MANIFEST: b"{}", f"below/{MANIFEST}": b"{}"})
    assert listed(tmp_path) == [(f"below/{MANIFEST}", None)]


def test_a_missing_folder_leads_to_fetch(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", *fill(tmp_path, {"a.zip": b""}).iterdir()):
        with pytest.raises(FaceganError, match=f"^{path}: no such folder; .*facegan fetch$"):
            listed(path)


def test_an_empty_folder_has_no_files(tmp_path: Path) -> None:
    assert listed(tmp_path) == []


@given(name=RAW_NAMES)
def test_every_name_becomes_utf8_and_can_be_told_back(name: str) -> None:
    safe = safe_name(name)
    safe.encode("utf-8")
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        with_bytes = safe.encode("utf-8")
        parts = with_bytes.split(b"%")
        decoded = parts[0] + b"".join(bytes.fromhex(p[:2].decode()) + p[2:] for p in parts[1:])
        assert decoded == os.fsencode(name)
    else:
        assert safe == name


def test_bytes_that_are_no_utf8_are_written_as_in_a_url() -> None:
    assert safe_name(os.fsdecode(b"caf\xe9 100%.jpg")) == "caf%E9 100%25.jpg"
    assert safe_name("café 100%.jpg") == "café 100%.jpg"


@given(path=st.text(min_size=1))
def test_a_path_is_shown_on_one_line(path: str) -> None:
    assert len(shown(path).splitlines()) == 1
    assert shown("plain 😀.jpg") == "plain 😀.jpg"
