"""MLflow's model registry: register, promote, load."""

import json
import os
import re
import warnings
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import numpy as np
import torch
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from facegan import tracking
from facegan.checkpoint import file_sha256, load_generator
from facegan.errors import FaceganError
from facegan.frechet import Statistics
from facegan.models.architectures import Generator
from facegan.protocol import SEEDS, caution
from facegan.sampling import ImageGenerator, latents
from facegan.scores import Scorer

CHAMPION, CHALLENGER = "champion", "challenger"
STAGES = {CHAMPION: "Production", CHALLENGER: "Staging"}
# Tags of a version.
GENERATOR = "facegan.generator"  # sha256 of its safetensors: its identity
DISCRIMINATOR = "facegan.discriminator"  # the same of the one that it was trained against
FID, PROTOCOL = "facegan.fid", "facegan.protocol"
GATE = "facegan.gate"  # what the gate decided, and why; it runs once for a version
# What a version keeps besides the exported model, and the tag with its sha256.
NETWORKS = {"generator.safetensors": GENERATOR, "discriminator.safetensors": DISCRIMINATOR}
WEIGHTS = "generator.safetensors"
# What a consumer of the model needs.
REQUIREMENTS = ("mlflow", "numpy", "torch")


@dataclass(frozen=True)
class Registered:
    """A version's place in the registry, and the gate's reason for it."""

    name: str
    version: str
    stage: str
    aliases: tuple[str, ...]
    reason: str


def register(
    trained: Path, metrics: Path, official: Path, name: str, device: torch.device
) -> Registered:
    """Make the generator in the folder `trained` a version of `name`, and promote the better one.

    A version with a lower FID than the champion's, under the same protocol, gets the alias
    `champion` and the stage Production; else `challenger` and Staging. Doing it again changes
    nothing: a generator is one version, and the gate runs once for it. In an experiment of DVC's
    (`DVC_EXP_NAME`) a version is a challenger, and the gate waits.

    Raises:
        FaceganError: if the scores are not this generator's, or MLflow cannot be reached.
    """
    scores = _read_scores(metrics)
    sha256 = file_sha256(trained / WEIGHTS)
    if scores["generator"] != sha256:
        raise FaceganError(f"{metrics}: scores another generator; run: dvc repro evaluate")
    client = tracking.connect()
    with tracking.reachable():
        run = tracking.mirror(client, trained, name)
        tracking.log_scores(client, run, scores)
        version = _find(client, name, sha256)
        if version is None:
            version = _create(trained, metrics, scores, name, run)
        if GATE not in version.tags:
            _decide(client, version, scores, official, device)
        return _describe(client, name, version.version)


def _read_scores(path: Path) -> dict[str, Any]:
    try:
        scores: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise FaceganError(f"{path}: no scores ({error}); make them: dvc repro evaluate") from None
    return scores


def _find(client: MlflowClient, name: str, sha256: str) -> ModelVersion | None:
    found = client.search_model_versions(f"name = '{name}' AND tags.`{GENERATOR}` = '{sha256}'")
    return min(found, key=lambda version: int(version.version), default=None)


def _create(
    trained: Path, metrics: Path, scores: dict[str, Any], name: str, run: Run
) -> ModelVersion:
    """A version: the network in `pt2` form for anybody, and the safetensors for our commands."""
    # Exported from the CPU in eval mode: in train mode, a face would depend on its batch.
    generator = load_generator(trained / WEIGHTS, torch.device("cpu"))
    generator.to(memory_format=torch.contiguous_format)  # as the archive wants it
    image = (-1, generator.size, generator.size, generator.channels)
    signature = ModelSignature(
        Schema([TensorSpec(np.dtype("float32"), (-1, generator.latent_dim))]),
        Schema([TensorSpec(np.dtype("uint8"), image)]),
    )
    with mlflow.start_run(run_id=run.info.run_id):
        model = mlflow.pytorch.log_model(
            ImageGenerator(generator).eval(),
            name="generator",
            # Two rows, because a batch of one would be exported as the only size.
            input_example=latents(2, generator.latent_dim, 0).numpy(),
            signature=signature,
            serialization_format="pt2",
            extra_files=[*(str(trained / name) for name in NETWORKS), str(metrics)],
            pip_requirements=[f"{name}=={metadata.version(name)}" for name in REQUIREMENTS],
        )
    protocol = scores["protocol"]
    tags = {tag: file_sha256(trained / name) for name, tag in NETWORKS.items()}
    tags |= {PROTOCOL: protocol["id"], FID: str(scores[protocol["name"]])}
    tags["facegan.metric"] = protocol["name"]
    tags["facegan.data"] = protocol["data"]
    return mlflow.register_model(model.model_uri, name, tags=tags)


