import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from facegan.core.errors import FaceganError
from facegan.photos import archives, discovery
from facegan.photos.inputs import MANIFEST, Folder, Input, Unusable
from samples import encoded, fill, idx, noise, read_input, tarred, unprivileged, zipped

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 4, 3), np.uint8)


def found(folder: Path) -> list[str]:
    root = Folder(folder)
    inputs = list(discovery.find(root))
    assert discovery.count(root) == len(inputs)
    return [item.path for item in inputs]


def read(folder: Path, path: str) -> bytes | str:
    """The bytes of an input, or its status."""
    root = Folder(folder)
    (item,) = (item for item in discovery.find(root) if item.path == path)
    try:
        return read_input(root, item)
    except Unusable as error:
        return str(error)


def test_inputs_are_sorted_by_file_and_then_in_the_order_of_the_archive(tmp_path: Path) -> None:
    data = fill(
        tmp_path / "data",
        {
            "z.jpg": b"z",
            "B.zip": zipped({"2.png": b"2", "1/": b"", "1/x.png": b"1"}),
            "c.tar": tarred({"z": b"", "a.jpg": b"a"}),
            "below/d.tgz": tarred({"y.jpg": b"y"}, "w:gz"),
            "images-idx3-ubyte": idx(PIXELS),
            "README": b"text",
        },
    )
    (data / "link.jpg").symlink_to("z.jpg")
    (data / "nowhere.jpg").symlink_to("nowhere")
    assert found(data) == [
        *("B.zip/2.png", "B.zip/1/x.png"),
        "README",
        "below/d.tgz/y.jpg",
        *("c.tar/z", "c.tar/a.jpg"),
        *("images-idx3-ubyte#0", "images-idx3-ubyte#1"),
        "link.jpg",
        "nowhere.jpg",
        "z.jpg",
    ]
    for path, content in {
        "B.zip/1/x.png": b"1",
        "README": b"text",
        "below/d.tgz/y.jpg": b"y",
        "c.tar/a.jpg": b"a",
        "images-idx3-ubyte#1": PIXELS[1].tobytes(),
        "link.jpg": b"z",
        "nowhere.jpg": "link",
        "z.jpg": b"z",
    }.items():
        assert read(data, path) == content


def test_files_are_read_lazily(tmp_path: Path) -> None:
    data = fill(tmp_path / "data", {"a.jpg": b"a", "b.zip": zipped({"x.jpg": b"x"})})
    inputs = discovery.find(Folder(data))
    assert next(inputs).path == "a.jpg"
    (data / "b.zip").write_bytes(zipped({"late.jpg": b""}))
    assert [item.path for item in inputs] == ["b.zip/late.jpg"]


def test_a_missing_folder_leads_to_fetch(tmp_path: Path) -> None:
    root = Folder(tmp_path / "absent")
    for act in (discovery.count, lambda root: list(discovery.find(root))):
        with pytest.raises(FaceganError, match=r"absent: no such folder; .*facegan fetch"):
            act(root)


def test_an_empty_folder_has_no_inputs(tmp_path: Path) -> None:
    assert found(tmp_path) == []


def test_what_fetch_skipped_comes_last(tmp_path: Path) -> None:
    skipped = {"z.jpg": "link", "b.jpg": "no-permission"}
    manifest = json.dumps({"source": "x", "files": {}, "skipped": skipped}).encode()
    data = fill(tmp_path / "data", {"m.jpg": b"", MANIFEST: manifest})
    assert found(data) == ["m.jpg", "z.jpg", "b.jpg"]
    assert [read(data, path) for path in ("z.jpg", "b.jpg")] == ["link", "no-permission"]


