"""What no version needs: MLflow runs, and what DVC's garbage collection may take."""

import time
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from facegan.core.project import project_root
from facegan.register import registry
from facegan.register.lineage import DATASET, PHOTOGRAPHS, run_of
from facegan.tracking.commands import answer
from facegan.tracking.runs import FINGERPRINT

PAGE = 1000


def runs_without_version(
    client: MlflowClient, experiment: str, days: float, unfinished: bool = False
) -> list[Run]:
    """The trainings' runs in an experiment that no version needs, the oldest first.

    Needed are the runs of the versions of any registered model, those that became champion, and
    the parents of both. A run that is not of facegan, or still running, is not listed.

    Args:
        days: only runs that began at least so many days ago.
        unfinished: those of trainings that were interrupted or failed, too.
    """
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return []
    runs = list[Run]()
    token: str | None = None
    while token != "":
        page = client.search_runs([found.experiment_id], "", max_results=PAGE, page_token=token)
        runs += page
        token = page.token or ""
    needed = _needed(client)
    parents = {
        run.data.tags.get(MLFLOW_PARENT_RUN_ID, "") for run in runs if run.info.run_id in needed
    }
    latest = (time.time() - days * 86_400) * 1000
    chosen = [
        run
        for run in runs
        if run.info.run_id not in needed | parents
        and FINGERPRINT in run.data.tags
        and (run.info.status == "FINISHED" or (unfinished and run.info.status != "RUNNING"))
        and run.info.start_time <= latest
    ]
    return sorted(chosen, key=lambda run: (run.info.start_time, run.info.run_id))


def _needed(client: MlflowClient) -> set[str]:
    """The runs of all versions and promotions of all registered models."""
    needed = set[str]()
    token: str | None = None
    while token != "":
        page = client.search_registered_models(max_results=PAGE, page_token=token)
        for model in page:
            found = registry.read(client, model.name)
            needed |= {version.run for version in found.versions.values()}
            needed |= {entry.run for entry in found.promotions}
        token = page.token or ""
    return needed


def uncommitted_data(client: MlflowClient, name: str) -> dict[int, str]:
    """Version -> DVC's hash of its photographs or data set, where no commit here has that hash.

    DVC's garbage collection would delete it.
    """
    lost, known = dict[int, str](), dict[str, bool]()
    for number, version in registry.read(client, name).versions.items():
        run = run_of(client, version)
        for tag in (PHOTOGRAPHS, DATASET):
            if run is None or not (md5 := run.data.tags.get(tag)):
                continue
            if md5 not in known:
                known[md5] = _is_committed(md5)
            if not known[md5]:
                lost[number] = md5
    return lost


def collect_command() -> str:
    """The command that deletes from DVC's cache what no commit and no experiment uses.

    Other projects' files, too, if they share the cache, unless they are named.
    """
    folder, others = answer("dvc", "cache", "dir"), ""
    if folder and not Path(folder).absolute().is_relative_to(project_root()):
        others = f" --projects FOLDERS_OF_ALL_OTHERS_THAT_USE_{folder}"
    return f"dvc gc --all-commits --all-experiments{others}"


def _is_committed(md5: str) -> bool:
    search = ("log", "--all", "-1", "--format=%h", "-S", md5, "--", "*.dvc", "*dvc.lock")
    return answer("git", *search) != ""
