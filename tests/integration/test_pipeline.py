"""The whole pipeline on small data: real git and DVC repositories, MLflow's SQLite and Prefect."""

import json
import re
import shutil
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import pytest

from conftest import make_params
from consumer import generate_without_facegan
from pipelines.dvc_process import PROMOTED
from project import LONG_ENOUGH, Project
from servers import mlflow_ui

pytestmark = pytest.mark.e2e

SMALL = make_params(train=LONG_ENOUGH)


@pytest.fixture(scope="module", name="make")
def make_project(
    tmp_path_factory: pytest.TempPathFactory, digits: Path, empty_store: Path
) -> Callable[[str], Project]:
    def make(name: str) -> Project:
        project = Project(tmp_path_factory.mktemp(name), digits, SMALL)
        shutil.copyfile(empty_store, project.folder / "mlflow.db")
        return project

    return make


@pytest.fixture(scope="module", name="project")
def make_finished(make: Callable[[str], Project]) -> Project:
    project = make("project")
    project.run("dvc", "repro")
    project.commit("the first result")
    return project


def test_repro_takes_photographs_to_a_promoted_version(project: Project) -> None:
    champion = project.registry.get_model_version_by_alias("facegan-test", "champion")
    assert champion.current_stage == "Production"
    scores = json.loads((project.folder / "artifacts" / "metrics.json").read_text())
    assert champion.tags["facegan.generator"] == scores["generator"]
    assert champion.tags["facegan.fid"] == str(scores[scores["protocol"]["name"]])


def test_repro_again_runs_nothing_and_leaves_dvc_and_git_clean(project: Project) -> None:
    output = project.run("dvc", "repro")
    assert "Running stage" not in output and "up to date" in output
    assert "up to date" in project.run("dvc", "status")
    assert project.run("git", "status", "--porcelain") == ""


def test_dvc_shows_metrics_plots_and_the_graph(project: Project) -> None:
    assert "fid40_efficientnet-lite0-32" in project.run("dvc", "metrics", "show")
    project.run("dvc", "plots", "show")
    page = (project.folder / "dvc_plots" / "index.html").read_text()
    assert "quick_fid" in page and "discriminator" in page
    assert "train" in project.run("dvc", "dag")


def test_the_summary_shows_the_scores_and_the_registered_version(project: Project) -> None:
    paths = ("artifacts/train", "artifacts/metrics.json", "artifacts/evaluation")
    output = project.run("facegan", "summary", *paths, COLUMNS="200")
    scores = json.loads((project.folder / "artifacts" / "metrics.json").read_text())
    for name, key in (("untrained", "untrained"), ("FID", scores["protocol"]["name"])):
        assert re.search(rf"│ {name} +│ {scores[key]:.1f}", output)
    assert "floor" in output and "600 real images" in output
    assert "facegan-test version 1, Production, @champion" in output
    assert "artifacts/evaluation/samples.png" in output
    assert "http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning" in output
    assert "/#/models/facegan-test?workflowType=machine_learning" in output
    assert re.search(r"│ champion +│ \S+ \S+ version 1, by ", output)
    page, picture, _ = project.run("facegan", "summary", *paths, "--markdown").partition(
        "![samples]"
    )
    version = project.registry.get_model_version("facegan-test", "1")
    assert f"[run](http://127.0.0.1:5000/#/experiments/1/runs/{version.run_id}?" in page
    assert picture


def get(url: str, **query: str) -> bytes:
    with urllib.request.urlopen(f"{url}?{urlencode(query)}", timeout=30) as response:
        content: bytes = response.read()
    return content


