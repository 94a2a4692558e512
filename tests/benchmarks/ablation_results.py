"""What the trainings of an ablation came to: rows, their medians, and curves."""

import csv
import json
import statistics
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from facegan.core import history
from facegan.core.atomic import replacing
from facegan.core.errors import FaceganError
from facegan.tracking.record import read_record

SAMPLE_METRICS = "precision", "recall", "memorised"
CHECKPOINTS, METRICS, FAILURE, TIMES = "checkpoints", "metrics.json", "failed.txt", "times.jsonl"


@dataclass(frozen=True)
class Row:
    """One row of the table; what is unknown is None.

    Attributes:
        seed: `median of N` where the others are medians over seeds.
        best: images seen at the best snapshot.
        seen: images seen in all.
        speed: images per second, the median between quick FIDs, these included.
        minutes: of all processes of the training, start-up included.
        fid: the official one, the mean over the sets of latents.
        spread: its standard deviation over these, or over the seeds in a row of medians.
    """

    variant: str
    seed: str
    best: float | None = None
    seen: float | None = None
    speed: float | None = None
    minutes: float | None = None
    quick_fid: float | None = None
    fid: float | None = None
    spread: float | None = None
    precision: float | None = None
    recall: float | None = None
    memorised: float | None = None
    floor: float | None = None
    protocol: str = ""
    note: str = ""


@dataclass(frozen=True)
class Times:
    """When the processes of a training ran: beginnings and ends in seconds since the epoch."""

    spans: list[tuple[float, float]] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> "Times":
        path = folder / TIMES
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        return cls([(begin, end) for begin, end in map(json.loads, lines)])

    @staticmethod
    def add(folder: Path, begin: float, end: float) -> None:
        with (folder / TIMES).open("a", encoding="utf-8") as file:
            file.write(json.dumps([round(begin, 3), round(end, 3)]) + "\n")

    @property
    def total(self) -> float:
        return sum(end - begin for begin, end in self.spans)

    def until(self, moment: float) -> float:
        """Seconds that had been spent then, without the pauses."""
        return sum(min(end, moment) - begin for begin, end in self.spans if begin < moment)


def training_folder(folder: Path) -> Path | None:
    """The newest training among a run's checkpoints."""
    found = list((folder / CHECKPOINTS).glob(f"*/{history.NAME}"))
    return max(found, key=lambda path: path.stat().st_mtime).parent if found else None


def events_of(folder: Path) -> list[dict[str, Any]]:
    """The history of a run so far; empty if there is none."""
    training = training_folder(folder)
    if training is not None:
        with suppress(FaceganError):  # a line that is being written
            return history.read_history(training / history.NAME)
    return []


def read_row(variant: str, seed: int, folder: Path) -> Row:
    """The row of one run."""
    row, events, times = Row(variant, str(seed)), events_of(folder), Times.read(folder)
    if times.spans:
        row = replace(row, minutes=times.total / 60)
    if events:
        row = replace(row, seen=max(event.get("images_seen", 0) for event in events))
        training = training_folder(folder)
        speeds = (
            [speed for seen, _, speed in read_record(training).scores if seen] if training else []
        )
        row = replace(row, speed=statistics.median(speeds) if speeds else None)
        if found := history.scores(events)[1]:
            best = min(found, key=lambda score: score["quick_fid"])
            row = replace(row, best=best["images_seen"], quick_fid=best["quick_fid"])
    if (failure := folder / FAILURE).exists():
        return replace(row, note=f"failed: {failure.read_text('utf-8').strip()}")
    if (metrics := folder / METRICS).exists():
        row = replace(row, **_scores(json.loads(metrics.read_text("utf-8"))))
    return replace(row, note=_ending(events))


def _scores(metrics: dict[str, Any]) -> dict[str, Any]:
    name = metrics["protocol"]["name"]
    return {
        "fid": metrics[name],
        "spread": metrics[f"{name}_spread"],
        **{metric: _sample_metric(metrics, metric) for metric in SAMPLE_METRICS},
        "floor": metrics["floor"],
        "protocol": name,
    }


