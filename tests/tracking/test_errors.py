"""One line with the right cause, and no secrets."""

import errno
import re
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError

from commands import invoke
from disks import small_disk
from facegan.core.errors import FaceganError, Unavailable
from facegan.params import write_preset
from facegan.tracking import connection
from facegan.tracking.errors import explain, redact, translate_errors

CHECK = "; check MLFLOW_TRACKING_URI and that the server is running"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:secret@db/x", "postgresql://***@db/x"),
        ("at https://token@host:5000/a failed", "at https://***@host:5000/a failed"),
        ("https://h/x?X-Amz-Signature=abc&y=1 gone", "https://h/x?*** gone"),
        ("postgresql://me:a@b/c@db/x?sslpassword=y", "postgresql://***@db/x?***"),
        (
            'password authentication failed for user "me"',
            'password authentication failed for user "***"',
        ),
        ("mlflow.db: no such file", "mlflow.db: no such file"),
    ],
)
def test_addresses_have_no_credentials(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_secrets_of_the_environment_are_in_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "tell-no-one")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:p%40ss@127.0.0.1:9")
    text = explain(MlflowException("bad token tell-no-one of p@ss and p%40ss"))
    assert "tell-no-one" not in text and "p@ss" not in text and "p%40ss" not in text


def test_the_query_of_the_store_is_in_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9/?token=tell-no-one&x=5")
    text = explain(MlflowException("no answer from url: /?token=tell-no-one&x=5/api/2.0, retried"))
    assert "tell-no-one" not in text and text.endswith("/api/2.0, retried")


