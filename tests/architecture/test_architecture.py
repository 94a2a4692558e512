import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from architecture import RULES, Rule
from architecture.broken import BREAKS, LOSSES, PROJECT, SECTIONS, Change, write
from architecture.imports import import_stays_light
from architecture.layout import sources_stay_short, top_level_is_fixed
from architecture.params import params_hide_no_default
from facegan.core.atomic import replacing

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(sys.executable).parent


@pytest.mark.parametrize("rule", RULES)
def test_this_project_satisfies(rule: Rule) -> None:
    assert rule(ROOT) == []


def test_the_top_level_has_only_the_fixed_names() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout, so the project's files are unknown")
    command = ["git", "-C", str(ROOT), "ls-files", "-z"]
    tracked = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert top_level_is_fixed(tracked.rstrip("\0").split("\0")) == []


def test_git_ignores_what_commands_and_kills_leave(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    shutil.copy(ROOT / ".gitignore", tmp_path)
    left = ["checkpoints/0/checkpoint.pt", "mlruns/0/meta.yaml", "mlflow.db", "mlflow.db.lock"]
    left += ["mlflow.db-wal", ".data.fetch/x.jpg", "artifacts/.DS_Store", "data/x.jpg"]
    with replacing(tmp_path / "artifacts" / "train") as temporary:
        left += [path.relative_to(tmp_path).as_posix() for path in temporary.parent.glob(".*")]
        left += [f"artifacts/.train{suffix}/x" for suffix in (".tmp", ".old")]
        for path in map(tmp_path.joinpath, left):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        status = ["git", "-C", str(tmp_path), "status", "--porcelain", "--untracked-files=all"]
        found = subprocess.run(status, capture_output=True, text=True, check=True).stdout
    assert "artifacts/.train.lock" in left
    assert found == "?? .gitignore\n"


def test_importing_the_package_and_its_command_is_light() -> None:
    assert import_stays_light(ROOT) == []


@pytest.mark.parametrize("rule", RULES)
def test_a_minimal_project_satisfies(tmp_path: Path, rule: Rule) -> None:
    assert rule(write(tmp_path, PROJECT)) == []


@pytest.mark.parametrize(
    ("rule", "file", "change", "complaint"),
    [
        pytest.param(rule, file, change, complaint, id=f"{rule.__name__}-{complaint}")
        for rule in RULES
        for file, changes in BREAKS[rule].items()
        for change, complaint in changes.items()
    ],
)
def test_a_violation_is_named_by_its_rule(
    tmp_path: Path, rule: Rule, file: str, change: Change, complaint: str
) -> None:
    text = PROJECT.get(file, "")
    changed = text + change if isinstance(change, str) else text.replace(*change)
    assert changed != text
    root = write(tmp_path, PROJECT | {file: changed})
    assert complaint in "\n".join(rule(root))


def test_a_key_that_dvcs_run_cache_ignores_is_named(tmp_path: Path) -> None:
    text = PROJECT[SECTIONS].replace("seed: int", "size: int")
    root = write(tmp_path, PROJECT | {SECTIONS: text})
    assert "Params.size: DVC's run cache ignores it" in "\n".join(params_hide_no_default(root))


def test_an_exception_allows_a_longer_file_and_a_longer_function(tmp_path: Path) -> None:
    long = "def f():\n" + "    x = 1\n" * 300
    root = write(tmp_path, PROJECT | {LOSSES: long})
    assert len(sources_stay_short(root, {})) == 2
    assert sources_stay_short(root, {LOSSES: 301, f"{LOSSES}:f": 301}) == []
    assert len(sources_stay_short(root, {LOSSES: 300, f"{LOSSES}:f": 300})) == 2


def test_an_unknown_name_at_the_top_level_is_named() -> None:
    tracked = ["README.md", "src/facegan/notes.txt", "notes.txt", "notebooks/try.ipynb"]
    assert [found.split(":")[0] for found in top_level_is_fixed(tracked)] == [
        "notebooks",
        "notes.txt",
    ]


@pytest.mark.parametrize(
    ("init", "cli", "complaint"),
    [
        ("import numpy", "", "import facegan loads numpy"),
        ("", "import carrier", "import facegan.cli.main loads numpy"),
        ("", "import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
    ],
)
def test_a_heavy_import_is_named(tmp_path: Path, init: str, cli: str, complaint: str) -> None:
    files = {"facegan/__init__.py": init, "facegan/cli/__init__.py": "", "facegan/cli/main.py": cli}
    # Stand-ins: a light module with the heavy one's name, and a third party that imports it.
    others = {"numpy.py": "", "carrier.py": "import numpy"}
    write(tmp_path / "src", files | others)
    light = dict.fromkeys(("facegan", "facegan.cli.main"), ("numpy",))
    assert complaint in import_stays_light(tmp_path, light)


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    command = [str(SCRIPTS / "lint-imports"), "--no-cache"]
    environment = os.environ | {"PYTHONPATH": str(root / "src"), "COLUMNS": "200"}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)


def test_import_contracts_hold() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("features/frechet.py", "from facegan.train import losses", "Imports go down"),
        ("train/losses.py", "from facegan.reference import stage", "Imports go down"),
        ("models/sizes.py", "def f():\n    from facegan.photos import idx", "Imports go down"),
        ("gadget/__init__.py", "x = 1", "Imports go down"),
        ("core/errors.py", "from facegan.core import events, history", "No import cycles"),
        ("train/losses.py", "import prefect", "facegan imports neither Prefect"),
        ("cli/main.py", "from dvc import api", "facegan imports neither Prefect"),
        ("cli/main.py", "from pipelines import training", "facegan imports neither Prefect"),
        ("doctor/servers.py", "from infra import health", "Nothing imports infra"),
        ("train/losses.py", "import mlflow", "Only tracking and register import MLflow"),
        ("register/gate.py", "import sqlalchemy", "Only tracking and register import MLflow"),
        ("train/losses.py", "import typer", "Only cli imports typer"),
        ("train/losses.py", "import yaml", "Only params, init_from and provenance"),
        ("train/losses.py", "import boto3", "Only photos and fetch import boto3"),
        ("train/losses.py", "import gdown", "Only fetch.datasets downloads"),
        ("train/losses.py", "import distributed", "Only preprocess.workers imports Dask"),
    ],
)
def test_a_broken_import_contract_is_named(
    tmp_path: Path, file: str, line: str, contract: str
) -> None:
    for name in ("src", "pipelines", "infra"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path = tmp_path / "src/facegan" / file
    path.parent.mkdir(exist_ok=True)
    path.write_text((path.read_text() if path.exists() else "") + f"\n{line}\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1
    broken = [name for name in done.stdout.splitlines() if " BROKEN" in name]
    assert any(name.startswith(contract) for name in broken), done.stdout


@pytest.mark.parametrize("line", ["import pickle", "from importlib import import_module"])
def test_a_banned_api_is_named(line: str) -> None:
    command = [str(SCRIPTS / "ruff"), "check", "--select", "TID251", "-"]
    done = subprocess.run(command, cwd=ROOT, input=line, capture_output=True, text=True)
    assert done.returncode == 1 and "TID251" in done.stdout
