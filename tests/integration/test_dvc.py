"""DVC as people have it: linked caches, repositories as datasets, experiments, Ctrl-C."""

import hashlib
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import make_params
from facegan.photos.discovery import find
from facegan.photos.inputs import Folder
from project import Project
from samples import encoded, fill, index, noise, read_input, unprivileged

TINY: dict[str, Any] = {
    "preprocess": {"resolution": 28, "min_side": 1},
    "reference": {"subset": 10},
    "train": {
        "architecture": "dcgan",
        "base_channels": 4,
        "batch_size": 10,
        "eval_interval": 50,
        "quick_num_samples": 20,
    },
    "evaluate": {"num_samples": 20},
}
pytestmark = pytest.mark.faults
STAGES = ("preprocess", "reference", "train", "evaluate", "register")
Make = Callable[..., Project]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighty grey noises of 28 pixels."""
    files = {f"{n:03}.png": encoded(noise(n, 28, 28, "L")) for n in range(80)}
    return fill(tmp_path_factory.mktemp("source") / "photographs", files)


@pytest.fixture(scope="module", name="make")
def make_project(
    tmp_path_factory: pytest.TempPathFactory, photographs: Path, empty_store: Path
) -> Make:
    def make(source: Path = photographs, links: str = "") -> Project:
        project = Project(tmp_path_factory.mktemp("project"), source, make_params(**TINY), links)
        shutil.copyfile(empty_store, project.folder / "mlflow.db")
        return project

    return make


def cache(project: Project) -> dict[str, str]:
    """Path in DVC's cache -> md5, of every object; its name says what it should be."""
    folder = project.folder / ".dvc" / "cache" / "files" / "md5"
    objects = (path for path in folder.glob("??/*") if path.is_file())
    return {
        path.relative_to(folder).as_posix().replace("/", "").removesuffix(".dir"): hashlib.md5(
            path.read_bytes()
        ).hexdigest()
        for path in objects
    }


def is_intact(project: Project) -> bool:
    objects = cache(project)
    return bool(objects) and all(name == md5 for name, md5 in objects.items())


def change_params(project: Project, **changes: Any) -> None:
    path = project.folder / "params.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


@pytest.fixture(scope="module", name="project")
def make_finished(make: Make) -> Project:
    """A project of the README's flow whose data and outputs are symbolic links, as committed."""
    project = make(links="symlink")
    project.run("dvc", "repro")
    project.commit("the first result")
    return project


def test_the_whole_flow_runs_on_symbolic_links(project: Project) -> None:
    data, trained = project.folder / "data", project.folder / "artifacts" / "train"
    assert (data / "000.png").is_symlink()
    assert (trained / "generator.safetensors").is_symlink()
    statuses = {row["status"] for row in index(project.folder / "artifacts" / "dataset")}
    assert statuses == {"kept", "held-out"}
    version = project.registry.get_model_version("facegan-test", "1")
    assert version.tags["facegan.gate"]  # decided: so few steps make no champion


def test_a_step_run_by_hand_replaces_links_and_leaves_the_cache_intact(project: Project) -> None:
    before, digests = cache(project), project.digests()
    params = yaml.safe_load((project.folder / "params.yaml").read_text())
    params["reference"]["subset"] = 9
    other = project.folder.parent / "other.yaml"
    other.write_text(yaml.safe_dump(params))
    outputs = [f"artifacts/reference/{name}.safetensors" for name in ("quick", "official")]
    project.run("facegan", "reference", "artifacts/dataset", *outputs, "--params", str(other))
    assert project.digests() != digests
    assert cache(project) == before
    project.run("dvc", "checkout", "--force")
    assert project.digests() == digests


def test_an_experiment_in_a_temporary_copy_keeps_its_version_and_checkpoint(
    project: Project,
) -> None:
    before = checkpoints(project)
    project.run("dvc", "exp", "run", "--temp", "--set-param", "seed=5", "--name", "another-seed")
    assert_kept(project, "2", before)


