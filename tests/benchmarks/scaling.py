"""What grows with photographs, runs and flow runs: DVC, the stages, MLflow, Prefect.

    python -m benchmarks.scaling PART [--sizes N ...] [--limit SECONDS] [--folder FOLDER]

PART is preprocess, training (after preprocess), dvc, archives, mlflow or prefect. FOLDER must
exist; photographs and datasets stay there for other parts, 20 GB for a million.
"""

import argparse
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import scaling_dvc, scaling_photographs
from benchmarks.harness import Line, machine
from benchmarks.scaling_photographs import Stages

# Of `make bench`.
PHOTOGRAPHS, RUNS, LIMIT = (1_000, 2_000), (100, 200), 10.0


def run() -> Iterator[Line]:
    """All parts, small."""
    with TemporaryDirectory() as name:
        for part, measure in PARTS.items():
            sizes = RUNS if part in ("mlflow", "prefect") else PHOTOGRAPHS
            yield from measure(Path(name), sizes, LIMIT)


def preprocess(folder: Path, sizes: tuple[int, ...], limit: float | None) -> Iterator[Line]:
    """`preprocess`, with a file for each photograph."""
    for count in sizes:
        data = scaling_photographs.written(folder, count)
        yield Stages(folder, count, limit).preprocess(data)


def training(folder: Path, sizes: tuple[int, ...], limit: float | None) -> Iterator[Line]:
    """`reference` and `train` on what `preprocess` wrote."""
    for count in sizes:
        stages = Stages(folder, count, limit)
        yield from stages.batches()
        yield stages.train()
        yield from stages.reference()


def dvc(folder: Path, sizes: tuple[int, ...], limit: float | None) -> Iterator[Line]:
    """DVC, with a file for each photograph."""
    for count in sizes:
        yield from scaling_dvc.run(folder, scaling_photographs.written(folder, count), count)


def archives(folder: Path, sizes: tuple[int, ...], limit: float | None) -> Iterator[Line]:
    """DVC and preprocess, with the photographs in zips."""
    for count in sizes:
        zips = folder / f"zips-{count}"
        scaling_photographs.pack(scaling_photographs.written(folder, count), zips, count)
        yield from scaling_dvc.archives(folder, zips, count)
        yield Stages(folder, count, limit).preprocess(zips)
        shutil.rmtree(zips)


def mlflow(folder: Path, sizes: tuple[int, ...], limit: float | None) -> Iterator[Line]:
    """MLflow's runs and versions."""
    from benchmarks import scaling_runs  # as in __main__: processes that write runs import this

    yield from scaling_runs.measure(folder, sizes)


def prefect(folder: Path, sizes: tuple[int, ...], limit: float | None) -> Iterator[Line]:
    """Prefect's flow runs."""
    from benchmarks import scaling_flows

    yield from scaling_flows.measure(folder, sizes)


PARTS: dict[str, Callable[[Path, tuple[int, ...], float | None], Iterator[Line]]] = {
    "preprocess": preprocess,
    "training": training,
    "dvc": dvc,
    "archives": archives,
    "mlflow": mlflow,
    "prefect": prefect,
}


def main() -> None:
    """Print a line as soon as it is measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--sizes", type=int, nargs="+", default=PHOTOGRAPHS)
    parser.add_argument("--limit", type=float, help="CPU seconds that each stage has; none: all")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    print(machine(), flush=True)
    with TemporaryDirectory() as name:
        folder = (options.folder or Path(name)).absolute()
        for line in PARTS[options.part](folder, tuple(options.sizes), options.limit):
            print(f"{line.name}: {line.ours}; {line.figure}", flush=True)


if __name__ == "__main__":
    main()
