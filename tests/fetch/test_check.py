import gzip
from pathlib import Path

import pytest

from facegan.core.errors import FaceganError
from facegan.core.events import Message
from facegan.fetch.stage import fetch
from samples import contents, fill, tarred, zipped

GOOD = {f"{n}.jpg": bytes([n]) * 999 for n in range(20)}
PAGE = b"  <!DOCTYPE html><html><title>Google Drive - Quota exceeded</title></html>"
CUT_TAR = gzip.compress(tarred(GOOD), 0)[:9000]
NONE = "no photographs that can be read"
RUBBISH = {
    "a page": ("a.zip", PAGE, "a.zip: a web page in place of the file"),
    "a page as tar.gz": ("a.tar.gz", PAGE, "a.tar.gz: a web page in place of the file"),
    "a page named .jpg": ("a.jpg", PAGE, f"{NONE} (1 web page)"),
    "an empty .jpg": ("a.jpg", b"", f"{NONE} (1 empty)"),
    "a cut zip": ("a.zip", zipped(GOOD)[:-100], "a.zip: truncated"),
    "a cut tar.gz": ("a.tgz", CUT_TAR, "a.tgz: unreadable"),
    "an empty file": ("a.zip", b"", "a.zip: unreadable"),
    "7z": ("a.zip", b"7z\xbc\xaf\x27\x1c" + bytes(99), "a.zip: unsupported-7z"),
    "a tar.zst": ("a.tar.zst", b"\x28\xb5\x2f\xfd" + bytes(99), f"{NONE} (1 unsupported-zstd)"),
    "a rar": ("a.rar", b"Rar!\x1a\x07\0" + bytes(99), f"{NONE} (1 unsupported-rar)"),
    "a HEIC": ("a.heic", b"\0\0\0\x18ftypheic" + bytes(99), f"{NONE} (1 unsupported-heic)"),
    "a video": ("a.mov", b"\0\0\0\x14ftypqt  " + bytes(99), f"{NONE} (1 video)"),
    "a text": ("a.txt", b"hello", f"{NONE} (1 not-an-image)"),
    "a zip of texts": ("a.zip", zipped({"a.txt": b"1", "b.txt": b"2"}), f"{NONE} (2 not-an-image)"),
    "a zip in a zip": ("a.zip", zipped({"b.zip": zipped(GOOD)}), f"{NONE} (1 nested-archive)"),
    "IDX": ("digits-idx3-ubyte", b"\0\0\x08\x03" + bytes(4), "digits-idx3-ubyte: truncated"),
}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder that `fetch` wrote."""
    archive = fill(tmp_path / "good", {"good.zip": zipped(GOOD)})
    fetch(str(archive), tmp_path / "data")
    return tmp_path / "data"


@pytest.mark.parametrize("kind", RUBBISH)
@pytest.mark.parametrize("is_folder", [True, False])
def test_rubbish_does_not_replace_good_data(
    kind: str, is_folder: bool, out: Path, tmp_path: Path
) -> None:
    before = contents(out)
    name, content, line = RUBBISH[kind]
    source = fill(tmp_path / "source", {name: content})
    address = source if is_folder else source / name
    with pytest.raises(FaceganError) as caught:
        fetch(str(address), out)
    assert str(caught.value).startswith(f"{address}: {line}")
    assert str(caught.value).endswith(f"; {out} is unchanged")
    assert contents(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "good", "source"]


def test_one_damaged_archive_among_others_is_a_message(out: Path, tmp_path: Path) -> None:
    source = fill(tmp_path / "source", {"a.zip": PAGE, "b.zip": zipped(GOOD)})
    events: list[object] = []
    assert fetch(str(source), out, events.append) == 21
    lines = [event.text for event in events if isinstance(event, Message)]
    assert lines == ["a.zip: a web page in place of the file, such as an error or a quota"]


def test_thumbnails_alone_do_not_replace_good_data(out: Path, tmp_path: Path) -> None:
    before = contents(out)
    source = fill(tmp_path / "source", {"@eaDir/a.jpg": GOOD["1.jpg"], "notes.txt": b"1"})
    with pytest.raises(FaceganError, match=r"\(1 machine-made, 1 not-an-image\)"):
        fetch(str(source), out)
    assert contents(out) == before


def test_one_photograph_among_other_files_is_enough(out: Path, tmp_path: Path) -> None:
    source = fill(tmp_path / "source", {"a.txt": b"1", "b.jpg": GOOD["1.jpg"], "c.mov": b"2"})
    assert fetch(str(source), out) == 3
