"""The command that deletes checkpoints."""

import datetime
from typing import Annotated

import typer

from facegan.cli.stages import Checkpoints

app = typer.Typer()


@app.command()
def gc(
    checkpoints: Checkpoints,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Unfinished trainings too.")
    ] = False,
    older_than: Annotated[
        float, typer.Option(min=0, help="Only trainings unused for at least this many days.")
    ] = 0.0,
    delete: Annotated[bool, typer.Option("--delete", help="Delete; without it, list.")] = False,
) -> None:
    """List the trainings in the folder of checkpoints, or delete them. A running one is kept.

    Example: facegan gc --unfinished --older-than 30
    """
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
