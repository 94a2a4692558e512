"""The command that exports a generator for browsers."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from facegan.cli.faces import GENERATORS, split
from facegan.cli.stages import PARAMS, ParamsFile

app = typer.Typer()


@app.command(no_args_is_help=True)
def export(
    where: Annotated[
        list[str],
        typer.Argument(metavar="[GENERATOR] DIR", help=f"{GENERATORS} DIR is a new folder."),
    ],
    params: ParamsFile = PARAMS,
) -> None:
    """Write a page that draws faces in the browser, for any static host, and the generator as ONNX.

    Example: facegan export models:/facegan-digits/3 page
    """
    import torch

    from facegan.cli.progress import Reporter
    from facegan.core.outputs import check_output_folder
    from facegan.export import folder
    from facegan.sample import opening

    name, (out,) = split(where, "DIR")
    address = opening.address(name, params)
    inputs = () if address.startswith(opening.URI) else (Path(address),)
    check_output_folder(Path(out), folder.MARKER, inputs)
    folder.require()
    with Reporter("export") as report:
        opened = opening.open_generator(address, torch.device("cpu"), report)
        folder.export(opened, Path(out), report)
    command = shlex.join(["python", "-m", "http.server", "--directory", out])
    typer.echo(f"{out}: {opened.title}; to look at it: {command}")
