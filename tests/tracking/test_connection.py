"""The connection that every command makes."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from buckets import Exchange, Proxy, credentials, rclone
from facegan.tracking import connection
from servers import MlflowServer


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowServer]:
    """One with artifacts in an S3 server, whose address is of no use to clients."""
    (tmp_path / "s3" / "mlflow").mkdir(parents=True)
    with rclone(tmp_path / "s3") as s3, Proxy(s3).running() as proxy:

        def refuse_clients(exchange: Exchange) -> None:
            if "X-Amz-Signature" in exchange.query:
                exchange.status = 503

        proxy.alter = refuse_clients
        store = ("--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db")
        server = MlflowServer(
            tmp_path, ("--artifacts-destination", "s3://mlflow", *store), credentials(proxy.url)
        )
        try:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
            yield server
        finally:
            server.signal(signal.SIGTERM)
            server.process.wait(60)


@pytest.mark.usefixtures("server")
@pytest.mark.faults
def test_files_come_through_the_server_where_s3_cannot_be_reached(tmp_path: Path) -> None:
    client = connection.connect()
    run = client.create_run(client.create_experiment("faces")).info.run_id
    client.log_text(run, "a face\n", "face.txt")
    path = client.download_artifacts(run, "face.txt", str(tmp_path))
    assert Path(path).read_text() == "a face\n"
