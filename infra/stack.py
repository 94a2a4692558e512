"""The servers of compose.yaml on this machine, without containers: `make stack`.

PostgreSQL, S3, MLflow, Prefect and a worker, run by supervisord (infra/supervisord.conf) until
Ctrl-C. Data, logs and passwords are in one folder.
"""

import argparse
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from facegan.core.errors import FaceganError
from facegan.core.parsing import parse_json
from infra import postgres
from infra.health import Supervisor, start, watch
from pipelines.cron import next_times

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
CONFIGURATION = HERE / "supervisord.conf"
PORTS = {"s3": 9000, "mlflow": 5000, "prefect": 4200}
BUCKETS = ("dvc", "mlflow", "photographs")
# Folders of DVC's remote. rclone fails where several first objects of a folder arrive at once, and
# then waits for the body of a request whose client waits for "100 Continue": a push without end.
DVC_FOLDERS = ("dvc/files/md5", "dvc/runs")
USER = "facegan"
# Of servers that this environment leads to, not of those that start here.
FOREIGN = ("AWS_", "MLFLOW_", "PG", "PREFECT_", "RCLONE_")
Environment = dict[str, str]


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infra.stack", description=__doc__)
    add = parser.add_argument
    add("--folder", type=Path, default=HERE.parent / ".stack", help="default: %(default)s")
    add("--cron", help="of the worker's schedule, in UTC; default: runs are started in Prefect")
    for name, port in PORTS.items():
        add(f"--{name}-port", type=int, default=port, help="default: %(default)s")
    return parser.parse_args()


