"""The plot of the quick FID over a training."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facegan.evaluate.plots import plot_quick_fid


def scores(fid: float) -> dict[str, Any]:
    return {
        "fid40_efficientnet-lite0-32": fid,
        "fid40_efficientnet-lite0-32_spread": 1.0,
        "floor": 3.0,
        "images_seen": 100,
        "protocol": {"name": "fid40_efficientnet-lite0-32", "comparability_note": "not comparable"},
    }


def plot(path: Path, fid: float, *quick: float) -> bytes:
    events: list[dict[str, Any]] = [{"event": "start", "quick_fid": "quick_fid40_x"}]
    events += [
        {"event": "score", "images_seen": 100 * number, "quick_fid": value}
        for number, value in enumerate(quick)
    ]
    plot_quick_fid(events, scores(fid), path)
    return path.read_bytes()


def test_quick_fid_official_fid_and_floor_are_drawn(tmp_path: Path) -> None:
    pixels = np.asarray(Image.open(_saved(tmp_path, 30.0, 900.0, 80.0)).convert("RGB")).astype(int)
    assert pixels.shape == (450, 800, 3)
    blue, red = (abs(pixels - colour).sum(2) < 60 for colour in ((31, 119, 180), (214, 39, 40)))
    assert blue.sum() > 300 and red.sum() > 300


def test_the_plot_depends_on_the_scores_alone(tmp_path: Path) -> None:
    path = tmp_path / "plot.png"
    first = plot(path, 30.0, 900.0, 80.0)
    assert plot(path, 30.0, 900.0, 80.0) == first
    assert plot(path, 20.0, 900.0, 80.0) != first
    assert plot(path, 30.0, 900.0, 70.0) != first


def _saved(folder: Path, fid: float, *quick: float) -> Path:
    plot(folder / "plot.png", fid, *quick)
    return folder / "plot.png"
