"""The core path on `mlflow server` with basic auth, PostgreSQL and S3.

`make test-servers` runs all tests of tracking and the registry there.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from mlflow import MlflowClient

import stores
from commands import error_lines, facegan
from conftest import enter, make_params
from facegan.core.digests import file_sha256
from facegan.core.errors import FaceganError
from facegan.register import registry, versions
from facegan.tracking import connection
from registrations import NAME, Trainer, roles
from servers import wait
from webhooks import receiver

pytestmark = pytest.mark.faults
SECRET = "shared-with-the-receiver"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stores.Server]:
    """The server that `FACEGAN_TEST_STORE` chooses, `direct` by default."""
    kind = "direct" if stores.KIND == "sqlite" else stores.KIND
    with stores.start(kind, tmp_path_factory.mktemp(kind)) as server:
        yield server


@pytest.fixture
def register(
    server: stores.Server,
    references: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Trainer:
    enter(monkeypatch, tmp_path, server.clear(tmp_path))
    params = make_params().model_dump(by_alias=True)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    return Trainer(tmp_path, references[1], exports=True)


def models(folder: Path, *arguments: object) -> str:
    done = facegan("models", *map(str, arguments), "--name", NAME, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_run_is_mirrored_registered_promoted_loaded_exported_and_rolled_back(
    register: Trainer, server: stores.Server, device: torch.device, tmp_path: Path
) -> None:
    with receiver(tmp_path) as receiving:
        admin = MlflowClient(server.server.url)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_USERNAME", stores.ADMIN[0])
            patch.setenv("MLFLOW_TRACKING_PASSWORD", stores.ADMIN[1])
            events: list[Any] = ["model_version_alias.created", "model_version.created"]
            admin.create_webhook("promotion", receiving.url, events, secret=SECRET)
        assert register(1, fid=50.0).aliases == ("champion",)
        better = register(2, fid=40.0)
        promoted = (f"promoted: {better.champion}",)
        assert (better.version, better.stage, better.messages) == (2, "Production", promoted)
        again = register(2, fid=40.0)
        assert (again.version, again.aliases, again.messages) == (2, ("champion",), ())
        client = connection.connect()
        # MLflow's numbers are strings here, and ints in a SQLite store.
        assert client.get_registered_model(NAME).aliases == {"champion": "2", "previous": "1"}
        expected = {1: ("Archived", ("previous",)), 2: ("Production", ("champion",))}
        assert roles(client) == expected

        def received() -> list[tuple[str, str]]:
            return [
                (event["data"]["alias"], event["data"]["version"])
                for event in receiving.requests(SECRET)
                if event["entity"] == "model_version_alias" and event["data"]["name"] == NAME
            ]

        wait(lambda: len(received()) == 3, 30)
        assert sorted(received()) == [("champion", "1"), ("champion", "2"), ("previous", "1")]
    for suffix in ("/Production", "@champion", "/2"):
        versions.load(f"models:/{NAME}{suffix}", device)
    models(tmp_path, "export", 2, tmp_path / "out")
    (weights,) = (tmp_path / "out").rglob("generator.safetensors")
    assert file_sha256(weights) == registry.read(client, NAME).versions[2].tags[registry.GENERATOR]
    assert "version 1: stage Production (was Archived)" in models(tmp_path, "rollback")
    assert roles(client)[1] == ("Production", ("champion",))
    rows = [line.split() for line in models(tmp_path).splitlines()]
    assert [row[:3] for row in rows if row and row[0].isdigit()] == [
        ["2", "Archived", "previous"], ["1", "Production", "champion"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("MLFLOW_TRACKING_PASSWORD", "wrong", "401 .*check MLFLOW_TRACKING_USERNAME"),
        ("MLFLOW_TRACKING_USERNAME", "", "401 .*check MLFLOW_TRACKING_USERNAME"),
    ],
)
def test_a_wrong_password_is_one_line_without_it(
    variable: str, value: str, line: str, register: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(FaceganError, match=line) as caught:
        register(1, fid=50.0)
    text = str(caught.value)
    assert "\n" not in text and "wrong" not in text and stores.USER[1] not in text


def test_another_user_reads_but_its_denied_write_is_one_line(
    register: Trainer, server: stores.Server, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(1, fid=50.0)
    stores.create_user(server.server, ("bob", "not-to-be-known"))
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "bob")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "not-to-be-known")
    assert versions.load(f"models:/{NAME}@champion", device).latent_dim == 10
    denied = r"permission denied at /api/2\.0/mlflow/.*needs the permission EDIT"
    with pytest.raises(FaceganError, match=denied) as caught:
        register(2, fid=40.0)
    assert "\n" not in str(caught.value) and "not-to-be-known" not in str(caught.value)
    assert list(roles(connection.connect())) == [1]


def test_missing_credentials_of_the_artifact_store_are_one_line(
    register: Trainer, server: stores.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "AWS_ACCESS_KEY_ID" not in server.environment:
        pytest.skip("the server itself accesses the artifacts")
    folder, metrics = register.train(1, fid=50.0)
    wrong: list[tuple[str | None, str | None, str]]
    wrong = [(None, None, "Unable to locate credentials")]
    if stores.KIND != "moto":  # which accepts any
        wrong.append(("another", "wrong-and-secret", "InvalidAccessKeyId"))
    for key, secret, reason in wrong:
        for name, value in (("AWS_ACCESS_KEY_ID", key), ("AWS_SECRET_ACCESS_KEY", secret)):
            monkeypatch.delenv(name, raising=False)
            if value:
                monkeypatch.setenv(name, value)
        # In a process of its own, because MLflow keeps S3's client for minutes.
        done = facegan("register", folder, metrics, register.official, cwd=register.folder)
        (line,) = error_lines(done)
        assert line.startswith("MLflow's artifact storage: ") and reason in line
        assert "wrong-and-secret" not in line
        assert roles(connection.connect()) == {}
