import json
import subprocess
import sys
from pathlib import Path

import pytest

from commands import facegan
from facegan.params import write_preset

CHECKS = ["git", "dvc", "mlflow", "prefect", "s3", "device", "disk", "weights", "packages"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with parameters, git and no remote; no server is configured."""
    write_preset("digits", tmp_path / "params.yaml", force=False)
    for name in ("PREFECT_API_URL", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    return tmp_path


def test_doctor_prints_one_line_for_each_check_and_fails_on_a_problem(folder: Path) -> None:
    done = facegan("doctor", cwd=folder)
    assert done.returncode == 1 and done.stderr == ""  # there is no dvc.yaml
    rows = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    assert [name for _, name, _ in rows] == CHECKS
    assert [name for status, name, _ in rows if status == "problem"] == ["dvc"]
    assert "; run this in a project's folder" in done.stdout
    assert sorted(path.name for path in folder.iterdir()) == [".git", "params.yaml"]


def test_warnings_alone_are_no_failure_and_json_is_for_scripts(folder: Path) -> None:
    (folder / "dvc.yaml").touch()
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=folder, check=True)
    done = facegan("doctor", "--json", cwd=folder)
    rows = {row.pop("check"): row for row in json.loads(done.stdout)}
    assert list(rows) == CHECKS and done.returncode == 0
    assert rows["dvc"]["status"] == "warning" and "dvc remote add" in rows["dvc"]["advice"]


def test_doctor_imports_no_torch_for_a_cpu(folder: Path) -> None:
    code = (
        "import os, sys; os.environ['FACEGAN_DEVICE'] = 'cpu'; sys.argv = ['facegan', 'doctor']\n"
        "from facegan.cli.main import app\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "assert 'mlflow' in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True)
