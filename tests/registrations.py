"""Generators with chosen scores, registered in a real MLflow store."""

import json
import multiprocessing
import os
import re
import shutil
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import requests
import sqlalchemy
import torch
from mlflow import MlflowClient
from sqlalchemy.engine import Engine

from conftest import make_params
from facegan.core.digests import file_sha256
from facegan.evaluate.protocol import describe_protocol
from facegan.features.frechet import Statistics
from facegan.models.architectures import build_generator, initialise
from facegan.models.files import save_network
from facegan.params import Register
from facegan.register import export, files, registry, stage

NAME = "facegan-test"
CONFIG: dict[str, Any] = {
    "architecture": "dcgan",
    "size": 32,
    "channels": 1,
    "latent_dim": 10,
    "base_channels": 4,
}


@dataclass
class Trainer:
    """Makes folders of trained generators with chosen scores, and registers them.

    Attributes:
        exports: with torch.export, which takes a second, and which only MLflow's loaders need.
    """

    folder: Path
    official: Path
    settings: Register = field(default_factory=lambda: make_params().register_)
    exports: bool = False

    def train(
        self,
        seed: int,
        fid: float,
        num_samples: int = 40,
        config: dict[str, Any] = CONFIG,
        collapse: str = "",
        **scores: Any,
    ) -> tuple[Path, Path]:
        """A generator initialised from `seed`, with `fid` as its score, and others if given.

        Returns:
            Its folder, and its `metrics.json`.
        """
        folder = self.folder / f"train-{seed}"
        folder.mkdir(exist_ok=True)
        network = build_generator(**config)
        initialise(config["architecture"], network, torch.Generator().manual_seed(seed))
        save_network(network.state_dict(), config, folder / "generator.safetensors")
        save_network({"logit": torch.zeros(seed + 1)}, {}, folder / "discriminator.safetensors")
        (folder / "history.jsonl").write_text(self._history(seed, collapse))
        protocol = describe_protocol(Statistics.load(self.official), num_samples)
        protocol["shape"] = [config["size"], config["size"], config["channels"]]
        protocol |= scores.pop("protocol", {})
        metric = protocol["name"]
        label = metric.partition("_")[2]
        content = {
            metric: fid, f"{metric}_spread": 0.0, "untrained": 99.0, "floor": 1.0,
            "images_seen": 1, f"precision_{label}": 0.5, f"recall_{label}": 0.5,
            f"memorised_{label}": 0.01, "protocol": protocol,
            "sample_metrics": {"images": min(num_samples, 20), "held_out": 60},
            "generator": file_sha256(folder / "generator.safetensors"),
        }  # fmt: skip
        for name, value in scores.items():
            key = next((key for key in content if key.startswith(name)), name)
            key = f"{metric}_spread" if name == "spread" else key
            content[key] = value
        metrics = folder / "metrics.json"
        metrics.write_text(json.dumps(content))
        return folder, metrics

    @staticmethod
    def _history(seed: int, collapse: str) -> str:
        start = {
            "event": "start", "fingerprint": f"{seed}", "data": "", "images": 1, "shape": [],
            "seed": seed, "train": {"lr": 0.1 * seed}, "quick_fid": "quick_fid",
        }  # fmt: skip
        events = [start]
        if collapse:
            events.append({"event": "collapse", "images_seen": 1, "reason": collapse})
        return "".join(json.dumps(event) + "\n" for event in events)

    def __call__(self, seed: int, fid: float, **scores: Any) -> stage.Registered:
        folder, metrics = self.train(seed, fid, **scores)
        return self.register(folder, metrics)

    def register(self, folder: Path, metrics: Path) -> stage.Registered:
        with pytest.MonkeyPatch.context() as patch:
            if not self.exports:
                patch.setattr(export, "log_model", log_networks)
            return stage.register(
                folder, metrics, self.official, self.settings, lambda: torch.device("cpu")
            )

    def preview(self, seed: int, fid: float, **scores: Any) -> list[str]:
        folder, metrics = self.train(seed, fid, **scores)
        return stage.preview(
            folder, metrics, self.official, self.settings, lambda: torch.device("cpu")
        )

    def with_policy(self, approval: str = "automatic", **numbers: float) -> None:
        policy = self.settings.policy.model_copy(update=numbers)
        update = {"policy": policy, "approval": approval}
        self.settings = self.settings.model_copy(update=update)


