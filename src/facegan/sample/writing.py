"""Images -> a grid, a folder or zip of PNGs, an array, or raw bytes. All but the last atomic."""

import io
import sys
import zipfile
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from facegan.core.atomic import naming, replacing
from facegan.core.errors import FaceganError
from facegan.core.events import OnEvent, Progress
from facegan.core.outputs import check_parent_folder
from facegan.core.pictures import FORMATS, grid, grid_shape, to_picture
from facegan.sample.caption import add_caption
from facegan.sample.destination import ARCHIVE, ARRAY, check_file, suffix_of
from facegan.sample.metadata import format_seeds, jpeg_comment, png_info

Pixels = NDArray[np.uint8]
Batches = Iterator[Pixels]
Describe = Callable[[list[int]], dict[str, str]]

# A grid of more images is larger than viewers open.
MAX_GRID = 10_000
# Of a JPEG: pixels of a side by libjpeg; characters of seeds, with room for what else it says.
MAX_JPEG_SIDE, MAX_JPEG_SEEDS = 65_500, 64_000
# Of a PNG's deflate; the default level, 6, takes several times as long.
COMPRESSION = 1
STDOUT = "-"


def check_size(path: Path, height: int, width: int) -> None:
    """
    Raises:
        FaceganError: if `path` names a JPEG, and such a picture, in pixels, is too large for one.
    """
    kind, _ = FORMATS[path.suffix.lower()]
    if kind == "JPEG" and max(height, width) > MAX_JPEG_SIDE:
        raise FaceganError(
            f"{path}: a grid of {width:,} x {height:,} pixels; a JPEG has at most "
            f"{MAX_JPEG_SIDE:,} on a side; name a .png"
        )


def save_described(pixels: Pixels, temporary: Path, path: Path, text: dict[str, str]) -> None:
    """Write a PNG or JPEG that says what drew it to `temporary`, of the kind that `path` names.

    Raises:
        FaceganError: if it is too large for a JPEG.
    """
    kind, options = FORMATS[path.suffix.lower()]
    check_size(path, *pixels.shape[:2])
    if kind == "PNG":
        to_picture(pixels).save(temporary, kind, pnginfo=png_info(text), **options)
    else:
        to_picture(pixels).save(temporary, kind, comment=jpeg_comment(text), **options)


class Output:
    """Where the images go, checked before they are generated.

    Args:
        name: `.png`, `.jpg`: a grid; `.zip`: PNGs; `.npy`: uint8 (n, H, W, C); `-`: raw bytes of
            the same array on standard output; a name without suffix: a folder of PNGs.
        columns: of the grid.
        caption: whether the grid gets one.
    Raises:
        FaceganError: if nothing can be written there, or the grid would be too large.
    """

    def __init__(self, name: str, seeds: list[int], columns: int | None, caption: bool) -> None:
        self.path, self.seeds = Path(name), seeds
        self.columns, self.has_caption, suffix = columns, caption, suffix_of(Path(name))
        if name == STDOUT:
            self.kind = "raw"
        elif suffix in FORMATS:
            self.kind = "grid"
        elif suffix in (ARCHIVE, ARRAY):
            self.kind = suffix[1:]
        elif suffix:
            raise FaceganError(
                f"{name}: unknown kind of output; valid: {', '.join(FORMATS)}, .zip, .npy, - for "
                "standard output, or a folder, without suffix"
            )
        else:
            self.kind = "folder"
        self._check(name)

    def _check(self, name: str) -> None:
        if self.kind == "folder" and self.path.exists():
            raise FaceganError(f"{name}: exists; name a new folder")
        if self.kind in ("grid", "zip", "npy"):
            check_file(self.path, "output", (*FORMATS, ARCHIVE, ARRAY))
        if self.kind == "grid" and len(self.seeds) > MAX_GRID:
            raise FaceganError(
                f"{name}: a grid has at most {MAX_GRID:,} images; for more, name a folder, a .zip "
                "or a .npy"
            )
        if self.columns and self.columns > MAX_GRID:
            raise FaceganError(f"--columns {self.columns}: valid: at most {MAX_GRID:,}")
        is_jpeg = self.kind == "grid" and FORMATS[self.path.suffix.lower()][0] == "JPEG"
        if is_jpeg and len(format_seeds(self.seeds)) > MAX_JPEG_SEEDS:
            raise FaceganError(f"{name}: too many seeds for a JPEG's comment; name a .png")
        if self.kind == "raw" and sys.stdout is None:
            raise FaceganError("standard output is closed; add > faces.raw")
        if self.kind == "raw" and sys.stdout.isatty():
            raise FaceganError("raw bytes would go to this terminal; add > faces.raw")
        if self.kind == "folder":
            check_parent_folder(self.path.absolute().parent)
        if self.kind != "grid" and (self.has_caption or self.columns):
            raise FaceganError(f"{name}: --caption and --columns are for a grid, .png or .jpg")

    def write(self, batches: Batches, describe: Describe, caption: str, on_event: OnEvent) -> None:
        """Write the images of all seeds.

        Args:
            batches: uint8 (n, H, W, C) each, in the order of the seeds.
            describe: seeds -> text of their picture.
        """
        self.describe, self.caption = describe, caption
        counted = self._counted(batches, on_event)
        if self.kind == "raw":
            with naming(Path("standard output")):
                for batch in counted:
                    sys.stdout.buffer.write(batch.tobytes())
                sys.stdout.buffer.flush()
            return
        with replacing(self.path) as temporary:
            getattr(self, f"_write_{self.kind}")(temporary, counted)

    def _counted(self, batches: Batches, on_event: OnEvent) -> Batches:
        done = 0
        for batch in batches:
            yield batch
            done += len(batch)
            on_event(Progress(done, len(self.seeds)))

    def _write_grid(self, path: Path, batches: Batches) -> None:
        first = next(batches)
        rows, columns = grid_shape(len(self.seeds), self.columns)
        check_size(self.path, rows * first.shape[1], columns * first.shape[2])
        pixels = grid(torch.from_numpy(np.concatenate([first, *batches])), columns)
        if self.has_caption:
            pixels = add_caption(pixels, self.caption)
        save_described(pixels, path, self.path, self.describe(self.seeds))

    def _pngs(self, batches: Batches) -> Iterator[tuple[str, bytes]]:
        seeds = iter(self.seeds)
        for batch in batches:
            for image in batch:
                seed, buffer = next(seeds), io.BytesIO()
                info = png_info(self.describe([seed]))
                picture = to_picture(image)
                picture.save(buffer, "PNG", pnginfo=info, compress_level=COMPRESSION)
                yield f"seed{seed:010}.png", buffer.getvalue()

    def _write_folder(self, path: Path, batches: Batches) -> None:
        path.mkdir()
        for name, content in self._pngs(batches):
            (path / name).write_bytes(content)

    def _write_zip(self, path: Path, batches: Batches) -> None:
        with zipfile.ZipFile(path, "w") as archive:  # stored: a PNG is compressed
            for name, content in self._pngs(batches):
                # With a fixed date, so that the same images are the same bytes.
                archive.writestr(zipfile.ZipInfo(name), content)

    def _write_npy(self, path: Path, batches: Batches) -> None:
        first = next(batches)
        shape = (len(self.seeds), *first.shape[1:])
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        with path.open("wb") as file:  # not mapped: a full disk would kill the process
            np.lib.format.write_array_header_1_0(file, header)
            for batch in chain([first], batches):
                file.write(batch.tobytes())
