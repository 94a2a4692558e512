"""Metric points: those that the history has, less those that the MLflow run has."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Run

from facegan.tracking.record import Record

SPEED = "images_per_second"
# MLflow's limit for one request.
MAX_METRICS = 1000


def from_history(events: Sequence[dict[str, Any]], record: Record, start_time: int) -> list[Metric]:
    """All points of a history, with the times on record.

    The quick FID is first: MLflow's page of compared runs plots the metric that was logged first.

    Args:
        start_time: of the run, in milliseconds, for points whose time is unknown.
    """
    found, quick = list[Metric](), ""
    for event in events:
        if event["event"] in ("start", "resume"):
            quick = event.get("quick_fid", quick)
        for name, value in _values(event, quick).items():
            step = event["images_seen"]
            found.append(Metric(name, value, record.time(step, start_time), step))
    seen = {event["images_seen"] for event in events if event["event"] == "score"}
    speeds = [s for s in record.scores if s[0] in seen and s[2] > 0]
    found += [Metric(SPEED, speed, moment, step) for step, moment, speed in speeds]
    return sorted(found, key=lambda metric: metric.key != quick)


def _values(event: dict[str, Any], quick: str) -> dict[str, float]:
    match event["event"]:
        case "losses":
            losses = {f"loss/{name}": event[name] for name in ("discriminator", "generator")}
            optional = {key: event[key] for key in ("augment_probability",) if key in event}
            return {**losses, "accuracy": event["accuracy"], **optional}
        case "samples":
            return {"diversity": event["diversity"]}
        case "score":
            return {quick: event["quick_fid"]}
        case _:
            return {}


class Points:
    """The points that one run has.

    They are read from MLflow once for each key, and again only when another process added some.
    """

    def __init__(self) -> None:
        self.values: dict[str, dict[int, list[float]]] = {}

    def log_missing(
        self,
        client: MlflowClient,
        run: Run,
        expected: Iterable[Metric],
        tell: Callable[[], object],
    ) -> None:
        """Log those of `expected` that the run lacks.

        Values at one step are counted: a training that is repeated on a GPU has slightly other
        values, which are no new points; after a rollback, the history has two for one step.
        """
        by_key: dict[str, dict[int, list[Metric]]] = defaultdict(lambda: defaultdict(list))
        for metric in expected:
            by_key[metric.key][metric.step].append(metric)
        lacking: list[Metric] = []
        for key, steps in by_key.items():
            present = self._present(client, run, key)
            for step, metrics in steps.items():
                lacking += _lacking(metrics, present.get(step, []))
        lacking.sort(key=lambda metric: metric.step)
        for first in range(0, len(lacking), MAX_METRICS):
            batch = lacking[first : first + MAX_METRICS]
            client.log_batch(run.info.run_id, metrics=batch)
            tell()
            for metric in batch:
                self.values[metric.key].setdefault(metric.step, []).append(metric.value)

    def _present(self, client: MlflowClient, run: Run, key: str) -> dict[int, list[float]]:
        known = self.values.get(key)
        latest = run.data.metrics.get(key)
        if known is None or (latest is not None and (not known or known[max(known)][-1] != latest)):
            known = {}
            if latest is not None:
                for metric in client.get_metric_history(run.info.run_id, key):
                    known.setdefault(metric.step, []).append(metric.value)
            self.values[key] = known
        return known


def _lacking(expected: list[Metric], present: list[float]) -> list[Metric]:
    count = len(expected) - len(present)
    if count <= 0:
        return []
    left = Counter(map(repr, present))
    lacking = []
    for metric in expected:
        if left[repr(metric.value)] > 0:
            left[repr(metric.value)] -= 1
        else:
            lacking.append(metric)
    return lacking[-count:]
