"""The promotions of a registered model: the last ones are its tags, all are an artifact."""

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from facegan.register.lineage import run_of
from facegan.register.registry import CHAMPION, KEPT, Promotion, Registry
from facegan.tracking.connection import insist

NAME = "promotions.jsonl"  # artifact of each champion's run


def write(client: MlflowClient, found: Registry) -> None:
    """Log all promotions, one a line, to the champion's run, unless that is deleted."""
    if found.champion is None or run_of(client, found.champion) is None:
        return
    lines = [f"{entry.to_json()}\n" for entry in read(found)]
    client.log_text(found.champion.run, "".join(lines), NAME)


def read(found: Registry) -> list[Promotion]:
    """All promotions, in order: those of the tags, and older ones of the artifacts."""
    entries = {entry.key: entry for entry in found.promotions}
    runs = [entry.run for entry in reversed(found.promotions) if entry.run]
    for run in dict.fromkeys(runs):
        if recorded := _recorded(run):
            entries = {entry.key: entry for entry in recorded} | entries
            break
    return sorted(entries.values(), key=lambda entry: (entry.turn, entry.version))


def restore(client: MlflowClient, found: Registry) -> list[str]:
    """Set the tags of promotions again that were edited or deleted, as the artifact has them.

    It is read where tags are not what was written, or do not explain who is champion.

    Returns:
        What was changed, as lines for the user.
    """
    number = found.aliases.get(CHAMPION, max(found.in_production, default=0))
    expected = found.reign is not None and found.reign.version == number
    if number not in found.versions or (expected and not found.edited):
        return []
    lost = [
        entry
        for entry in _recorded(found.versions[number].run)
        if entry.key in found.edited or entry.turn > found.last_turn
    ]
    for entry in lost[-KEPT:]:
        insist(client.set_registered_model_tag, found.name, entry.key, entry.to_json())
    return [f"tag {entry.key}" for entry in lost[-KEPT:]]


def _recorded(run: str) -> list[Promotion]:
    """Those of a run's artifact; none if it has none, or is gone."""
    try:
        text = mlflow.artifacts.load_text(f"runs:/{run}/{NAME}")
    except (MlflowException, OSError, UnicodeDecodeError):
        return []
    entries = (Promotion.from_json(line) for line in text.splitlines())
    return [entry for entry in entries if entry is not None]
