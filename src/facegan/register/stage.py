"""Registers a trained generator as a version in MLflow's registry."""

import json
import shutil
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import numpy as np
import torch
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from facegan.core.digests import file_sha256
from facegan.core.errors import FaceganError
from facegan.models.files import load_generator
from facegan.models.sampling import ImageGenerator, latents
from facegan.register.gate import decide_promotion
from facegan.register.versions import (
    FID,
    GATE,
    NETWORKS,
    PROTOCOL,
    WEIGHTS,
    Registered,
    describe,
    find_version,
)
from facegan.tracking import connection, runs

# Packages that consumers of the model need.
REQUIREMENTS = ("mlflow", "numpy", "torch")


def register(
    trained: Path, metrics: Path, official: Path, name: str, device: torch.device
) -> Registered:
    """Register the generator in the folder `trained` as a version of `name`, and run the gate.

    The promotion gate (`decide_promotion`) assigns the version's alias and stage. Registering
    again changes nothing: each generator has one version, and the gate runs once per version.

    Args:
        trained: the folder that `train` wrote.
        metrics: the scores that `evaluate` wrote.
        official: the feature statistics for rescoring a champion of another protocol.
        name: the registered model.
    Returns:
        The version with its stage, its aliases and the gate's reason.
    Raises:
        FaceganError: if the scores belong to another generator, or MLflow cannot be reached.
    """
    scores = _read_scores(metrics)
    sha256 = file_sha256(trained / WEIGHTS)
    if scores["generator"] != sha256:
        raise FaceganError(f"{metrics}: computed for another generator; run: dvc repro evaluate")
    if scores.get("reference") not in (None, file_sha256(official)):
        raise FaceganError(
            f"{metrics}: computed with other statistics than {official}; run: dvc repro evaluate"
        )
    client = connection.connect()
    with connection.translate_errors():
        run = runs.mirror(client, trained, name)
        runs.log_scores(client, run, scores)
        version = find_version(client, name, sha256)
        if version is None:
            version = _create(trained, metrics, scores, name, run)
        if GATE not in version.tags:
            decide_promotion(client, version, scores, official, device)
        return describe(client, name, version.version)


def _read_scores(path: Path) -> dict[str, Any]:
    try:
        scores: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise FaceganError(f"{path}: no scores ({error}); run: dvc repro evaluate") from None
    return scores


def _create(
    trained: Path, metrics: Path, scores: dict[str, Any], name: str, run: Run
) -> ModelVersion:
    """Create a version with the network as `pt2`, for any consumer, and as safetensors, for the
    `facegan` commands.
    """
    # Exported from the CPU and in eval mode: in train mode, an image would depend on its batch.
    generator = load_generator(trained / WEIGHTS, torch.device("cpu"))
    generator.to(memory_format=torch.contiguous_format)  # required by the export
    image = (-1, generator.size, generator.size, generator.channels)
    signature = ModelSignature(
        Schema([TensorSpec(np.dtype("float32"), (-1, generator.latent_dim))]),
        Schema([TensorSpec(np.dtype("uint8"), image)]),
    )
    with TemporaryDirectory() as folder, mlflow.start_run(run_id=run.info.run_id):
        # Copies, because MLflow refuses links that lead out of a folder, such as into DVC's cache.
        files = [shutil.copy(path, folder) for path in (*map(trained.joinpath, NETWORKS), metrics)]
        model = mlflow.pytorch.log_model(
            ImageGenerator(generator).eval(),
            name="generator",
            # A batch of 2, because a batch of 1 would fix the exported batch size.
            input_example=latents(2, generator.latent_dim, 0).numpy(),
            signature=signature,
            serialization_format="pt2",
            extra_files=[str(file) for file in files],
            pip_requirements=[f"{name}=={metadata.version(name)}" for name in REQUIREMENTS],
        )
    protocol = scores["protocol"]
    tags = {tag: file_sha256(trained / name) for name, tag in NETWORKS.items()}
    tags |= {PROTOCOL: protocol["id"], FID: str(scores[protocol["name"]])}
    tags["facegan.metric"] = protocol["name"]
    tags["facegan.data"] = protocol["data"]
    return mlflow.register_model(model.model_uri, name, tags=tags)
