"""What goes wrong between FaceGAN and MLflow, as one line without secrets."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from socket import gaierror
from urllib.parse import quote, unquote

from sqlalchemy.exc import ArgumentError, OperationalError

from facegan.core.errors import FaceganError, Unavailable
from facegan.tracking.store import tracking_uri

# Packages of SQLAlchemy's drivers, by the module that is missing.
DRIVERS = {
    "psycopg2": "psycopg2-binary",
    "psycopg": "'psycopg[binary]'",
    "MySQLdb": "mysqlclient",
    "pymysql": "pymysql",
    "pyodbc": "pyodbc",
    "google": "google-cloud-storage",
    "azure": "azure-storage-blob azure-identity",
}
# Environment variables whose values no message may have.
SECRETS = (
    *("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"),
    *("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
)
# Modules of the clients that store artifacts.
STORAGE = ("botocore", "boto3", "s3transfer", "azure", "google", "paramiko", "pysftp")
LONG = 8  # characters; a shorter secret is masked as a word alone, because words may contain it
MAX_LENGTH = 400
CHECK_ADDRESS = "check MLFLOW_TRACKING_URI and that the server is running"
ASK_FOR_ACCESS = (
    "the user of MLFLOW_TRACKING_USERNAME needs the permission EDIT on this experiment and model, "
    "which the server's administrator grants"
)
CHECK_ACCESS = "check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD or _TOKEN"
# In the texts of exceptions, because their types differ between servers and drivers.
DENIED = re.compile(
    r"(?i)\b(401|403)\b|permission.denied|unauthori[sz]ed|unauthenticated|authentic"
)
FORBIDDEN = re.compile(r"endpoint (\S+) failed with error code 403")
# HTTP statuses, as MLflow, requests and botocore write them, and S3's names of them.
STATUS = re.compile(
    r"error code (\d{3})|too many (\d{3})|(\d{3}) (?:Client|Server) Error|\((\d{3})\)"
)
OVERLOADED = re.compile(r"SlowDown|ServiceUnavailable|InternalError|RequestTimeout")
UNANSWERED = re.compile(r"(?i)timed? ?out")
# What the file of a store does -> what is wrong, and what to do.
FILES = (
    (r"database or disk is full|no space left",
     "no space left on the device that it writes to", "free some"),
    (r"readonly database", "the file or its folder is read-only", "check their permissions"),
    (r"database is locked", "another process is writing to it", "run this again"),
    (r"database disk image is malformed|file is not a database", "the file is damaged",
     "restore it, or move it away: facegan sync and register fill a new one"),
)  # fmt: skip


@contextlib.contextmanager
def translate_errors(uri: str = "") -> Iterator[None]:
    """Turn the exceptions of MLflow, its storage clients and the file system into one line.

    Python's own exceptions pass, because they are bugs.

    Args:
        uri: the address that the line names; by default that of MLflow.
    Raises:
        FaceganError: in place of third parties' exceptions, ImportError and OSError; `Unavailable`
            if the same may work later.
    """
    try:
        yield
    except FaceganError:
        raise
    except Exception as error:
        if type(error).__module__ == "builtins" and not isinstance(error, OSError | ImportError):
            raise
        kind = Unavailable if is_transient(error) else FaceganError
        raise kind(explain(error, uri)) from None


def explain(error: BaseException, uri: str = "") -> str:
    """What is wrong, where, and what to do, in one line without secrets."""
    uri = uri or tracking_uri()
    if isinstance(error, FaceganError):
        return redact(str(error))
    chain = _chain(error)
    cause = chain[-1]
    reason, place, advice = _first_line(cause), f"MLflow at {uri}", ""
    texts = f"{error} {reason}"
    storage = [e for e in chain if type(e).__module__.partition(".")[0] in STORAGE]
    if isinstance(cause, OSError) and cause.filename and cause.strerror:
        # A copy names what it reads first; of a full disk, what it writes says where.
        full = cause.errno == errno.ENOSPC
        place, reason = str((full and cause.filename2) or cause.filename), cause.strerror
    elif found := [rest for pattern, *rest in FILES if re.search(f"(?i){pattern}", texts)]:
        reason, advice = found[0]
    elif storage:
        place, reason = "MLflow's artifact storage", _first_line(storage[-1])
        advice = "check its address and credentials"
    elif isinstance(cause, ModuleNotFoundError):
        package = DRIVERS.get(str(cause.name).partition(".")[0], cause.name)
        reason, advice = f"{cause}, which this address needs", f"run: pip install {package}"
    elif forbidden := FORBIDDEN.search(texts):
        reason, advice = f"permission denied at {forbidden[1]}", ASK_FOR_ACCESS
    elif UNANSWERED.search(texts):
        reason, advice = "no answer in time", CHECK_ADDRESS
    elif DENIED.search(texts):
        advice = CHECK_ACCESS
    elif any(isinstance(e, OSError | OperationalError | ArgumentError) for e in chain):
        advice = CHECK_ADDRESS
    text = redact(f"{place}: {reason.rstrip('.')}")
    return text[:MAX_LENGTH] + (advice and f"; {advice}")


def is_transient(error: BaseException) -> bool:
    """Whether the same may work later: a server is away or overloaded, a file is locked."""
    chain = _chain(error)
    texts = f"{error} {_first_line(chain[-1])}"
    if any(re.search(f"(?i){pattern}", texts) for pattern, *_ in FILES):
        return "database is locked" in texts
    if found := STATUS.search(texts):
        status: str = next(filter(None, found.groups()))
        return status == "429" or status.startswith("5")
    if isinstance(chain[-1], OSError) and chain[-1].filename:
        return False
    if DENIED.search(texts) or any(isinstance(e, ArgumentError | ImportError) for e in chain):
        return False
    if UNANSWERED.search(texts) or OVERLOADED.search(texts):
        return True
    return any(isinstance(e, ConnectionError | OperationalError | gaierror) for e in chain)


def _chain(error: BaseException) -> list[BaseException]:
    """An exception and its causes; the last one says what happened."""
    chain = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) and not isinstance(
        inner, KeyError
    ):
        chain.append(inner)
    return chain


def _first_line(error: BaseException) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"\('([^']+)', \w+\(.*\)\)$", r"\1", line)  # of urllib3: a text and its cause


def redact(text: str) -> str:
    """`text` without users, passwords, tokens and queries of the addresses in it.

    >>> redact("postgresql://me:secret@db/x?sslpassword=y failed")
    'postgresql://***@db/x?*** failed'
    """
    for value in sorted(_secrets(), key=len, reverse=True):
        pattern = re.escape(value)
        if len(value) < LONG:
            pattern = rf"(?<!\w){pattern}(?!\w|://)"
        text = re.sub(pattern, "***", text)
    text = re.sub(r"(\b[\w+.-]+://)[^\s'\"]*@", r"\1***@", text)
    text = re.sub(r"(?i)(\buser(?:name)? [\"'])[^\"']+", r"\1***", text)
    query = r"(\b[\w+.-]+://[^\s'\"?]*\?)[^\s'\");,]+?(?=[:.]?(?:[\s'\");,]|$))"
    return re.sub(query, r"\1***", text)


def _secrets() -> set[str]:
    """Values that no message may have, and what drivers quote of an address with them."""
    secrets = {value for name in SECRETS if (value := os.environ.get(name))}
    address = os.environ.get("MLFLOW_TRACKING_URI", "").partition("://")[2]
    credentials = address.rpartition("@")[0]
    if credentials and not credentials.startswith("/"):  # of a path, where @ is a letter
        password = credentials.partition(":")[2] or credentials
        secrets |= {credentials, password, unquote(password), quote(unquote(password), safe="")}
        # A password with such characters is cut there by those who parse the address.
        secrets |= set(re.split("[/?#@]", credentials)) | set(re.split("[/?#@]", password))
    query = address.partition("?")[2]
    return (secrets | {query, *query.split("&")}) - {""}
