"""What `infra/compose.yaml` says, as podman-compose reads it."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.stack import DVC_FOLDERS
from project import ROOT

EXAMPLE = (ROOT / "infra" / "env.example").read_text()
EMPTY = re.findall(r"(?m)^(\w+)=$", EXAMPLE)
PODMAN = "#!/bin/sh\necho podman version 5.0.0\n"  # only its version is asked for


def config(folder: Path, environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "podman").write_text(PODMAN)
    (folder / "podman").chmod(0o755)
    (folder / "env").write_text(environment)
    command = [sys.executable, "-m", "podman_compose", "--env-file", str(folder / "env")]
    command += ["--file", str(ROOT / "infra" / "compose.yaml"), "--profile", "worker", "config"]
    variables = {"PATH": f"{folder}:/usr/bin:/bin"}
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    filled = re.sub(r"(?m)^(\w+)=$", r"\1=value-of-\1", EXAMPLE)
    done = config(tmp_path_factory.mktemp("compose"), filled)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = yaml.safe_load(done.stdout)["services"]
    return found


@pytest.mark.parametrize("name", EMPTY)
def test_the_stack_does_not_start_without_a_password_or_user(name: str, tmp_path: Path) -> None:
    filled = re.sub(r"(?m)^(\w+)=$", lambda m: f"{m[1]}={'' if m[1] == name else 'x'}", EXAMPLE)
    done = config(tmp_path, filled)
    assert done.returncode != 0 and f"required variable {name} " in done.stderr


def test_services_listen_on_this_machine_only(services: dict[str, dict[str, Any]]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert len(ports) == 3 and all(port.startswith("127.0.0.1:") for port in ports)


def test_servers_restart_check_their_health_and_have_few_rights(
    services: dict[str, dict[str, Any]],
) -> None:
    for name in ("postgres", "s3", "mlflow", "prefect", "worker"):
        service = services[name]
        assert service["restart"] == "unless-stopped" and service["cap_drop"] == ["ALL"]
        assert "healthcheck" in service or name == "worker"
    assert all(services[name]["read_only"] for name in ("s3", "mlflow", "prefect"))


def test_folders_of_the_remote_are_there_before_the_first_push(
    services: dict[str, dict[str, Any]],
) -> None:
    command = " ".join(services["s3-volume"]["command"])
    assert all(f" /data/{folder} " in command for folder in DVC_FOLDERS), command


def test_images_are_variables_and_ours_run_as_a_user(services: dict[str, dict[str, Any]]) -> None:
    named = re.findall(r"(?m)^ +image: (.*)$", (ROOT / "infra" / "compose.yaml").read_text())
    assert len(named) == len(services) and all(n.startswith("${") for n in named)
    stages = (ROOT / "infra" / "Dockerfile").read_text().split("\nFROM ")[2:]
    assert [stage.count("\nUSER 10001\n") for stage in stages] == [1, 1]


def test_no_command_line_has_a_password(services: dict[str, dict[str, Any]]) -> None:
    for service in services.values():
        seen = f"{service.get('command')} {service.get('entrypoint')} {service.get('healthcheck')}"
        assert "value-of-" not in seen
