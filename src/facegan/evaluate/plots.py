"""Plots of the scores, as PNGs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from facegan.core import history
from facegan.core.atomic import replacing


def plot_quick_fid(events: Sequence[dict[str, Any]], scores: dict[str, Any], path: Path) -> None:
    """Plot the quick FID over images seen, and the best snapshot's official FID with the floor.

    The official FID has an axis of its own, because its protocol differs.

    Args:
        events: history of the training.
        scores: content of `metrics.json`.
    """
    # Imported late: it takes a second. Without pyplot, which looks for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    protocol = scores["protocol"]
    quick, found = history.scores(events)
    points = [(score["images_seen"], score["quick_fid"]) for score in found]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    left = figure.add_subplot(xlabel="images seen", ylabel=quick, yscale="log")
    left.plot(*zip(*points, strict=True), "o-", color="tab:blue")
    left.yaxis.label.set_color("tab:blue")
    right = left.twinx()
    fid, seen = scores[protocol["name"]], scores["images_seen"]
    spread = scores[f"{protocol['name']}_spread"]
    label = f"official, {fid:.1f} (spread of three sets {spread:.2g})"
    right.plot([seen], [fid], "D", color="tab:red", label=label)
    floor = f"floor, {scores['floor']:.1f}: half of the photographs against the other"
    right.axhline(scores["floor"], color="tab:red", linestyle="--", label=floor)
    right.set(ylabel=protocol["name"], ylim=(0, 1.2 * max(fid, scores["floor"])))
    right.yaxis.label.set_color("tab:red")
    right.legend(loc="upper right")
    title = filter(None, (protocol["name"], protocol["comparability_note"]))
    left.set_title("; ".join(title), fontsize=10)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
