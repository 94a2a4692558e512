"""Trains the variants of a table side by side on one device, and writes the docs' table of them.

    PYTHONPATH=tests python -m benchmarks.ablation tests/benchmarks/ablations/celeba64-gpu.yaml \
        --data data --out /tmp/ablation --seconds 600 --jobs 4

Everything is done by the `facegan` commands. The same command with more seconds continues each
training exactly from its checkpoint.
"""

import argparse
import math
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks import ablation_results as results
from benchmarks.ablation_processes import Processes, Stopped
from benchmarks.ablation_variants import SHARED, Ablation, Run, read_ablation
from benchmarks.harness import machine
from facegan.core import history
from facegan.core.atomic import replacing
from facegan.core.errors import FaceganError
from facegan.preprocess.workers import cores

ROOT = Path(__file__).parents[2]
REPORT_INTERVAL = 15.0  # seconds
TABLE, CURVES = "table.md", "curves.csv"


@dataclass(frozen=True)
class Setup:
    """One call of the command.

    Attributes:
        seconds: that each training may take, in all calls together.
        out: folder for everything that is written.
    """

    out: Path
    data: Path
    seconds: float
    jobs: int
    device: str | None
    processes: Processes

    def folder(self, run: Run) -> Path:
        return self.out / run.name

    def params(self, run: Run) -> Path:
        return self.out / "params" / f"{run.name}.yaml"

    @property
    def dataset(self) -> Path:
        return self.out / "dataset"

    @property
    def quick(self) -> Path:
        return self.out / "reference" / "quick.safetensors"

    @property
    def official(self) -> Path:
        return self.out / "reference" / "official.safetensors"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        ablation = read_ablation(options.table)
        runs = _chosen(ablation.runs, options.only)
        setup = _setup(options)
        with _signals(setup.processes):
            _write_params(setup, ablation.runs)
            _prepare(setup, runs[0])
            _run_all(setup, runs)
    except Stopped:
        _write_results(setup, ablation)
        print("ablation: stopped; the same command continues", file=sys.stderr)
        return 1
    except FaceganError as error:
        for line in str(error).splitlines():
            print(f"ablation: {line}", file=sys.stderr)
        return 1
    _write_results(setup, ablation)
    return int(any((setup.folder(run) / results.FAILURE).exists() for run in runs))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=__doc__)
    add = parser.add_argument
    add("table", type=Path, help="YAML file in tests/benchmarks/ablations")
    add("--data", type=Path, required=True, help="folder or archive of photographs")
    add("--out", type=Path, required=True, help="folder for all that is written")
    add("--seconds", type=_positive, required=True,
                        help="of each training, over all calls")  # fmt: skip
    add("--jobs", type=int, choices=range(1, 65), metavar="N", default=1, help="trainings at once")
    add("--only", nargs="+", default=[], metavar="NAME", help="variants to run")
    add("--device", help="as FACEGAN_DEVICE: cpu, cuda")
    return parser


def _positive(text: str) -> float:
    if not 0 < (value := float(text)) < math.inf:
        raise ValueError
    return value


def _chosen(runs: list[Run], only: list[str]) -> list[Run]:
    names = dict.fromkeys(run.variant for run in runs)
    for name in only:
        if name not in names:
            raise FaceganError(f"--only: no variant {name}; valid: {', '.join(names)}")
    return [run for run in runs if not only or run.variant in only]