def test_a_message_names_the_projects_store_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    text = explain(MlflowException("Run not found"))
    assert re.fullmatch(r"MLflow at sqlite:///.*mlflow\.db: Run not found", text)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left", "/data/x"), "/data/x: No space left"),
        (
            OSError(errno.ENOSPC, "No space left", "/data/x", None, "/tmp/x"),
            "/tmp/x: No space left",
        ),
        (OSError(errno.EACCES, "Denied", "/data/x", None, "/tmp/x"), "/data/x: Denied"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "/x: Permission denied"),
        (
            OperationalError("INSERT", {}, Exception("database or disk is full")),
            "MLflow at http://h: no space left on the device that it writes to; free some",
        ),
        (
            OperationalError("UPDATE", {}, Exception("attempt to write a readonly database")),
            "MLflow at http://h: the file or its folder is read-only; check their permissions",
        ),
        (
            OperationalError("UPDATE", {}, Exception("database is locked")),
            "MLflow at http://h: another process is writing to it; run this again",
        ),
        (MlflowException("Run with id=7 not found"), "MLflow at http://h: Run with id=7 not found"),
        (TimeoutError("timed out"), f"MLflow at http://h: no answer in time{CHECK}"),
        (
            MlflowException("API request failed with error code 401 != 200"),
            "MLflow at http://h: API request failed with error code 401 != 200; "
            "check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD or _TOKEN",
        ),
        (
            MlflowException(
                "API request to endpoint /api/2.0/mlflow/runs/create failed with error code 403 != "
                "200. Response body: 'Permission denied'"
            ),
            "MLflow at http://h: permission denied at /api/2.0/mlflow/runs/create; the user of "
            "MLFLOW_TRACKING_USERNAME needs the permission EDIT on this experiment and model, "
            "which the server's administrator grants",
        ),
        (
            ConnectionError("('Connection aborted.', RemoteDisconnected('Remote end closed'))"),
            f"MLflow at http://h: Connection aborted{CHECK}",
        ),
        (FaceganError("x: damaged"), "x: damaged"),
    ],
)
def test_the_line_has_the_right_cause(error: Exception, line: str) -> None:
    assert explain(error, "http://h") == line


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (ConnectionResetError("reset by peer"), True),
        (TimeoutError("timed out"), True),
        (MlflowException("API request failed with error code 503 != 200"), True),
        (MlflowException("Max retries exceeded (too many 429 error responses)"), True),
        (MlflowException("404 Client Error: Not Found for url: http://h"), False),
        (MlflowException("API request failed with error code 401 != 200"), False),
        (MlflowException("An error occurred (SlowDown) when calling PutObject"), True),
        (MlflowException("An error occurred (403) when calling HeadObject: Forbidden"), False),
        (MlflowException("Run with id=7 not found"), False),
        (OperationalError("SELECT", {}, Exception("server closed the connection")), True),
        (OperationalError("SELECT", {}, Exception("password authentication failed")), False),
        (OperationalError("UPDATE", {}, Exception("database is locked")), True),
        (OperationalError("UPDATE", {}, Exception("database or disk is full")), False),
        (ModuleNotFoundError("No module named 'psycopg2'", name="psycopg2"), False),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), False),
    ],
)
def test_transient_errors_are_told_from_lasting_ones(error: Exception, transient: bool) -> None:
    with pytest.raises(FaceganError) as caught, translate_errors("http://h"):
        raise error
    assert isinstance(caught.value, Unavailable) == transient


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9", "http://nowhere.invalid", "postgresql://u:p@127.0.0.1:9/x"]
)
def test_a_server_that_is_away_ends_a_command_with_the_status_of_a_temporary_failure(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    write_preset("digits", tmp_path / "params.yaml", force=False)
    done = invoke("models", cwd=tmp_path)
    assert done.returncode == 75, done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.usefixtures("sqlite")
def test_a_damaged_store_is_one_line(store: Path) -> None:
    (store / "mlflow.db").write_bytes(b"damaged" * 1000)
    with pytest.raises(FaceganError, match=r"mlflow.db: the file is damaged; restore it, or move"):
        connection.connect()


@pytest.mark.usefixtures("sqlite")
def test_a_full_disk_below_the_store_is_one_line(
    store: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with small_disk(store / "disk", "4m") as disk:
        shutil.copyfile(store / "mlflow.db", disk / "mlflow.db")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{disk}/mlflow.db")
        client = connection.connect()
        with suppress(OSError), (disk / "fill").open("wb", 0) as file:
            while True:
                file.write(bytes(1024))
        with pytest.raises(FaceganError, match="no space left on"), translate_errors():
            client.create_experiment("faces")
    assert capfd.readouterr().err == ""


def test_a_write_that_the_file_system_denies_is_one_line(store: Path) -> None:
    client = connection.connect()
    run = client.create_run(client.create_experiment("faces", "/proc/nowhere"))
    with pytest.raises(FaceganError, match=r"^/proc/nowhere.*: No such file"), translate_errors():
        client.log_text(run.info.run_id, "x", "x.txt")


def test_errors_of_python_itself_pass_because_they_are_bugs() -> None:
    with pytest.raises(ZeroDivisionError), translate_errors("x"):
        _ = 1 / 0


@pytest.mark.parametrize(
    ("uri", "text", "shown"),
    [
        ("http://me:pa/ss@word@h:9", "'me:pa' is no host", "'***' is no host"),
        ("postgresql://me:ss@word@h/x", 'host name "word@h"', 'host name "***@h"'),
        ("http://me:http@h:9", "at http://me:http@h:9/x", "at http://***@h:9/x"),
        ("http://me:pa ss@h:9", "at http://me:pa ss@h:9/x", "at http://***@h:9/x"),
        ("ftp://u:p@h/x", "ftp://u:p@h/x is unsupported", "ftp://***@h/x is unsupported"),
        ("sqlite:////a@b/mlflow.db", "a disk is full", "a disk is full"),
    ],
)
def test_a_message_with_a_part_of_an_address_has_no_credentials(
    uri: str, text: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert redact(text) == shown


@pytest.mark.parametrize(
    ("uri", "shown", "reason", "advice"),
    [
        ("http://127.0.0.1:9", "http://127.0.0.1:9", "[Errno 111] Connection refused", CHECK),
        ("sqlite:////proc/x.db", "/proc/x.db.lock", "No such file or directory", ""),
        (
            "postgresql+psycopg://me:tell-no-one@127.0.0.1:9/x",
            "MLflow at postgresql+psycopg://***@127.0.0.1:9/x",
            "No module named 'psycopg', which this address needs",
            "; run: pip install 'psycopg[binary]'",
        ),
        (
            "mysql+pymysql://me:tell-no-one@127.0.0.1:9/x?sslpassword=tell-no-one",
            "MLflow at mysql+pymysql://***@127.0.0.1:9/x?***",
            "No module named 'pymysql', which this address needs",
            "; run: pip install pymysql",
        ),
        (
            "postgresql://me:tell-no-one@127.0.0.1:9/x?sslpassword=tell-no-one",
            "MLflow at postgresql://***@127.0.0.1:9/x?***",
            'connection to server at "127.0.0.1", port 9 failed: Connection refused',
            CHECK,
        ),
        ("http://[::1", "MLFLOW_TRACKING_URI=http://[::1", "Invalid IPv6 URL", "and %3A"),
        (
            "http://me:tell-no-one/@127.0.0.1:9",
            "MLFLOW_TRACKING_URI=http://***@127.0.0.1:9",
            "Port could not be cast to integer value as '***'",
            "and %3A",
        ),
        (
            "postgresql://127.0.0.1:tell/x",
            "MLFLOW_TRACKING_URI=postgresql://127.0.0.1:tell/x",
            "invalid literal for int() with base 10: 'tell'",
            "and %3A",
        ),
        *(
            (uri, f"MLFLOW_TRACKING_URI={uri}", "a store in memory is lost", "http://HOST:PORT")
            for uri in ("sqlite://", "sqlite:///:memory:", "sqlite+pysqlite:///?timeout=1")
        ),
        *(
            (
                f"{database}+{driver}://me:tell-no-one@127.0.0.1:9/x",
                f"MLFLOW_TRACKING_URI={database}+{driver}://***@127.0.0.1:9/x",
                "MLflow needs a driver that is not asynchronous",
                f"; valid: {database}://...",
            )
            for database, driver in (("postgresql", "asyncpg"), ("mysql", "aiomysql"))
        ),
        (
            "sqlite+aiosqlite:////proc/x.db",
            "MLFLOW_TRACKING_URI=sqlite+aiosqlite:////proc/x.db",
            "MLflow needs a driver that is not asynchronous",
            "; valid: sqlite://...",
        ),
        ("postgresql+x://h/y", "MLflow at postgresql+x://h/y", "Can't load plugin", CHECK),
        ("gopher://x", "MLflow at gopher://x", "Model registry functionality is unavailable", ""),
    ],
)
def test_a_store_that_cannot_be_reached_is_one_line(
    uri: str, shown: str, reason: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(FaceganError) as caught:
        connection.connect()
    text = str(caught.value)
    assert f"{shown}: {reason}" in text and text.endswith(advice)
    assert "\n" not in text and "tell-no-one" not in text
