"""What MLflow's pages of runs show first: a shared view, kept as a tag of the experiment.

MLflow's "Share" button writes the same tag, and `viewStateShareKey` in an address opens it.
"""

import json
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from mlflow import MlflowClient
from mlflow.entities import Run

from facegan.tracking.connection import insist

KEY = "facegan"
TAG = f"mlflow.sharedViewState.{KEY}"
PARAMS = ("train.architecture", "train.loss", "train.lr")
ATTRIBUTES = ("Dataset", "Models", "Duration")
RUNS = 50  # whose metrics are looked at
MAX_TAG = 5000  # characters that MLflow keeps of an experiment's tag


def share(client: MlflowClient, experiment_id: str) -> None:
    """Write the shared view, with the scores that the experiment's last runs have.

    Scores of more protocols than fit into a tag leave it as it was.
    """
    runs = client.search_runs([experiment_id], max_results=RUNS, order_by=["start_time DESC"])
    text = json.dumps(view(list(runs)), separators=(",", ":"))
    if len(text) <= MAX_TAG:
        insist(client.set_experiment_tag, experiment_id, TAG, text)


def view(runs: list[Run]) -> dict[str, Any]:
    """The state of MLflow's page of runs: its columns, and its chart of parameters against FID.

    Args:
        runs: newest first; the scores that the newest ones have come first.
    """
    names = list(dict.fromkeys(name for run in runs for name in sorted(run.data.metrics)))
    official = [name for name in names if name.startswith("fid") and name.count("_") == 1]
    quick = [name for name in names if name.startswith("quick_fid")]
    others = [
        name for name in names if name.startswith(("recall", "memorised")) and name.count("_") == 1
    ]
    columns = [f"metrics.`{name}`" for name in (*official, *others, *quick)]
    columns += [f"params.`{name}`" for name in PARAMS]
    columns += [f"attributes.`{name}`" for name in ATTRIBUTES]
    # MLflow sorts sections by name, with its own ones at the end.
    first = _section("first", "FID by parameters", is_generated=False)
    sections = [first, _section("section", "Model metrics", is_generated=True)]
    chart = {
        "uuid": str(uuid5(NAMESPACE_URL, "facegan/parameters")), "type": "PARALLEL",
        "metricSectionId": first["uuid"], "deleted": False, "isGenerated": False,
        "displayName": "", "runsCountToCompare": 100, "showAllRuns": True,
        "selectedParams": list(PARAMS), "selectedMetrics": (official or quick)[:1],
    }  # fmt: skip
    return {
        "searchFilter": "", "orderByKey": "attributes.start_time", "orderByAsc": False,
        "startTime": "ALL", "lifecycleFilter": "Active", "datasetsFilter": [],
        "modelVersionFilter": "All Runs", "selectedColumns": columns, "columnOrder": columns,
        "columnWidths": {}, "runsExpanded": {}, "runsPinned": [], "runsHidden": [],
        "runsVisibilityMap": {}, "runsHiddenMode": "FIRST_10_RUNS",
        "compareRunCharts": [chart], "compareRunSections": sections,
        "viewMaximized": False, "runListHidden": False, "isAccordionReordered": False,
        "useGroupedValuesInCharts": True, "hideEmptyCharts": True, "groupBy": None,
        "groupsExpanded": {}, "autoRefreshEnabled": True,
        "globalLineChartConfig": {
            "xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": "",
        },
    }  # fmt: skip


def _section(key: str, name: str, is_generated: bool) -> dict[str, Any]:
    return {
        "uuid": str(uuid5(NAMESPACE_URL, f"facegan/{key}")), "name": name, "display": True,
        "isReordered": False, "deleted": False, "isGenerated": is_generated,
    }  # fmt: skip
