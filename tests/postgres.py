"""A real PostgreSQL server for tests, with PostgreSQL's own programs."""

import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

import infra.postgres
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

    def size(self, database: str) -> int:
        """Bytes of a database."""
        return int(self.scalar(f"SELECT pg_database_size('{database}')"))

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
def postgres() -> Iterator[Postgres]:
    """Start a server on the loopback interface, with a password; its data are deleted."""
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # for PostgreSQL's account
        programs = infra.postgres.programs(folder)
        infra.postgres.initialise(programs, folder / "data", USER, PASSWORD, "--no-sync")
        account = infra.postgres.account(folder)
        with _running(programs / "postgres", folder / "data", account) as server:
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
