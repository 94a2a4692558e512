"""The command `sync`, run as a user runs it."""

import shutil
from pathlib import Path

import pytest

from commands import invoke
from facegan.params import write_preset
from facegan.tracking import connection, record
from histories import losses, write


def test_sync_brings_every_training_and_names_those_that_fail(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_preset("digits", store / "params.yaml", force=False)
    killed = write(store / "checkpoints/a", losses(20), fingerprint="a")
    record.write_run(killed, "faces", "cpu")
    write(store / "checkpoints/b", losses(20), fingerprint="b")
    (store / "checkpoints/c").mkdir()
    (store / "checkpoints/c/history.jsonl").write_text("damaged\n")
    result = invoke("sync", cwd=store)
    assert result.returncode == 1
    assert result.stdout.splitlines() == [
        f"{store}/checkpoints/a: run train-a of faces, KILLED",
        f"{store}/checkpoints/b: run train-b of facegan-digits, FINISHED",
    ]
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"{store}/checkpoints/c: {store}/checkpoints/c/history.jsonl: cannot")
    shutil.rmtree(store / "checkpoints/c")
    assert invoke("sync", "checkpoints/b", cwd=store).returncode == 0
    client = connection.connect()
    for name in ("faces", "facegan-digits"):
        experiment = client.get_experiment_by_name(name)
        assert experiment is not None
        assert len(client.search_runs([experiment.experiment_id])) == 1


def test_sync_without_trainings_is_one_line(store: Path) -> None:
    result = invoke("sync", cwd=store)
    assert result.returncode == 1
    assert result.stderr == f"facegan: {store}/checkpoints: no trainings; name their folders\n"
