from pathlib import Path

import pytest

from facegan.core import history
from facegan.tracking import record


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, '{"a":' * 100_000])
def test_a_damaged_record_is_an_empty_one(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACEGAN_CHECKPOINTS", str(tmp_path))
    training = tmp_path / "training"
    folder = training / record.FOLDER
    folder.mkdir(parents=True)
    for path in (training / history.NAME, *(folder / n for n in ("run.json", "end.json"))):
        path.write_text(content)
    (folder / record.SCORES).write_text(f"[5, 1000, 2.5]\n{content}\n")
    found = record.read_record(training)
    assert (found.scores, found.run, found.end) == ([(5, 1000, 2.5)], {}, {})
    assert record.find_record(tmp_path / "absent", "f1").folder is None
