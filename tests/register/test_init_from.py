"""Pretrained networks that a training starts from: a registered version's, or a folder's."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from conftest import make_params
from facegan.cli.main import app
from facegan.core.digests import file_sha256
from facegan.core.errors import FaceganError
from facegan.core.events import Progress
from facegan.core.history import read_history
from facegan.evaluate.stage import evaluate
from facegan.models.files import load_network, save_network
from facegan.params import Params
from facegan.register import init_from
from facegan.register.stage import register
from facegan.train.checkpoint import load_checkpoint
from facegan.train.stage import train

MakeParams = Callable[..., Params]
Run = Callable[..., None]
CPU = torch.device("cpu")
NETWORKS = ("generator.safetensors", "discriminator.safetensors")


class Started(Exception):
    pass


def stop(event: Any) -> None:
    """An on_event that ends a training at its first step."""
    if isinstance(event, Progress):
        raise Started


@pytest.fixture(scope="module")
def first(
    dataset: Path, references: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A finished training's folder."""
    folder = tmp_path_factory.mktemp("first")
    # Long enough for a better FID than the untrained generator's.
    settings = make_params(train={"epochs": 4}).train
    train(dataset, references[0], folder / "train", settings, 0, CPU, folder / "checkpoints")
    return folder / "train"


@pytest.fixture(name="start")
def make_start(dataset: Path, references: tuple[Path, Path], tmp_path: Path) -> Run:
    """Starts a training in `checkpoints`, and ends it at its first step."""

    def start(params: Params, init: Path | None) -> None:
        out, checkpoints = tmp_path / "out", tmp_path / "checkpoints"
        with pytest.raises(Started):
            train(dataset, references[0], out, params.train, 0, CPU, checkpoints, stop, init=init)

    return start


@pytest.fixture
def version(
    store: Path,
    first: Path,
    dataset: Path,
    params: MakeParams,
    references: tuple[Path, Path],
    tmp_path: Path,
) -> Path:
    """The folder of a training that is registered as version 1 of `faces`."""
    evaluation, metrics = tmp_path / "evaluation", tmp_path / "metrics.json"
    settings = params()
    evaluate(
        first, dataset, references[1], evaluation, metrics, settings.evaluate,
        settings.reference.official, CPU,
    )  # fmt: skip
    named = settings.register_.model_copy(update={"name": "faces"})
    register(first, metrics, references[1], named, lambda: CPU)
    return first


def test_a_training_starts_from_a_registered_version(
    version: Path, start: Run, params: MakeParams, tmp_path: Path
) -> None:
    settings = params(train={"init_from": "models:/faces/1", "lr": 0.0001})
    with init_from.pretrained_networks(settings.train.init_from) as folder:
        assert folder is not None
        for name in NETWORKS:
            assert file_sha256(folder / name) == file_sha256(version / name)
        start(settings, folder)
    assert not folder.exists()
    (second,) = (tmp_path / "checkpoints").iterdir()
    untrained, _ = load_network(second / "untrained.safetensors")
    registered, _ = load_network(version / "generator.safetensors")
    for name, tensor in registered.items():
        if "running" not in name and "tracked" not in name:  # these are recalibrated
            assert torch.equal(untrained[name], tensor)
    (_, score), (_, other) = (
        next((e["images_seen"], e["quick_fid"]) for e in events if e["event"] == "score")
        for events in (
            read_history(second / "history.jsonl"),
            read_history(version / "history.jsonl"),
        )
    )
    assert score < other  # that of a newly initialised generator


def test_different_networks_start_a_different_training(
    first: Path, start: Run, params: MakeParams, tmp_path: Path
) -> None:
    copy = shutil.copytree(first, tmp_path / "copy")
    for init in (None, first, copy):
        start(params(), init)
    # A copy has the same networks.
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


@pytest.mark.parametrize(
    ("train", "line"),
    [
        (
            {"base_channels": 16},
            "incompatible with this configuration: base_channels 8, not 16",
        ),
        (
            {"spectral_norm": True},
            "incompatible with this configuration: spectral_norm False, not True",
        ),
        ({"architecture": "residual"}, "architecture modulated-resnet, not residual"),
    ],
)
def test_networks_of_another_configuration_are_refused(
    train: dict[str, object], line: str, first: Path, start: Run, params: MakeParams
) -> None:
    with pytest.raises(FaceganError, match=line):
        start(params(train=train), first)


