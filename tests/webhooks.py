"""A receiver of MLflow's webhooks, as a process of its own; it appends each request to a file."""

import base64
import hashlib
import hmac
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from servers import free_port, wait


def signature(secret: str, headers: Mapping[str, str], body: str) -> str:
    """What MLflow sends in X-MLflow-Signature, if it knows `secret`."""
    signed = f"{headers['x-mlflow-delivery-id']}.{headers['x-mlflow-timestamp']}.{body}"
    digest = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


class Receiver:
    """A running receiver.

    Attributes:
        url: where it listens.
    """

    def __init__(self, url: str, file: Path) -> None:
        self.url, self.file = url, file

    def requests(self, secret: str) -> list[dict[str, Any]]:
        """The payloads so far, after their signatures are verified."""
        payloads = []
        for line in self.file.read_text().splitlines():
            headers, body = json.loads(line)
            assert hmac.compare_digest(
                headers["x-mlflow-signature"], signature(secret, headers, body)
            )
            payloads.append(json.loads(body))
        return payloads


@contextmanager
def receiver(folder: Path) -> Iterator[Receiver]:
    """Start a receiver on the loopback interface."""
    port, file = free_port(), folder / "webhooks.jsonl"
    process = subprocess.Popen([sys.executable, __file__, str(port), str(file)])
    try:
        wait(file.exists, 60)
        yield Receiver(f"http://127.0.0.1:{port}/promoted", file)
    finally:
        process.kill()
        process.wait()


def main() -> None:
    port, file = int(sys.argv[1]), Path(sys.argv[2])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            headers = {name.lower(): value for name, value in self.headers.items()}
            with file.open("a") as output:
                output.write(json.dumps([headers, body]) + "\n")
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", port), Handler)
    file.touch()
    server.serve_forever()


if __name__ == "__main__":
    main()
