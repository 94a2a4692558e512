"""Plots of the scores, as PNGs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from facegan.core import history
from facegan.core.atomic import replacing
from facegan.core.numbers import significant


def plot_quick_fid(events: Sequence[dict[str, Any]], scores: dict[str, Any], path: Path) -> None:
    """Plot the quick FID over images seen, and beside it the best snapshot's official FID with the
    floor: its protocol differs, so the two share no axis.

    Args:
        events: history of the training.
        scores: content of `metrics.json`.
    """
    # Imported late: it takes a second. Without pyplot, which looks for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    protocol = scores["protocol"]
    quick, found = history.scores(events)
    points = [(score["images_seen"], score["quick_fid"]) for score in found]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(5, 2))
    left.plot(*zip(*points, strict=True), "o-", color="tab:blue")
    left.set(title="quick FID", xlabel="images seen", ylabel=quick, yscale="log")
    left.xaxis.set_major_formatter(EngFormatter(sep=""))
    fid, spread = scores[protocol["name"]], scores[f"{protocol['name']}_spread"]
    right.errorbar([0], [fid], [spread], fmt="D", color="tab:red", capsize=6)
    right.axhline(scores["floor"], color="tab:red", linestyle="--")
    texts = {
        fid + spread: f"{fid:.1f} ± {significant(spread, 1)}",
        scores["floor"]: f"floor {scores['floor']:.1f}",
    }
    for height, text in texts.items():
        right.annotate(text, (0, height), (0, 6), textcoords="offset points", ha="center")
    right.set(title="official FID", ylabel=protocol["name"], xticks=[])
    right.set(ylim=(0, 1.2 * max(fid + spread, scores["floor"])))
    right.set_xlabel(f"of the snapshot at {scores['images_seen']:,}")
    figure.suptitle(protocol["comparability_note"], fontsize=10)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
