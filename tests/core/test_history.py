import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facegan.core.errors import FaceganError
from facegan.core.history import append_history, read_history, start_history, write_table

values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
events = st.dictionaries(st.text(), values | st.lists(values), max_size=4)


def test_a_full_disk_is_reported_with_the_path(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device") as caught:
        append_history(path, {"event": "start"})
    assert caught.value.filename == str(path)


@given(first=st.lists(events, max_size=3), more=st.lists(events, max_size=3))
def test_events_round_trip(
    first: list[dict[str, Any]],
    more: list[dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("history") / "history.jsonl"
    start_history(path, first)
    for event in more:
        append_history(path, event)
    assert read_history(path) == first + more
    assert len(path.read_text("utf-8").split("\n")) == len(first + more) + 1


def test_start_replaces_an_existing_history(tmp_path: Path) -> None:
    path = tmp_path / "below" / "history.jsonl"
    start_history(path, [{"event": "old"}, {"event": "older"}])
    start_history(path, [{"event": "new"}])
    assert read_history(path) == [{"event": "new"}]


def test_an_appended_event_is_on_disk_at_once(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    start_history(path, [{"event": "start"}])
    before = path.read_text()
    append_history(path, {"event": "losses", "generator": 1.5})
    assert path.read_text() == before + json.dumps({"event": "losses", "generator": 1.5}) + "\n"


@pytest.mark.parametrize("content", [None, b'{"event": "start"}\n{"eve', b"\xff\xfe", b"\n"])
def test_a_missing_or_corrupt_history_is_named(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FaceganError, match=f"^{path}: cannot read the training history") as caught:
        read_history(path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_table_has_the_numeric_fields_of_one_kind_of_event(tmp_path: Path) -> None:
    lines = [
        {"event": "start", "images": 5},
        {"event": "losses", "images_seen": 20, "generator": 1.5, "note": "text"},
        {"event": "snapshot", "images_seen": 20, "quick_fid": 9.25},
        {"event": "losses", "images_seen": 40, "generator": 2, "note": "text"},
    ]
    write_table(lines, "losses", tmp_path / "losses.csv")
    assert (tmp_path / "losses.csv").read_bytes() == b"images_seen,generator\n20,1.5\n40,2\n"


@given(floats=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
def test_a_table_keeps_full_precision(
    floats: list[float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("table") / "table.csv"
    write_table([{"event": "losses", "value": value} for value in floats], "losses", path)
    with path.open(newline="") as file:
        assert [float(row["value"]) for row in csv.DictReader(file)] == floats
