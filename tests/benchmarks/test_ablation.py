import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import ablation_results as results
from benchmarks.ablation import main
from benchmarks.ablation_processes import Processes, Stopped
from benchmarks.ablation_results import Row, Times
from benchmarks.ablation_variants import read_ablation
from conftest import SMALL, START
from facegan.core.errors import FaceganError

TABLES = Path(__file__).parent / "ablations"
SMALL_DIGITS = {
    **{f"train.{name}": value for name, value in SMALL["train"].items()},
    "reference.subset": 100,
    "reference.quick.input_size": 32,
    "reference.official.input_size": 32,
    "evaluate.num_samples": 100,
}


def table(folder: Path, **changes: Any) -> Path:
    content = {
        "preset": "digits",
        "conditions": "600 digits",
        "changes": {},
        "seeds": [0],
        "variants": {"none": {}},
    }
    path = folder / "table.yaml"
    path.write_text(yaml.safe_dump(content | changes, sort_keys=False))
    return path


@pytest.mark.parametrize("path", sorted(TABLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_tables_in_the_tree_are_valid(path: Path) -> None:
    assert read_ablation(path).runs


def test_a_variant_changes_the_preset_by_dotted_keys_with_every_seed(tmp_path: Path) -> None:
    variants = {"none": {}, "slow": {"train.lr": 0.0001, "evaluate.num_samples": 100}}
    path = table(tmp_path, changes={"train.r2": 0.5}, seeds=[3, 1], variants=variants)
    found = read_ablation(path)
    assert [run.name for run in found.runs] == ["none-3", "none-1", "slow-3", "slow-1"]
    none, slow = found.runs[0].params, found.runs[3].params
    assert (none.seed, none.train.lr, none.evaluate.num_samples) == (3, 0.001, 2000)
    assert (slow.seed, slow.train.lr, slow.evaluate.num_samples) == (1, 0.0001, 100)
    assert slow.train.model_copy(update={"lr": 0.001}) == none.train
    assert none.train.r2 == 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": {"a": {"train.lrr": 1}}}, "a: train.lrr: 1: unknown key; did you mean lr?"),
        ({"variants": {"a": {"trian.lr": 1.0}}}, "unknown key; did you mean train?"),
        ({"variants": {"a": {"train.lr": -1.0}}}, "a: train.lr: -1.0: "),
        ({"variants": {"a": {"train.lr.x": 1}}}, "a: train.lr: {'x': 1}: "),
        ({"variants": {"a": {"seed": 1}}}, "a: seed: set the table's seeds instead"),
        ({"variants": {"a": {}, "b": {"preprocess.min_side": 1}}}, "b: changes preprocess"),
        ({"variants": {"a": {"reference.subset": 99}, "b": {}}}, "b: changes reference"),
        ({"variants": {"a": None}}, "a: expected a mapping"),
        ({"variants": {"a/b": {}}}, "'a/b': valid names"),
        ({"variants": {}}, "variants: expected a mapping"),
        ({"variants": ["a"]}, "variants: expected a mapping"),
        ({"seeds": []}, "seeds: []: expected different numbers"),
        ({"seeds": [1, 1]}, "seeds: [1, 1]: expected different numbers"),
        ({"seeds": ["x"]}, "none: seed: 'x'"),
        ({"conditions": "two\nlines"}, "conditions: expected one line"),
        ({"changes": []}, "changes: expected a mapping"),
        ({"changes": {"train.lrr": 1}}, "train.lrr: 1: unknown key; did you mean lr?"),
        ({"preset": "digit"}, "preset 'digit' does not exist"),
        ({"more": 1}, "expected a mapping with the keys preset, conditions, changes, seeds"),
    ],
)
def test_an_unusable_table_is_refused_in_one_line(
    changes: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = table(tmp_path, **changes), tmp_path / "out"
    assert main([str(path), "--data", str(tmp_path), "--out", str(out), "--seconds", "1"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ablation: ")
    assert message in line
    assert not out.exists()


def test_two_variants_of_one_name_are_refused(tmp_path: Path) -> None:
    path = table(tmp_path)
    path.write_text(path.read_text() + "  none: {}\n")
    with pytest.raises(FaceganError, match="duplicate key none"):
        read_ablation(path)


def test_an_unknown_variant_and_missing_photographs_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fixed = [str(table(tmp_path)), "--out", str(tmp_path / "out"), "--seconds", "1", "--data"]
    assert main([*fixed, str(tmp_path), "--only", "all"]) == 1
    assert main([*fixed, str(tmp_path / "no.zip")]) == 1
    unknown, missing = capsys.readouterr().err.splitlines()
    assert unknown == "ablation: --only: no variant all; valid: none"
    assert missing == f"ablation: {tmp_path / 'no.zip'}: no such folder or archive"


METRICS = {
    "fid2k_net-64": 20.0,
    "fid2k_net-64_spread": 0.5,
    "precision2k_net-64": 0.6,
    "recall2k_net-64": 0.2,
    "memorised2k_net-64": 0.01,
    "floor": 3.0,
    "protocol": {"name": "fid2k_net-64"},
}
SCORES = [(0, 900.0), (100, 50.0), (200, 40.0), (300, 45.0)]


def fake_run(folder: Path, *more: dict[str, Any]) -> Path:
    """A run of 60 seconds in two parts, 100 seconds apart, with a quick FID every 20 seconds."""
    training = folder / "checkpoints" / "f00d"
    (training / "tracking").mkdir(parents=True)
    scores = [{"event": "score", "images_seen": n, "quick_fid": fid} for n, fid in SCORES]
    means = {"discriminator": 1.0, "generator": 1.0, "accuracy": 0.5}
    losses = {"event": "losses", "images_seen": 320, **means}
    events = [START, *scores, losses, *more]
    (training / "history.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    moments = [1000, 1020, 1140, 1160]
    lines = [
        [seen, 1000 * when, seen / 10] for (seen, _), when in zip(SCORES, moments, strict=True)
    ]
    (training / "tracking" / "scores.jsonl").write_text("".join(f"{line}\n" for line in lines))
    Times.add(folder, 1000, 1030)
    Times.add(folder, 1130, 1160)
    return folder


def test_a_row_has_the_best_snapshot_the_scores_and_the_times(tmp_path: Path) -> None:
    folder = fake_run(tmp_path / "none-0")
    (folder / "metrics.json").write_text(json.dumps(METRICS))
    assert results.read_row("none", 0, folder) == Row(
        "none", "0", best=200, seen=320, speed=20, minutes=1, quick_fid=40, fid=20, spread=0.5,
        precision=0.6, recall=0.2, memorised=0.01, floor=3, protocol="fid2k_net-64",
    )  # fmt: skip


def test_a_row_says_why_a_training_failed_or_ended_early(tmp_path: Path) -> None:
    collapse = {"event": "collapse", "images_seen": 300, "reason": "x"}
    folder = fake_run(tmp_path / "a-0", collapse, {"event": "end", "reason": "NaN"})
    row = results.read_row("a", 0, folder)
    assert row.note == "ended: NaN, collapse at 1 quick FIDs"
    (folder / "failed.txt").write_text("out of memory\n")
    (folder / "metrics.json").write_text(json.dumps(METRICS))  # of an earlier call
    row = results.read_row("a", 0, folder)
    assert (row.note, row.fid, row.seen) == ("failed: out of memory", None, 320)
    (tmp_path / "b-0").mkdir()
    assert results.read_row("b", 0, tmp_path / "b-0") == Row("b", "0")


def test_several_seeds_get_a_row_of_medians() -> None:
    fids: dict[str, list[float | None]] = {"a": [30.0, 10.0, 14.0], "b": [5.0], "c": [1.0, None]}
    rows = [
        Row(name, str(seed), fid=fid, quick_fid=seed, note="" if fid else "failed: x")
        for name, values in fids.items()
        for seed, fid in enumerate(values)
    ]
    found = results.with_medians(rows)
    assert [row.seed for row in found] == ["0", "1", "2", "median of 3", "0", "0", "1"]
    median = found[3]
    assert (median.fid, median.quick_fid, median.precision) == (14, 1, None)
    assert median.spread == pytest.approx(10.583, abs=1e-3)
    (*_, last) = results.with_medians([*rows, Row("c", "2", fid=3.0)])
    assert (last.fid, last.note) == (2, "1 of 3 seeds without an FID")


def test_the_table_is_markdown_whatever_a_failure_says() -> None:
    rows = [
        Row("a", "0", 200, 320, 1234.5, 1.25, 40, 20, 0.5, 0.6, 0.2, 0.01, 3, "p"),
        Row("b", "0", note="failed: a | b\nc"),
    ]
    text = results.markdown(rows)
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert [len(line) for line in cells] == [12] * 4
    numbers = ["200 of 320", "1,234", "1.2", "40.0", "20.00 ± 0.50", "0.600", "0.200", "0.010"]
    assert cells[2] == ["a", "0", *numbers, "3.00", ""]
    assert cells[3] == ["b", "0", *[""] * 9, "failed: a / b c"]


def test_curves_count_the_seconds_without_the_pauses(tmp_path: Path) -> None:
    folder = fake_run(tmp_path / "none-0")
    results.write_curves([("none", 0, folder)], tmp_path / "curves.csv")
    with (tmp_path / "curves.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["variant", "seed", "images_seen", "seconds", "quick_fid"]
    expected = zip(SCORES, (0, 20, 40, 60), strict=True)
    assert [row[:2] for row in rows] == [["none", "0"]] * 4
    assert [list(map(float, row[2:])) for row in rows] == [[n, s, fid] for (n, fid), s in expected]


def test_a_failing_command_is_told_by_its_last_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for name in ("first", "second"):
        with pytest.raises(FaceganError, match=f"^preset '{name}' does not exist"):
            Processes({}).run(["preset", name], log)
    assert log.read_text().count("does not exist") == 2


def test_commands_end_when_the_ablation_does(tmp_path: Path) -> None:
    processes = Processes({})
    processes.stop(signal.SIGTERM, None)
    with pytest.raises(Stopped):
        processes.run(["preset", "digits"], tmp_path / "log")
    assert not (tmp_path / "log").exists()


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.ablation", *arguments]
    return subprocess.Popen(command, cwd=folder, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)  # fmt: skip


def scores_of(run: Path) -> list[dict[str, Any]]:
    return [event for event in results.events_of(run) if event["event"] == "score"]


@pytest.mark.faults
def test_variants_are_trained_scored_and_continued(digits: Path, tmp_path: Path) -> None:
    variants = {
        "long": SMALL_DIGITS | {"train.epochs": 100_000},
        "short": SMALL_DIGITS,
        "diverging": SMALL_DIGITS | {"train.lr": 1e30},
    }
    path, out = table(tmp_path, variants=variants), tmp_path / "out"
    fixed = ["--data", str(digits), "--out", str(out), "--jobs", "3", "--device", "cpu"]

    def ablation(seconds: float, *only: str, source: Path = path) -> tuple[int, str, str]:
        with start(tmp_path, str(source), *fixed, "--seconds", str(seconds), *only) as process:
            stdout, stderr = process.communicate()
        return process.returncode, stdout, stderr

    status, stdout, stderr = ablation(300, "--only", "short", "diverging")
    assert status == 1, stderr  # one has failed
    short, diverging = stdout[stdout.index("\n| variant") :].strip().splitlines()[2:4]
    assert " 540 of 540 " in short
    assert " ± " in short
    assert "failed" not in short
    assert "failed: " in diverging
    networks = (out / "short-0" / "train" / "generator.safetensors").stat()

    seconds = Times.read(out / "short-0").total + 5  # start-up takes most of it
    status, stdout, stderr = ablation(seconds, "--only", "long")
    assert status == 0, stderr
    first, lines = scores_of(out / "long-0"), (out / "table.md").read_text().splitlines()
    assert "600 digits." in lines
    assert stdout.endswith("\n".join(lines) + "\n")
    assert [line.split(" | ")[0] for line in lines[2:5]] == ["| long", "| short", "| diverging"]
    assert seconds <= Times.read(out / "long-0").total < seconds + 60

    status, _, stderr = ablation(
        Times.read(out / "long-0").total + seconds, "--only", "long", "short"
    )
    assert status == 0, stderr
    second = scores_of(out / "long-0")
    # The first call's last score is between two intervals; a longer training has none there.
    assert second[: len(first) - 1] == first[:-1]
    assert second[-1]["images_seen"] > first[-1]["images_seen"]
    assert (out / "short-0" / "train" / "generator.safetensors").stat() == networks

    other = tmp_path / "other"
    other.mkdir()
    changed = table(other, variants=variants | {"long": SMALL_DIGITS | {"train.lr": 0.002}})
    status, _, stderr = ablation(1, source=changed)
    assert "long-0.yaml: of an ablation with other values; use another --out" in stderr


@pytest.mark.faults
def test_an_interrupted_ablation_leaves_checkpoints_and_no_process(
    digits: Path, tmp_path: Path
) -> None:
    variants = {name: SMALL_DIGITS | {"train.epochs": 100_000} for name in ("a", "b")}
    path, out = table(tmp_path, variants=variants), tmp_path / "out"
    arguments = ["--data", str(digits), "--out", str(out), "--seconds", "600", "--jobs", "2"]
    with start(tmp_path, str(path), *arguments, "--device", "cpu") as process:
        runs = [out / "a-0", out / "b-0"]
        while not all(len(scores_of(run)) > 1 for run in runs):
            assert process.poll() is None
            time.sleep(0.2)
        os.kill(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert stderr == "ablation: stopped; the same command continues\n"
    for run in runs:
        assert "stopped at " in (run / "train.log").read_text()
        assert Times.read(run).total > 0
        assert not (run / "failed.txt").exists()
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert str(out) not in running
