"""The promotion gate: decides whether a version becomes champion or challenger.

The champion is the version with the lowest FID. FIDs are compared under the same protocol only: a
champion scored under another protocol is rescored under the new version's.
"""

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
    """Assign a version's role, and record the reason in its description and its tag `facegan.gate`.

    A version becomes champion if there is no other champion, or if its FID is lower than the
    champion's. Otherwise it becomes challenger. A version of a DVC experiment (`DVC_EXP_NAME`)
    becomes challenger without a comparison and without the tag, so that the gate runs when it is
    registered outside an experiment.

    The tag is written last: the gate runs again for a version whose decision was interrupted.

    Args:
        scores: content of `metrics.json`.
        official: feature statistics for rescoring the champion.
    Raises:
        FaceganError: if the champion cannot be rescored.
    """
    if "DVC_EXP_NAME" in os.environ:
        assign_role(client, version, CHALLENGER)
        return
    name, protocol = version.name, scores["protocol"]
    metric, fid = protocol["name"], scores[protocol["name"]]
    note = protocol["comparability_note"] and f" ({protocol['comparability_note']})"
    champion = _champion(client, name)
    if champion is None or champion.version == version.version:
        role, reason = CHAMPION, f"{metric} {fid}{note}: no other champion"
    else:
        champion_fid = _champion_fid(champion, scores, official, device)
        role = CHAMPION if fid < champion_fid else CHALLENGER
        verb = "beats" if role == CHAMPION else "does not beat"
        reason = f"{metric} {fid} {verb} version {champion.version}'s {champion_fid}{note}"
    assign_role(client, version, role)
    client.update_model_version(name, version.version, description=reason)
    client.set_model_version_tag(name, version.version, GATE, f"{role}: {reason}")


def _champion(client: MlflowClient, name: str) -> ModelVersion | None:
    aliases = client.get_registered_model(name).aliases
    return client.get_model_version(name, aliases[CHAMPION]) if CHAMPION in aliases else None


def _champion_fid(
    champion: ModelVersion, scores: dict[str, Any], official: Path, device: torch.device
) -> float:
    """Return the champion's FID under the protocol of `scores`.

    The FID in the champion's tag is used if it has this protocol. Otherwise the champion is loaded
    and rescored with the statistics in `official`.
    """
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
        hint = "generators of different image shapes need different register.names"
        raise FaceganError(
            f"{champion.name} version {champion.version}: cannot be rescored: {error}; {hint}"
        ) from None
