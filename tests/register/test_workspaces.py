"""A real `mlflow server` whose runs and models are divided into workspaces."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from conftest import enter
from facegan.core.errors import FaceganError
from facegan.register import catalog, registry, versions
from facegan.tracking import connection
from registrations import NAME, Trainer, roles
from servers import MlflowServer

pytestmark = pytest.mark.faults
CREATE = "import mlflow; mlflow.create_workspace('team')"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowServer]:
    (tmp_path / "server").mkdir()
    server = MlflowServer(tmp_path / "server", (), {"MLFLOW_ENABLE_WORKSPACES": "true"})
    try:
        enter(monkeypatch, tmp_path, {"MLFLOW_TRACKING_URI": server.url})
        subprocess.run([sys.executable, "-c", CREATE], check=True)
        yield server
    finally:
        server.kill()


def test_versions_belong_to_a_workspace_which_messages_name(
    server: MlflowServer,
    references: tuple[Path, Path],
    tmp_path: Path,
    device: torch.device,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_WORKSPACE", "team")
    register = Trainer(tmp_path, references[1])
    assert register(1, fid=50.0).aliases == ("champion",)
    assert register(2, fid=40.0).aliases == ("champion",)
    client = connection.connect()
    assert roles(client)[2] == ("Production", ("champion",))
    assert versions.load(f"models:/{NAME}@champion", device).latent_dim == 10
    monkeypatch.delenv("MLFLOW_WORKSPACE")
    place = "; in workspace default, MLFLOW_WORKSPACE chooses another: team$"
    with pytest.raises(FaceganError, match=f"no version of {NAME} is registered{place}"):
        versions.load(f"models:/{NAME}/2", device)
    client = connection.connect()
    with pytest.raises(FaceganError, match=f"has no versions; .*{place}"):
        catalog.table(client, NAME, 9)
    with pytest.raises(FaceganError, match=f"the last ones: none{place}"):
        registry.require(client, NAME, 2)
