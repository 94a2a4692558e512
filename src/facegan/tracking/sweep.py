"""The parent run of a sweep, with its trials' runs below: `python -m facegan.tracking.sweep`.

Reads JSON from stdin: `sweep`, `experiment`, `params`, and `trials` with `number`, `fingerprint`
and `scores`. Doing it again adds what is missing.
"""

import sys
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Param, Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from facegan.core.errors import FaceganError
from facegan.core.parsing import parse_json
from facegan.tracking import connection, runs

TAG = "facegan.sweep"
EXPERIMENT = "facegan.dvc_experiment"  # provenance.STARTED_BY


def record(content: dict[str, Any]) -> None:
    """Create the parent run, put the trials' runs below it, and log their scores to both.

    A run that an experiment outside of the sweep began stays where it is.

    Raises:
        FaceganError: if MLflow cannot be reached, or the experiment is deleted.
    """
    client = connection.connect()
    with connection.translate_errors():
        name, experiment_id = (
            content["sweep"],
            runs.ensure_experiment(client, content["experiment"]),
        )
        parent = _parent(client, experiment_id, name, content["params"])
        parent_id = parent.info.run_id
        for run in client.search_runs([experiment_id], f"tags.`{EXPERIMENT}` LIKE '{name}-%'"):
            if run.data.tags.get(MLFLOW_PARENT_RUN_ID) != parent_id:
                client.set_tag(run.info.run_id, MLFLOW_PARENT_RUN_ID, parent_id)
        for trial in content["trials"]:
            _log(client, parent, trial)
            for run in runs.find_runs(client, experiment_id, trial["fingerprint"])[:1]:
                runs.log_scores(client, run, trial["scores"])


def _parent(client: MlflowClient, experiment_id: str, name: str, params: dict[str, str]) -> Run:
    found = client.search_runs([experiment_id], f"tags.`{TAG}` = '{name}'")
    if found:
        return found[0]
    run = client.create_run(experiment_id, tags={TAG: name}, run_name=name)
    client.log_batch(run.info.run_id, params=[Param(*item) for item in params.items()])
    client.set_terminated(run.info.run_id)  # its trials are not running in this process
    return run


def _log(client: MlflowClient, parent: Run, trial: dict[str, Any]) -> None:
    """Log the trial's FID to the parent, with the trial as step, once."""
    key, number = trial["scores"]["protocol"]["name"], trial["number"]
    logged = client.get_metric_history(parent.info.run_id, key)
    if all(metric.step != number for metric in logged):
        client.log_metric(parent.info.run_id, key, trial["scores"][key], step=number)


if __name__ == "__main__":
    try:
        record(parse_json(sys.stdin.read()))
    except FaceganError as error:
        sys.exit(f"{error}")
