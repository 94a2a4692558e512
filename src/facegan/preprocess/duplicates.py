"""Photographs that were there before: the same pixels, or nearly the same."""

import sqlite3

import numpy as np
from numpy.typing import NDArray


class Seen:
    """Remembers every photograph in constant memory; what is much goes to a temporary file."""

    def __init__(self) -> None:
        self.rows = sqlite3.connect("")  # a private file, gone with the connection
        columns = "digest BLOB PRIMARY KEY, path TEXT, side TEXT"
        self.rows.execute(f"CREATE TABLE seen ({columns}) WITHOUT ROWID")

    def first(self, digest: bytes, path: str, side: str) -> tuple[str | None, str]:
        """The path and the side that came with this digest first; None if this one is the first."""
        new = (digest, path, side)
        if self.rows.execute("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", new).rowcount:
            return None, side
        found = self.rows.execute("SELECT path, side FROM seen WHERE digest = ?", (digest,))
        before, its_side = found.fetchone()
        return str(before), str(its_side)

    def close(self) -> None:
        self.rows.close()


class SeenNearly:
    """Remembers perceptual hashes: 8 bytes a photograph, and its path.

    Args:
        most: in how many of 64 bits two hashes may differ.
    """

    def __init__(self, most: int) -> None:
        self.most, self.paths = most, list[str]()
        self.hashes: NDArray[np.uint64] = np.empty(1024, np.uint64)

    def first(self, perceptual: int, path: str) -> str | None:
        """The first path whose hash is near enough; None, and remembered, if there is none."""
        known = self.hashes[: len(self.paths)]
        near = np.bitwise_count(known ^ np.uint64(perceptual)) <= self.most
        if near.any():
            return self.paths[int(near.argmax())]
        if len(self.paths) == len(self.hashes):
            self.hashes = np.concatenate([self.hashes, np.empty_like(self.hashes)])
        self.hashes[len(self.paths)] = perceptual
        self.paths.append(path)
        return None
