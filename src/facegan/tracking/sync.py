"""Brings MLflow up to date with the trainings on disk."""

from collections.abc import Iterator
from pathlib import Path

from facegan.core.errors import FaceganError
from facegan.tracking import connection, record, runs


def sync(trainings: list[Path], experiment: str) -> Iterator[tuple[str, bool]]:
    """Mirror each training, and yield a line for it and whether that succeeded.

    A training that cannot be mirrored stops no other one.

    Args:
        trainings: folders with a `history.jsonl`.
        experiment: for trainings that have not recorded theirs.
    Raises:
        FaceganError: if MLflow cannot be reached.
    """
    client = connection.connect()
    for training in trainings:
        name = record.read_record(training).run.get("experiment", experiment)
        try:
            with connection.translate_errors():
                run = runs.mirror(client, training, name)
        except FaceganError as error:
            yield f"{training}: {error}", False
        else:
            yield f"{training}: run {run.info.run_name} of {name}, {run.info.status}", True