def test_an_experiment_of_dvcs_queue_keeps_its_version_and_checkpoint(project: Project) -> None:
    before = checkpoints(project)
    project.run("dvc", "exp", "run", "--queue", "--set-param", "seed=6", "--name", "queued-seed")
    project.run("dvc", "queue", "start")  # a daemon, which runs the experiment
    try:
        while not re.search("Success|Failed", status := project.run("dvc", "queue", "status")):
            time.sleep(1)
    finally:
        project.run("dvc", "queue", "stop")
    assert "Success" in status
    assert_kept(project, "3", before)


def checkpoints(project: Project) -> set[Path]:
    return set((project.folder / "checkpoints").iterdir())


def assert_kept(project: Project, version: str, before: set[Path]) -> None:
    assert len(checkpoints(project) - before) == 1
    challenger = project.registry.get_model_version_by_alias("facegan-test", "challenger")
    assert str(challenger.version) == version
    assert challenger.run_id is not None
    project.registry.get_run(challenger.run_id)
    assert not list((project.folder / ".dvc" / "tmp" / "exps").glob("**/mlflow.db"))


def test_an_applied_experiment_passes_the_gate_when_registered(project: Project) -> None:
    before = project.digests()
    project.run("dvc", "exp", "apply", "another-seed")
    assert project.digests() != before
    assert "Running stage" not in project.run("dvc", "repro")
    version = project.registry.get_model_version("facegan-test", "2")
    assert "facegan.gate" not in version.tags
    project.run("dvc", "repro", "--single-item", "--force", "register")
    version = project.registry.get_model_version("facegan-test", "2")
    assert "facegan.gate" in version.tags


def test_an_older_commit_is_checked_out_without_running_anything(project: Project) -> None:
    project.commit("the experiment")
    project.run("git", "checkout", "--quiet", "HEAD~")
    project.run("dvc", "checkout")
    scores = json.loads((project.folder / "artifacts" / "metrics.json").read_text())
    first = project.registry.get_model_version("facegan-test", "1")
    assert first.tags["facegan.generator"] == scores["generator"]
    assert "Running stage" not in project.run("dvc", "repro")
    assert project.run("git", "status", "--porcelain") == ""
    assert is_intact(project)


def can_reflink(folder: Path) -> bool:
    (folder / "a").write_bytes(b"a")
    return os.system(f"cp --reflink=always {folder}/a {folder}/b 2>/dev/null") == 0


@pytest.mark.parametrize("links", ["hardlink", "copy", "reflink"])
def test_data_and_outputs_change_and_come_back_under_every_kind_of_link(
    links: str, make: Make, photographs: Path, tmp_path: Path
) -> None:
    if links == "reflink" and not can_reflink(tmp_path):
        pytest.skip("this file system has no reflinks")
    project = make(links=links)
    project.run("dvc", "repro", "preprocess")
    project.commit("first")
    before = project.digests()
    more = shutil.copytree(photographs, tmp_path / "more")
    fill(more, {"more.png": encoded(noise(100, 28, 28, "L"))})
    project.run("facegan", "fetch", str(more))
    project.run("dvc", "add", "data")
    project.run("dvc", "repro", "preprocess")
    dataset = project.folder / "artifacts" / "dataset"
    assert len(index(dataset)) == 81
    project.run("git", "stash", "--quiet")
    project.run("dvc", "checkout", "data.dvc", "preprocess")
    assert project.digests() == before and len(index(dataset)) == 80
    assert (dataset / "images.npy").stat().st_nlink == (2 if links == "hardlink" else 1)
    project.run("facegan", "preprocess", "data", "artifacts/dataset")  # over a hard link
    assert project.digests() == before
    assert is_intact(project)


def test_a_shared_cache_that_can_only_be_read_is_read(photographs: Path, tmp_path: Path) -> None:
    shared = shutil.copytree(photographs, tmp_path / "cache")
    data = tmp_path / "data"
    data.mkdir()
    for path in shared.iterdir():
        path.chmod(0o444)
        (data / path.name).symlink_to(path)
    shared.chmod(0o555)
    tmp_path.chmod(0o777)
    root = Folder(data)
    with unprivileged(data, shared):
        contents = [read_input(root, item) for item in find(root)]
    assert contents == [path.read_bytes() for path in sorted(photographs.iterdir())]


