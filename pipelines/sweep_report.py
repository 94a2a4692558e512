"""A sweep's trials as a table and a plot in Prefect's UI, and as a parent run in MLflow."""

import base64
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from pipelines.processes import output
from pipelines.report import optional
from pipelines.server import wait_for_server
from pipelines.study import FINGERPRINT, REASON, RETRIES, SCORES

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from pipelines.study import Study

STATES = {"COMPLETE": "scored", "PRUNED": "ended early", "FAIL": "failed", "RUNNING": "running"}


def rows(study: "Study") -> list[dict[str, Any]]:
    """Return a row per trial that has begun: its values, scores and state, and why it ended."""
    begun = [trial for trial in study.trials() if trial.state.name in STATES]
    names = [t.user_attrs[SCORES]["protocol"]["name"] for t in filter(_is_scored, begun)]
    return [_row(trial, study, *names[:1]) for trial in begun]


def _row(trial: "FrozenTrial", study: "Study", fid: str = "FID") -> dict[str, Any]:
    attributes = trial.user_attrs
    again = [f"again: trial {t.number}" for t in study.trials() if _retries(t) == trial.number]
    return {
        "trial": trial.number,
        **study.values(trial),
        fid: trial.values[0] if _is_scored(trial) else None,
        "quick FID": trial.intermediate_values.get(trial.last_step or 0),
        "state": STATES[trial.state.name],
        "why": "; ".join(filter(None, [attributes.get(REASON), *again])),
    }


def _is_scored(trial: "FrozenTrial") -> bool:
    return trial.state.name == "COMPLETE"  # one that ended early has its quick FID as value


def _retries(trial: "FrozenTrial") -> Any:
    return trial.user_attrs.get(RETRIES)


def as_text(table: list[dict[str, Any]]) -> str:
    """Return the table with aligned columns."""
    lines = [list(table[0]), *([_cell(value) for value in row.values()] for row in table)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def show(name: str, study: "Study", description: str) -> None:
    """Update the sweep's artifacts in Prefect: the table, and once there are scores a plot."""
    table = [{key: _cell(value) for key, value in row.items()} for row in rows(study)]
    wait_for_server()
    with optional("no table and plot"):
        create_table_artifact(table, key=name, description=description)
        if study.best():
            picture = base64.b64encode(plot(study)).decode()
            page = f"![{name}](data:image/png;base64,{picture})"
            create_markdown_artifact(page, key=f"{name}-plot")


def plot(study: "Study") -> bytes:
    """Return a PNG of the official FID over the values of each key."""
    scored = list(filter(_is_scored, study.trials()))
    fids = [trial.values[0] for trial in scored]
    figure = Figure(figsize=(4 * len(study.space), 3), layout="constrained")
    panels = figure.subplots(1, len(study.space), squeeze=False)[0]
    for axes, key in zip(panels, study.space, strict=True):
        values = [study.values(trial)[key] for trial in scored]
        numeric = all(type(value) in (int, float) for value in values)
        axes.plot(values if numeric else [_cell(value) for value in values], fids, "o")
        axes.set(xlabel=key, ylabel=scored[0].user_attrs[SCORES]["protocol"]["name"])
        if numeric and min(values) > 0 and max(values) > 10 * min(values):
            axes.set_xscale("log")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def mirror(repository: Path, sweep: dict[str, Any], trials: list["FrozenTrial"]) -> None:
    """Bring the sweep's run in MLflow up to date; a failure is a warning.

    Args:
        sweep: `sweep`, `experiment` and `params` of `facegan.tracking.sweep`.
    """
    scored = [
        {
            "number": t.number,
            "fingerprint": t.user_attrs[FINGERPRINT],
            "scores": t.user_attrs[SCORES],
        }
        for t in trials
        if _is_scored(t) and FINGERPRINT in t.user_attrs
    ]
    if not scored:
        return
    command = [sys.executable, "-P", "-m", "facegan.tracking.sweep"]
    content = json.dumps({**sweep, "trials": scored})
    output(command, repository, "MLflow lacks the sweep", content)
