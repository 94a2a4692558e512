"""Detection of exact and near duplicates."""

import sqlite3

import numpy as np
from numpy.typing import NDArray


class DigestIndex:
    """Finds photographs with the same pixels. Constant memory; spills to a temporary file."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect("")  # a private temporary file, deleted on close
        columns = "digest BLOB PRIMARY KEY, path TEXT, split TEXT"
        self.connection.execute(f"CREATE TABLE seen ({columns}) WITHOUT ROWID")

    def find_or_add(self, digest: bytes, path: str, split: str) -> tuple[str | None, str]:
        """The path and split first added with this digest; (None, split) if it is new."""
        new = (digest, path, split)
        if self.connection.execute("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", new).rowcount:
            return None, split
        query = "SELECT path, split FROM seen WHERE digest = ?"
        first, first_split = self.connection.execute(query, (digest,)).fetchone()
        return str(first), str(first_split)

    def close(self) -> None:
        self.connection.close()


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
