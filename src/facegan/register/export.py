"""Exports a generator as an MLflow model that needs torch alone."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import numpy as np
import torch
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from torch import Tensor

from facegan.models.files import load_generator
from facegan.models.sampling import ImageGenerator, latents, to_uint8
from facegan.register.files import MAX_LATENTS, NETWORKS
from facegan.register.scores import WEIGHTS

# Packages that consumers of the model need.
REQUIREMENTS = ("mlflow", "numpy", "torch")
NAME = "generator"  # of the logged model


class CheckedGenerator(ImageGenerator):
    """As ImageGenerator, but raises instead of answering invalid latents; MLflow's server then
    answers with status 400. The checks are part of the exported graph.

    Raises:
        RuntimeError: if there are more than `MAX_LATENTS`, or a latent or its image is not finite.
    """

    def forward(self, z: Tensor) -> Tensor:
        require = torch.ops.aten._assert_async.msg
        # Counted in the graph: a comparison of the shape would fix the exported batch size.
        count = torch.ones_like(z[:, 0]).sum()
        require(count <= MAX_LATENTS, f"too many latents; valid: at most {MAX_LATENTS} at once")
        require(z.isfinite().all(), "latents contain NaN, infinity or null; valid: finite numbers")
        x = self.network(z)
        require(x.isfinite().all(), "latents are too large: the images contain NaN")
        return to_uint8(x)


def log_model(
    trained: Path, extra: list[Path], run_id: str, params: Mapping[str, str], step: int
) -> str:
    """Log the generator in `trained` to a run: as `pt2`, for any consumer, and with the networks
    as safetensors, for the `facegan` commands.

    Args:
        extra: more files to attach.
        params: of the logged model, which nobody can edit.
        step: images seen; MLflow attaches the run's metrics of this step to the model.
    Returns:
        The model's URI.
    """
    with _model(trained, extra) as arguments, mlflow.start_run(run_id=run_id):
        model = mlflow.pytorch.log_model(name=NAME, params=dict(params), step=step, **arguments)
    return str(model.model_uri)


def save_model(trained: Path, extra: list[Path], folder: Path) -> None:
    """Write what `log_model` logs into `folder`."""
    with _model(trained, extra) as arguments:
        mlflow.pytorch.save_model(path=str(folder), **arguments)


@contextmanager
def _model(trained: Path, extra: list[Path]) -> Iterator[dict[str, Any]]:
    # Exported from the CPU and in eval mode: in train mode, an image would depend on its batch.
    generator = load_generator(trained / WEIGHTS, torch.device("cpu"))
    generator.to(memory_format=torch.contiguous_format)  # required by the export
    image = (-1, generator.size, generator.size, generator.channels)
    with TemporaryDirectory() as folder:
        # Copies, because MLflow refuses links that lead out of a folder, such as into DVC's cache.
        files = [shutil.copy(path, folder) for path in (*map(trained.joinpath, NETWORKS), *extra)]
        yield {
            "pytorch_model": CheckedGenerator(generator).eval(),
            # A batch of 2, because a batch of 1 would fix the exported batch size.
            "input_example": latents(2, generator.latent_dim, 0).numpy(),
            "signature": ModelSignature(
                Schema([TensorSpec(np.dtype("float32"), (-1, generator.latent_dim))]),
                Schema([TensorSpec(np.dtype("uint8"), image)]),
            ),
            "serialization_format": "pt2",
            "extra_files": list(map(str, files)),
            "pip_requirements": [f"{name}=={metadata.version(name)}" for name in REQUIREMENTS],
        }
