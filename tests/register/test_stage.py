"""Registering, promoting and loading generators, in a real MLflow store."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
from mlflow import MlflowClient

from consumer import generate_without_facegan
from facegan.core.digests import file_sha256
from facegan.core.errors import FaceganError
from facegan.evaluate.protocol import describe_protocol
from facegan.evaluate.scorer import Scorer
from facegan.features.frechet import Statistics
from facegan.models.architectures import build_generator
from facegan.models.dcgan import initialise
from facegan.models.files import load_generator, save_network
from facegan.models.sampling import generate, latents
from facegan.register import stage, versions
from facegan.tracking import connection

NAME = "facegan-test"
CONFIG: dict[str, Any] = {
    "architecture": "dcgan",
    "size": 32,
    "channels": 1,
    "latent_dim": 10,
    "base_channels": 4,
}
Register = Callable[..., versions.Registered]


@pytest.fixture(name="client")
def make_client(store: Path) -> MlflowClient:
    return connection.connect()


@pytest.fixture(name="register")
def make_register(
    client: MlflowClient, tmp_path: Path, references: tuple[Path, Path], device: torch.device
) -> Register:
    def register(
        seed: int, fid: float, num_samples: int = 40, config: dict[str, Any] = CONFIG
    ) -> versions.Registered:
        """Register a generator initialised from `seed`, with `fid` as its score."""
        folder = tmp_path / f"train-{seed}"
        folder.mkdir(exist_ok=True)
        network = build_generator(**config)
        initialise(network, torch.Generator().manual_seed(seed))
        weights = {k: v * 3 if v.dim() == 4 else v for k, v in network.state_dict().items()}
        save_network(weights, config, folder / "generator.safetensors")  # with images that differ
        save_network({"logit": torch.zeros(seed + 1)}, {}, folder / "discriminator.safetensors")
        start = {
            "event": "start", "fingerprint": f"{seed}", "data": "", "images": 1, "shape": [],
            "seed": seed, "train": {}, "quick_fid": "quick_fid",
        }  # fmt: skip
        (folder / "history.jsonl").write_text(json.dumps(start) + "\n")
        protocol = describe_protocol(Statistics.load(references[1]), num_samples)
        scores: dict[str, Any] = {
            protocol["name"]: fid,
            "untrained": 9.0,
            "floor": 1.0,
            "images_seen": 1,
        }
        scores |= {"protocol": protocol}
        scores |= {"generator": file_sha256(folder / "generator.safetensors")}
        metrics = folder / "metrics.json"
        metrics.write_text(json.dumps(scores))
        return stage.register(folder, metrics, references[1], NAME, device)

    return register


def roles(client: MlflowClient) -> dict[str, tuple[str, list[str]]]:
    """Version -> (stage, aliases)."""
    aliases = client.get_registered_model(NAME).aliases
    return {
        str(v.version): (
            str(v.current_stage),
            sorted(a for a, n in aliases.items() if str(n) == str(v.version)),
        )
        for v in client.search_model_versions(f"name = '{NAME}'")
    }


def test_the_first_version_is_champion_and_only_a_lower_fid_replaces_it(
    register: Register, client: MlflowClient
) -> None:
    assert register(1, fid=50.0).stage == "Production"
    worse = register(2, fid=60.0)
    assert (worse.stage, worse.aliases) == ("Staging", ("challenger",))
    assert (
        "60.0 does not beat version 1's 50.0 (not comparable with published FIDs)" in worse.reason
    )
    better = register(3, fid=40.0)
    assert (better.stage, better.aliases) == ("Production", ("champion",))
    assert roles(client) == {
        "1": ("Archived", []),
        "2": ("Staging", ["challenger"]),
        "3": ("Production", ["champion"]),
    }


def test_other_statistics_than_those_of_the_scores_are_refused(
    register: Register, references: tuple[Path, Path], device: torch.device, tmp_path: Path
) -> None:
    register(1, fid=50.0)
    folder = tmp_path / "train-1"
    metrics = folder / "metrics.json"
    scores = json.loads(metrics.read_text()) | {"reference": file_sha256(references[1])}
    metrics.write_text(json.dumps(scores))
    assert stage.register(folder, metrics, references[1], NAME, device).version == "1"
    with pytest.raises(
        FaceganError, match=f"other statistics than {references[0]}; run: dvc repro"
    ):
        stage.register(folder, metrics, references[0], NAME, device)


def test_registering_again_creates_no_version_and_changes_no_role(
    register: Register, client: MlflowClient
) -> None:
    register(1, fid=50.0)
    register(2, fid=40.0)
    before = roles(client)
    assert register(2, fid=40.0).version == "2"
    assert register(1, fid=50.0).version == "1"
    assert roles(client) == before


def test_a_version_that_was_rolled_back_is_not_promoted_again(
    register: Register, client: MlflowClient
) -> None:
    register(1, fid=50.0)
    register(2, fid=40.0)
    client.set_registered_model_alias(NAME, "champion", "1")
    register(2, fid=40.0)
    assert str(client.get_model_version_by_alias(NAME, "champion").version) == "1"


def test_an_interrupted_gate_runs_again(register: Register, client: MlflowClient) -> None:
    register(1, fid=50.0)
    register(2, fid=40.0)
    client.delete_model_version_tag(NAME, "2", versions.GATE)
    client.set_registered_model_alias(NAME, "champion", "1")
    assert register(2, fid=40.0).aliases == ("champion",)
    client.delete_model_version_tag(NAME, "2", versions.GATE)
    assert register(2, fid=40.0).aliases == ("champion",)


def test_an_experiments_version_is_a_challenger_until_dvc_repro(
    register: Register, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(1, fid=50.0)
    monkeypatch.setenv("DVC_EXP_NAME", "funny-name")
    assert register(2, fid=40.0).aliases == ("challenger",)
    assert roles(client)["1"] == ("Production", ["champion"])
    monkeypatch.delenv("DVC_EXP_NAME")
    assert register(2, fid=40.0).aliases == ("champion",)
    assert roles(client)["2"] == ("Production", ["champion"])


def test_a_champion_of_another_protocol_is_rescored_under_the_challengers(
    register: Register, references: tuple[Path, Path], device: torch.device, tmp_path: Path
) -> None:
    register(1, fid=0.001)  # unbeatable, from 40 samples
    champion = load_generator(tmp_path / "train-1" / "generator.safetensors", device)
    rescored = Scorer(Statistics.load(references[1]), 150, device).mean_fid(champion, 50)
    assert register(2, fid=rescored + 1, num_samples=50).stage == "Staging"
    better = register(3, fid=rescored - 1, num_samples=50)
    assert better.stage == "Production" and f"version 1's {rescored}" in better.reason


def test_a_champion_of_another_shape_is_refused_with_advice(register: Register) -> None:
    register(1, fid=50.0, config={**CONFIG, "size": 64, "base_channels": 2})
    with pytest.raises(FaceganError, match=r"cannot be rescored.*different register\.names"):
        register(2, fid=40.0, num_samples=50)


def test_scores_of_another_generator_are_refused(
    register: Register, tmp_path: Path, references: tuple[Path, Path], device: torch.device
) -> None:
    register(1, fid=50.0)
    register(2, fid=40.0)
    stale = tmp_path / "train-1" / "metrics.json"
    with pytest.raises(FaceganError, match="computed for another generator"):
        stage.register(tmp_path / "train-2", stale, references[1], NAME, device)


@pytest.mark.parametrize("suffix", ["/1", "/Production", "@champion"])
def test_a_generator_loads_by_version_stage_and_alias(
    suffix: str, register: Register, device: torch.device, tmp_path: Path
) -> None:
    register(1, fid=50.0)
    loaded = versions.load(f"models:/{NAME}{suffix}", device).state_dict()
    saved = load_generator(tmp_path / "train-1" / "generator.safetensors", device).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in saved.items())


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (f"models:/{NAME}", "not a model URI; valid: models:/NAME/VERSION"),
        (f"models:/{NAME}/Staging", "no version .* is in stage Staging"),
        (f"models:/{NAME}/7", "not found"),
        (f"models:/{NAME}@nobody", "nobody"),
    ],
)
def test_a_missing_version_gives_one_line(
    uri: str, message: str, register: Register, device: torch.device
) -> None:
    register(1, fid=50.0)
    with pytest.raises(FaceganError, match=message) as caught:
        versions.load(uri, device)
    assert "\n" not in str(caught.value)


def test_a_file_whose_hash_differs_from_the_tag_is_not_loaded(
    register: Register, client: MlflowClient, device: torch.device, tmp_path: Path
) -> None:
    register(1, fid=50.0)
    (weights,) = tmp_path.glob("mlruns/**/extra_files/generator.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(
        FaceganError, match=r"sha256 is .* the version's tag facegan\.generator is "
    ):
        versions.load(f"models:/{NAME}/1", device)


def test_a_process_without_this_package_generates_by_stage_and_by_alias(
    register: Register, tmp_path: Path, device: torch.device
) -> None:
    register(1, fid=50.0)
    images = generate_without_facegan(tmp_path, NAME, CONFIG["latent_dim"])
    z = latents(7, CONFIG["latent_dim"], seed=0)
    ours = torch.cat(list(generate(versions.load(f"models:/{NAME}/1", device), z)))
    assert len(ours.unique(dim=0)) == 7
    assert (torch.from_numpy(images).int() - ours.cpu().int()).abs().max() <= 1


def test_the_exported_model_generates_what_the_generator_generates(
    register: Register, client: MlflowClient, device: torch.device
) -> None:
    register(1, fid=50.0)
    z = latents(5, 10, 3)
    exported: Any = mlflow.pyfunc.load_model(f"models:/{NAME}/1")
    ours = torch.cat(list(generate(versions.load(f"models:/{NAME}/1", device), z)))
    assert (torch.from_numpy(exported.predict(z.numpy())).int() - ours.int()).abs().max() <= 1
