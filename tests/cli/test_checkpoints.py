import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from facegan.cli.main import app
from facegan.core.events import silent
from facegan.params import write_preset
from facegan.tracking import connection
from facegan.tracking.runs import FINGERPRINT
from facegan.train.run_folder import RunFolder


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """A finished training and an unfinished one, both unused since 1970."""
    for seed in (0, 1):
        run = RunFolder(tmp_path / "checkpoints", {"data": "a", "seed": seed})
        run.start(silent)
        if seed == 0:
            run.finish({"epochs": 1})
        for path in run.folder.iterdir():
            os.utime(path, (0, 0))
    return tmp_path / "checkpoints"


def gc(checkpoints: Path, *options: str) -> str:
    result = CliRunner().invoke(app, ["gc", "--checkpoints", str(checkpoints), *options])
    assert result.exit_code == 0, result.output
    return result.stdout


def left(checkpoints: Path) -> int:
    return len(list(checkpoints.iterdir()))


@pytest.mark.parametrize("options", [(), ("--unfinished",)])
def test_without_delete_gc_lists_and_deletes_nothing(
    options: tuple[str, ...], checkpoints: Path
) -> None:
    output = gc(checkpoints, *options)
    assert output.count("would be deleted") == 1 + len(options)
    assert "--delete deletes them" in output
    assert left(checkpoints) == 2


def test_gc_deletes_finished_trainings_and_keeps_unfinished_ones(checkpoints: Path) -> None:
    output = gc(checkpoints, "--delete")
    assert "unfinished" in output and output.count(": deleted") == 1
    assert left(checkpoints) == 1


def test_gc_deletes_unfinished_trainings_when_told_so(checkpoints: Path) -> None:
    gc(checkpoints, "--unfinished", "--delete")
    assert left(checkpoints) == 0


def test_gc_keeps_what_was_used_lately(checkpoints: Path) -> None:
    for folder in checkpoints.iterdir():
        (folder / "history.jsonl").touch()
    gc(checkpoints, "--unfinished", "--older-than", "1", "--delete")
    assert left(checkpoints) == 2


def test_an_empty_folder_has_nothing_to_free(tmp_path: Path) -> None:
    assert gc(tmp_path / "checkpoints") == "0.0 MB to free\n"


def test_gc_prints_the_command_that_frees_dvcs_cache(checkpoints: Path, store: Path) -> None:
    write_preset("digits", store / "params.yaml", force=False)
    output = gc(checkpoints, "--cache")
    assert "dvc gc --all-commits --all-experiments --dry" in output


def test_gc_deletes_runs_without_a_version_only_when_told_so(
    checkpoints: Path, store: Path
) -> None:
    write_preset("digits", store / "params.yaml", force=False)
    client = connection.connect()
    experiment = client.create_experiment("facegan-digits")
    run = client.create_run(experiment, tags={FINGERPRINT: "1"}).info.run_id
    client.set_terminated(run)
    assert run not in gc(checkpoints, "--delete")
    assert f"({run})" in gc(checkpoints, "--runs")
    assert client.get_run(run).info.lifecycle_stage == "active"
    assert "mlflow runs restore" in gc(checkpoints, "--runs", "--delete")
    assert client.get_run(run).info.lifecycle_stage == "deleted"
    assert gc(checkpoints, "--runs").endswith("0 MLflow runs without a version\n")
