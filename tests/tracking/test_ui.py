"""MLflow's UI, started as `facegan ui` starts it, and the addresses of a project's pages."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest

from facegan.core.errors import FaceganError
from facegan.params import write_preset
from facegan.tracking import connection, runs, ui
from histories import SCORES, losses, write
from servers import answers, free_port


def test_pages_lead_to_the_runs_the_last_two_and_the_model(store: Path) -> None:
    client = connection.connect()
    address = "http://127.0.0.1:5000"
    assert [title for title, _ in ui.pages(address, "faces")] == ["experiments"]
    ids = [
        runs.mirror(client, write(store / name, losses(20), fingerprint=name), "faces").info.run_id
        for name in "abc"
    ]
    client.create_registered_model("faces")
    pages = dict(ui.pages(address, "faces"))
    experiment = client.get_experiment_by_name("faces")
    assert experiment is not None
    number = experiment.experiment_id
    table = f"{address}/#/experiments/{number}/runs?workflowType=machine_learning"
    assert pages["runs"] == table
    runs.log_scores(client, client.get_run(ids[0]), SCORES)
    pages = dict(ui.pages(address, "faces"))
    assert pages["runs"] == f"{table}&viewStateShareKey=facegan"
    assert pages["charts"] == f"{pages['runs']}&compareRunsMode=CHART"
    assert pages["model"] == f"{address}/#/models/faces?workflowType=machine_learning"
    query = parse_qs(urlsplit(urlsplit(pages["comparison"]).fragment).query)
    assert json.loads(query["runs"][0]) == ids[1:]
    assert query["workflowType"] == ["machine_learning"]


def test_the_pages_of_a_model_whose_name_has_a_quote(store: Path) -> None:
    client = connection.connect()
    runs.mirror(client, write(store / "a", losses(20)), "it's")
    client.create_registered_model("it's")
    assert "/#/models/it" in dict(ui.pages("http://127.0.0.1:5000", "it's"))["model"]


def test_a_remote_address_has_no_credentials() -> None:
    assert ui.remote_address("https://me:secret@host:8000/x/?y=1") == "https://host:8000/x"
    assert ui.remote_address("sqlite:///mlflow.db") == "http://127.0.0.1:5000"


@pytest.mark.usefixtures("sqlite")
def test_a_port_that_is_taken_is_one_line(store: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(FaceganError, match=f"port {port} is taken"), ui.server(port):
            pass


@pytest.mark.e2e
@pytest.mark.usefixtures("sqlite")
def test_the_command_serves_its_pages_until_ctrl_c_and_leaves_no_process(store: Path) -> None:
    write_preset("digits", store / "params.yaml", force=False)
    runs.mirror(connection.connect(), write(store / "a", losses(20)), "facegan-digits")
    facegan = str(Path(sys.executable).with_name("facegan"))
    command = [facegan, "ui", "--port", str(free_port())]
    with subprocess.Popen(command, cwd=store, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().rstrip("\n") for _ in range(3)]
        address, charts = (line.split()[1] for line in lines[:2])
        assert address.endswith("/#/experiments/1/runs?workflowType=machine_learning")
        assert answers(f"{address.partition('#')[0]}health")
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == ""
    assert process.returncode == 0
    assert charts.endswith("&compareRunsMode=CHART") and lines[2] == "Ctrl-C stops the server"
    assert children and not any(child.is_running() for child in children)
