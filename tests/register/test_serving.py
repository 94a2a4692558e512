"""`mlflow models serve` as a real process, with the client of docs/sharing.md."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from facegan.models.files import load_generator
from facegan.models.sampling import generate, latents
from project import ROOT
from registrations import NAME
from servers import answers, free_port, wait
from stores import Store

pytestmark = pytest.mark.faults

DIMENSIONS = 10
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def port(
    backend: Store, populated: tuple[Path, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """The port of a server of the champion."""
    folder = tmp_path_factory.mktemp("serving")
    environment = os.environ | backend.load(populated[1], folder)
    found = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"]
    command += ["-m", f"models:/{NAME}/Production", "--port", str(found)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    ready = f"http://127.0.0.1:{found}/ping"
    try:
        wait(lambda: process.poll() is not None or answers(ready), 200)
        assert process.poll() is None, (folder / "log").read_text()
        yield found
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def post(port: int, body: bytes | dict[str, Any], headers: dict[str, str]) -> tuple[int, str]:
    """The status, and the reason or the predictions."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.putrequest("POST", "/invocations")
    for name, value in {**headers, "Content-Length": str(len(content))}.items():
        connection.putheader(name, value)
    connection.endheaders(content)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    if answer.status == 400:
        found = json.loads(text)
        return 400, found["message"] + found.get("stack_trace", "")
    return answer.status, text


def rows(count: int, value: float | None = 0.5, dimensions: int = DIMENSIONS) -> list[Any]:
    return [[value] * dimensions for _ in range(count)]


def test_the_client_of_the_docs_makes_a_png(
    port: int, populated: tuple[Path, Any], tmp_path: Path
) -> None:
    text = (ROOT / "docs" / "sharing.md").read_text("utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len([line for line in program.splitlines() if line]) == 10
    program = program.replace("randn(100)", f"randn({DIMENSIONS})").replace(":5001/", f":{port}/")
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    network = load_generator(populated[0] / "train-1/generator.safetensors", torch.device("cpu"))
    images = torch.cat(list(generate(network, latents(16, DIMENSIONS, 0)))).numpy()
    with Image.open(tmp_path / "faces.png") as picture:
        found = np.asarray(picture).astype(int)
    assert np.abs(found - np.hstack(list(images)).squeeze()).max() <= 1


BAD: dict[str, tuple[Any, str]] = {
    "a shorter latent": ({"inputs": rows(2, dimensions=9)}, "Shape of input (2, 9) does not match"),
    "one latent, flat": ({"inputs": rows(1)[0]}, "Shape of input (10,) does not match"),
    "one list too many": ({"inputs": [rows(1)]}, "Shape of input (1, 1, 10) does not match"),
    "ragged rows": ({"inputs": [[0.5] * 10, [0.5]]}, "inhomogeneous shape"),
    "text": ({"inputs": [["a"] * 10]}, "could not convert string to float"),
    "objects": ({"inputs": [[{}] * 10]}, "must be a string or a real number"),
    "null": ({"inputs": None}, "expects a single n-dimensional array"),
    "nulls": ({"inputs": rows(1, None)}, "latents contain NaN, infinity or null"),
    "NaN": ({"inputs": rows(1, float("nan"))}, "latents contain NaN, infinity or null"),
    "infinity": ({"instances": rows(1, float("inf"))}, "latents contain NaN, infinity or null"),
    "beyond float32": ({"inputs": rows(1, 1e300)}, "latents contain NaN, infinity or null"),
    "NaN in a table": (
        {"dataframe_split": {"columns": list(range(10)), "data": rows(1, float("nan"))}},
        "latents contain NaN, infinity or null",
    ),
    "one too many": ({"inputs": rows(513)}, "too many latents; valid: at most 512 at once"),
    "10,000": ({"inputs": rows(10_000)}, "too many latents; valid: at most 512 at once"),
    "no latent": ({"inputs": []}, "Failed to enforce schema"),
    "other keys": ({"latents": rows(1)}, "exactly one of the input fields"),
    "a list": (b"[[0.5]]", "Received a list"),
    "no JSON": (b"{", "valid JSON formatted string"),
    "no UTF-8": (b"\xff\xfe{", "valid JSON formatted string"),
    "an empty body": (b"", "valid JSON formatted string"),
}


def test_an_invalid_request_is_a_400_with_the_reason_and_the_server_lives_on(port: int) -> None:
    found = {name: post(port, body, JSON) for name, (body, _) in BAD.items()}
    wrong = {
        name: answer
        for name, answer in found.items()
        if answer[0] != 400 or BAD[name][1] not in answer[1]
    }
    assert wrong == {}
    status, _ = post(port, {"inputs": rows(512)}, JSON)
    assert status == 200


def test_another_content_type_is_refused_and_the_server_lives_on(port: int) -> None:
    assert post(port, {"inputs": rows(1)}, {"Content-Type": "text/xml"})[0] == 415
    post(port, b"", {})  # MLflow answers 500: docs/sharing.md
    assert post(port, {"inputs": rows(1)}, JSON)[0] == 200
