"""The page's latents.js against NumPy and facegan.sample.latents."""

import base64
import json
import shutil
import subprocess
from typing import Any

import numpy as np
import pytest
import torch

from facegan.export.folder import PAGE
from facegan.models.sampling import MAX_SEED, latents
from facegan.sample.latents import slerp, truncate

SEEDS = (0, 1, 17, 623, 2**31, 2**32 - 1)
DIMENSIONS = 101  # odd, and more than one block of the generator below


def javascript(expression: str) -> Any:
    """The JSON value of an expression that may use the exports of latents.js."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    module = base64.b64encode((PAGE / "latents.js").read_bytes()).decode()
    program = (
        f"const page = await import('data:text/javascript;base64,{module}');"
        "const plain = (x) => Array.isArray(x) ? x.map(plain) : "
        "ArrayBuffer.isView(x) ? Array.from(x) : x;"
        f"console.log(JSON.stringify(plain({expression})));"
    )
    command = [node, "--input-type=module", "--eval", program]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def close(found: Any, expected: torch.Tensor) -> bool:
    """Whether float32 values agree to the last bits."""
    return bool(np.allclose(np.float32(found), expected.numpy(), rtol=3e-7, atol=1e-7))


def test_a_seed_has_the_latent_of_numpy() -> None:
    found = javascript(f"[{','.join(map(str, SEEDS))}].map((s) => page.randn(s, {DIMENSIONS}))")
    for seed, z in zip(SEEDS, found, strict=True):
        assert close(z, latents(1, DIMENSIONS, seed)[0]), seed


def test_many_numbers_of_one_seed_are_those_of_numpy() -> None:
    assert close(javascript("page.randn(17, 2000)"), latents(1, 2000, 17)[0])


def test_the_largest_seed_is_that_of_python() -> None:
    assert javascript("page.MAX_SEED") == MAX_SEED


@pytest.mark.parametrize("threshold", [0.1, 0.5, 1.0, 2.0, 3.0])
def test_truncation_is_that_of_python(threshold: float) -> None:
    z = latents(4, DIMENSIONS, 0)
    expected = truncate(z, threshold)
    found = javascript(
        f"[0, 1, 2, 3].map((s) => page.truncate(page.randn(s, {DIMENSIONS}), {threshold}))"
    )
    assert np.allclose(np.float32(found), expected.numpy(), rtol=1e-6, atol=1e-7)
    assert np.abs(found).max() <= threshold


def test_extreme_latents_are_truncated_as_in_python() -> None:
    values = [0.0, -0.0, 1e-8, 3.9, -5.5, 8.0, -37.5, 40.0]
    found = javascript(f"page.truncate(Float32Array.from({values}), 2)")
    assert np.allclose(found, truncate(torch.tensor([values]), 2.0)[0].numpy(), atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_morphing_is_the_walk_of_python(share: float) -> None:
    a, b = latents(2, DIMENSIONS, 3)
    arguments = f"page.randn(3, {DIMENSIONS}), page.randn(4, {DIMENSIONS}), {share}"
    expected = slerp(a, b, torch.tensor([share]))[0]
    assert np.allclose(javascript(f"page.slerp({arguments})"), expected.numpy(), atol=1e-5)


def test_morphing_to_the_same_or_the_opposite_latent_is_a_line() -> None:
    for sign in (1, -1):
        z = latents(1, 7, 3)[0]
        found = javascript(
            f"(() => {{ const z = page.randn(3, 7); "
            f"return page.slerp(z, z.map((x) => {sign} * x), 0.25); }})()"
        )
        assert np.allclose(found, slerp(z, sign * z, torch.tensor([0.25]))[0].numpy(), atol=1e-6)
