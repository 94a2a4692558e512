"""The connection to MLflow."""

import contextlib
import logging
import os
from collections.abc import Iterator
from urllib.parse import urlsplit

import mlflow
import sqlalchemy
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.db.db_types import DATABASE_ENGINES
from sqlalchemy.exc import SQLAlchemyError

from facegan.core.errors import FaceganError


def connect() -> MlflowClient:
    """A client of `MLFLOW_TRACKING_URI`, or of `sqlite:///mlflow.db` in this folder.

    Raises:
        FaceganError: if it cannot be reached.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    # MLflow's own 7 retries take minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    mlflow.set_tracking_uri(uri)
    with reachable(uri):
        if urlsplit(uri).scheme.partition("+")[0] in DATABASE_ENGINES:
            # MLflow tries ten times, for minutes, and fills the screen.
            engine = sqlalchemy.create_engine(uri)
            engine.connect().close()
            engine.dispose()
        client = MlflowClient()
        client.search_experiments(max_results=1)
    return client


@contextlib.contextmanager
def reachable(uri: str = "") -> Iterator[None]:
    """Turn what MLflow raises into one line.

    Raises:
        FaceganError: in place of MLflow's exceptions.
    """
    try:
        yield
    except (MlflowException, SQLAlchemyError, ImportError, OSError) as error:
        where = uri or mlflow.get_tracking_uri()
        password = urlsplit(where).password
        text = (
            f"MLflow at {where}: {_reason(error)}; "
            "check MLFLOW_TRACKING_URI and that its server runs"
        )
        raise FaceganError(text.replace(f":{password}@", ":***@") if password else text) from None


def _reason(error: BaseException) -> str:
    """The first line of what began it all; the rest only says who passed it on."""
    while (inner := error.__cause__ or error.__context__) and not isinstance(inner, KeyError):
        error = inner
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
