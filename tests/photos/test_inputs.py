import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facegan.core.errors import FaceganError
from facegan.photos.inputs import (
    CLUTTER,
    MANIFEST,
    REPOSITORY_NAMES,
    Folder,
    SingleFile,
    safe_name,
    shown,
)
from samples import fill, unprivileged

# Characters that sort before and after the slash.
PART = st.text("a-.0B ", min_size=1, max_size=3).filter(lambda part: part.strip("."))
NAMES = st.lists(PART, min_size=1, max_size=3).map("/".join)
RAW_NAMES = st.binary(min_size=1, max_size=6).map(os.fsdecode)


def listed(folder: Path) -> list[tuple[str, str | None]]:
    return list(Folder(folder).files())


@given(names=st.sets(NAMES, max_size=12))
def test_files_are_sorted_by_path_at_any_depth(
    names: set[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, made = tmp_path_factory.mktemp("data"), []
    for name in sorted(names):
        # A name cannot be both a file and a folder.
        if not any(other.startswith(f"{name}/") for other in names):
            fill(folder, {name: b""})
            made.append(name)
    assert listed(folder) == [(name, None) for name in made]


def test_links_to_files_are_files_and_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    data = fill(tmp_path / "data", {"below/a.jpg": b"a"})
    outside = fill(tmp_path / "outside", {"b.jpg": b"b"})
    (data / "below" / "loop").symlink_to(data)
    (data / "folder").symlink_to(outside)
    (data / "out.jpg").symlink_to(outside / "b.jpg")
    (data / "nowhere.jpg").symlink_to(tmp_path / "absent")
    (data / "itself.jpg").symlink_to("itself.jpg")
    (data / "inside.jpg").symlink_to(data / "below" / "a.jpg")
    assert listed(data) == [
        ("below/a.jpg", None),
        ("below/loop", "link"),
        ("folder", "link"),
        ("inside.jpg", None),
        ("itself.jpg", "link"),
        ("nowhere.jpg", "link"),
        ("out.jpg", None),
    ]


def test_a_link_into_a_folder_without_permission_gets_a_status(tmp_path: Path) -> None:
    data, outside = fill(tmp_path / "data", {}), fill(tmp_path / "outside", {"b.jpg": b"b"})
    (data / "out.jpg").symlink_to(outside / "b.jpg")
    outside.chmod(0)
    with unprivileged(data):
        assert listed(data) == [("out.jpg", "link")]


def test_what_file_managers_write_is_no_file(tmp_path: Path) -> None:
    clutter = [".DS_Store", "below/._a.jpg", "below/Thumbs.db", "desktop.ini", ".Trashes/b.jpg"]
    data = fill(tmp_path / "data", dict.fromkeys(["below/a.jpg", *clutter], b""))
    assert listed(data) == [("below/a.jpg", None)]


def test_dvc_ignores_the_clutter_too() -> None:
    lines = (Path(__file__).parents[2] / ".dvcignore").read_text().splitlines()
    assert set(CLUTTER) <= set(lines)


@pytest.mark.parametrize("name", sorted(REPOSITORY_NAMES))
def test_a_repositorys_own_folder_is_one_entry_at_any_depth(name: str, tmp_path: Path) -> None:
    fill(tmp_path, {f"{name}/objects/1.jpg": b"", f"below/{name}/2.jpg": b"", "below/a.jpg": b""})
    assert sorted(listed(tmp_path), key=str) == sorted(
        [(name, "repository"), (f"below/{name}", "repository"), ("below/a.jpg", None)], key=str
    )


def test_a_worktrees_git_file_is_a_repositorys_own(tmp_path: Path) -> None:
    fill(tmp_path, {".git": b"gitdir: /elsewhere", "a.jpg": b""})
    assert listed(tmp_path) == [(".git", "repository"), ("a.jpg", None)]


def test_special_files_get_a_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "fifo.jpg")
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.jpg")
    assert listed(tmp_path) == [("fifo.jpg", "not-a-file"), ("socket.jpg", "not-a-file")]


def test_a_folder_without_permission_gets_a_status_and_the_rest_is_listed(tmp_path: Path) -> None:
    data = fill(tmp_path / "data", {"a/x.jpg": b"", "b/x.jpg": b"", "c.jpg": b""})
    (data / "a").chmod(0)
    with unprivileged(data):
        assert listed(data) == [("a", "no-permission"), ("b/x.jpg", None), ("c.jpg", None)]


def test_a_root_without_permission_gets_a_status(tmp_path: Path) -> None:
    data = fill(tmp_path / "data", {"a.jpg": b""})
    data.chmod(0)
    with unprivileged(tmp_path):
        assert listed(data) == [(".", "no-permission")]


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Creates folders nested to a given depth, with a file in the innermost."""

    def make(depth: int) -> Path:
        top = fill(tmp_path / "data", {"b.jpg": b""})
        folder = os.open(top, os.O_RDONLY)
        for _ in range(depth):
            os.mkdir("a", dir_fd=folder)  # the path would be too long
            parent, folder = folder, os.open("a", os.O_RDONLY, dir_fd=folder)
            os.close(parent)
        os.close(os.open("x.jpg", os.O_CREAT, dir_fd=folder))
        os.close(folder)
        return top

    yield make
    # shutil, and so pytest's own cleanup, fails on it.
    subprocess.run(["rm", "-rf", tmp_path / "data"], check=True)


@pytest.mark.parametrize("depth", [100, 1500])
def test_folders_may_be_deeper_than_the_recursion_limit(
    depth: int, deep: Callable[[int], Path]
) -> None:
    assert listed(deep(depth)) == [("a/" * depth + "x.jpg", None), ("b.jpg", None)]


def test_a_folder_beyond_the_longest_path_is_unreadable(deep: Callable[[int], Path]) -> None:
    (below, status), last = listed(deep(2200))
    assert (below.strip("a/"), status) == ("", "unreadable")
    assert last == ("b.jpg", None)


def test_a_folder_deleted_during_listing_has_vanished(tmp_path: Path) -> None:
    data = fill(tmp_path / "data", {"a/x.jpg": b"", "b/x.jpg": b"", "c.jpg": b""})
    found = Folder(data).files()
    assert next(found) == ("a/x.jpg", None)
    (data / "b" / "x.jpg").unlink()
    (data / "b").rmdir()
    assert list(found) == [("b", "vanished"), ("c.jpg", None)]


def test_only_the_top_level_manifest_is_not_an_input(
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
def test_every_name_becomes_utf8_and_can_be_recovered(name: str) -> None:
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


def test_bytes_that_are_not_utf8_are_percent_encoded() -> None:
    assert safe_name(os.fsdecode(b"caf\xe9 100%.jpg")) == "caf%E9 100%25.jpg"
    assert safe_name("café 100%.jpg") == "café 100%.jpg"


@given(path=st.text(min_size=1))
def test_a_path_is_shown_on_one_line(path: str) -> None:
    assert len(shown(path).splitlines()) == 1
    assert shown("plain 😀.jpg") == "plain 😀.jpg"


def test_a_single_file_has_nothing_beside_it(tmp_path: Path) -> None:
    fill(tmp_path, {"a.zip": b"a", MANIFEST: b"{}"})
    root = SingleFile(tmp_path / "a.zip")
    assert list(root.files()) == [("a.zip", None)]
    with root.open("a.zip") as stream:
        assert stream.read() == b"a"
    with pytest.raises(FileNotFoundError):
        root.open(MANIFEST)
