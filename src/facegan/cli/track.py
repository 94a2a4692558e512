"""Commands for MLflow: its UI, and bringing it up to date."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from facegan.cli.stages import PARAMS, ParamsFile
from facegan.core.errors import FaceganError

app = typer.Typer()


@app.command()
def sync(
    trainings: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders of trainings; by default all in the folder of checkpoints."),
    ] = None,
    params: ParamsFile = PARAMS,
) -> None:
    """Bring MLflow up to date with the trainings on disk, for example after an outage.

    Example: facegan sync checkpoints/1f0c2a7b9d3e4c55
    """
    from facegan.params import load_params
    from facegan.tracking import record, sync

    folders = trainings or record.trainings(record.checkpoints_folder())
    if not folders:
        raise FaceganError(f"{record.checkpoints_folder()}: no trainings; name their folders")
    results = list(_echoed(sync.sync(folders, load_params(params).register_.name)))
    if not all(results):
        raise typer.Exit(1)


@app.command()
def ui(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="By default 5000, or a free one.")
    ] = None,
    browser: Annotated[
        bool, typer.Option(help="Open the pages; only if this is a terminal.")
    ] = True,
    params: ParamsFile = PARAMS,
) -> None:
    """Start MLflow's UI on this machine, and print the addresses of this project's pages.

    Ctrl-C stops it. With MLFLOW_TRACKING_URI=http://..., the pages are that server's.

    Example: facegan ui --port 5001
    """
    import sys
    import webbrowser

    from facegan.params import load_params
    from facegan.tracking import ui as step

    name = load_params(params).register_.name
    with step.server(port) as (address, process):
        pages = step.pages(address, name)
        for title, page in pages:
            typer.echo(f"{title:<12}{page}")
        if browser and sys.stdout.isatty():
            webbrowser.open(pages[0][1])
        if process is not None:
            typer.echo("Ctrl-C stops the server")
            step.wait(process)


def _echoed(results: Iterable[tuple[str, bool]]) -> Iterator[bool]:
    for line, succeeded in results:
        typer.echo(line, err=not succeeded)
        yield succeeded
