"""MLflow's local store: a SQLite file, with the artifacts in `mlruns/` beside it.

MLflow records absolute paths of artifacts. A store that moved with its project gets the new ones.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import sqlalchemy
from sqlalchemy import Connection, text

from facegan.core.errors import FaceganError
from facegan.core.locks import flock
from facegan.core.project import in_project, project_root

ARTIFACTS = "mlruns"
SCHEME = re.compile(r"sqlite(\+\w+)?:///")
# Every column of MLflow's tables that has the path of an artifact.
LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def tracking_uri() -> str:
    """The address of MLflow's store or server; a SQLite file has an absolute path."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    return anchored(uri or "sqlite:///mlflow.db")


def database(uri: str) -> Path | None:
    """The file of a SQLite address; None for another store, and for one in memory."""
    match = SCHEME.match(uri)
    name = uri[match.end() :].partition("?")[0] if match else ""
    return Path(name) if name and name != ":memory:" else None


def anchored(uri: str) -> str:
    """`uri` with an absolute path, if it is a relative SQLite address.

    It is relative to the project, not to the current folder, which is another one in
    `dvc exp run --temp`.

    Raises:
        FaceganError: if the address cannot have the project's path.
    """
    path, match = database(uri), SCHEME.match(uri)
    if path is None or match is None or path.is_absolute():
        return uri
    root = project_root()
    if "?" in str(root):
        raise FaceganError(
            f"{root}: the address of a SQLite file ends at a ?; rename that folder, or set "
            "MLFLOW_TRACKING_URI"
        )
    return f"{match.group()}{root / path}{uri[match.end() + len(str(path)) :]}"


def artifact_location(uri: str, experiment: str) -> str | None:
    """Where an experiment's artifacts go; None where MLflow's server decides."""
    if urlsplit(uri).scheme in ("http", "https", "databricks", "uc"):
        return None
    path = database(uri)
    root = path.parent if path else project_root()
    return (in_project(root) / ARTIFACTS / quote(experiment, safe="")).as_uri()


def create(path: Path) -> None:
    """Create the store, unless it exists. Two processes at once create one."""
    if _exists(path):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        if _exists(path):
            return
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # half a second

        temporary = path.with_name(f"{path.name}.new")  # whole or absent, if this is killed
        temporary.unlink(missing_ok=True)
        SqlAlchemyStore(f"sqlite:///{temporary}", str(path.parent / ARTIFACTS)).engine.dispose()
        temporary.replace(path)


def relocate(path: Path) -> int:
    """Correct the paths of artifacts after the store was moved or copied with its artifacts.

    Returns:
        The number of folders whose paths changed.
    """
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    try:
        with engine.connect() as connection:
            if not (moved := _moved(connection, path)):
                return 0
        with _locked(path), engine.begin() as connection:
            for old, new in moved.items():
                for table, column in LOCATIONS:
                    _replace_prefix(connection, table, column, old, new)
    finally:
        engine.dispose()
    return len(moved)


def _moved(connection: Connection, path: Path) -> dict[str, str]:
    """Old and new locations, where the artifacts are at the new one."""
    moved = {}
    for location in connection.scalars(text("SELECT artifact_location FROM experiments")):
        old, found, rest = str(location or "").rpartition(f"/{ARTIFACTS}/")
        folder = Path(unquote(urlsplit(old).path) if old.startswith("file:") else old)
        if not found or not folder.is_absolute() or folder == path.parent:
            continue
        here = path.parent / ARTIFACTS / (unquote(rest) if old.startswith("file:") else rest)
        # Artifacts elsewhere on purpose stay there.
        if here.exists() or (path.parent == project_root() and not folder.exists()):
            new = path.parent.as_uri() if old.startswith("file:") else str(path.parent)
            moved[f"{old}/{ARTIFACTS}/{rest}"] = f"{new}/{ARTIFACTS}/{rest}"
    return moved


def _replace_prefix(connection: Connection, table: str, column: str, old: str, new: str) -> None:
    statement = (
        f"UPDATE {table} SET {column} = :new || substr({column}, :length + 1) "
        f"WHERE {column} = :old OR substr({column}, 1, :length + 1) = :old || '/'"
    )
    connection.execute(text(statement), {"old": old, "new": new, "length": len(old)})


def _exists(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the store's lock, which the kernel releases if the process dies."""
    with path.with_name(f"{path.name}.lock").open("wb") as file:
        flock(file.fileno(), fcntl.LOCK_EX)
        yield
