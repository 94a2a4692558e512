import base64
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path

import pytest

import buckets
from buckets import Proxy
from facegan.doctor import findings, servers
from servers import free_port


@pytest.fixture
def prefect_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, tuple[int, object]]]:
    """A server whose answers, by path, can be set; it is PREFECT_API_URL."""
    answers: dict[str, tuple[int, object]] = {
        "/api/health": (200, True),
        "/api/admin/version": (200, metadata.version("prefect")),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, content = answers.get(self.path, (404, "not found"))
            if self.path == "/api/admin/version" and "login" in answers:
                allowed = self.headers["Authorization"] == answers["login"][1]
                status = status if allowed else 401
            self.send_response(status)
            self.end_headers()
            self.wfile.write(
                content if isinstance(content, bytes) else json.dumps(content).encode()
            )

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{server.server_port}/api")
        yield answers
        server.shutdown()
        thread.join()


def test_a_prefect_server_of_this_version_is_fine(
    prefect_server: dict[str, tuple[int, object]],
) -> None:
    assert servers.prefect().status == "ok"


def test_a_prefect_server_of_another_version_gets_a_warning(
    prefect_server: dict[str, tuple[int, object]],
) -> None:
    prefect_server["/api/admin/version"] = (200, "2.0.1")
    finding = servers.prefect()
    assert finding.status == "warning" and "Prefect 2.0.1" in finding.found


def test_a_prefect_server_that_refuses_access_tells_which_variable_to_set(
    prefect_server: dict[str, tuple[int, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    prefect_server["login"] = (0, "Basic bWU6c2VjcmV0")
    monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)
    finding = servers.prefect()
    assert finding.status == "problem" and "PREFECT_API_AUTH_STRING" in finding.advice
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "me:secret")
    assert servers.prefect().status == "ok"


@pytest.mark.parametrize(
    "answer",
    [(200, "a page"), (404, None), (200, b"[" * 100_000)],
    ids=["page", "absent", "nested"],
)
def test_what_is_no_prefect_api_is_a_problem(
    answer: tuple[int, object], prefect_server: dict[str, tuple[int, object]]
) -> None:
    prefect_server["/api/health"] = answer
    finding = servers.prefect()
    assert finding.status == "problem" and "/api" in finding.advice


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/api", "nonsense"])
def test_a_stale_prefect_address_is_a_problem(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", url.format(port=free_port()))
    assert servers.prefect().status == "problem"


def test_the_address_of_prefects_profile_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    assert servers.prefect().found == servers.NO_PREFECT
    url = f"http://127.0.0.1:{free_port()}/api"
    profile = f'active = "old"\n[profiles.old]\nPREFECT_API_URL = "{url}"\n'
    (tmp_path / "profiles.toml").write_text(profile)
    finding = servers.prefect()
    assert finding.status == "problem" and url in finding.found


@pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost", "no.such.host.invalid"])
def test_no_password_of_prefects_address_is_shown(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the address has no port, urllib's error takes the password for one."""
    monkeypatch.setenv("PREFECT_API_URL", f"http://ada:not-to-be-told@{host}/api")
    ((_, finding),) = findings.run({"prefect": servers.prefect})
    assert finding.status == "problem"
    assert "not-to-be-told" not in finding.found + finding.advice
    assert host in finding.found


def test_the_login_of_prefects_address_is_used(
    prefect_server: dict[str, tuple[int, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    prefect_server["login"] = (200, "Basic " + base64.b64encode(b"ada:p@ss").decode())
    url = os.environ["PREFECT_API_URL"].replace("//", "//ada:p%40ss@")
    monkeypatch.setenv("PREFECT_API_URL", url)
    assert servers.prefect().status == "ok"


@pytest.mark.parametrize("text", ["profiles = []", "[profiles]\nlocal = 5", "active = []"])
def test_a_damaged_file_of_profiles_is_named(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    path = tmp_path / "profiles.toml"
    path.write_text(text if "active" in text else f'active = "local"\n{text}')
    monkeypatch.setenv("PREFECT_PROFILES_PATH", str(path))
    ((_, finding),) = findings.run({"prefect": servers.prefect})
    assert finding.found == f"{path}: no profiles of Prefect"
    assert finding.advice == "correct or delete it"


def test_mlflows_local_store_need_not_exist_and_none_is_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    finding = servers.mlflow()
    assert finding.status == "ok" and "does not exist yet" in finding.found
    assert not list(tmp_path.iterdir())


def test_mlflows_local_store_is_opened(store: Path) -> None:
    finding = servers.mlflow()
    assert finding.status == "ok" and finding.found.endswith("mlflow.db answers")


def test_an_mlflow_server_that_is_down_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{free_port()}")
    ((_, finding),) = findings.run({"mlflow": servers.mlflow})
    assert finding.status == "problem" and "secret" not in str(finding)
    assert "MLFLOW_TRACKING_URI" in finding.advice


def test_s3_is_asked_with_the_credentials_of_the_environment(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding = servers.s3()
    assert finding.status == "ok" and finding.found == f"{proxy.url} answers, 0 buckets"
    buckets.use(monkeypatch, proxy.url, AWS_SECRET_ACCESS_KEY="wrong-and-not-to-be-shown")
    ((_, finding),) = findings.run({"s3": servers.s3})
    assert finding.status == "problem" and "not-to-be-shown" not in str(finding)
    assert "credentials" in finding.advice


def test_a_role_that_may_not_list_buckets_is_fine(proxy: Proxy) -> None:
    error = b"<Error><Code>AccessDenied</Code></Error>"
    proxy.alter = lambda exchange: vars(exchange).update(status=403, body=error, headers={})
    finding = servers.s3()
    assert finding.status == "ok" and "knows these credentials" in finding.found


def test_s3_without_credentials_gets_a_warning(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
    buckets.use(monkeypatch, proxy.url, **nothing)
    finding = servers.s3()
    assert finding.status == "warning" and "AWS_ACCESS_KEY_ID" in finding.advice


def test_an_s3_server_that_is_down_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    buckets.use(monkeypatch, f"http://127.0.0.1:{free_port()}")
    ((_, finding),) = findings.run({"s3": servers.s3})
    assert finding.status == "problem" and "AWS_ENDPOINT_URL" in finding.advice


def test_s3_that_nobody_configured_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert servers.s3().status == "ok"