Roles = dict[int, tuple[str, tuple[str, ...]]]


def roles(client: MlflowClient) -> Roles:
    """Version -> (stage, aliases)."""
    found = registry.read(client, NAME)
    return {n: (v.stage, found.aliases_of(n)) for n, v in found.versions.items()}


def copy_of_second(client: MlflowClient, tags: dict[str, Any] | None = None) -> None:
    """Version 3, with the files of version 2, as a person creates it."""
    second = client.get_model_version(NAME, "2")
    model = registry.Version.of(second).model  # required by MLflow's server
    client.create_model_version(NAME, str(second.source), second.run_id, tags, model_id=model)


# Processes that have imported everything, but not opened the store.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["registrations", "facegan.register.export", "mlflow.pytorch"])
# A change of the registry, in a database and through a server.
STATEMENT = r"(INSERT INTO|UPDATE|DELETE FROM) (registered_model|model_version)"
REQUEST = r"/mlflow/(registered-models|model-versions)/(?!search)"


def start(register: Trainer, seed: int, kill_at: int | None = None) -> BaseProcess:
    """Register the generator of `seed` in another process.

    Args:
        kill_at: the process kills itself before its so manieth change of the registry.
    """
    arguments = (register, seed, kill_at, dict(os.environ))
    process = CONTEXT.Process(target=_register, args=arguments)
    process.start()
    return process


def log_networks(
    trained: Path, extra: list[Path], run_id: str, params: Mapping[str, str], step: int
) -> str:
    """What `export.log_model` logs, without the exported model."""
    client = MlflowClient()
    experiment = client.get_run(run_id).info.experiment_id
    model = client.create_logged_model(experiment, export.NAME, run_id, params=dict(params))
    with TemporaryDirectory() as folder:
        attached = Path(folder) / files.EXTRA
        attached.mkdir()
        for path in (*map(trained.joinpath, files.NETWORKS), *extra):
            shutil.copy(path, attached)
        for name in (files.EXPORTED, files.PROGRAM):
            path = Path(folder) / name
            path.parent.mkdir(exist_ok=True)
            path.touch()
        client.log_model_artifacts(model.model_id, folder)
    client.finalize_logged_model(model.model_id, "READY")
    return f"models:/{model.model_id}"


def _register(
    register: Trainer, seed: int, kill_at: int | None, environment: dict[str, str]
) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    os.chdir(register.folder)
    changes = 0

    def count() -> None:
        nonlocal changes
        changes += 1
        if changes == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def execute(connection: Any, cursor: Any, statement: str, *arguments: Any) -> None:
        if re.match(STATEMENT, statement):
            count()

    def send(self: requests.Session, request: Any, **kwargs: Any) -> Any:
        if request.method != "GET" and re.search(REQUEST, request.url):
            count()
        return sent(self, request, **kwargs)

    sqlalchemy.event.listen(Engine, "before_cursor_execute", execute)
    sent, requests.Session.send = requests.Session.send, send  # type: ignore[method-assign]
    folder = register.folder / f"train-{seed}"
    register.register(folder, folder / "metrics.json")


def exit_codes(processes: Iterable[BaseProcess]) -> list[int | None]:
    """Wait for processes, all of which are started first."""
    codes = []
    for process in list(processes):
        process.join(120)
        codes.append(process.exitcode)
    return codes


def delete_run_for_good(client: MlflowClient, run: str) -> None:
    """As a person in the UI, and then `mlflow gc`."""
    store = client._tracking_client.store
    if not hasattr(store, "_hard_delete_run"):
        pytest.skip("`mlflow gc` works on the server's database")
    client.delete_run(run)
    store._hard_delete_run(run)
