"""`.npy` files written incrementally."""

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


class ArrayWriter:
    """Writes a `.npy` of uint8 (N, *shape), some rows at a time; N is unknown until the end.

    Memory does not grow with N. NumPy pads the header, so that any N fits.
    """

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.path, self.shape, self.count = path, shape, 0
        self.file = path.open("w+b")
        self._write_header()

    def _write_header(self) -> None:
        header = {"descr": "|u1", "fortran_order": False, "shape": (self.count, *self.shape)}
        np.lib.format.write_array_header_1_0(self.file, header)

    def extend(self, rows: Pixels) -> None:
        assert rows.shape[1:] == self.shape and rows.dtype == np.uint8
        self.file.write(rows.tobytes())
        self.count += len(rows)

    def finish(self) -> str:
        """Write the final header and return the sha256 of the whole file."""
        self.file.seek(0)
        self._write_header()
        self.file.seek(0)
        return hashlib.file_digest(self.file, "sha256").hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.file.close()
