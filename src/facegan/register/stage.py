"""A trained generator -> a version in MLflow's registry."""

import json
from importlib import metadata
from pathlib import Path
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

# What a consumer of the model needs.
REQUIREMENTS = ("mlflow", "numpy", "torch")


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
    client = connection.connect()
    with connection.reachable():
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
        raise FaceganError(f"{path}: no scores ({error}); make them: dvc repro evaluate") from None
    return scores


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
