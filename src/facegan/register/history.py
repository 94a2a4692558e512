"""The promotions of a registered model: the last ones are its tags, all are an artifact."""

import contextlib

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from facegan.register.lineage import run_of
from facegan.register.registry import Promotion, Registry

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
        with contextlib.suppress(MlflowException, OSError, UnicodeDecodeError):
            text = mlflow.artifacts.load_text(f"runs:/{run}/{NAME}")
            for line in text.splitlines():
                if (entry := Promotion.from_json(line)) is not None:
                    entries.setdefault(entry.key, entry)
            break
    return sorted(entries.values(), key=lambda entry: (entry.turn, entry.version))
