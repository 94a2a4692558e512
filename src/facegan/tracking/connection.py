"""The connection to MLflow."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import mlflow
import sqlalchemy
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.db.db_types import DATABASE_ENGINES

from facegan.core.errors import FaceganError
from facegan.tracking import store
from facegan.tracking.errors import redact, translate_errors
from facegan.tracking.store import tracking_uri

__all__ = ["connect", "has_store", "insist", "named", "tracking_uri", "translate_errors"]

# Seconds within which a server must accept a connection and answer its first request.
FIRST_ANSWER = 5
# Drivers of databases whose argument for that is named connect_timeout.
WITH_TIMEOUT = ("psycopg2", "psycopg", "mysqldb", "pymysql")
# MLflow's defaults of 120 s and 7 retries take minutes. A server with artifacts in S3 sends clients
# there to download, by its own address of S3, which others may not reach.
SETTINGS = {
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def connect(create: bool = True) -> MlflowClient:
    """Return a client for `MLFLOW_TRACKING_URI`, by default `mlflow.db` beside `dvc.yaml`.

    Args:
        create: create a SQLite store if there is none; to read, False.
    Raises:
        FaceganError: if the server or database cannot be reached, or there is none to read.
    """
    uri = tracking_uri()
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if os.environ.get("FACEGAN_DEBUG") != "1":  # a traceback of what is raised, too
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    with translate_errors(uri):
        _require_address(uri)
        if path := store.database(uri):
            if create:
                store.create(path)
            elif not path.exists():
                raise FaceganError(
                    f"{path}: no MLflow store; run this in a project's folder, or set "
                    "MLFLOW_TRACKING_URI"
                )
            store.relocate(path)
        mlflow.set_tracking_uri(uri)
        _require_answer(uri)
    return MlflowClient()


def _require_address(uri: str) -> None:
    """
    Raises:
        FaceganError: if the address of a server or database cannot be parsed, is in memory, or
            names a driver that MLflow cannot use.
    """
    if uri.startswith("sqlite") and store.database(uri) is None:
        raise FaceganError(
            f"MLFLOW_TRACKING_URI={uri}: a store in memory is lost when the command ends; "
            "valid: a file, such as sqlite:///mlflow.db, or a server, http://HOST:PORT"
        )
    try:
        parts = urlsplit(uri)
        if parts.scheme.partition("+")[0] in DATABASE_ENGINES:
            if sqlalchemy.make_url(uri).get_dialect().is_async:
                sync = urlsplit(uri).scheme.partition("+")[0]
                text = f"MLflow needs a driver that is not asynchronous; valid: {sync}://..."
                raise FaceganError(redact(f"MLFLOW_TRACKING_URI={uri}: {text}"))
        elif parts.scheme in ("http", "https"):
            _ = parts.port
    except ValueError as error:
        advice = "write / ? # @ and : of a password as %2F %3F %23 %40 and %3A"
        raise FaceganError(redact(f"MLFLOW_TRACKING_URI={uri}: {error}; {advice}")) from None


def named(name: str) -> str:
    """The filter of MLflow's searches for a registered model; it knows no escaped quotes.

    Raises:
        FaceganError: for a name with quotes of both kinds.
    """
    quote = '"' if "'" in name else "'"
    if quote in name:
        raise FaceganError(f"{name}: MLflow finds no name that has both ' and \"; choose another")
    return f"name = {quote}{name}{quote}"


def has_store() -> bool:
    """False for a SQLite file that does not exist yet."""
    path = store.database(tracking_uri())
    return path is None or path.exists()


def _require_answer(uri: str) -> None:
    scheme = urlsplit(uri).scheme.partition("+")[0]
    if scheme in DATABASE_ENGINES:
        # MLflow retries a failed connection nine times, for 100 seconds, and logs each time;
        # no setting changes that.
        driver = sqlalchemy.make_url(uri).get_driver_name()
        limits = {"connect_timeout": FIRST_ANSWER} if driver in WITH_TIMEOUT else {}
        engine = sqlalchemy.create_engine(uri, connect_args=limits)
        engine.connect().close()
        engine.dispose()
    with _little_patience():
        MlflowClient().search_experiments(max_results=1)


def insist(change: Callable[..., object], *arguments: object) -> None:
    """Set or delete a tag or an alias, log a parameter or an input; once more if that fails.

    Of two processes that insert the same one at once, MLflow's database refuses one, which then
    finds it and updates it. What fails for another reason fails again.
    """
    try:
        change(*arguments)
    except MlflowException:
        change(*arguments)


@contextlib.contextmanager
def _little_patience() -> Iterator[None]:
    """Two tries of a few seconds, for the requests within the block.

    Two, because a server that was restarted has closed the connections that are still open here.
    """
    names = ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    before = {name: os.environ[name] for name in names}
    limits = (min(FIRST_ANSWER, int(before[names[0]])), 1)
    os.environ.update(zip(names, map(str, limits), strict=True))
    try:
        yield
    finally:
        os.environ.update(before)
