"""The stores that tests of tracking and the registry run on.

`FACEGAN_TEST_STORE` chooses one of `KINDS`; the tests see the same, but for environment variables.
"""

import fnmatch
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import boto3
import requests
from cryptography.fernet import Fernet
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

from buckets import credentials, moto, rclone
from postgres import Postgres, postgres
from servers import MlflowServer

# sqlite: a file, with artifacts in a folder. The others: `mlflow server` with basic auth and
# PostgreSQL behind it, and artifacts in S3 through the server (proxied), in S3 directly (direct),
# or directly in a second, independent S3 (moto).
KINDS = ("sqlite", "proxied", "direct", "moto")
KIND = os.environ.get("FACEGAN_TEST_STORE", "sqlite")
ADMIN, USER = ("admin", "not-to-be-shown"), ("ada", "not-to-be-told")
BUCKET = "mlflow"
DATABASE, EMPTY = "mlflow", "empty"
# Columns of MLflow's SQLite file with absolute paths.
LOCATIONS = (
    *("experiments.artifact_location", "runs.artifact_uri"),
    *("logged_models.artifact_location", "model_versions.storage_location"),
)


# Receivers on the loopback interface, found at once.
WEBHOOKS = {
    "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
    "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
    "MLFLOW_WEBHOOK_CACHE_TTL": "1",
    "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": Fernet.generate_key().decode(),
}


class Store(Protocol):
    """A store that one test has for itself."""

    def clear(self, folder: Path) -> dict[str, str]:
        """Make it empty, for a test in `folder`.

        Returns:
            The environment that leads there.
        """

    def save(self, folder: Path) -> Any:
        """A copy of the present state, that of a test in `folder`."""

    def load(self, saved: Any, folder: Path) -> dict[str, str]:
        """Set the state that `save` returned, for a test in `folder`."""

    def files(self, pattern: str) -> list[str]:
        """The names of the artifacts that match `pattern`, in which * matches slashes too."""

    def read(self, name: str) -> bytes: ...

    def write(self, name: str, content: bytes) -> None: ...

    def delete(self, name: str) -> None: ...


class Sqlite:
    """`mlflow.db` and `mlruns/` in a test's folder.

    Args:
        empty: such a file with its tables, which take seconds to create.
    """

    def __init__(self, empty: Path) -> None:
        self.empty, self.folder = empty, Path()

    def clear(self, folder: Path) -> dict[str, str]:
        shutil.copyfile(self.empty, folder / "mlflow.db")
        self.folder = folder
        # Absolute, because MLflow keeps one connection per URI for the life of the process.
        return {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}

    def save(self, folder: Path) -> Path:
        return folder

    def load(self, saved: Path, folder: Path) -> dict[str, str]:
        environment = self.clear(folder)
        # By the ids of runs, which are those of the saved store: tests would write into that.
        _artifact_repos_cache.clear()
        shutil.copyfile(saved / "mlflow.db", folder / "mlflow.db")
        shutil.copytree(saved / "mlruns", folder / "mlruns")
        with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
            for column in LOCATIONS:
                table, _, name = column.partition(".")
                statement = f"UPDATE {table} SET {name} = replace({name}, ?, ?)"
                database.execute(statement, (str(saved), str(folder)))
        return environment

    def files(self, pattern: str) -> list[str]:
        found = (p for p in (self.folder / "mlruns").rglob("*") if p.is_file())
        names = sorted(path.relative_to(self.folder).as_posix() for path in found)
        return fnmatch.filter(names, pattern)

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        (self.folder / name).write_bytes(content)

    def delete(self, name: str) -> None:
        (self.folder / name).unlink()


@dataclass
class Server:
    """`mlflow server` with PostgreSQL behind it, and artifacts in S3."""

    database: Postgres
    server: MlflowServer
    bucket: Any
    environment: dict[str, str]

    def clear(self, folder: Path) -> dict[str, str]:
        self.database.copy(EMPTY, DATABASE)
        self.bucket.objects.delete()
        return self.environment

    def save(self, folder: Path) -> dict[str, bytes]:
        self.database.copy(DATABASE, "saved")
        return {name: self.read(name) for name in self.files("*")}

    def load(self, saved: Mapping[str, bytes], folder: Path) -> dict[str, str]:
        self.database.copy("saved", DATABASE)
        for name in self.files("*"):
            if name not in saved:
                self.delete(name)
        for name, content in saved.items():
            self.write(name, content)
        return self.environment

    def files(self, pattern: str) -> list[str]:
        return fnmatch.filter([entry.key for entry in self.bucket.objects.all()], pattern)

    def read(self, name: str) -> bytes:
        content: bytes = self.bucket.Object(name).get()["Body"].read()
        return content

    def write(self, name: str, content: bytes) -> None:
        self.bucket.put_object(Key=name, Body=content)

    def delete(self, name: str) -> None:
        self.bucket.Object(name).delete()


@contextmanager
def start(kind: str, folder: Path) -> Iterator[Server]:
    """Start the servers of a kind.

    Args:
        folder: for what they write, PostgreSQL apart.
    """
    with ExitStack() as stack:
        database = stack.enter_context(postgres())
        root = folder / "buckets"
        root.mkdir()
        s3 = stack.enter_context(moto(folder) if kind == "moto" else rclone(root))
        access = credentials(s3)
        bucket = boto3.resource(
            "s3",
            endpoint_url=s3,
            aws_access_key_id=access["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=access["AWS_SECRET_ACCESS_KEY"],
            region_name=access["AWS_DEFAULT_REGION"],
        ).create_bucket(Bucket=BUCKET)
        server = _mlflow_server(kind, folder, database, access)
        stack.callback(server.kill)
        stack.callback(server.go_on)
        create_user(server)
        database.copy(DATABASE, EMPTY)
        environment = {
            "MLFLOW_TRACKING_URI": server.url,
            "MLFLOW_TRACKING_USERNAME": USER[0],
            "MLFLOW_TRACKING_PASSWORD": USER[1],
        }
        if kind != "proxied":
            environment |= access
        yield Server(database, server, bucket, environment)


def _mlflow_server(
    kind: str, folder: Path, database: Postgres, access: Mapping[str, str]
) -> MlflowServer:
    database.execute(f"CREATE DATABASE {DATABASE}")
    url = database.url(DATABASE)
    (folder / "auth.ini").write_text(
        # In the same database, so that a copy of it has users and permissions too.
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = {url.replace('%', '%%')}\n"
        f"admin_username = {ADMIN[0]}\nadmin_password = {ADMIN[1]}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        # Else the server hashes the password again at each request, for tenths of a second.
        "auth_cache_ttl_seconds = 600\n"
    )
    if kind == "proxied":
        options = ["--artifacts-destination", f"s3://{BUCKET}/artifacts"]
    else:
        options = ["--no-serve-artifacts", "--default-artifact-root", f"s3://{BUCKET}/artifacts"]
    environment = {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "of-tests",
        "MLFLOW_BACKEND_STORE_URI": url,
        **WEBHOOKS,
        **(access if kind == "proxied" else {}),
    }
    return MlflowServer(folder, ["--app-name", "basic-auth", *options], environment)


def create_user(server: MlflowServer, user: tuple[str, str] = USER) -> None:
    answer = requests.post(
        f"{server.url}/api/2.0/mlflow/users/create",
        json=dict(zip(("username", "password"), user, strict=True)),
        auth=ADMIN,
        timeout=30,
    )
    assert answer.ok, answer.text
