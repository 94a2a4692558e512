"""Photographs -> one packed uint8 array, a held-out array, an index and a report."""

from collections.abc import Iterator
from pathlib import Path

from facegan.core.atomic import replacing
from facegan.core.events import OnEvent, Progress, silent
from facegan.core.outputs import check_output_folder
from facegan.params import Preprocess
from facegan.photos import discovery
from facegan.photos.inputs import Folder, Input, open_root
from facegan.photos.tracked import refuse_unrecorded
from facegan.preprocess.dataset_writer import DatasetWriter
from facegan.preprocess.packing import pack_inputs
from facegan.preprocess.workers import PROCESSES, cores, in_order, open_executor

# Limits of a chunk: inputs, at most 257 because their pixels are summed in 16 bits; bytes of packed
# pixels; and bytes of inputs that had to be read in advance.
CHUNK, PIXEL_BYTES, CONTENT_BYTES = 64, 2**20, 2**22
# Chunks in flight per worker; with 2, workers were idle at times.
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

    Writes `images.npy` and `holdout.npy` (uint8 (N, resolution, resolution, channels)),
    `dataset.json` and `holdout.json` (sha256, shape and preprocessing of each), `index.csv` (path,
    sha256, width, height and status of every input, in order), `report.json`, the pictures
    `preview.png` and `mean.png`, and histograms of the photographs' short sides and mean grey
    levels for `dvc plots`. The outputs are byte-identical for any `executor` and `workers`.

    Args:
        executor: `processes`, or the address of a Dask scheduler whose workers can read `data`.
        workers: number of processes; all cores by default.
    Raises:
        FaceganError: if there are no photographs, DVC does not record some of them, or too many
            inputs are unusable; `out` is unchanged then.
    """
    root = shared = open_root(str(data))
    if isinstance(root, Folder):
        refuse_unrecorded(root)
        shared = Folder(root.path.absolute())  # workers may have another working directory
    inputs = [root.path] if isinstance(root, Folder) else []
    check_output_folder(out, "report.json", inputs)
    total = discovery.count(root)
    size = min(CHUNK, PIXEL_BYTES // (params.resolution**2 * params.channels))
    calls = ((shared, chunk, params) for chunk in _chunks(discovery.find(root), size))
    few = min(workers or cores(), -(-total // size) or 1)
    with replacing(out) as folder, open_executor(executor, few) as found:
        folder.mkdir()
        with DatasetWriter(folder, params, discovery.manifest(root).get("originals", {})) as writer:
            for rows, pixels in in_order(found, AHEAD * found.tasks, pack_inputs, calls):
                writer.add(rows, pixels, on_event)
                on_event(Progress(writer.inputs, total))
            writer.finish(str(data), on_event)


def _chunks(inputs: Iterator[Input], max_inputs: int) -> Iterator[list[Input]]:
    chunk: list[Input] = []
    size = 0
    for item in inputs:
        chunk.append(item)
        size += len(item.content or b"")
        if len(chunk) == max_inputs or size > CONTENT_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
