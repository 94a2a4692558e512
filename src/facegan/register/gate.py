"""The gate: champion or challenger."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from facegan.core.errors import FaceganError
from facegan.evaluate.protocol import SEEDS
from facegan.evaluate.scorer import Scorer
from facegan.features.frechet import Statistics
from facegan.register.versions import (
    CHALLENGER,
    CHAMPION,
    FID,
    GATE,
    PROTOCOL,
    assign_role,
    load_version,
)


def decide_promotion(
    client: MlflowClient,
    version: ModelVersion,
    scores: dict[str, Any],
    official: Path,
    device: torch.device,
) -> None:
    """The gate: champion or challenger. Its tag is written last, so that it can't be half done."""
    name, protocol = version.name, scores["protocol"]
    metric, fid = protocol["name"], scores[protocol["name"]]
    note = protocol["comparability_note"] and f" ({protocol['comparability_note']})"
    experiment = os.environ.get("DVC_EXP_NAME")
    champion = _champion(client, name)
    if experiment is not None:
        assign_role(client, version, CHALLENGER)
        return
    if champion is None or champion.version == version.version:
        role, reason = CHAMPION, f"{metric} {fid}{note}: no other champion"
    else:
        other = _champion_fid(champion, scores, official, device)
        role = CHAMPION if fid < other else CHALLENGER
        verb = "beats" if role == CHAMPION else "does not beat"
        reason = f"{metric} {fid} {verb} version {champion.version}'s {other}{note}"
    assign_role(client, version, role)
    client.update_model_version(name, version.version, description=reason)
    client.set_model_version_tag(name, version.version, GATE, f"{role}: {reason}")


def _champion(client: MlflowClient, name: str) -> ModelVersion | None:
    aliases = client.get_registered_model(name).aliases
    return client.get_model_version(name, aliases[CHAMPION]) if CHAMPION in aliases else None


def _champion_fid(
    champion: ModelVersion, scores: dict[str, Any], official: Path, device: torch.device
) -> float:
    """The champion's FID under the challenger's protocol; measured if its own was another."""
    protocol = scores["protocol"]
    if champion.tags.get(PROTOCOL) == protocol["id"]:
        return float(champion.tags[FID])
    with TemporaryDirectory() as folder:
        generator = load_version(champion, Path(folder), device)
    statistics = Statistics.load(official)
    try:
        scorer = Scorer(statistics, len(SEEDS) * protocol["num_samples"], device)
        return scorer.mean_fid(generator, protocol["num_samples"])
    except FaceganError as error:
        hint = "images of another shape need another register.name"
        raise FaceganError(
            f"{champion.name} version {champion.version}: cannot be compared: {error}; {hint}"
        ) from None
