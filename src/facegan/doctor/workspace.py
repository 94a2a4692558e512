"""The project's folder: git, DVC, free space, installed packages."""

import os
import platform
import re
import time
from importlib import metadata
from pathlib import Path
from shlex import quote

from facegan.core.project import project_root
from facegan.doctor.findings import Finding, ok, problem, warning
from facegan.tracking.commands import NO_REASON, output

# Free bytes below which a step will fail, and below which a training may: a checkpoint of the
# largest preset and the one before it, with samples and MLflow's copies of them.
LEAST, ENOUGH = 10**9, 5 * 10**9
FEWEST_FILES = 10_000  # DVC links one per photograph
WRITING = 10  # seconds, many times what DVC needs to write a result


def git() -> Finding:
    """Whether runs can record their commit, and the Prefect flow will run."""
    try:
        status, text = output("git", "status", "--porcelain")
    except FileNotFoundError:
        return problem("git is not installed", "install it: DVC and lineage need it")
    if status:
        advice = "run: git init, or clone the project"
        if "dubious ownership" in text:
            advice = f"run: git config --global --add safe.directory {project_root()}"
        return problem(f"{project_root()}: {text}", advice)
    status, commit = output("git", "rev-parse", "--short", "HEAD")
    if status:
        return warning("no commit yet", "commit, so that runs record what they ran")
    if output("git", "var", "GIT_COMMITTER_IDENT")[0]:
        return warning("git does not know who you are", "set git config user.name and user.email")
    if text:
        changed = len(text.splitlines())
        return warning(
            f"at {commit}, {changed} uncommitted {'file' if changed == 1 else 'files'}",
            "commit or revert them: the Prefect flow runs committed parameters and code only",
        )
    return ok(f"at {commit}, nothing uncommitted")


def dvc() -> Finding:
    """Whether there is a DVC project with a remote that answers."""
    root = project_root()
    if not (root / "dvc.yaml").is_file():
        return problem(f"{root}: no dvc.yaml", "run this in a project's folder")
    if not any((folder / ".dvc").is_dir() for folder in (root, *root.parents)):
        return problem(f"{root}: no DVC repository", "run: dvc init")
    cache = Path(output("dvc", "cache", "dir")[1])
    if half_written(cache):
        advice = f"run: find {quote(f'{cache}/runs')} '(' -name '.*.tmp' -o -empty ')' -delete"
        return problem("an interrupted DVC left half a result, on which dvc repro fails", advice)
    status, remote = output("dvc", "remote", "default")
    if status and remote != NO_REASON:
        return problem(f"{root}: {remote}", "correct .dvc/config")
    if status:
        return warning(
            "no default remote: outputs and photographs exist on this disk only",
            "run: dvc remote add --default storage s3://BUCKET/dvc",
        )
    status, text = output("dvc", "ls-url", f"remote://{remote}")
    if status == 0:
        return ok(f"remote {remote} answers{'' if text else ', and is empty'}")
    if "does not exist" in text:
        advice = "run dvc push; if it was pushed before, check the address: dvc remote list"
        return warning(f"remote {remote} has nothing at its address", advice)
    return problem(
        f"remote {remote}: {text}", "check address and credentials: dvc remote list, AWS_*"
    )


def half_written(cache: Path) -> list[Path]:
    """What an interrupted DVC left in its run cache and fails on: temporary files, empty folders.

    Args:
        cache: DVC's; other projects that share it may be writing now.

    Returns:
        Files, then the folders that have no others.
    """
    files = {path for path in cache.glob("runs/*/*/.*.tmp") if _is_left(path)}
    folders = [path for path in cache.glob("runs/*/*") if _is_left(path)]
    return [
        *files,
        *(path for path in folders if path.is_dir() and files.issuperset(path.iterdir())),
    ]


def _is_left(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > WRITING
    except FileNotFoundError:
        return False


def disk(checkpoints: Path) -> Finding:
    """Free space where the project and its checkpoints are."""
    places = {_existing(path).stat().st_dev: path for path in (checkpoints, project_root())}
    free = []
    for path in places.values():
        entries = os.statvfs(_existing(path))
        size = entries.f_bavail * entries.f_frsize
        free.append(f"{size / 1e9:,.1f} GB free in {path}")
        if size < ENOUGH:
            advice = "free some: facegan gc lists what can go; or set FACEGAN_CHECKPOINTS"
            return (problem if size < LEAST else warning)(free[-1], advice)
        if entries.f_files > 0 and entries.f_favail < FEWEST_FILES:
            found = f"{path}: space for {entries.f_favail:,} more files only (inodes)"
            return warning(found, "delete small files there, or move the project")
    return ok(", ".join(free))


def _existing(path: Path) -> Path:
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())


def packages() -> Finding:
    """Whether the installed versions are those of `requirements.lock`."""
    missing = [name for name in _required() if _installed(name) is None]
    if missing:
        return problem(f"not installed: {', '.join(missing)}", "run: make install")
    lock, python = project_root() / "requirements.lock", f"Python {platform.python_version()}"
    if not lock.is_file():
        return warning(f"{python}; {lock}: not found", "versions are those that pip chose")
    locked: dict[str, set[str]] = {}  # several versions, where they depend on Python's
    for name, version in re.findall(r"(?m)^([\w.-]+)==([\w.+!-]+)", lock.read_text("utf-8")):
        locked.setdefault(name, set()).add(version)
    found = {name: _installed(name) for name in locked}
    different = [
        f"{name} {version} instead of {' or '.join(sorted(locked[name]))}"
        for name, version in found.items()
        if version is not None and version not in locked[name]
    ]
    if different:
        more = f" and {len(different) - 3} more" * (len(different) > 3)
        return warning(
            f"{', '.join(different[:3])}{more}", "run: rm .venv/installed && make install"
        )
    return ok(f"{python}, {sum(map(bool, found.values()))} packages as locked")


def _required() -> list[str]:
    """The packages without which facegan does not run."""
    lines = metadata.requires("facegan") or []
    return [re.split(r"[^\w.-]", line)[0] for line in lines if "extra ==" not in line]


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
