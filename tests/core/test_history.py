import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands import invoke
from conftest import START
from facegan.core.errors import FaceganError
from facegan.core.history import (
    KEYS,
    append_history,
    best_score,
    read_history,
    scores,
    start_history,
    write_table,
)

VALUES: dict[Any, Any] = {int: 1, str: "x", list: [], dict: {}, (int, float): 1.5}
values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
fields = st.dictionaries(st.text(), values | st.lists(values), max_size=4)
events = st.builds(lambda found, kind: found | {"event": kind}, fields, st.just("resume"))


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
    start_history(path, [START, *first])
    for event in more:
        append_history(path, event)
    assert read_history(path) == [START, *first, *more]
    assert len(path.read_text("utf-8").split("\n")) == len(first + more) + 2


def test_start_replaces_an_existing_history(tmp_path: Path) -> None:
    path = tmp_path / "below" / "history.jsonl"
    start_history(path, [{"event": "old"}, {"event": "older"}])
    start_history(path, [START])
    assert read_history(path) == [START]


def test_an_appended_event_is_on_disk_at_once(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    start_history(path, [{"event": "start"}])
    before = path.read_text()
    append_history(path, {"event": "losses", "generator": 1.5})
    assert path.read_text() == before + json.dumps({"event": "losses", "generator": 1.5}) + "\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b'{"event": "start"}\n{"eve', "Unterminated string.*"),
        (b"\xff\xfe", ".* can't decode byte .*"),
        (b"\n", "Expecting value.*"),
        (b'{"event":' * 100_000, "maximum recursion depth exceeded.*"),
    ],
)
def test_a_missing_or_corrupt_history_is_named_with_the_reason(
    content: bytes | None, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "history.jsonl"
    if content is not None:
        path.write_bytes(content)
    expected = rf"^{path}: cannot read the training history \({reason}\)$"
    with pytest.raises(FaceganError, match=expected) as caught:
        read_history(path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "text", ["", "5\n", "[]\n", '{"event": "start"}\n', '{"event": "score"}\n', '{"event": []}\n']
)
def test_what_is_not_the_history_of_a_training_is_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(text)
    with pytest.raises(FaceganError) as caught:
        read_history(path)
    assert str(caught.value) == f"{path}: not the history of a training; run: dvc repro train"


WRONG: list[tuple[Any, str]] = [(5, "event"), ({}, "event")]
for kind, keys in KEYS.items():
    good = {"event": kind, **{key: VALUES[of] for key, of in keys.items()}}
    for key, of in keys.items():
        WRONG += [({**good, key: None}, key), ({**good, key: [] if of is dict else {}}, key)]


@pytest.mark.parametrize(("event", "key"), WRONG)
def test_an_event_without_a_valid_key_is_named(event: Any, key: str, tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    lines = (START, event)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(FaceganError, match=f"history.jsonl: line 2 has no valid {key}; run: dvc"):
        read_history(path)


def test_events_of_other_kinds_are_read(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    start_history(path, [START, {"event": "resume"}])
    assert read_history(path) == [START, {"event": "resume"}]


def test_an_edited_history_is_one_line_of_film(tmp_path: Path) -> None:
    start_history(tmp_path / "history.jsonl", [START, {"event": "samples", "picture": "x.png"}])
    done = invoke("film", ".", "film.gif", cwd=tmp_path)
    assert done.returncode == 1
    assert "history.jsonl: line 2 has no valid images_seen; run: dvc repro train" in done.stderr


def test_a_table_has_the_numeric_fields_of_one_kind_of_event(tmp_path: Path) -> None:
    lines = [
        {"event": "start", "images": 5},
        {"event": "losses", "images_seen": 20, "generator": 1.5, "note": "text"},
        {"event": "snapshot", "images_seen": 20, "quick_fid": 9.25},
        {"event": "losses", "images_seen": 40, "generator": 2, "note": "text"},
    ]
    write_table(lines, "losses", tmp_path / "losses.csv")
    assert (tmp_path / "losses.csv").read_bytes() == b"images_seen,generator\n20,1.5\n40,2\n"


def test_a_training_that_ended_at_once_has_an_empty_table(tmp_path: Path) -> None:
    write_table([{"event": "start", "images": 5}], "losses", tmp_path / "losses.csv")
    assert (tmp_path / "losses.csv").read_text().strip() == ""


@given(floats=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
def test_a_table_keeps_full_precision(
    floats: list[float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("table") / "table.csv"
    write_table([{"event": "losses", "value": value} for value in floats], "losses", path)
    with path.open(newline="") as file:
        assert [float(row["value"]) for row in csv.DictReader(file)] == floats


def score(seen: int, fid: float) -> dict[str, Any]:
    return {"event": "score", "images_seen": seen, "quick_fid": fid}


def test_the_best_score_is_the_lowest() -> None:
    events = [START, score(0, 9.0), score(10, 3.0), score(20, 5.0)]
    assert scores(events) == ("quick_fid40", events[1:])
    assert best_score(events) == score(10, 3.0)


def test_a_training_without_a_score_has_none() -> None:
    assert scores([]) == ("", [])
    rescored = {"event": "resume", "quick_fid": "quick_fid60", "changed": {}}
    assert scores([START, score(0, 9.0), rescored]) == ("quick_fid60", [])
    assert scores([START, {"event": "losses"}, score(0, 9.0)])[1] == [score(0, 9.0)]


def test_a_resume_with_another_quick_fid_makes_earlier_scores_incomparable() -> None:
    elsewhere = {"event": "resume", "images_seen": 10, "changed": {"threads": [1, 2]}}
    rescored = {
        "event": "resume",
        "quick_fid": "quick_fid60",
        "best": score(10, 8.0),
        "changed": {},
    }
    events = [START, score(0, 9.0), elsewhere, score(10, 3.0), rescored, score(20, 7.0)]
    assert scores(events) == ("quick_fid60", [score(10, 8.0), score(20, 7.0)])
    assert best_score(events) == score(20, 7.0)


@pytest.mark.parametrize("link", ["symbolic", "hard"])
def test_writers_replace_a_link_into_a_cache(link: str, tmp_path: Path) -> None:
    cache, path = tmp_path / "cache", tmp_path / "history.jsonl"
    writers: list[Callable[[], None]] = [
        lambda: append_history(path, {"event": "x"}),
        lambda: start_history(path, [{"event": "x"}]),
        lambda: write_table([score(0, 1.0)], "score", path),
    ]
    for write in writers:
        cache.write_text('{"event": "old"}\n')
        path.unlink(missing_ok=True)
        path.symlink_to(cache) if link == "symbolic" else path.hardlink_to(cache)
        write()
        assert cache.read_text() == '{"event": "old"}\n' and not path.is_symlink()
