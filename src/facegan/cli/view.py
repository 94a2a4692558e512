"""Commands that show results."""

from pathlib import Path
from typing import Annotated

import typer

from facegan.cli.stages import PARAMS, ParamsFile

app = typer.Typer()


@app.command()
def sample(
    generator: Annotated[str, typer.Argument(help="A models:/ URI or a .safetensors file.")],
    out: Annotated[Path, typer.Argument(help="PNG or JPEG file to write.")],
    count: Annotated[int, typer.Option(min=1, help="Number of images.")] = 64,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the first image.")] = 0,
) -> None:
    """Generate a grid of random images.

    Example: facegan sample models:/facegan-digits/Production digits.png --count 100
    """
    import torch

    from facegan.cli.device import choose_device, keep_freed_memory
    from facegan.core import pictures
    from facegan.models import sampling

    device = choose_device()
    keep_freed_memory()
    if generator.startswith("models:/"):
        from facegan.register import versions

        network = versions.load(generator, device)
    else:
        from facegan.models.files import load_generator

        network = load_generator(Path(generator), device)
    z = sampling.latents(count, network.latent_dim, seed)
    images = torch.cat(list(sampling.generate(network, z)))
    pictures.save_picture(pictures.grid(images), out)
    typer.echo(f"{out}: {count} images")


@app.command()
def summary(
    trained: Annotated[Path, typer.Argument(help="Folder that train wrote.")],
    metrics: Annotated[Path, typer.Argument(help="Scores that evaluate wrote.")],
    evaluation: Annotated[Path, typer.Argument(help="Folder that evaluate wrote.")],
    params: ParamsFile = PARAMS,
) -> None:
    """Show the scores, the registered version and the next steps.

    Example: facegan summary artifacts/train artifacts/metrics.json artifacts/evaluation
    """
    from rich.console import Console
    from rich.table import Table

    from facegan.params import load_params
    from facegan.register import summary as step

    name = load_params(params).register_.name
    table = Table(show_header=False, title=name, title_justify="left")
    for row in step.summary(trained, metrics, evaluation, name):
        table.add_row(*row)
    Console(highlight=False).print(table)
    typer.echo(
        "next steps, after . .venv/bin/activate:\n"
        f"  facegan sample models:/{name}/Production faces.png\n"
        "  mlflow ui --backend-store-uri sqlite:///mlflow.db\n"
        "  dvc exp run -S train.epochs=40 && dvc exp show"
    )
