"""Where a training comes from: commit, data, stages, environment, machine."""

import getpass
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from facegan.tracking.commands import answer
from facegan.tracking.errors import redact

# What determines a training, and is in git. Nothing else goes into the diff: a file that somebody
# keeps beside the code may hold anything.
VERSIONED = ("src", "pipelines", "dvc.yaml", "params.yaml", "data.dvc", "pyproject.toml")
VERSIONED_FILES = ("params.yaml", "dvc.yaml", "dvc.lock", "data.dvc")
DIFF, ENVIRONMENT = "uncommitted.diff", "requirements.txt"
MAX_DIFF = 1_000_000  # characters
_DIFF = ("diff", "--no-ext-diff", "--no-textconv")
SECRET = re.compile(r"(?i)^(.*(?:password|passwd|secret|token|api_?key|access_?key)\w*\W+).*$")
VERSIONS = ("facegan", "torch", "torchvision", "mlflow", "dvc", "numpy", "pillow")
# Environment variables that name what started the training.
STARTED_BY = {
    "facegan.prefect_flow_run": "PREFECT__FLOW_RUN_ID",
    "facegan.dvc_experiment": "DVC_EXP_NAME",
    "facegan.dvc_stage": "DVC_STAGE",
}


def tags(device: str) -> dict[str, str]:
    """Tags of the MLflow run, for a training that starts now in the current folder.

    What is unknown, such as the commit outside of a git repository, is left out.

    Args:
        device: such as `cpu` or `cuda:0`.
    """
    commit, dirty = _git("rev-parse", "HEAD"), bool(_git("status", "--porcelain", "--", *_paths()))
    found = {
        "mlflow.user": _user(),
        "mlflow.source.name": "facegan train",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": commit,
        "mlflow.source.git.branch": _git("branch", "--show-current"),
        "mlflow.source.git.repoURL": redact(_git("remote", "get-url", "origin")),
        "facegan.dirty": str(dirty).lower() if commit else "",
        "facegan.host": platform.node(),
        "facegan.machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}",
        "facegan.device": f"{device} ({gpus})" if (gpus := _gpus(device)) else device,
        "facegan.versions": ", ".join(_versions()),
        **{tag: os.environ.get(name, "") for tag, name in STARTED_BY.items()},
        **_dvc_hashes(),
    }
    return {name: value for name, value in found.items() if value}


def write_files(folder: Path) -> None:
    """Write parameters, lock file, environment and uncommitted changes into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in VERSIONED_FILES:
        with suppress(OSError):
            shutil.copyfile(name, folder / name)
    packages = {f"{d.name}=={d.version}" for d in metadata.distributions()}
    lines = [f"# Python {platform.python_version()}", *sorted(packages, key=str.lower)]
    (folder / ENVIRONMENT).write_text("\n".join(lines) + "\n", "utf-8")
    if diff := uncommitted():
        (folder / DIFF).write_text(diff, "utf-8")


def uncommitted() -> str:
    """The changes since the last commit that can affect a training, without values that look
    like secrets; empty if there are none."""
    parts = [_git(*_DIFF, "HEAD", "--", *_paths())]
    for path in _git("ls-files", "--others", "--exclude-standard", "--", *_paths()).splitlines():
        parts.append(_git(*_DIFF, "--no-index", "--", os.devnull, path, status=1))
    text = "\n".join(filter(None, parts))
    if len(text) > MAX_DIFF:
        text = f"{text[:MAX_DIFF]}\n(cut off: {len(text):,} characters)"
    lines = (SECRET.sub(r"\1***", line) for line in redact(text).splitlines())
    return "\n".join(lines) + "\n" if text else ""


def _paths() -> list[str]:
    return [name for name in VERSIONED if Path(name).exists()] or ["params.yaml"]


def _git(*arguments: str, status: int = 0) -> str:
    options = ("--no-optional-locks", "-c", "core.quotePath=false")
    return answer("git", *options, *arguments, status=status)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return str(os.getuid())


def _versions() -> Iterator[str]:
    yield f"python {platform.python_version()}"
    for name in VERSIONS:
        with suppress(metadata.PackageNotFoundError):
            yield f"{name} {metadata.version(name)}"


def _processor() -> str:
    if sys.platform == "linux":
        with suppress(OSError):
            for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    return platform.machine()


def _gpus(device: str) -> str:
    if not device.startswith("cuda"):
        return ""
    return ", ".join(answer("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").split("\n"))


def _dvc_hashes() -> dict[str, str]:
    """Hashes of the photographs, and of the outputs that the training reads."""
    data = {"data": _read_yaml(Path("data.dvc"))}
    lock = _read_yaml(Path("dvc.lock")).get("stages", {})
    stages = data | {name: lock.get(name, {}) for name in ("preprocess", "reference")}
    return {
        f"facegan.dvc.{name}.{Path(out['path']).stem}": str(out.get("md5", ""))
        for name, stage in stages.items()
        for out in stage.get("outs", [])
    }


def _read_yaml(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, yaml.YAMLError):
        content = yaml.safe_load(path.read_text("utf-8"))
        return content if isinstance(content, dict) else {}
    return {}
