"""Writes a generator as ONNX, and checks that ONNX Runtime generates the same images."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from facegan.core.errors import FaceganError
from facegan.models.architectures import Generator
from facegan.models.sampling import ImageGenerator, generate, latents

if TYPE_CHECKING:  # of the extra `export`
    import onnx

INPUT, OUTPUT, BATCH = "z", "images", "n"
# Batches that are compared with PyTorch's. Each has seeds of its own.
CHECKED = (1, 2, 7, 32)
# Grey levels: convolutions are computed in another order.
TOLERANCE = 1


def require_packages() -> None:
    """
    Raises:
        FaceganError: if a package of the extra `export` is missing.
    """
    for name in ("markdown_it", "onnx", "onnxruntime", "onnxscript"):
        if find_spec(name) is None:
            raise FaceganError(f"export needs {name}: pip install 'facegan[export]'")


def write(network: Generator, path: Path) -> None:
    """Write `z` float32 (n, latent_dim) -> `images` uint8 (n, H, W, C) as ONNX, for any n.

    Args:
        network: on the CPU, in eval mode.
    Raises:
        FaceganError: if ONNX Runtime generates other images than PyTorch.
    """
    network.to(memory_format=torch.contiguous_format)  # required by the export
    # A batch of 2, because a batch of 1 would fix the exported batch size.
    example = (latents(2, network.latent_dim, 0),)
    with _silence():
        program = torch.onnx.export(
            ImageGenerator(network).eval(),
            example,
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim(BATCH)},),
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _remove_origins(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
    check(network, path)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Without the exporter's notes, which are for its developers."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _remove_origins(model: "onnx.ModelProto") -> None:
    """Remove what the exporter notes of each node: stack traces, with paths of this machine."""
    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer, *graph.value_info):
        del part.metadata_props[:]
        part.doc_string = ""
    for whole in (model, graph):
        del whole.metadata_props[:]
        whole.doc_string = ""


def check(network: Generator, path: Path) -> None:
    """Compare the images of ONNX Runtime with those of PyTorch, in batches of several sizes.

    Raises:
        FaceganError: if a pixel differs by more than `TOLERANCE`.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for count in CHECKED:
        z = latents(count, network.latent_dim, sum(CHECKED[: CHECKED.index(count)]))
        (images,) = session.run([OUTPUT], {INPUT: z.numpy()})
        expected = torch.cat(list(generate(network, z))).numpy()
        same = images.shape == expected.shape and images.dtype == expected.dtype
        difference = np.abs(images.astype(int) - expected).max() if same else np.inf
        if difference > TOLERANCE:
            raise FaceganError(
                f"{path.name}: images of ONNX Runtime differ from PyTorch's by {difference} grey "
                f"levels, in a batch of {count}; nothing was exported"
            )