def _decide(
    client: MlflowClient,
    version: ModelVersion,
    scores: dict[str, Any],
    official: Path,
    device: torch.device,
) -> None:
    """The gate: champion or challenger. Its tag is written last, so that it can't be half done."""
    name, protocol = version.name, scores["protocol"]
    metric, fid = protocol["name"], scores[protocol["name"]]
    note = f" ({caution(protocol)})" if caution(protocol) else ""
    experiment = os.environ.get("DVC_EXP_NAME")
    champion = _champion(client, name)
    if experiment is not None:
        _place(client, version, CHALLENGER)
        return
    if champion is None or champion.version == version.version:
        role, reason = CHAMPION, f"{metric} {fid}{note}: no other champion"
    else:
        other = _champion_fid(champion, scores, official, device)
        role = CHAMPION if fid < other else CHALLENGER
        verb = "beats" if role == CHAMPION else "does not beat"
        reason = f"{metric} {fid} {verb} version {champion.version}'s {other}{note}"
    _place(client, version, role)
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
        generator = _load_version(champion, Path(folder), device)
    statistics = Statistics.load(official)
    try:
        scorer = Scorer(statistics, len(SEEDS) * protocol["fakes"], device)
        return scorer.mean_fid(generator, protocol["fakes"])
    except FaceganError as error:
        hint = "images of another shape need another register.name"
        raise FaceganError(
            f"{champion.name} version {champion.version}: cannot be compared: {error}; {hint}"
        ) from None


def _place(client: MlflowClient, version: ModelVersion, role: str) -> None:
    """Give a version the alias and the stage of its role, and take the other alias from it."""
    name, number = version.name, version.version
    client.set_registered_model_alias(name, role, number)
    if role == CHAMPION and client.get_registered_model(name).aliases.get(CHALLENGER) == number:
        client.delete_registered_model_alias(name, CHALLENGER)
    with warnings.catch_warnings():
        # Stages are deprecated in favour of aliases; both are kept while MLflow has them.
        warnings.simplefilter("ignore", FutureWarning)
        client.transition_model_version_stage(
            name, number, STAGES[role], archive_existing_versions=True
        )


def _describe(client: MlflowClient, name: str, number: str) -> Registered:
    version = client.get_model_version(name, number)
    aliases = client.get_registered_model(name).aliases
    own = tuple(sorted(alias for alias, of in aliases.items() if str(of) == str(number)))
    reason = version.tags.get(GATE, "an experiment's: the gate waits for dvc repro")
    return Registered(name, str(number), str(version.current_stage), own, reason)


def find_registered(name: str, sha256: str) -> Registered | None:
    """Where the generator with this sha256 stands in the registry; None if it isn't there.

    Raises:
        FaceganError: if MLflow cannot be reached.
    """
    client = tracking.connect()
    with tracking.reachable():
        version = _find(client, name, sha256)
        return None if version is None else _describe(client, name, version.version)


def load(uri: str, device: torch.device) -> Generator:
    """The generator of `models:/NAME/3`, `models:/NAME/Production` or `models:/NAME@champion`.

    What is loaded is the version's safetensors, after its hash was checked. Nothing is unpickled.

    Raises:
        FaceganError: if there is no such version, or its file is not the one registered.
    """
    client = tracking.connect()
    with tracking.reachable(), TemporaryDirectory() as folder:
        return _load_version(_resolve(client, uri), Path(folder), device)


def _resolve(client: MlflowClient, uri: str) -> ModelVersion:
    match = re.fullmatch(r"models:/(?P<name>[^/@]+)(/(?P<place>\w+)|@(?P<alias>\w+))", uri)
    if match is None:
        valid = "models:/NAME/VERSION, models:/NAME/STAGE, models:/NAME@ALIAS"
        raise FaceganError(f"{uri}: no model; valid: {valid}")
    name, place, alias = match["name"], match["place"], match["alias"]
    if alias:
        return client.get_model_version_by_alias(name, alias)
    if place.isdigit():
        return client.get_model_version(name, place)
    versions = client.search_model_versions(f"name = '{name}'")
    staged = [v for v in versions if str(v.current_stage).lower() == place.lower()]
    if not staged:
        raise FaceganError(f"{uri}: no version of {name} is in stage {place}")
    return max(staged, key=lambda version: int(version.version))


def _load_version(version: ModelVersion, folder: Path, device: torch.device) -> Generator:
    return load_generator(_download(version, WEIGHTS, folder), device)


def download_networks(uri: str, folder: Path) -> Path:
    """Bring the generator and the discriminator of `models:/NAME/3` to a place below `folder`.

    Returns:
        The folder that they are in.
    Raises:
        FaceganError: if there is no such version, or its files are not those registered.
    """
    client = tracking.connect()
    with tracking.reachable():
        version = _resolve(client, uri)
        places = {_download(version, name, folder).parent for name in NETWORKS}
    (place,) = places
    return place


def _download(version: ModelVersion, name: str, folder: Path) -> Path:
    uri = f"models:/{version.name}/{version.version}/extra_files/{name}"
    path = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))
    recorded = version.tags.get(NETWORKS[name])
    if file_sha256(path) != recorded:
        raise FaceganError(f"{uri}: its sha256 is not {recorded}, which the version's tag records")
    return path
