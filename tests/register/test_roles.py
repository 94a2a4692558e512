"""What people do by hand in the registry, and the next registration."""

import datetime
import json
import os
import sqlite3
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from mlflow import MlflowClient
from sqlalchemy.engine import Engine

from facegan.core.errors import FaceganError
from facegan.register import history, registry, versions
from facegan.register import roles as moves
from facegan.tracking.connection import insist
from registrations import NAME, Trainer, copy_of_second, roles
from stores import Store

pytestmark = pytest.mark.filterwarnings("ignore:.*transition_model_version_stage:FutureWarning")
Two = tuple[MlflowClient, Trainer]
# In the store of `two`: version 1 has FID 50, version 2 has 60.
AT_FIRST = {1: ("Production", ("champion",)), 2: ("Staging", ("challenger",))}


OTHER_DAMAGE = (
    *((None, "last"), (None, "first"), ("no promotion", "all"), ("no promotion", "last")),
    *(("of another turn", "all"), ("of another turn", "first")),
)


def move(client: MlflowClient, number: int, stage: str, archive: bool = False) -> None:
    """Move a version to a stage, as the UI does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        client.transition_model_version_stage(NAME, str(number), stage, archive)


def test_the_user_is_the_one_that_mlflow_knows_or_the_system(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown() -> str:
        raise KeyError("uid not found")

    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    assert moves.user() == "ada"
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    monkeypatch.setattr("getpass.getuser", lambda: "grace")
    assert moves.user() == "grace"
    monkeypatch.setattr("getpass.getuser", unknown)
    assert moves.user() == str(os.getuid())


def test_times_are_utc_in_whole_seconds() -> None:
    now = datetime.datetime.now(datetime.UTC)
    assert abs(moves.now() - now) < datetime.timedelta(seconds=5)
    assert moves.now().microsecond == 0


def test_a_promotion_has_who_and_the_scores_under_the_versions_protocol(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = two
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    found = registry.read(client, NAME)
    tags = found.versions[2].tags
    entry = moves.promote(client, found, 2, "gate", "better")
    assert (entry.who, entry.protocol, entry.fid) == ("ada", tags[registry.PROTOCOL], 60.0)
    assert (entry.turn, entry.over, entry.run) == (2, 1, found.versions[2].run)
    client.delete_model_version_tag(NAME, "2", registry.PROTOCOL)
    entry = moves.promote(client, registry.read(client, NAME), 2, "gate", "better", "grace")
    assert (entry.who, entry.protocol, entry.fid) == ("grace", "", None)


@pytest.mark.parametrize(("age", "abandoned"), [(600, False), (601, True)])
def test_after_ten_minutes_a_promotion_is_that_of_a_killed_process(
    age: int, abandoned: bool, two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = two
    entry = moves.promote(client, registry.read(client, NAME), 2, "gate", "better")
    monkeypatch.setattr(moves, "now", lambda: entry.when + datetime.timedelta(seconds=age))
    moves.converge(client, NAME)
    reign = registry.read(client, NAME).reign
    assert reign is not None and (reign.version, reign.settled) == (2, abandoned)
    if not abandoned:  # what disagrees is not a person's choice, but repaired
        client.set_registered_model_alias(NAME, "champion", "1")
        assert moves.adopt(client, registry.read(client, NAME)) == []


def test_each_change_is_a_line(two: Two) -> None:
    client, _ = two
    client.delete_model_version_tag(NAME, "2", registry.GATE)
    entry = moves.promote(client, registry.read(client, NAME), 2, "person", "because", "ada")
    assert moves.converge(client, NAME, own=2) == [
        "alias @champion: version 2 (was 1)",
        "alias @previous: version 1 (was missing)",
        "alias @challenger: removed from the champion",
        "version 1: stage Archived (was Production)",
        "version 2: stage Production (was Staging)",
        "version 2: tag facegan.gate",
        "version 2: tag facegan.by_hand",
    ]
    versions = registry.read(client, NAME).versions
    tags = versions[2].tags
    assert tags[registry.GATE] == "champion: because"
    assert tags[registry.BY_HAND] == f"{entry.when}: because"
    assert [versions[n].tags[registry.STAGE] for n in (1, 2)] == ["Archived", "Production"]
    assert all(entry.settled for entry in registry.read(client, NAME).promotions)
    moves.promote(client, registry.read(client, NAME), 1, "gate", "better")
    assert "version 2: tag facegan.by_hand" in moves.converge(client, NAME, own=1)
    assert registry.BY_HAND not in registry.read(client, NAME).versions[2].tags
    assert moves.converge(client, NAME) == []


def test_processes_that_keep_moving_roles_end_in_an_error(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = two
    monkeypatch.setattr(moves, "ROUNDS", 3)
    monkeypatch.setattr(moves, "_move", lambda *_: ["moved"])
    expected = f"^{NAME}: other processes keep moving alias and stage; register again$"
    with pytest.raises(FaceganError, match=expected):
        moves.converge(client, NAME)
    changes = iter((["moved"], ["moved again"], []))
    monkeypatch.setattr(moves, "_move", lambda *_: next(changes))
    assert moves.converge(client, NAME) == ["moved", "moved again"]


def test_a_choice_by_alias_counts_before_one_by_stage_and_who_is_on_record(two: Two) -> None:
    client, _ = two
    copy_of_second(client)
    for number in (2, 3):
        move(client, number, "Production")
    client.set_registered_model_alias(NAME, "champion", "2")
    how = "was made champion by hand (alias @champion); it stays until a better one"
    assert moves.adopt(client, registry.read(client, NAME)) == [f"version 2 {how}"]
    reign = registry.read(client, NAME).reign
    assert reign is not None and (reign.version, reign.by, reign.who) == (2, "person", "hand")
    assert reign.settled
    how = "was made champion by hand (stage Production); it stays until a better one"
    assert moves.adopt(client, registry.read(client, NAME)) == [f"version 3 {how}"]


def test_an_older_challenger_is_archived_and_no_older_version_takes_its_role(two: Two) -> None:
    client, _ = two
    client.delete_registered_model_alias(NAME, "challenger")
    moves.challenge(client, NAME, 2)
    assert roles(client) == AT_FIRST
    copy_of_second(client)
    moves.challenge(client, NAME, 3)
    expected = {
        1: ("Production", ("champion",)),
        2: ("Archived", ()),
        3: ("Staging", ("challenger",)),
    }
    assert roles(client) == expected
    moves.challenge(client, NAME, 2)
    assert roles(client) == expected
    move(client, 3, "Archived")  # by hand
    moves.challenge(client, NAME, 3)
    assert roles(client)[3] == ("Archived", ("challenger",))


def test_tags_of_a_version_that_is_not_champion_cost_no_request(two: Two) -> None:
    client, _ = two
    client.set_model_version_tag(NAME, "2", registry.FID, "edited")
    assert moves.restore_tags(client, registry.read(client, NAME)) == []
    client.set_model_version_tag(NAME, "1", registry.FID, "edited")
    client.set_model_version_tag(NAME, "1", registry.DATA, "edited")
    restored = moves.restore_tags(client, registry.read(client, NAME))
    assert restored == ["version 1: tag facegan.fid", "version 1: tag facegan.data"]
    client.set_model_version_tag(NAME, "1", registry.FID, "edited")
    client.delete_logged_model(registry.read(client, NAME).versions[1].model)
    assert moves.restore_tags(client, registry.read(client, NAME)) == []
    moves.promote(client, registry.read(client, NAME), 2, "gate", "better")
    for has_hashes in (True, False):
        if not has_hashes:
            client.delete_model_version_tag(NAME, "1", registry.GENERATOR)
        client.set_model_version_tag(NAME, "2", registry.FID, "edited")
        restored = moves.restore_tags(client, registry.read(client, NAME))
        assert restored == ["version 2: tag facegan.fid"]


@pytest.mark.parametrize("text", [None, "edited"])
def test_edited_tags_are_restored_and_a_better_version_wins(text: str | None, two: Two) -> None:
    client, register = two
    before = client.get_model_version(NAME, "1").tags
    for tag in registry.FIXED:
        if text is None:
            client.delete_model_version_tag(NAME, "1", tag)
        else:
            client.set_model_version_tag(NAME, "1", tag, text)
    found = register(2, fid=60.0)
    assert {f"repaired: version 1: tag {tag}" for tag in registry.FIXED} <= set(found.messages)
    assert client.get_model_version(NAME, "1").tags == before
    assert register(3, fid=40.0).aliases == ("champion",)


@pytest.mark.parametrize("tag", [registry.GENERATOR, registry.DISCRIMINATOR])
def test_a_version_without_a_hash_on_record_is_repaired(tag: str, two: Two, tmp_path: Path) -> None:
    client, register = two
    client.delete_model_version_tag(NAME, "2", tag)
    with pytest.raises(FaceganError, match=r"is None; facegan register restores deleted tags"):
        versions.download_networks(f"models:/{NAME}/2", tmp_path)
    found = register(2, fid=60.0)
    assert found.version == 2 and found.messages == (f"repaired: version 2: tag {tag}",)
    versions.download_networks(f"models:/{NAME}/2", tmp_path)


def test_a_deleted_alias_is_repaired_and_no_worse_version_promoted(two: Two) -> None:
    client, register = two
    client.delete_registered_model_alias(NAME, "champion")
    worse = register(3, fid=55.0)
    assert worse.stage == "Staging"
    assert worse.messages == ("repaired: alias @champion: version 1 (was missing)",)
    assert roles(client)[1] == ("Production", ("champion",))


@pytest.mark.parametrize("stage", ["Archived", "None", "Staging"])
def test_a_champion_that_left_production_is_repaired(stage: str, two: Two) -> None:
    client, register = two
    move(client, 1, stage)
    again = register(2, fid=60.0)
    assert again.messages == (f"repaired: version 1: stage Production (was {stage})",)
    assert roles(client) == AT_FIRST


def test_deleted_promotions_and_edited_ones_change_no_champion(two: Two) -> None:
    client, register = two
    model = client.get_registered_model(NAME)
    (key,) = (key for key in model.tags if key.startswith(registry.PROMOTION))
    for text in ("no number", json.dumps(json.loads(model.tags[key]) | {"turn": "x"}), None):
        if text is None:
            client.delete_registered_model_tag(NAME, key)
        else:
            client.set_registered_model_tag(NAME, key, text)
        assert register(2, fid=60.0).stage == "Staging"
        assert roles(client) == AT_FIRST


@pytest.mark.parametrize(
    ("text", "damaged"),
    [
        (None, "all"),
        ("no promotion", "first"),
        ("of another turn", "last"),
        *(pytest.param(*pair, marks=pytest.mark.faults) for pair in OTHER_DAMAGE),
    ],
)
def test_history_stays_in_order_after_promotions_were_deleted_or_edited(
    text: str | None, damaged: str, two: Two
) -> None:
    client, register = two
    register(3, fid=40.0)
    before = history.read(registry.read(client, NAME))
    tags = client.get_registered_model(NAME).tags
    keys = sorted(key for key in tags if key.startswith(registry.PROMOTION))
    for key in {"all": keys, "last": keys[1:], "first": keys[:1]}[damaged]:
        if text is None:
            client.delete_registered_model_tag(NAME, key)
            continue
        if text == "of another turn":
            text = json.dumps(json.loads(tags[key]) | {"turn": 7})
        client.set_registered_model_tag(NAME, key, text)
    found = register(2, fid=60.0)
    assert history.read(registry.read(client, NAME)) == before
    assert "by hand" not in str(found.messages)
    assert roles(client)[3] == ("Production", ("champion",))
    register(4, fid=20.0)
    entries = history.read(registry.read(client, NAME))
    assert entries[:-1] == before
    assert (entries[-1].version, entries[-1].over, entries[-1].turn) == (4, 3, 3)


def test_a_promotion_follows_edited_ones_that_nothing_restores(two: Two) -> None:
    client, _ = two
    client.set_registered_model_tag(NAME, "facegan.promotion.000008.2", "edited")
    moves.promote(client, registry.read(client, NAME), 2, "person", "rollback")
    turns = {entry.version: entry.turn for entry in registry.read(client, NAME).promotions}
    assert turns == {1: 1, 2: 9}


def test_a_choice_by_hand_is_in_the_history_of_its_run(two: Two) -> None:
    client, register = two
    client.set_registered_model_alias(NAME, "champion", "2")
    register(1, fid=50.0)
    before = history.read(registry.read(client, NAME))
    for entry in before:
        client.delete_registered_model_tag(NAME, entry.key)
    register(1, fid=50.0)
    assert history.read(registry.read(client, NAME)) == before
    assert [entry.version for entry in before] == [1, 2]


@pytest.mark.parametrize("archive", [True, False])
def test_a_stage_moved_by_hand_is_respected_until_a_better_version(archive: bool, two: Two) -> None:
    client, register = two
    move(client, 2, "Production", archive)
    again = register(1, fid=50.0)
    (line,) = again.messages
    assert line.startswith("version 2 was made champion by hand (stage Production)")
    expected = {1: ("Archived", ("previous",)), 2: ("Production", ("champion",))}
    assert roles(client) == expected
    assert line in client.get_model_version(NAME, "2").tags[registry.BY_HAND]
    assert register(1, fid=50.0).messages == ()
    assert roles(client) == expected
    assert register(3, fid=58.0).aliases == ("champion",)  # better than 60, not than 50
    assert registry.BY_HAND not in client.get_model_version(NAME, "2").tags


def test_an_alias_moved_by_hand_is_respected(two: Two) -> None:
    client, register = two
    client.set_registered_model_alias(NAME, "champion", "2")
    (line,) = register(1, fid=50.0).messages
    assert line.startswith("version 2 was made champion by hand (alias @champion)")
    assert roles(client) == {1: ("Archived", ("previous",)), 2: ("Production", ("champion",))}
    reign = registry.read(client, NAME).reign
    assert reign is not None and "version 2 over version 1, by hand, run" in reign.line


@pytest.mark.parametrize("seconds", [0, 3600])
def test_a_promotion_whose_process_was_killed_is_completed_however_long_ago(
    seconds: int, two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, register = two
    then = moves.now() - datetime.timedelta(seconds=seconds)
    with monkeypatch.context() as patch:
        patch.setattr(moves, "now", lambda: then)
        moves.promote(client, registry.read(client, NAME), 2, "gate", "better")
    messages = register(1, fid=50.0).messages
    assert "repaired: alias @champion: version 2 (was 1)" in messages
    assert roles(client) == {1: ("Archived", ("previous",)), 2: ("Production", ("champion",))}
    # Once it is complete, a person can move it again.
    client.set_registered_model_alias(NAME, "champion", "1")
    assert ("by hand" in str(register(1, fid=50.0).messages)) == (seconds > moves.ABANDONED)


def test_a_deleted_champion_is_followed_by_the_one_before(two: Two) -> None:
    client, register = two
    register(3, fid=40.0)
    client.delete_model_version(NAME, "3")
    assert register(4, fid=55.0).stage == "Staging"
    assert roles(client)[1] == ("Production", ("champion",))


def test_where_no_champion_is_left_the_next_registration_decides_anew(two: Two) -> None:
    client, register = two
    client.delete_model_version(NAME, "1")
    assert register(2, fid=60.0).aliases == ("champion",)
    assert roles(client) == {2: ("Production", ("champion",))}


def test_a_version_that_a_person_put_into_staging_stays_there(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, register = two
    register(3, fid=40.0)
    move(client, 1, "Staging")
    monkeypatch.setenv("DVC_EXP_NAME", "funny-name")
    register(4, fid=30.0)
    assert roles(client) == {
        1: ("Staging", ("previous",)),
        2: ("Archived", ()),
        3: ("Production", ("champion",)),
        4: ("Staging", ("challenger",)),
    }


def test_a_champion_is_never_challenger_too(two: Two) -> None:
    client, register = two
    client.set_registered_model_alias(NAME, "challenger", "1")
    (line,) = register(2, fid=60.0).messages
    assert line == "repaired: alias @challenger: removed from the champion"


def test_a_registry_from_before_promotions_were_recorded_keeps_its_champion(
    two: Two, backend: Store
) -> None:
    client, register = two
    for name in backend.files(f"*/{history.NAME}"):
        backend.delete(name)
    for key in client.get_registered_model(NAME).tags:
        client.delete_registered_model_tag(NAME, key)
    for tag in [*client.get_model_version(NAME, "1").tags]:
        if tag.startswith(registry.SCORES) or tag == registry.STAGE:
            client.delete_model_version_tag(NAME, "1", tag)
    (line,) = register(2, fid=60.0).messages
    assert line == "version 1 was champion before promotions were recorded"
    reign = registry.read(client, NAME).reign
    assert reign is not None and (reign.by, reign.who) == ("found", "unknown")
    assert roles(client) == AT_FIRST


def test_only_the_last_promotions_are_kept_as_tags(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = two
    copy_of_second(client)
    monkeypatch.setattr(moves, "KEPT", 3)
    for number in (2, 3, 2):
        moves.promote(client, registry.read(client, NAME), number, "gate", "better")
    tags = [t for t in client.get_registered_model(NAME).tags if t.startswith(registry.PROMOTION)]
    assert sorted(tags) == [f"facegan.promotion.00000{turn}" for turn in ("2.2", "3.3", "4.2")]


@pytest.mark.usefixtures("sqlite")
@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("model_version_tags", lambda c: (c.set_model_version_tag, NAME, "1", "new", "x")),
        ("registered_model_tags", lambda c: (c.set_registered_model_tag, NAME, "new", "x")),
        ("registered_model_aliases", lambda c: (c.set_registered_model_alias, NAME, "new", "1")),
        ("tags", lambda c: (c.set_tag, registry.read(c, NAME).versions[1].run, "new", "x")),
    ],
)
def test_what_another_process_inserts_at_the_same_moment_is_no_error(
    table: str, change: Callable[[MlflowClient], Any], two: Two
) -> None:
    client, register = two
    inserted = 0

    def interfere(connection: Any, cursor: Any, statement: str, row: Any, *rest: Any) -> None:
        nonlocal inserted
        if statement.startswith(f"INSERT INTO {table} ") and not inserted:
            inserted += 1
            with closing(sqlite3.connect(register.folder / "mlflow.db")) as other, other:
                other.execute(statement, row)

    call, *arguments = change(client)
    sqlalchemy.event.listen(Engine, "before_cursor_execute", interfere)
    try:
        insist(call, *arguments)
    finally:
        sqlalchemy.event.remove(Engine, "before_cursor_execute", interfere)
    assert inserted == 1
