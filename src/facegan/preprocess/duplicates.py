"""Detection of exact and near duplicates."""

import sqlite3
import tempfile

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facegan.core.errors import FaceganError


class DigestIndex:
    """Finds photographs with the same pixels. Constant memory; spills to a temporary file."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect("")  # a private temporary file, deleted on close
        columns = "digest BLOB PRIMARY KEY, path TEXT, split TEXT"
        self.connection.execute(f"CREATE TABLE seen ({columns}) WITHOUT ROWID")

    def find_or_add(self, digest: bytes, path: str, split: str) -> tuple[str | None, str]:
        """The path and split first added with this digest; (None, split) if it is new.

        Raises:
            FaceganError: if the disk of temporary files is full.
        """
        new, insert = (digest, path, split), "INSERT OR IGNORE INTO seen VALUES (?, ?, ?)"
        try:
            if self.connection.execute(insert, new).rowcount:
                return None, split
        except sqlite3.OperationalError as error:
            advice = "SQLITE_TMPDIR=FOLDER moves the table of digests"
            raise FaceganError(f"{tempfile.gettempdir()}: {error}; {advice}") from None
        query = "SELECT path, split FROM seen WHERE digest = ?"
        first, first_split = self.connection.execute(query, (digest,)).fetchone()
        return str(first), str(first_split)

    def close(self) -> None:
        self.connection.close()


def perceptual_hash(image: Image.Image) -> int:
    """64-bit pHash of an image, as of the package imagehash.

    https://www.hackerfactor.com/blog/index.php?/archives/432-Looks-Like-It.html: which of the 8x8
    lowest frequencies of the image, at 32x32 and in grey, are above their median. From the most
    significant bit on, horizontal frequencies rise first.
    """
    from scipy.fft import dctn  # slow to import, and rarely needed

    pixels = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS))
    frequencies = dctn(pixels)[:8, :8]
    bits = np.packbits(frequencies > np.median(frequencies))
    return int.from_bytes(bits.tobytes(), "big")


class PerceptualIndex:
    """Finds photographs with similar perceptual hashes. 8 bytes per photograph, and its path.

    Args:
        max_distance: bits, out of 64, in which two near duplicates may differ.
    """

    def __init__(self, max_distance: int) -> None:
        self.max_distance, self.paths = max_distance, list[str]()
        self.hashes: NDArray[np.uint64] = np.empty(1024, np.uint64)

    def find_or_add(self, perceptual: int, path: str) -> str | None:
        """The first path with a near hash; None, after adding this one, if there is none."""
        known = self.hashes[: len(self.paths)]
        near = np.bitwise_count(known ^ np.uint64(perceptual)) <= self.max_distance
        if near.any():
            return self.paths[int(near.argmax())]
        if len(self.paths) == len(self.hashes):
            self.hashes = np.concatenate([self.hashes, np.empty_like(self.hashes)])
        self.hashes[len(self.paths)] = perceptual
        self.paths.append(path)
        return None
