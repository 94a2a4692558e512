"""Commands that show results."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from facegan.cli.stages import PARAMS, ParamsFile

app = typer.Typer()


@app.command()
def score(
    images: Annotated[
        str,
        typer.Argument(help="Folder, zip or tar archive, IDX file, or s3://bucket/prefix."),
    ],
    reference: Annotated[
        Path | None,
        typer.Option(help="Statistics that reference wrote; default: the official ones here."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, as in metrics.json.")] = False,
) -> None:
    """Score images of any tool under the protocol of evaluate: FID, KID, precision, recall.

    They must have the size and channels of the reference's; an image that cannot be read is an
    error.

    Example: facegan score samples.zip --json
    """
    import json as encoder

    from facegan.cli.device import choose_device, keep_freed_memory
    from facegan.cli.progress import Reporter
    from facegan.core.project import stage_arguments
    from facegan.evaluate import rows
    from facegan.evaluate import score as step
    from facegan.evaluate.image_set import read_images

    device = choose_device()
    keep_freed_memory()
    found = step.Reference.load(reference or Path(stage_arguments("reference")[-1]))
    with Reporter("read") as report:
        pixels = read_images(images, found.statistics.metadata["shape"], report)
    with Reporter("score") as report:
        scores = step.score(pixels, found, device, report)
    if scores is None:
        return
    if json:
        for warning in scores["warnings"]:
            typer.echo(f"score: {warning}", err=True)
        typer.echo(encoder.dumps(scores, indent=2))
    else:
        _print_table(images, rows.score_rows(scores))


def _print_table(title: str, rows: Iterable[tuple[str, str]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_header=False, title=escape(title), title_justify="left")
    for row in rows:
        table.add_row(*map(escape, row))
    Console(highlight=False).print(table)


@app.command()
def summary(
    trained: Annotated[Path, typer.Argument(help="Folder that train wrote.")],
    metrics: Annotated[Path, typer.Argument(help="Scores that evaluate wrote.")],
    evaluation: Annotated[Path, typer.Argument(help="Folder that evaluate wrote.")],
    params: ParamsFile = PARAMS,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print a page of Markdown, with samples.png in it.")
    ] = False,
) -> None:
    """Show the scores, the registered version and the next steps.

    Example: facegan summary artifacts/train artifacts/metrics.json artifacts/evaluation
    """
    from facegan.params import load_params
    from facegan.register import report
    from facegan.register import summary as step
    from facegan.tracking import connection, ui

    name = load_params(params).register_.name
    rows = step.summary(trained, metrics, evaluation, name)
    address = ui.remote_address(connection.tracking_uri())
    pages = ui.pages(address, name, dict(rows).get("run"))
    if markdown:
        typer.echo(report.markdown(name, rows, pages, evaluation / "samples.png"))
        return
    _print_table(name, rows)
    typer.echo(
        "next steps, after . .venv/bin/activate:\n"
        "  facegan sample faces.png   # interpolate, film, project, trace: docs/faces.md\n"
        "  dvc exp run -S train.epochs=40 && dvc exp show\n"
        "  facegan ui   # MLflow, with these pages:"
    )
    for title, page in pages:
        typer.echo(f"    {title:<12}{page}")
