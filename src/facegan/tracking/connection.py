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
    """Return a client for `MLFLOW_TRACKING_URI`, by default `sqlite:///mlflow.db`.

    Raises:
        FaceganError: if the server or database cannot be reached.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    # MLflow's default of 7 retries takes minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    mlflow.set_tracking_uri(uri)
    with translate_errors(uri):
        if urlsplit(uri).scheme.partition("+")[0] in DATABASE_ENGINES:
            # MLflow retries a failed connection nine times, for 100 seconds, and logs each time;
            # no setting changes that.
            engine = sqlalchemy.create_engine(uri)
            engine.connect().close()
            engine.dispose()
        client = MlflowClient()
        client.search_experiments(max_results=1)
    return client


@contextlib.contextmanager
def translate_errors(uri: str = "") -> Iterator[None]:
    """Turn MLflow's exceptions into one line, without the password of the address.

    Args:
        uri: the address that the line names; by default the current tracking URI.
    Raises:
        FaceganError: in place of MLflow's and SQLAlchemy's exceptions, ImportError and OSError.
    """
    try:
        yield
    except (MlflowException, SQLAlchemyError, ImportError, OSError) as error:
        address = uri or mlflow.get_tracking_uri()
        password = urlsplit(address).password
        text = (
            f"MLflow at {address}: {_reason(error)}; "
            "check MLFLOW_TRACKING_URI and that the server is running"
        )
        raise FaceganError(text.replace(f":{password}@", ":***@") if password else text) from None


def _reason(error: BaseException) -> str:
    """The first line of the root cause; the exceptions around it add no information."""
    while (inner := error.__cause__ or error.__context__) and not isinstance(inner, KeyError):
        error = inner
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
