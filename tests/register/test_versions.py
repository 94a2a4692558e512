"""Loading generators from the registry. tests/integration/test_pipeline.py loads one without
this package."""

from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
from mlflow import MlflowClient

from facegan.core.errors import FaceganError
from facegan.models.files import load_generator
from facegan.models.sampling import generate, latents
from facegan.register import versions
from registrations import NAME, Trainer
from stores import Store

Two = tuple[MlflowClient, Trainer]


@pytest.mark.parametrize("suffix", ["/1", "/Production", "@champion", "/latest", "@best-of-2026"])
def test_a_generator_loads_by_version_stage_and_alias(
    suffix: str,
    register: Trainer,
    client: MlflowClient,
    device: torch.device,
    tmp_path: Path,
) -> None:
    register(1, fid=50.0)
    client.set_registered_model_alias(NAME, "best-of-2026", "1")
    loaded = versions.load(f"models:/{NAME}{suffix}", device).state_dict()
    saved = load_generator(tmp_path / "train-1" / "generator.safetensors", device).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in saved.items())


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (f"models:/{NAME}", "not a model URI; valid: models:/NAME/VERSION"),
        (f"models:/{NAME}/Staging", "no version .* is in stage Staging"),
        (f"models:/{NAME}/7", "has no version 7; the last ones: 1"),
        (f"models:/{NAME}/{10**25}", "no version of .* is in stage 10000000000000000000000000"),
        (f"models:/{NAME}@nobody", f"has no alias nobody; valid: models:/{NAME}@champion"),
        ("models:/nothing/1", "not found; no version of nothing is registered"),
    ],
)
def test_a_missing_version_gives_one_line(
    uri: str, message: str, register: Trainer, device: torch.device
) -> None:
    register(1, fid=50.0)
    with pytest.raises(FaceganError, match=message) as caught:
        versions.load(uri, device)
    assert "\n" not in str(caught.value)


def test_a_file_whose_hash_differs_from_the_tag_is_not_loaded(
    register: Trainer, backend: Store, device: torch.device
) -> None:
    register(1, fid=50.0)
    (weights,) = backend.files("*/extra_files/generator.safetensors")
    backend.write(weights, backend.read(weights)[:-1] + b"\0")
    with pytest.raises(
        FaceganError,
        match=r"facegan\.generator is .* models repair N FOLDER uploads the file again",
    ):
        versions.load(f"models:/{NAME}/1", device)


def test_a_version_whose_files_are_gone_says_how_to_get_them_back(
    register: Trainer, backend: Store, device: torch.device
) -> None:
    register(1, fid=50.0)
    for name in backend.files("*/extra_files/*"):
        backend.delete(name)
    gone = r"generator.safetensors, discriminator.safetensors missing .* models repair 1 FOLDER"
    with pytest.raises(FaceganError, match=gone) as caught:
        versions.load(f"models:/{NAME}/1", device)
    assert "\n" not in str(caught.value)


def test_the_exported_model_generates_what_the_generator_generates(
    register: Trainer, client: MlflowClient, device: torch.device
) -> None:
    register.exports = True
    register(1, fid=50.0)
    z = latents(5, 10, 3)
    exported: Any = mlflow.pyfunc.load_model(f"models:/{NAME}/1")
    ours = torch.cat(list(generate(versions.load(f"models:/{NAME}/1", device), z)))
    assert (torch.from_numpy(exported.predict(z.numpy())).int() - ours.int()).abs().max() <= 1


def test_the_papers_that_a_version_has_are_downloaded(two: Two, tmp_path: Path) -> None:
    folder = tmp_path / "papers"
    folder.mkdir()
    (card,) = versions.download_papers(f"models:/{NAME}/1", folder, ("card.md", "samples.png"))
    assert card.name == "card.md"
    assert card.read_text("utf-8").startswith(f"# {NAME}")
