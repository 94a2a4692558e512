"""A small copy of this project, used as its users use it: with git, DVC and the commands."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from mlflow import MlflowClient

from facegan.params import Params
from small_extractor import PYTHONPATH as SMALL_EXTRACTOR

ROOT = Path(__file__).parents[1]
# Better than the untrained network, which the gate refuses.
LONG_ENOUGH = {"epochs": 6, "eval_interval": 540, "lr": 0.003}


class Project:
    """A copy of this project with its own data and parameters.

    Args:
        links: DVC's `cache.type`, if not the default.
    """

    def __init__(self, folder: Path, source: Path, params: Params, links: str = "") -> None:
        self.folder = folder
        shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "dvc.yaml", folder)
        shutil.copy(ROOT / ".gitignore", folder)
        (folder / "params.yaml").write_text(yaml.safe_dump(params.model_dump(by_alias=True)))
        self.run("git", "init", "--quiet")
        self.run("dvc", "init", "--quiet")
        shutil.copy(ROOT / ".dvcignore", folder)
        if links:
            self.run("dvc", "config", "cache.type", links)
        self.run("facegan", "fetch", str(source))
        self.run("dvc", "add", "--quiet", "data")
        self.commit("start")

    @property
    def environment(self) -> dict[str, str]:
        scripts = Path(sys.executable).parent
        # MLflow exports the address of the last store that a test connected to.
        inherited = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
        return {
            **inherited,
            "PATH": f"{scripts}:{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}:{SMALL_EXTRACTOR}",
            "DVC_NO_ANALYTICS": "1",
            **{f"GIT_{who}_{what}": "a@example.com" for who in ("AUTHOR", "COMMITTER")
               for what in ("NAME", "EMAIL")},
        }  # fmt: skip

    def try_run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        variables = self.environment | environment
        return subprocess.run(
            command, cwd=self.folder, env=variables, capture_output=True, text=True
        )

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command as the foreground process group of a terminal."""
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *command: str, **environment: str) -> str:
        done = self.try_run(*command, **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)

    def digests(self) -> dict[str, str]:
        files = [self.folder / "dvc.lock", *(self.folder / "artifacts").rglob("*")]
        return {
            path.relative_to(self.folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files
            # DVC writes .gitignore in the order in which stages end.
            if path.is_file() and path.name != ".gitignore"
        }

    @property
    def registry(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{self.folder}/mlflow.db")