def test_a_dataset_that_is_a_repository_is_fetched_without_it(
    make: Make, photographs: Path, tmp_path: Path
) -> None:
    source = shutil.copytree(photographs, tmp_path / "repository")
    fill(
        source,
        {
            ".git/lfs/objects/1.png": encoded(noise(200, 28, 28, "L")),
            "below/.dvc/config": b"",
            "below/.dvc/cache/1.png": encoded(noise(201, 28, 28, "L")),
            "below/1.png": encoded(noise(202, 28, 28, "L")),
            ".dvcignore": b"*.png",
        },
    )
    project = make(source)
    record = yaml.safe_load((project.folder / "data.dvc").read_text())
    assert record["outs"][0]["nfiles"] == 82  # with source.json
    project.run("dvc", "repro", "preprocess")
    assert len(index(project.folder / "artifacts" / "dataset")) == 81
    shutil.rmtree(project.folder / "data")
    project.run("dvc", "checkout", "data.dvc")
    assert "Running stage" not in project.run("dvc", "repro", "preprocess")
    refuse_what_dvc_does_not_record(project)


def refuse_what_dvc_does_not_record(project: Project) -> None:
    """Photographs that a person put into `data/`, with a repository or a name in .dvcignore."""
    for hidden in ("set/.dvc/config", None):
        folder = fill(project.folder / "data", {"set/x.png": encoded(noise(9, 28, 28, "L"))})
        if hidden:
            fill(folder, {hidden: b""})
        else:
            with (project.folder / ".dvcignore").open("a") as ignored:
                ignored.write("x.png\n")
        project.run("dvc", "add", "data")
        assert "Running stage" not in project.run("dvc", "repro", "preprocess")  # DVC sees nothing
        done = project.try_run("facegan", "preprocess", "data", "artifacts/dataset")
        assert done.returncode != 0
        (line,) = (li for li in done.stderr.splitlines() if li.startswith("facegan: "))
        assert "has 83 files, of which data.dvc records 8" in line
        shutil.rmtree(folder / "set")


def test_a_file_managers_files_are_no_change(make: Make) -> None:
    project = make()
    project.run("dvc", "repro", "preprocess")
    project.commit("first")
    for folder in ("data", "src/facegan/core"):
        (project.folder / folder / ".DS_Store").write_bytes(b"\0")
    assert "up to date" in project.run("dvc", "status", "preprocess", "data.dvc")
    assert project.run("git", "status", "--porcelain") == ""


def test_repro_interrupted_in_every_stage_goes_on_to_the_same_outputs(
    make: Make, project: Project
) -> None:
    interrupted = make()
    done = [interrupt(interrupted, stage, delay) for stage in STAGES for delay in (0.5, 1.5)]
    assert sum(done) >= len(STAGES)
    interrupted.run("dvc", "repro")
    assert interrupted.digests() == project.digests()
    assert not list((interrupted.folder / "artifacts").rglob(".*.tmp"))
    assert len(interrupted.registry.search_model_versions("name = 'facegan-test'")) == 1
    assert is_intact(interrupted)


def interrupt(project: Project, stage: str, delay: float) -> bool:
    """Press Ctrl-C, which reaches every process of the terminal, while a stage runs.

    Returns:
        False if the stage had finished before.
    """
    with project.start("dvc", "repro") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(f"Running stage '{stage}'"):
                time.sleep(delay)
                os.killpg(process.pid, signal.SIGINT)
    # As facegan doctor advises where DVC was interrupted while it wrote into its run cache.
    project.try_run(
        "find", ".dvc/cache/runs", "(", "-name", ".*.tmp", "-o", "-empty", ")", "-delete"
    )
    return process.returncode != 0