def test_the_mlflow_ui_shows_the_run_its_scores_and_the_production_version(
    project: Project,
) -> None:
    scores = json.loads((project.folder / "artifacts" / "metrics.json").read_text())
    metric = scores["protocol"]["name"]
    with mlflow_ui(project.folder) as url:
        assert b"<title>MLflow</title>" in get(url)
        api = f"{url}/ajax-api/2.0/mlflow"  # what the page calls
        model = json.loads(get(f"{api}/registered-models/get", name="facegan-test"))
        versions = {v["version"]: v for v in model["registered_model"]["latest_versions"]}
        (champion,) = (v for v in versions.values() if v["current_stage"] == "Production")
        assert {"alias": "champion", "version": "1"} in model["registered_model"]["aliases"]
        assert champion["version"] == "1" and champion["description"].startswith(
            f"champion: {metric}"
        )
        run = json.loads(get(f"{api}/runs/get", run_id=champion["run_id"]))["run"]
        assert run["info"]["status"] == "FINISHED"
        metrics = {m["key"]: m["value"] for m in run["data"]["metrics"]}
        assert metrics[metric] == scores[metric]
        listed = json.loads(get(f"{api}/artifacts/list", run_id=champion["run_id"], path="images"))
        grid = next(f["path"] for f in listed["files"] if f["path"].endswith(".png"))
        picture = get(f"{url}/get-artifact", run_id=champion["run_id"], path=grid)
        assert picture.startswith(b"\x89PNG")


def test_the_model_loads_in_a_process_without_this_package(project: Project) -> None:
    generate_without_facegan(project.folder, "facegan-test", SMALL.train.latent_dim)


@pytest.mark.faults  # tests/pipelines has the same with stages of a second
def test_the_flows_outputs_are_identical_to_repros(
    project: Project, make: Callable[[str], Project], tmp_path: Path
) -> None:
    other = make("flow")
    environment = {"PREFECT_HOME": str(tmp_path)}
    command = (sys.executable, "-m", "pipelines.training", "--repository", str(other.folder))
    done = other.try_run(*command, **environment)
    assert done.returncode == 0, done.stderr
    assert PROMOTED.search(done.stderr)  # of which the flow makes an event
    assert other.digests() == project.digests()
    assert len(other.registry.search_model_versions("name = 'facegan-test'")) == 1


def test_an_edit_of_a_docstring_retrains_nothing(project: Project) -> None:
    before = project.digests()
    code = project.folder / "src" / "facegan" / "train" / "losses.py"
    code.write_text(code.read_text().replace('"""', '"""Edited. ', 1))
    try:
        # The project's own code, whose fingerprint ignores docstrings.
        path = f"{project.folder / 'src'}:{project.environment['PYTHONPATH']}"
        done = project.try_run("dvc", "repro", "--single-item", "train", PYTHONPATH=path)
        assert done.returncode == 0 and "Running stage 'train'" in done.stdout
        assert "exported again; to train anew" in done.stderr and "images/s" not in done.stderr
        del before["dvc.lock"]
        assert project.digests().items() >= before.items()
    finally:
        project.run("git", "checkout", "--quiet", ".")


def test_a_readme_beside_the_photographs_runs_preprocess_alone(project: Project) -> None:
    (project.folder / "data" / "README.md").write_text("About these digits.")
    try:
        project.run("dvc", "add", "--quiet", "data")
        output = project.run("dvc", "repro", "train")
        assert re.findall(r"Running stage '(\w+)'", output) == ["preprocess"]
    finally:
        project.run("git", "checkout", "--quiet", ".")
        project.run("dvc", "checkout", "--quiet", "--force")


@pytest.mark.faults
def test_an_experiment_registers_a_challenger_and_leaves_production_unchanged(
    project: Project,
) -> None:
    project.run("dvc", "exp", "run", "--set-param", "seed=5", "--name", "another-seed")
    champion = project.registry.get_model_version_by_alias("facegan-test", "champion")
    challenger = project.registry.get_model_version_by_alias("facegan-test", "challenger")
    assert str(champion.version) == "1" and champion.current_stage == "Production"
    assert str(challenger.version) == "2" and challenger.current_stage == "Staging"


def test_a_changed_parameter_never_restores_an_old_output(project: Project) -> None:
    params = project.folder / "params.yaml"
    before = params.read_text()
    params.write_text(before.replace("resolution: 32", "resolution: 64"))
    try:
        output = project.run("dvc", "repro", "--single-item", "preprocess")
        report = json.loads((project.folder / "artifacts" / "dataset" / "report.json").read_text())
        assert report["resolution"] == 64 and "Running stage 'preprocess'" in output
        params.write_text(before.replace("resolution: 32", "resolution: 48"))
        refused = project.try_run("dvc", "repro")
        assert refused.returncode != 0
        assert "preprocess.resolution: 48 is not supported; valid: 28, 32, 64" in refused.stderr
    finally:
        project.run("git", "checkout", "--quiet", ".")
        project.run("dvc", "checkout", "--quiet")
