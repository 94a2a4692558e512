import time
from pathlib import Path

import pytest
import torch

from facegan.app import library as module
from facegan.app.library import Library
from facegan.core.errors import FaceganError
from facegan.register import catalog
from facegan.tracking import connection
from registrations import NAME


@pytest.fixture
def library(project: Path, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> Library:
    """It looks at the registry each time."""
    monkeypatch.setattr(module, "INTERVAL", 0.0)
    monkeypatch.setattr(module, "SHARE", float("inf"))
    found = Library(NAME, device, project / "films")
    found.snapshot()
    return found


def test_the_registry_is_seen_as_it_is(library: Library) -> None:
    assert library.snapshot().champion == 1
    assert library.snapshot().choices() == [
        ("version 2 · challenger · FID 60", 2),
        ("version 1 · champion · FID 50", 1),
    ]
    assert library.snapshot().choices(is_short=True) == [("2 · challenger", 2), ("1 · champion", 1)]
    catalog.make_champion(connection.connect(), NAME, 2)
    assert library.snapshot().champion == 2


def test_it_is_asked_at_intervals(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTERVAL", 0.2)
    library.snapshot()
    catalog.make_champion(connection.connect(), NAME, 2)
    library._next_look = time.monotonic() + 0.2
    assert library.snapshot().champion == 1
    time.sleep(0.21)
    assert library.snapshot().champion == 2


def test_a_visitor_does_not_wait_while_another_one_asks(library: Library) -> None:
    with library._asking:
        start = time.monotonic()
        assert library.snapshot().champion == 1
        assert time.monotonic() - start < 0.5


def test_without_the_registry_what_is_loaded_stays(library: Library, project: Path) -> None:
    opened = library.opened(1)
    (project / "mlflow.db").rename(project / "away.db")
    found = library.snapshot()
    assert found.champion == 1 and len(found.problem.splitlines()) == 1
    assert "mlflow.db: no MLflow store" in found.problem
    assert library.opened(1).network is opened.network
    for call in (library.opened, library.card, library.film):
        with pytest.raises(FaceganError, match="no MLflow store"):
            call(2)
    (project / "away.db").rename(project / "mlflow.db")
    assert library.snapshot().problem == ""
    assert library.opened(2).version == 2


def test_a_registry_that_appears_later_is_seen(library: Library, project: Path) -> None:
    (project / "mlflow.db").rename(project / "away.db")
    late = Library(NAME, library.device, project / "films")
    assert late.snapshot().problem and late.snapshot().champion is None
    for call in (late.or_champion, late.opened, late.card):
        with pytest.raises(FaceganError, match="no MLflow store"):
            call(None if call == late.or_champion else 1)
    (project / "away.db").rename(project / "mlflow.db")
    assert late.snapshot().champion == 1


def test_a_generator_is_loaded_once_and_few_stay_in_memory(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = library.opened(1)
    assert library.opened(1).network is first.network
    monkeypatch.setattr(module, "MAX_MODELS", 1)
    library.opened(2)
    assert len(library._opened) == 1
    assert library.opened(1).network is not first.network


def test_the_card_has_the_decision_and_the_scores_but_no_picture(library: Library) -> None:
    card = library.card(1)
    assert card.startswith("champion: ")
    assert "**Scores** under protocol" in card
    assert "samples.png" in catalog.show(connection.connect(), NAME, 1)
    assert "samples.png" not in card


def test_without_a_champion_a_version_has_to_be_named(library: Library) -> None:
    client = connection.connect()
    client.delete_registered_model_alias(NAME, "champion")
    with pytest.raises(FaceganError, match=f"{NAME} has no champion; name a version"):
        library.or_champion(None)
    assert library.or_champion(2) == 2