def _sample_metric(metrics: dict[str, Any], metric: str) -> float | None:
    """Its key has the number of samples, which can be lower than the FID's."""
    return next((value for key, value in metrics.items() if key.startswith(metric)), None)


def _ending(events: Sequence[dict[str, Any]]) -> str:
    """Why the training ended early, and its collapses."""
    ends = [event["reason"] for event in events if event["event"] == "end"]
    collapses = sum(event["event"] == "collapse" for event in events)
    early = [f"ended: {ends[-1]}"] if ends and ends[-1] != "finish" else []
    return ", ".join(early + [f"collapse at {collapses} quick FIDs"] * bool(collapses))


def with_medians(rows: Iterable[Row]) -> list[Row]:
    """The rows, and one of medians after each variant with several seeds that have an FID."""
    result = []
    for variant, group in groupby(rows, lambda row: row.variant):
        own = list(group)
        result += own
        scored = [row for row in own if row.fid is not None]
        if len(scored) > 1:
            result.append(_median(variant, scored, len(own)))
    return result


def _median(variant: str, rows: Sequence[Row], count: int) -> Row:
    medians: dict[str, float] = {}
    for name in NUMBERS:
        values = [value for row in rows if (value := getattr(row, name)) is not None]
        if values:
            medians[name] = statistics.median(values)
    medians["spread"] = statistics.stdev(row.fid for row in rows if row.fid is not None)
    missing = count - len(rows)
    note = f"{missing} of {count} seeds without an FID" if missing else ""
    return Row(variant, f"median of {len(rows)}", **medians, protocol=rows[0].protocol, note=note)


NUMBERS = tuple(
    each.name for each in fields(Row) if each.name not in ("variant", "seed", "protocol", "note")
)
# Column -> format of its number; `best` and `fid` have two numbers each.
FORMATS = {
    "images/s": ("speed", ",.0f"),
    "minutes": ("minutes", ".1f"),
    "quick FID": ("quick_fid", ".1f"),
    "FID": ("fid", ".2f"),
    "precision": ("precision", ".3f"),
    "recall": ("recall", ".3f"),
    "memorised": ("memorised", ".3f"),
    "floor": ("floor", ".2f"),
}


def markdown(rows: Iterable[Row]) -> str:
    """The table that docs show."""
    rows = list(rows)
    columns = ["variant", "seed", "images seen, best of all", *FORMATS]
    has_notes = any(row.note for row in rows)
    lines = [[*columns, *(["note"] * has_notes)], ["---"] * (len(columns) + has_notes)]
    lines += [[*_cells(row), *([_plain(row.note)] * has_notes)] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cells(row: Row) -> list[str]:
    seen = f"{_number(row.best, ',.0f')} of {_number(row.seen, ',.0f')}".removesuffix(" of ")
    cells = {column: _number(getattr(row, name), form) for column, (name, form) in FORMATS.items()}
    if row.spread is not None:
        cells["FID"] += f" ± {row.spread:.2f}"
    return [row.variant, row.seed, seen.strip(), *cells.values()]


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _plain(text: str) -> str:
    """Text for one cell."""
    return " ".join(text.replace("|", "/").split())


def write_curves(runs: Iterable[tuple[str, int, Path]], path: Path) -> None:
    """Write the quick FIDs of all runs as CSV.

    Args:
        runs: variant, seed and folder of each.
    """
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["variant", "seed", "images_seen", "seconds", "quick_fid"])
        for variant, seed, folder in runs:
            seconds = _seconds(folder)
            for score in history.scores(events_of(folder))[1]:
                seen = score["images_seen"]
                writer.writerow([variant, seed, seen, seconds.get(seen, ""), score["quick_fid"]])


def _seconds(folder: Path) -> dict[int, float]:
    """Images seen -> seconds of training at the quick FID there."""
    times = Times.read(folder)
    return {seen: round(times.until(when / 1000), 1) for seen, when, _ in _recorded(folder)}


def _recorded(folder: Path) -> list[tuple[int, int, float]]:
    """Images seen, time in milliseconds since the epoch and images per second of each score."""
    training = training_folder(folder)
    return read_record(training).scores if training else []