def check(options: argparse.Namespace) -> None:
    """Raise a FaceganError for a schedule that never fires, and for ports that cannot be used."""
    if options.cron is not None:
        next_times(options.cron, "UTC")
    ports = {f"--{name}-port": getattr(options, f"{name}_port") for name in PORTS}
    for option, port in ports.items():
        if list(ports.values()).count(port) > 1:
            raise FaceganError(f"{option} {port}: another server has it, too; name another")
        check_port(option, port)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def check_port(option: str, port: int) -> None:
    """Raise a FaceganError if there is no such port, or something listens there."""
    if not 0 < port < 65536:
        raise FaceganError(f"{option} {port}: valid: 1 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise FaceganError(f"{option} {port}: {error.strerror}; name another") from None


def check_not_running(folder: Path) -> None:
    """Raise a FaceganError if a stack runs in the folder, such as one whose terminal was killed."""
    with suppress(FileNotFoundError, ValueError, psutil.NoSuchProcess):
        process = psutil.Process(int((folder / "supervisord.pid").read_text("utf-8")))
        if str(CONFIGURATION) in process.cmdline():
            raise FaceganError(f"{folder}: a stack runs here; to stop it: kill {process.pid}")


def prepare(folder: Path) -> tuple[Path, dict[str, str]]:
    """Create what a new folder lacks. Return PostgreSQL's programs and the passwords."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*BUCKETS, *DVC_FOLDERS):
        (folder / "s3" / name).mkdir(parents=True, exist_ok=True)
    (folder / "s3").chmod(0o700)
    file = folder / "passwords.json"
    if not file.exists():
        names = ("postgres", "s3_key", "s3", "mlflow", "mlflow_sessions", "prefect", "supervisord")
        write_secret(file, json.dumps({name: secrets.token_hex(20) for name in names}))
    passwords: dict[str, str] = parse_json(file.read_text("utf-8"))
    programs = postgres.programs(folder)
    if not (folder / "postgres").exists():
        create_databases(programs, folder, passwords["postgres"])
    return programs, passwords


def create_databases(programs: Path, folder: Path, password: str) -> None:
    new = folder / "postgres.tmp"
    shutil.rmtree(new, ignore_errors=True)
    try:
        postgres.initialise(programs, new, USER, password)
        for database in ("mlflow", "prefect"):
            postgres.create_database(programs, new, database)
    except subprocess.CalledProcessError as error:
        raise FaceganError(f"{new}: {error.stderr.strip().splitlines()[-1]}") from None
    except PermissionError as error:
        reach = f"PostgreSQL does not run as root, and {postgres.ACCOUNT} cannot reach it"
        raise FaceganError(f"{new}: {error.strerror}; {reach}; name another --folder") from None
    new.rename(folder / "postgres")


def write_secret(file: Path, content: str) -> None:
    file.touch(mode=0o600)
    file.write_text(content, "utf-8")


def for_servers(
    folder: Path, programs: Path, passwords: Mapping[str, str], options: argparse.Namespace
) -> Environment:
    """The environment that infra/supervisord.conf needs, and clients' access to S3."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
    return inherited | for_s3(passwords, options) | {
        "STACK": str(folder),
        "STACK_BIN": str(BIN),
        "STACK_POSTGRES": str(programs),
        "STACK_ACCOUNT": postgres.ACCOUNT if not os.geteuid() else str(os.geteuid()),
        "STACK_PORT": str(free_port()),
        "STACK_PASSWORD": passwords["supervisord"],
        "STACK_PREFECT_LOGIN": f"{USER}:{passwords['prefect']}",
        "STACK_CRON": options.cron or "0 2 * * *",
        "STACK_PAUSED": "" if options.cron else "--paused",
        "PGHOST": "127.0.0.1",
        "PGPORT": str(free_port()),
        "PGUSER": USER,
        "PGPASSWORD": passwords["postgres"],
        "S3_PORT": str(options.s3_port),
        "RCLONE_AUTH_KEY": f'"{passwords["s3_key"]},{passwords["s3"]}"',
        "MLFLOW_PORT": str(options.mlflow_port),
        "MLFLOW_AUTH_ADMIN_USERNAME": USER,
        "MLFLOW_AUTH_ADMIN_PASSWORD": passwords["mlflow"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": passwords["mlflow_sessions"],
        "PREFECT_PORT": str(options.prefect_port),
    }  # fmt: skip


def for_s3(passwords: Mapping[str, str], options: argparse.Namespace) -> Environment:
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{options.s3_port}",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": passwords["s3_key"],
        "AWS_SECRET_ACCESS_KEY": passwords["s3"],
    }


def for_clients(passwords: Mapping[str, str], options: argparse.Namespace) -> Environment:
    """What users of the stack set."""
    return for_s3(passwords, options) | {
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{options.mlflow_port}",
        "MLFLOW_TRACKING_USERNAME": USER,
        "MLFLOW_TRACKING_PASSWORD": passwords["mlflow"],
        "PREFECT_API_URL": f"http://127.0.0.1:{options.prefect_port}/api",
        "PREFECT_API_AUTH_STRING": f"{USER}:{passwords['prefect']}",
    }


def announce(folder: Path, environment: Mapping[str, str], options: argparse.Namespace) -> None:
    """Write the file that users source, and print where everything is."""
    file = folder / "environment"
    lines = (f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
    write_secret(file, "".join(lines))
    schedule = options.cron or "none; start a run on Prefect's page"
    print(f"""
S3       {environment["AWS_ENDPOINT_URL"]}, with the buckets {", ".join(BUCKETS)}
MLflow   {environment["MLFLOW_TRACKING_URI"]}
Prefect  {environment["PREFECT_API_URL"].removesuffix("/api")}
worker   schedule: {schedule}

Everywhere else: . {shlex.quote(str(file))} (users and passwords; facegan doctor checks them)
Logs and data: {folder}. Ctrl-C stops everything.
""", flush=True)  # fmt: skip


def run(options: argparse.Namespace) -> None:
    """Run the servers until Ctrl-C.

    Raises:
        FaceganError: if an option is wrong, a stack runs in the folder, or a server does not run.
    """
    folder = options.folder.resolve()
    check_not_running(folder)
    check(options)
    programs, passwords = prepare(folder)
    environment = for_servers(folder, programs, passwords, options)
    clients = for_clients(passwords, options)
    command = [str(BIN / "supervisord"), "--configuration", str(CONFIGURATION)]
    # Not in the terminal's process group, whose Ctrl-C would reach all at once.
    process = subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True)
    try:
        supervisor = Supervisor(process, environment, folder)
        start(supervisor, clients, programs)
        announce(folder, clients, options)
        watch(supervisor)
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """The exit status is 0 after Ctrl-C, 1 after an error."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        run(read_options())
    except KeyboardInterrupt:
        print("stopped", flush=True)
    except FaceganError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
