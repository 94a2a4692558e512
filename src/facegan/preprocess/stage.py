"""Photographs -> one packed uint8 array, a held-out part, an index and a report."""

from collections.abc import Iterator
from pathlib import Path

from facegan.core.atomic import refuse_foreign, replacing
from facegan.core.errors import FaceganError
from facegan.core.events import OnEvent, Progress, silent
from facegan.params import Preprocess
from facegan.photos import discovery
from facegan.photos.inputs import Folder, Input, open_root
from facegan.preprocess.dataset_writer import DatasetWriter
from facegan.preprocess.packing import pack_inputs
from facegan.preprocess.workers import PROCESSES, cores, in_order, open_executor

# Inputs that a worker gets at a time, at most 257 because their pixels are summed in 16 bits; bytes
# that it gives back, and bytes of inputs that had to be read before.
CHUNK, PIXEL_BYTES, CONTENT_BYTES = 64, 2**20, 2**22
# Chunks a worker that are begun before the next in order is there: with 2, workers stood idle.
AHEAD = 4


def preprocess(
    data: str | Path,
    out: Path,
    params: Preprocess,
    executor: str = PROCESSES,
    workers: int | None = None,
    on_event: OnEvent = silent,
) -> None:
    """Pack every photograph below `data`, a folder or `s3://bucket/prefix`, into `out`.

    Writes `images.npy` and `holdout.npy` (uint8, (N, resolution, resolution, channels)),
    `dataset.json` and `holdout.json` (sha256, shape and preprocessing of each), `index.csv` (path,
    sha256, width, height, status of every input, in order), `report.json`, the pictures
    `preview.png` and `mean.png`, and histograms of the photographs' short sides and mean grey
    levels for `dvc plots`. The bytes of all these don't depend on `executor` and `workers`.

    Args:
        executor: `processes`, or a Dask scheduler's address, whose workers read `data` themselves.
        workers: how many processes; as many as there are cores by default.
    Raises:
        FaceganError: if there are no photographs, or too many of the inputs are unusable. `out`
            is then untouched.
    """
    root = shared = open_root(str(data))
    if isinstance(root, Folder):
        _refuse_overlap(root.path, out)
        shared = Folder(root.path.absolute())  # workers may be at home elsewhere
    refuse_foreign(out, "report.json")
    total = discovery.count(root)
    size = min(CHUNK, PIXEL_BYTES // (params.resolution**2 * params.channels))
    calls = ((shared, chunk, params) for chunk in _chunks(discovery.find(root), size))
    few = min(workers or cores(), -(-total // size) or 1)
    with replacing(out) as folder, open_executor(executor, few) as found:
        folder.mkdir()
        with DatasetWriter(folder, params, discovery.manifest(root).get("originals", {})) as ledger:
            for rows, pixels in in_order(found, AHEAD * found.tasks, pack_inputs, calls):
                ledger.add(rows, pixels, on_event)
                on_event(Progress(ledger.inputs, total))
            ledger.finish(str(data))


def _refuse_overlap(data: Path, out: Path) -> None:
    source, place = data.resolve(), out.resolve()
    if source == place or source in place.parents or place in source.parents:
        raise FaceganError(f"{data}: is, contains or lies in {out}, where the images would go")


def _chunks(inputs: Iterator[Input], most: int) -> Iterator[list[Input]]:
    chunk: list[Input] = []
    size = 0
    for each in inputs:
        chunk.append(each)
        size += len(each.content or b"")
        if len(chunk) == most or size > CONTENT_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