def test_networks_with_other_layers_are_refused(
    first: Path, start: Run, params: MakeParams, tmp_path: Path
) -> None:
    older = shutil.copytree(first, tmp_path / "older")
    path = older / "discriminator.safetensors"
    state, config = load_network(path)
    state["layers.99.weight"] = state.pop("layers.0.weight")
    save_network(state, config, path)
    with pytest.raises(FaceganError, match=r"discriminator.*: the layers are of another version"):
        start(params(), older)


def test_a_folder_without_networks_is_refused(
    start: Run, params: MakeParams, tmp_path: Path
) -> None:
    with pytest.raises(FaceganError, match=r"generator\.safetensors: cannot be read"):
        start(params(), tmp_path)


def test_a_missing_version_is_refused(store: Path) -> None:
    with (
        pytest.raises(FaceganError, match="faces"),
        init_from.pretrained_networks("models:/faces/9"),
    ):
        pass


def test_a_folder_must_be_a_dependency_of_the_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {train: {cmd: x, deps: [data, earlier]}}")
    with init_from.pretrained_networks("other") as folder:  # outside of DVC
        assert folder == Path("other")
    monkeypatch.setenv("DVC_STAGE", "train")
    with init_from.pretrained_networks("earlier/") as folder:
        assert folder == Path("earlier/")
    refused = pytest.raises(
        FaceganError, match="other: not a dependency of the stage train; add it"
    )
    with refused, init_from.pretrained_networks("other"):
        pass


def test_an_unfinished_training_serves_with_the_best_networks_of_its_checkpoint(
    dataset: Path, references: tuple[Path, Path], params: MakeParams, tmp_path: Path
) -> None:
    """For a training to start from, for `evaluate`, and for `facegan sample`."""
    settings, checkpoints = params(), tmp_path / "checkpoints"
    out, official = tmp_path / "out", settings.reference.official

    def stop_late(event: Any) -> None:
        if isinstance(event, Progress) and event.done == 300:
            raise Started

    with pytest.raises(Started):
        train(dataset, references[0], out, settings.train, 0, CPU, checkpoints, stop_late)
    (unfinished,) = checkpoints.iterdir()
    best = load_checkpoint(unfinished / "checkpoint.pt", CPU)["best"]
    with init_from.pretrained_networks(str(unfinished)) as folder:
        assert folder is not None
        for name in ("generator", "discriminator"):
            state, _ = load_network(folder / f"{name}.safetensors")
            assert all(torch.equal(state[key], best[name][key]) for key in state)
        metrics = tmp_path / "metrics.json"
        evaluate(
            folder,
            dataset,
            references[1],
            tmp_path / "e",
            metrics,
            settings.evaluate,
            official,
            CPU,
        )
        assert json.loads(metrics.read_text())["images_seen"] == best["images_seen"]
    assert not folder.exists()
    picture = str(tmp_path / "faces.png")
    for path in (unfinished, unfinished / "checkpoint.pt"):
        result = CliRunner().invoke(app, ["sample", str(path), picture, "--count", "4"])
        assert result.exit_code == 0, result.output
        assert f"at 280 images seen; best generator at {best['images_seen']:,}" in result.output
    assert (tmp_path / "faces.png").exists()
    started = pytest.raises(Started)  # because the configuration matches
    with started, init_from.pretrained_networks(str(unfinished)) as folder:
        train(dataset, references[0], out, settings.train, 1, CPU, checkpoints, stop, init=folder)


def test_a_training_without_a_score_serves_for_nothing_yet(tmp_path: Path) -> None:
    (tmp_path / "fingerprint.json").write_text("{}")
    refused = pytest.raises(FaceganError, match=r"no checkpoint with a score yet")
    with refused, init_from.pretrained_networks(str(tmp_path)):
        pass


def test_null_means_no_pretrained_networks() -> None:
    with init_from.pretrained_networks(None) as folder:
        assert folder is None
