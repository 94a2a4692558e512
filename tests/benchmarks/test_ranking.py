from pathlib import Path

import pytest
import torch

from benchmarks import ranking
from benchmarks.snapshots import keep
from conftest import make_params
from facegan.core.events import Event, Scored
from facegan.models.files import load_network
from facegan.train.checkpoint import load_checkpoint, save_checkpoint
from facegan.train.stage import train

CPU = torch.device("cpu")


@pytest.fixture(name="snapshots")
def kept_snapshots(dataset: Path, references: tuple[Path, Path], tmp_path: Path) -> list[Path]:
    """Of the quick FIDs at 0, 280 and 540 images; `tmp_path / "out"` has the best of them."""
    folder = tmp_path / "snapshots"

    def on_event(event: Event) -> None:
        if isinstance(event, Scored):
            keep(event.folder / "checkpoint.pt", folder)

    params = make_params()
    out, checkpoints = tmp_path / "out", tmp_path / "checkpoints"
    train(dataset, references[0], out, params.train, 0, CPU, checkpoints, on_event)
    return sorted(folder.iterdir(), key=lambda path: int(path.stem))


def test_a_snapshot_is_the_generator_that_was_scored(snapshots: list[Path], tmp_path: Path) -> None:
    assert [path.stem for path in snapshots] == ["0", "280", "540"]
    best, _ = load_network(tmp_path / "out" / "generator.safetensors")
    kept = [load_network(path)[0] for path in snapshots]
    assert [all(map(torch.equal, best.values(), state.values())) for state in kept].count(True) == 1


def test_a_checkpoint_without_its_score_is_not_kept(snapshots: list[Path], tmp_path: Path) -> None:
    (path,) = (tmp_path / "checkpoints").glob("*/checkpoint.pt")
    for is_due in (True, False):
        save_checkpoint({**load_checkpoint(path, CPU), "score_due": is_due}, path)
        keep(path, tmp_path / "kept")
        assert (tmp_path / "kept").exists() != is_due


def test_quick_scores_are_ranked_against_the_official_one(
    snapshots: list[Path],
    dataset: Path,
    references: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in {"SHARES": (1,), "COUNTS": (40, 80), "OFFICIAL": 80}.items():
        monkeypatch.setattr(ranking, name, value)
    ranking.main(str(dataset), str(references[1]), *map(str, snapshots))
    lines = capsys.readouterr().out.splitlines()
    assert [line.startswith(f"{path}: ") for line, path in zip(lines, snapshots, strict=False)] == [
        True
    ] * 3
    rows = [line for line in lines if line.startswith("| 32 pixels")]
    assert len(rows) == 8
    assert "| 32 pixels, 80 images, FID | " in rows[4]


def test_what_a_choice_loses_is_counted_within_folders() -> None:
    paths = ["a/1", "a/2", "b/1", "b/2"]
    fids = [10.0, 12.0, 20.0, 30.0]
    assert ranking._lost(paths, fids, [2.0, 1.0, 0.0, 9.0]) == 1.0
    assert ranking._lost(paths, fids, fids) == 0.0


def test_the_extrapolation_is_the_intercept() -> None:
    features = torch.zeros(1000, 1)
    assert ranking._extrapolated(lambda x: 7 + 50 / len(x), features) == pytest.approx(7)
