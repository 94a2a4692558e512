import hashlib
import http.server
import io
import stat
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path
from typing import Any

import gdown
import gdown.exceptions
import pytest
from torchvision.datasets import MNIST, CelebA
from tqdm import tqdm

from facegan.core.errors import FaceganError
from facegan.core.events import Progress
from facegan.fetch import datasets
from facegan.fetch.stage import fetch, preview

SHARED = Path(__file__).parents[3] / "shared" / "mnist"
NOWHERE = "http://127.0.0.1:9"  # the discard port, where nothing listens


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "parent" / "data"


def refusal(address: str, out: Path) -> str:
    """The one-line error of `fetch`, which must leave nothing behind."""
    with pytest.raises(FaceganError) as caught:
        fetch(address, out)
    assert len(str(caught.value).splitlines()) == 1
    assert list(out.parent.iterdir()) == []
    return str(caught.value)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An HTTP server with the real files, as torchvision's only mirror."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} not found")
    handler = partial(Quiet, directory=str(SHARED))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.05]).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        monkeypatch.setattr(MNIST, "mirrors", [url])
        yield url
        server.shutdown()


@pytest.mark.mnist
def test_mnist_is_downloaded_from_a_mirror_as_published(
    mirror: str, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {path.name: path.read_bytes() for path in SHARED.glob("*.gz")}
    # These files were recompressed, so their MD5s differ from torchvision's.
    known = [(name, hashlib.md5(files[name]).hexdigest()) for name, _ in MNIST.resources]
    monkeypatch.setattr(MNIST, "resources", known)
    events: list[Any] = []
    assert fetch("mnist", out, events.append) == 60_001
    fetched = tree(out)
    del fetched["source.json"]
    assert fetched == {name: files[name] for name in datasets.MNIST}
    assert [path.name for path in out.parent.iterdir()] == ["data"]
    assert events == [Progress(2, 2)]


@pytest.mark.mnist
def test_mnist_with_another_md5_is_refused(mirror: str, out: Path) -> None:
    assert refusal("mnist", out).startswith("mnist: cannot be downloaded (File not found or corr")


def test_mnist_without_a_network_explains_the_manual_download(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MNIST, "mirrors", [f"{NOWHERE}/"])
    line = refusal("mnist", out)
    assert "Connection refused" in line
    assert line.endswith(
        "put train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz into a FOLDER, "
        "then: facegan fetch FOLDER"
    )


@pytest.fixture
def faces(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A zip in place of CelebA's on Google Drive, which tests cannot reach."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("img_align_celeba/000001.jpg", b"a face")

    def download(id: str, output: str, **options: object) -> str:  # noqa: A002
        assert id == CelebA.file_list[0][0]
        Path(output).write_bytes(content.getvalue())
        Path(output).chmod(0o600)  # as gdown's temporary file
        return output

    monkeypatch.setattr(gdown, "download", download)
    return content.getvalue()


def test_celeba_is_downloaded_as_one_zip(
    faces: bytes, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_id, _, name = CelebA.file_list[0]
    monkeypatch.setattr(CelebA, "file_list", [(file_id, hashlib.md5(faces).hexdigest(), name)])
    events: list[Any] = []
    assert fetch("celeba", out, events.append) == 1
    assert sorted(tree(out)) == ["img_align_celeba.zip", "source.json"]
    assert (out / "img_align_celeba.zip").read_bytes() == faces
    modes = {stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()}
    assert len(modes) == 1  # source.json's, as the umask says
    assert events == [Progress(1, 1)]


MANUALLY = (
    "get img_align_celeba.zip from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html, "
    "then: facegan fetch img_align_celeba.zip"
)


def test_celeba_with_another_md5_is_refused(faces: bytes, out: Path) -> None:
    line = refusal("celeba", out)
    assert line == f"celeba: cannot be downloaded (File not found or corrupted.); {MANUALLY}"


def test_celeba_over_googles_quota_explains_the_manual_download(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(**options: object) -> str:
        raise gdown.exceptions.FileURLRetrievalError("Cannot retrieve:\n\n\tToo many users\n")

    monkeypatch.setattr(gdown, "download", download)
    assert refusal("celeba", out) == f"celeba: cannot be downloaded (Too many users); {MANUALLY}"


def test_celeba_without_a_network_explains_the_manual_download(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", NOWHERE)  # runs gdown's own code without downloading 1.4 GB
    monkeypatch.delenv("no_proxy", raising=False)
    line = refusal("celeba", out)
    assert line.startswith("celeba: cannot be downloaded (")
    assert line.endswith(MANUALLY)


@pytest.mark.parametrize("name", ["mnist", "celeba"])
def test_a_dry_run_downloads_nothing(name: str, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MNIST, "mirrors", [])
    monkeypatch.setattr(gdown, "download", None)
    text = preview(name, out)
    assert "size unknown, would be fetched from" in text
    assert ("train-images-idx3-ubyte.gz" if name == "mnist" else "img_align_celeba.zip") in text
    assert not out.parent.exists()


def test_tqdm_bars_become_messages_at_intervals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines: list[str] = []

    def record(event: Any) -> None:
        lines.append(event.text)
        print("message", file=sys.stderr)

    for interval in (-1.0, 3600.0):
        monkeypatch.setattr(datasets, "INTERVAL", interval)
        with redirect_stderr(datasets._TqdmToMessages(record)), tqdm(total=2000, unit="B") as bar:
            bar.update(1000)
            bar.refresh()
    assert any(line.startswith("1000/2000 [") and line.endswith("B/s]") for line in lines)
    assert capsys.readouterr().err == "message\n" * len(lines)
