import subprocess
from pathlib import Path

import pytest
from mlflow import MlflowClient

from facegan.register import registry, unused
from facegan.register.lineage import PHOTOGRAPHS
from facegan.tracking.runs import FINGERPRINT
from registrations import NAME, Trainer


def experiment(client: MlflowClient) -> str:
    found = client.get_experiment_by_name(NAME)
    assert found is not None
    return str(found.experiment_id)


def training(client: MlflowClient, name: str, status: str = "FINISHED", **tags: str) -> str:
    run = client.create_run(experiment(client), tags={FINGERPRINT: name} | tags).info.run_id
    if status != "RUNNING":
        client.set_terminated(run, status)
    return str(run)


def listed(client: MlflowClient, days: float = 0, unfinished: bool = False) -> set[str]:
    found = unused.runs_without_version(client, NAME, days, unfinished)
    return {run.info.run_id for run in found}


def test_runs_that_no_version_needs_are_listed(two: tuple[MlflowClient, Trainer]) -> None:
    client, _ = two
    assert listed(client) == set()
    failed, trial = training(client, "a", "FAILED"), training(client, "b")
    running = training(client, "c", "RUNNING")
    assert listed(client) == {trial}
    assert listed(client, unfinished=True) == {failed, trial}
    assert listed(client, days=1) == set()
    client.set_terminated(running)
    assert running in listed(client)


def test_the_run_of_a_former_champion_is_needed_although_its_version_is_deleted(
    two: tuple[MlflowClient, Trainer],
) -> None:
    client, _ = two
    champion = registry.read(client, NAME).versions[1].run
    other = registry.read(client, NAME).versions[2].run
    for number in ("1", "2"):
        client.delete_model_version(NAME, number)
    assert listed(client) == {other}
    assert champion not in listed(client)


def test_versions_of_other_models_and_parents_of_their_runs_are_needed(
    two: tuple[MlflowClient, Trainer],
) -> None:
    client, _ = two
    parent, lonely = training(client, "sweep"), training(client, "other sweep")
    trial = training(client, "trial", **{"mlflow.parentRunId": parent})
    client.create_registered_model("another-model")
    client.create_model_version("another-model", f"runs:/{trial}/model", trial)
    assert listed(client) == {lonely}


def test_runs_of_others_are_not_listed(two: tuple[MlflowClient, Trainer]) -> None:
    client, _ = two
    client.create_run(experiment(client))
    assert listed(client) == set()
    assert unused.runs_without_version(client, "absent", 0) == []


def test_data_of_versions_that_no_commit_has_is_found(
    two: tuple[MlflowClient, Trainer], tmp_path: Path
) -> None:
    client, _ = two
    for number, version in registry.read(client, NAME).versions.items():
        client.set_tag(version.run, PHOTOGRAPHS, f"{number}1cd.dir")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com"]
    (tmp_path / "data.dvc").write_text("outs:\n- md5: 11cd.dir\n  path: data\n")
    for command in (["init", "-q"], ["add", "data.dvc"], ["commit", "-qm", "data"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    assert unused.uncommitted_data(client, NAME) == {2: "21cd.dir"}


def test_a_shared_caches_command_names_the_other_projects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    for command in (["init", "--no-scm", "-q"], ["cache", "dir", "--local", str(tmp_path / "all")]):
        subprocess.run(["dvc", *command], check=True)
    assert f"--projects FOLDERS_OF_ALL_OTHERS_THAT_USE_{tmp_path}/all" in unused.collect_command()