def test_repositories_are_no_inputs_whether_in_the_folder_or_skipped_by_fetch(
    tmp_path: Path,
) -> None:
    manifest = json.dumps({"source": "x", "files": {}, "skipped": {".hg": "repository"}}).encode()
    data = fill(tmp_path / "data", {"m.jpg": b"", ".git/x.jpg": b"", MANIFEST: manifest})
    assert found(data) == ["m.jpg"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"skipped": 1}', '{"skipped": ["a"]}', "[" * 100_000, "\xff", "{}"],
    ids=str,
)
def test_an_invalid_manifest_is_ignored(text: str, tmp_path: Path) -> None:
    data = fill(tmp_path / "data", {"a.jpg": b"", MANIFEST: text.encode("latin-1")})
    assert found(data) == ["a.jpg"]
    assert discovery.manifest(Folder(data)).get("originals", {}) == {}


def test_a_file_deleted_after_listing_has_vanished(tmp_path: Path) -> None:
    files = {"a.jpg": b"", "b.zip": zipped({"x.jpg": b"x"}), "c": idx(PIXELS)}
    root = Folder(fill(tmp_path / "data", files))
    inputs = list(discovery.find(root))
    for path in files:
        (root.path / path).unlink()
    statuses = []
    for item in inputs:
        with pytest.raises(Unusable) as caught:
            read_input(root, item)
        statuses.append(str(caught.value))
    assert statuses == ["vanished"] * 4


def test_a_file_deleted_during_listing_has_vanished(tmp_path: Path) -> None:
    names = ("b.zip", "c.tar", "d.tgz", "e-idx3-ubyte")
    data = fill(tmp_path / "data", dict.fromkeys(("a.jpg", *names), b""))
    inputs = discovery.find(Folder(data))
    assert next(inputs).path == "a.jpg"
    for name in names:
        (data / name).unlink()
    root = Folder(data)
    statuses = []
    for item in inputs:
        with pytest.raises(Unusable) as caught:
            read_input(root, item)
        statuses.append((item.path, str(caught.value)))
    assert statuses == [(name, "vanished") for name in names]


def test_a_file_without_permission_gets_a_status(tmp_path: Path) -> None:
    names = ("a.jpg", "b.zip", "c.tar", "d.tgz", "e-idx3-ubyte", "f.txt")
    data = fill(tmp_path / "data", dict.fromkeys(names, b"x"))
    for name in names:
        (data / name).chmod(0)
    with unprivileged(data):
        assert found(data) == list(names)
        assert {read(data, name) for name in names} == {"no-permission"}


def test_a_file_replaced_by_a_folder_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").mkdir()
    with pytest.raises(Unusable, match=r"^unreadable$"):
        read_input(Folder(tmp_path), Input("a.jpg", "a.jpg"))


def test_a_file_above_half_a_gibibyte_is_a_bomb(tmp_path: Path) -> None:
    for name, size in (("a.jpg", archives.MAX_BYTES), ("b.jpg", archives.MAX_BYTES + 1)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)  # sparse
    assert read(tmp_path, "b.jpg") == "bomb"


@pytest.fixture
def crowded(tmp_path: Path) -> Iterator[Path]:
    """A folder of 100,000 empty files, deleted here because pytest keeps three runs' folders."""
    names = [f"{number:06}.jpg" for number in range(100_000)]
    for name in reversed(names):
        os.close(os.open(tmp_path / name, os.O_CREAT | os.O_WRONLY))
    yield tmp_path
    for name in names:
        os.unlink(tmp_path / name)  # noqa: PTH108  # a third of the time


@pytest.mark.faults
def test_a_folder_of_100000_files_is_listed_in_order(crowded: Path) -> None:
    root = Folder(crowded)
    assert discovery.count(root) == 100_000
    paths = [item.path for item in discovery.find(root)]
    assert paths == [f"{number:06}.jpg" for number in range(100_000)]


def test_an_encoded_image_is_read_completely(tmp_path: Path) -> None:
    content = encoded(noise(0))
    assert read(fill(tmp_path / "data", {"a.png": content}), "a.png") == content
