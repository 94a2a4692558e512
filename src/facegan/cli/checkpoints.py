"""The command that deletes what is no longer needed: trainings, MLflow runs, DVC's cache."""

import datetime
from pathlib import Path
from typing import Annotated

import typer

from facegan.cli.stages import PARAMS, Checkpoints, ParamsFile

app = typer.Typer()


@app.command()
def gc(
    checkpoints: Checkpoints,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Those of unfinished trainings too.")
    ] = False,
    runs: Annotated[
        bool, typer.Option("--runs", help="MLflow runs without a version too.")
    ] = False,
    cache: Annotated[
        bool, typer.Option("--cache", help="Print the command that frees DVC's cache.")
    ] = False,
    older_than: Annotated[
        float, typer.Option(min=0, help="Only what is unused for at least this many days.")
    ] = 0.0,
    delete: Annotated[bool, typer.Option("--delete", help="Delete; without it, list.")] = False,
    params: ParamsFile = PARAMS,
) -> None:
    """List trainings in the folder of checkpoints, and MLflow runs, or delete them.

    What is running, or what a version needs, is kept. Deleted MLflow runs can be restored until
    `mlflow gc`.

    Example: facegan gc --unfinished --runs --cache --older-than 30
    """
    _trainings(checkpoints, unfinished, older_than, delete)
    if runs:
        _runs(params, unfinished, older_than, delete)
    if cache:
        _cache(params)


def _trainings(checkpoints: Path, unfinished: bool, older_than: float, delete: bool) -> None:
    from facegan.train import retention

    now = datetime.datetime.now().timestamp()
    freed = 0
    for run in retention.list_runs(checkpoints):
        days = (now - run.last_used) / 86_400
        wanted = run.state == "finished" or (unfinished and run.state == "unfinished")
        chosen = wanted and days >= older_than
        if chosen:
            freed += run.size
            if delete:
                retention.remove(run.folder)
        verb = "kept" if not chosen else "deleted" if delete else "would be deleted"
        typer.echo(
            f"{run.folder}: {run.state}, {run.images_seen:,} images seen, "
            f"{run.size / 1e6:,.1f} MB, used {days:.1f} days ago: {verb}"
        )
    hint = "" if delete or not freed else "; --delete deletes them"
    typer.echo(f"{freed / 1e6:,.1f} MB {'freed' if delete else 'to free'}{hint}")


def _runs(params: Path, unfinished: bool, older_than: float, delete: bool) -> None:
    from facegan.params import load_params
    from facegan.register import unused
    from facegan.tracking import connection

    client, name = connection.connect(create=False), load_params(params).register_.name
    with connection.translate_errors():
        found = unused.runs_without_version(client, name, older_than, unfinished)
        for run in found:
            if delete:
                client.delete_run(run.info.run_id)
            started = datetime.datetime.fromtimestamp(run.info.start_time / 1000, datetime.UTC)
            verb = "deleted" if delete else "would be deleted"
            typer.echo(
                f"{run.info.run_name} ({run.info.run_id}): {run.info.status.lower()}, "
                f"{started:%Y-%m-%d}, no version: {verb}"
            )
    ending = "; mlflow runs restore --run-id ID brings one back" * (delete and bool(found))
    typer.echo(f"{len(found)} MLflow runs without a version{ending}")


def _cache(params: Path) -> None:
    from facegan.params import load_params
    from facegan.register import unused
    from facegan.tracking import connection

    name, lost = load_params(params).register_.name, dict[int, str]()
    if connection.has_store():
        client = connection.connect(create=False)
        with connection.translate_errors():
            lost = unused.uncommitted_data(client, name)
    for number, md5 in lost.items():
        typer.echo(f"{name} version {number} needs {md5}, which no commit here has")
    if lost:
        typer.echo("do not run dvc gc: commit their data.dvc and dvc.lock first, or fetch them")
    else:
        typer.echo(f"to free DVC's cache: {unused.collect_command()} --dry; then without --dry")
