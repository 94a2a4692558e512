"""Commands for the registered model's versions."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from facegan.cli.stages import PARAMS, ParamsFile
from facegan.core.errors import FaceganError

app = typer.Typer()

Name = Annotated[
    str | None, typer.Option("--name", help="Registered model; default: register.name.")
]
Number = Annotated[int, typer.Argument(min=1, help="Number of the version.")]


@contextmanager
def _registry(name: str | None, params: Path, create: bool = False) -> Iterator[tuple[Any, str]]:
    """MLflow's client, and the name of the registered model.

    Args:
        create: create a SQLite store if there is none.
    """
    from facegan.params import load_params
    from facegan.tracking import connection

    if name is None:
        name = load_params(params).register_.name
    elif not name.strip():
        raise FaceganError("--name is empty; name a registered model, or leave the option out")
    client = connection.connect(create)
    with connection.translate_errors():
        yield client, name


def print_table(
    columns: tuple[str, ...], rows: list[tuple[str, ...]], title: str | None = None
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(
        *(Column(column, overflow="fold") for column in columns),
        title=title,
        title_justify="left",
        box=box.SIMPLE,
        padding=0,
        show_edge=False,
    )
    for row in rows:
        table.add_row(*row)
    Console(highlight=False).print(table)


@app.callback(invoke_without_command=True)
def models(
    context: typer.Context,
    last: Annotated[int, typer.Option(min=1, help="How many versions, the newest first.")] = 50,
    name: Name = None,
    params: ParamsFile = PARAMS,
) -> None:
    """List the versions in MLflow's registry; look at one, compare two, go back.

    Example: facegan models --last 20
    """
    if context.invoked_subcommand is None:
        from facegan.register import catalog

        with _registry(name, params) as (client, found):
            tables = catalog.table(client, found, last)
        for title, rows in tables.items():  # not above: a full standard output is not the store's
            print_table(catalog.COLUMNS, rows, title)


@app.command()
def show(number: Number, name: Name = None, params: ParamsFile = PARAMS) -> None:
    """Show a version's model card and the gate's decision.

    Example: facegan models show 3
    """
    from facegan.register import catalog

    with _registry(name, params) as (client, found):
        text = catalog.show(client, found, number)
    typer.echo(text)


@app.command()
def history(name: Name = None, params: ParamsFile = PARAMS) -> None:
    """Show all promotions: who, when, from which run, under which protocol, why.

    Example: facegan models history
    """
    from facegan.register import catalog

    with _registry(name, params) as (client, found):
        lines = list(catalog.promotions(client, found))
    for line in lines:
        typer.echo(line)


@app.command()
def rollback(
    number: Annotated[
        int | None, typer.Argument(min=1, help="Default: the champion before.")
    ] = None,
    name: Name = None,
    params: ParamsFile = PARAMS,
) -> None:
    """Make another version champion. It stays until a better one is registered.

    Example: facegan models rollback 2
    """
    from facegan.register import catalog

    with _registry(name, params) as (client, found):
        lines = list(catalog.make_champion(client, found, number))
    for line in lines:
        typer.echo(line)


@app.command()
def approve(number: Number, name: Name = None, params: ParamsFile = PARAMS) -> None:
    """Promote a version that waits for approval, with register.approval: manual.

    Example: facegan models approve 3
    """
    from facegan.register import catalog

    with _registry(name, params) as (client, found):
        lines = list(catalog.approve(client, found, number))
    for line in lines:
        typer.echo(line)


@app.command()
def diff(
    first: Number,
    second: Number,
    out: Annotated[
        Path | None, typer.Option(help="PNG of both on the same latents; default: none.")
    ] = None,
    name: Name = None,
    params: ParamsFile = PARAMS,
) -> None:
    """Show what differs between two versions: parameters, data, code, scores.

    Example: facegan models diff 2 3 --out both.png
    """
    from facegan.register import compare

    with _registry(name, params) as (client, found):
        rows = compare.differences(client, found, first, second)
    print_table(("", f"version {first}", f"version {second}"), list(rows))
    if out is not None:
        from facegan.cli.device import choose_device

        with _registry(name, params) as (client, found):
            compare.picture(client, found, (first, second), out, choose_device())
        typer.echo(f"{out}: left version {first}, right version {second}")


@app.command()
def lineage(number: Number, name: Name = None, params: ParamsFile = PARAMS) -> None:
    """Show what made a version, and the commands that make it again.

    Example: facegan models lineage 3
    """
    from facegan.register import lineage as origins

    with _registry(name, params) as (client, found):
        rows, commands, missing = origins.lineage(client, found, number)
    for key, value in rows:
        typer.echo(f"{key}: {value}")
    typer.echo("to reproduce it:")
    for command in commands:
        typer.echo(f"  {command}")
    for line in missing:
        typer.echo(f"not at hand: {line}")


@app.command()
def export(
    number: Number,
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    name: Name = None,
    params: ParamsFile = PARAMS,
) -> None:
    """Write a version's files, tags and card into a folder, for another server.

    Example: facegan models export 3 version-3
    """
    from facegan.register import transfer

    with _registry(name, params) as (client, found):
        transfer.export(client, found, number, out)
    typer.echo(f"{out}: {found} version {number}; facegan models import {out} registers it")


@app.command("import")
def import_version(
    folder: Annotated[Path, typer.Argument(help="Folder that export wrote.")],
    name: Name = None,
    params: ParamsFile = PARAMS,
) -> None:
    """Register an exported version, without a role.

    Example: facegan models import version-3
    """
    from facegan.register import transfer

    with _registry(name, params, create=True) as (client, found):
        number, is_new = transfer.import_version(client, found, folder)
    state = "imported" if is_new else "registered already"
    typer.echo(
        f"{found} version {number}: {state}; facegan models rollback {number} makes it champion"
    )


@app.command()
def repair(
    number: Number,
    trained: Annotated[
        Path | None,
        typer.Argument(help="Folder of its training; by default, the networks of the version."),
    ] = None,
    name: Name = None,
    params: ParamsFile = PARAMS,
) -> None:
    """Export a version again, with the installed torch, and upload its files.

    Example: facegan models repair 3 artifacts/train
    """
    from facegan.register import registry, transfer

    with _registry(name, params) as (client, found):
        version = registry.require(client, found, number)[1]
        transfer.repair(client, version, trained)
    typer.echo(f"{found} version {number}: uploaded again")


@app.command()
def saw(
    sha256: Annotated[str, typer.Argument(help="Of the photograph's file; or how it begins.")],
    dataset: Annotated[
        Path | None,
        typer.Option(help="Packed dataset at hand; others are looked up in DVC's cache."),
    ] = None,
    name: Name = None,
    params: ParamsFile = PARAMS,
) -> None:
    """List the versions that trained on a photograph.

    Example: facegan models saw 4e1f00c2 --dataset artifacts/dataset
    """
    from facegan.register import photographs

    with _registry(name, params) as (client, found):
        seen, unknown = photographs.saw(client, found, sha256, dataset)
    for number, status in seen.items():
        typer.echo(f"version {number}: {status}")
    if not seen:
        typer.echo("no version whose dataset is at hand has it")
    if unknown:
        numbers = ", ".join(map(str, unknown))
        typer.echo(f"unknown, because their datasets are not at hand (dvc fetch): {numbers}")