def _setup(options: argparse.Namespace) -> Setup:
    if not options.data.exists():
        raise FaceganError(f"{options.data}: no such folder or archive")
    out = options.out.absolute()
    environment = {
        "OMP_NUM_THREADS": str(max(1, cores() // options.jobs)),
        "MLFLOW_TRACKING_URI": f"sqlite:///{out / 'mlflow.db'}",  # not among the project's runs
    }
    if options.device:
        environment["FACEGAN_DEVICE"] = options.device
    return Setup(
        out, options.data.resolve(), options.seconds, options.jobs, options.device,
        Processes(environment),
    )  # fmt: skip


@contextmanager
def _signals(processes: Processes) -> Iterator[None]:
    """End the commands on SIGINT and SIGTERM."""
    numbers = signal.SIGINT, signal.SIGTERM
    before = {number: signal.signal(number, processes.stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write_params(setup: Setup, runs: list[Run]) -> None:
    """Write all parameters; those of an earlier call must be the same."""
    first = runs[0].params.model_dump(by_alias=True)
    shared = {"data": str(setup.data), **{section: first[section] for section in SHARED}}
    contents = {setup.out / "params" / "dataset.yaml": shared}
    contents |= {setup.params(run): run.params.model_dump(by_alias=True) for run in runs}
    texts = {path: yaml.safe_dump(content, sort_keys=False) for path, content in contents.items()}
    for path, text in texts.items():
        if path.exists() and path.read_text("utf-8") != text:
            raise FaceganError(f"{path}: of an ablation with other values; use another --out")
    for path, text in texts.items():
        with replacing(path) as temporary:
            temporary.write_text(text, "utf-8")


def _prepare(setup: Setup, run: Run) -> None:
    """Make the dataset and the reference statistics, unless they are there."""
    params: list[str | Path] = ["--params", setup.params(run)]
    if not setup.dataset.exists():
        print("preprocess ...", flush=True)
        data, log = _folder_of(setup), setup.out / "preprocess.log"
        setup.processes.run(["preprocess", data, setup.dataset, *params], log)
    if not (setup.quick.exists() and setup.official.exists()):
        print("reference ...", flush=True)
        files, log = (setup.quick, setup.official), setup.out / "reference.log"
        setup.processes.run(["reference", setup.dataset, *files, *params], log)


def _folder_of(setup: Setup) -> Path:
    """The folder of photographs; an archive gets one around it."""
    if setup.data.is_dir():
        return setup.data
    folder = setup.out / "photographs"
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / setup.data.name
    link.unlink(missing_ok=True)
    link.symlink_to(setup.data)
    return folder


def _run_all(setup: Setup, runs: list[Run]) -> None:
    began = time.monotonic()
    with ThreadPoolExecutor(setup.jobs) as pool:
        futures = [pool.submit(_run, setup, run) for run in runs]
        pending: set[Future[None]] = set(futures)
        while pending:
            _, pending = wait(pending, REPORT_INTERVAL)
            states = "  ".join(filter(None, (_state(setup.folder(run), run) for run in runs)))
            print(f"{time.monotonic() - began:5.0f} s  {states}", flush=True)
    for future in futures:
        future.result()


def _state(folder: Path, run: Run) -> str:
    """How far a training is."""
    events = results.events_of(folder)
    seen = max((event.get("images_seen", 0) for event in events), default=0)
    scores = history.scores(events)[1]
    newest = f", quick FID {scores[-1]['quick_fid']:.1f}" if scores else ""
    return f"{run.name}: {seen:,}{newest}" if folder.exists() else ""


def _run(setup: Setup, run: Run) -> None:
    """Train and score one variant. A failure is noted in its folder.

    Raises:
        Stopped: if the ablation is to stop.
    """
    folder = setup.folder(run)
    failure, metrics = folder / results.FAILURE, folder / results.METRICS
    folder.mkdir(parents=True, exist_ok=True)
    failure.unlink(missing_ok=True)
    try:
        if _train(setup, run) or not metrics.exists():
            metrics.unlink(missing_ok=True)
            setup.processes.run(
                ["evaluate", folder / "train", setup.dataset, setup.official,
                 folder / "evaluation", metrics, "--params", setup.params(run)],
                folder / "evaluate.log",
            )  # fmt: skip
    except (FaceganError, OSError) as error:
        failure.write_text(f"{error}\n", "utf-8")


def _train(setup: Setup, run: Run) -> bool:
    """Train until the time is up; whether there are new networks."""
    folder, out = setup.folder(run), setup.folder(run) / "train"
    left = setup.seconds - results.Times.read(folder).total
    if out.exists() and (left <= 0 or _is_finished(folder)):
        return False
    command: list[str | Path] = ["train", setup.dataset, setup.quick, out]
    command += ["--checkpoints", folder / results.CHECKPOINTS, "--params", setup.params(run)]
    log = folder / "train.log"
    if left > 0:
        begin = time.time()
        try:
            is_complete = setup.processes.run(command, log, left)
        finally:
            results.Times.add(folder, begin, time.time())
        if is_complete:
            return True
    setup.processes.run([*command, "--finish"], log)
    return True


def _is_finished(folder: Path) -> bool:
    training = results.training_folder(folder)
    return training is not None and (training / "finished.json").exists()


def _write_results(setup: Setup, ablation: Ablation) -> None:
    done = [run for run in ablation.runs if setup.folder(run).exists()]
    runs = [(run.variant, run.seed, setup.folder(run)) for run in done]
    rows = [results.read_row(*run) for run in runs]
    results.write_curves(runs, setup.out / CURVES)
    text = results.markdown(results.with_medians(rows)) + "\n" + _conditions(setup, ablation, rows)
    with replacing(setup.out / TABLE) as temporary:
        temporary.write_text(text, "utf-8")
    print(f"\n{text}", end="")


def _conditions(setup: Setup, ablation: Ablation, rows: list[results.Row]) -> str:
    """What the table's figures depend on."""
    protocols = " and ".join(dict.fromkeys(row.protocol for row in rows if row.protocol))
    beside = f"{setup.jobs} at once" if setup.jobs > 1 else "one after the other"
    changes = "".join(f", {key}: {value}" for key, value in ablation.changes.items())
    lines = [
        f"{ablation.conditions}.",
        f"Preset `{ablation.preset}`{changes}.",
        f"Trainings of at most {setup.seconds:g} s, {beside}.",
        f"FID: {protocols or 'none'}, mean ± standard deviation over three sets of latents of the "
        "snapshot with the best quick FID; in a row of medians, ± is over seeds. images/s includes "
        "quick FIDs, minutes start-up as well.",
        f"{machine()}{_commit()}.",
    ]
    return "".join(f"{line}\n" for line in lines)


def _commit() -> str:
    """The commit of the code, and whether it was changed; empty without git."""
    commit = _git("rev-parse", "--short", "HEAD")
    modified = " with changes" if commit and _git("status", "--porcelain") else ""
    return f", facegan {commit}{modified}" if commit else ""


def _git(*arguments: str) -> str:
    """The output of a git command; empty without git."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


if __name__ == "__main__":
    sys.exit(main())
