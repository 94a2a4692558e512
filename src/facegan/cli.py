"""The `facegan` command. It parses, calls a step and prints; modules load when a step needs them,
so that `facegan --help` is quick.
"""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from facegan.errors import FaceganError, Stopped

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From a folder of photographs to the best face generator it can train.",
)

ParamsFile = Annotated[Path, typer.Option("--params", help="The parameters.")]
PARAMS = Path("params.yaml")


@app.command()
def fetch(
    source: Annotated[
        str,
        typer.Argument(help="digits, mnist, celeba, inception, folder, file, archive, s3://..."),
    ],
    out: Annotated[Path, typer.Option(help="Where the photographs go.")] = Path("data"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would come.")] = False,
) -> None:
    """Bring photographs in. An archive stays an archive; s3:// goes on where it was broken off.
    `inception` is no photographs, but the network that published FIDs are computed with.

    Example: facegan fetch s3://bucket/faces --dry-run
    """
    from facegan import sources, weights
    from facegan.progress import Reporter

    inception = source == "inception"
    if inception and out != Path("data"):
        raise FaceganError("--out: is for photographs; FACEGAN_INCEPTION=PATH moves the weights")
    if dry_run:
        typer.echo(weights.preview() if inception else sources.preview(source, out))
        return
    with Reporter("fetch") as report:
        if inception:
            path = weights.fetch_inception(report)
            result = f"{path}: the weights that published FIDs are computed with"
        else:
            number = sources.fetch(source, out, report)
            result = f"{out}: {number:,} inputs from {source}; what changed: dvc add {out}"
    typer.echo(result)


@app.command()
def preset(
    name: Annotated[
        str, typer.Argument(help="digits, mnist, celeba32, celeba64, faces128 or dcgan-paper.")
    ],
    force: Annotated[bool, typer.Option("--force", help="Overwrite local changes.")] = False,
    params: ParamsFile = PARAMS,
) -> None:
    """Write a known-good params.yaml.

    Example: facegan preset celeba64
    """
    from facegan.params import write_preset

    write_preset(name, params, force)
    typer.echo(f"{params}: preset {name}")


@app.command()
def preprocess(
    data: Annotated[str, typer.Argument(help="The folder of photographs, or s3://bucket/prefix.")],
    out: Annotated[Path, typer.Argument(help="The folder for the packed images.")],
    params: ParamsFile = PARAMS,
    executor: Annotated[
        str,
        typer.Option(envvar="FACEGAN_EXECUTOR", help="processes, or a Dask scheduler's tcp://..."),
    ] = "processes",
    workers: Annotated[
        int | None,
        typer.Option(envvar="FACEGAN_WORKERS", min=1, help="Processes; the cores by default."),
    ] = None,
) -> None:
    """Pack photographs into one uint8 array, with a held-out part, an index and a report.

    Example: facegan preprocess data artifacts/dataset --workers 4
    """
    from facegan import preprocess as step
    from facegan.params import load_params
    from facegan.progress import Reporter

    settings = load_params(params).preprocess
    with Reporter("preprocess") as report:
        step.preprocess(data, out, settings, executor, workers, report)


@app.command()
def reference(
    dataset: Annotated[Path, typer.Argument(help="The folder of packed images.")],
    quick: Annotated[Path, typer.Argument(help="Statistics for the quick FID.")],
    official: Annotated[Path, typer.Argument(help="Statistics for the official FID.")],
    params: ParamsFile = PARAMS,
) -> None:
    """Measure the real images' features, once for a data set.

    Example: facegan reference artifacts/dataset quick.safetensors official.safetensors
    """
    from facegan import reference as step
    from facegan.device import choose_device
    from facegan.params import load_params
    from facegan.progress import Reporter

    settings = load_params(params).reference
    with Reporter("reference") as report:
        step.reference(dataset, quick, official, settings, choose_device(), report)


@app.command()
def train(
    dataset: Annotated[Path, typer.Argument(help="The folder of packed images.")],
    quick: Annotated[Path, typer.Argument(help="Statistics for the quick FID.")],
    out: Annotated[Path, typer.Argument(help="The folder for networks, history and samples.")],
    params: ParamsFile = PARAMS,
    checkpoints: Annotated[
        Path, typer.Option(envvar="FACEGAN_CHECKPOINTS", help="Where a training goes on from.")
    ] = Path("checkpoints"),
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the training in this folder, or not at all.")
    ] = None,
) -> None:
    """Train a generator; an interrupted training goes on from its last checkpoint.

    Example: facegan train artifacts/dataset artifacts/reference/quick.safetensors artifacts/train
    """
    from facegan import train as step
    from facegan.device import choose_device
    from facegan.initial import initial_networks
    from facegan.params import load_params
    from facegan.progress import Reporter
    from facegan.tracking import Mirror

    settings = load_params(params)
    name, device = settings.register_.name, choose_device()
    with (
        initial_networks(settings.train.init_from) as init,
        Reporter("train") as report,
        Mirror(name, report) as mirror,
    ):
        step.train(
            dataset, quick, out, settings.train, settings.seed, device, checkpoints, mirror,
            resume, init,
        )  # fmt: skip


@app.command()
def evaluate(
    trained: Annotated[Path, typer.Argument(help="The folder that train wrote.")],
    dataset: Annotated[Path, typer.Argument(help="The folder of packed images.")],
    official: Annotated[Path, typer.Argument(help="Statistics for the official FID.")],
    out: Annotated[Path, typer.Argument(help="The folder for pictures.")],
    metrics: Annotated[Path, typer.Argument(help="The JSON file for the scores.")],
    params: ParamsFile = PARAMS,
) -> None:
    """Score the generator under a named protocol.

    Example: facegan evaluate artifacts/train artifacts/dataset official.safetensors out out.json
    """
    from facegan import evaluate as step
    from facegan.device import choose_device
    from facegan.params import load_params
    from facegan.progress import Reporter

    settings, device = load_params(params), choose_device()
    asked = settings.reference.official
    with Reporter("evaluate") as report:
        step.evaluate(
            trained, dataset, official, out, metrics, settings.evaluate, asked, device, report
        )


@app.command()
def register(
    trained: Annotated[Path, typer.Argument(help="The folder that train wrote.")],
    metrics: Annotated[Path, typer.Argument(help="The scores that evaluate wrote.")],
    official: Annotated[Path, typer.Argument(help="Statistics for the official FID.")],
    params: ParamsFile = PARAMS,
) -> None:
    """Make the generator a version in MLflow's registry; promote it if it beats the champion.

    Example: facegan register artifacts/train artifacts/metrics.json official.safetensors
    """
    from facegan import registry
    from facegan.device import choose_device
    from facegan.params import load_params

    name = load_params(params).register_.name
    result = registry.register(trained, metrics, official, name, choose_device())
    aliases = "".join(f", @{alias}" for alias in result.aliases)
    typer.echo(f"{name} version {result.version}: {result.stage}{aliases} ({result.reason})")


@app.command()
def sample(
    generator: Annotated[str, typer.Argument(help="A models:/ URI or a .safetensors file.")],
    out: Annotated[Path, typer.Argument(help="The PNG to write.")],
    count: Annotated[int, typer.Option(min=1, help="How many images.")] = 64,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Another seed, other images.")
    ] = 0,
) -> None:
    """Draw random images in a grid.

    Example: facegan sample models:/facegan-digits/Production digits.png --count 100
    """
    import torch

    from facegan import sampling
    from facegan.device import choose_device

    device = choose_device()
    if generator.startswith("models:/"):
        from facegan import registry

        network = registry.load(generator, device)
    else:
        from facegan.checkpoint import load_generator

        network = load_generator(Path(generator), device)
    z = sampling.latents(count, network.latent_dim, seed)
    images = torch.cat(list(sampling.draw(network, z)))
    sampling.save_picture(sampling.grid(images), out)
    typer.echo(f"{out}: {count} images")


@app.command()
def summary(
    trained: Annotated[Path, typer.Argument(help="The folder that train wrote.")],
    metrics: Annotated[Path, typer.Argument(help="The scores that evaluate wrote.")],
    evaluation: Annotated[Path, typer.Argument(help="The folder that evaluate wrote.")],
    params: ParamsFile = PARAMS,
) -> None:
    """Show the scores, the registered version and what to do next, as the artifacts have it.

    Example: facegan summary artifacts/train artifacts/metrics.json artifacts/evaluation
    """
    from rich.console import Console
    from rich.table import Table

    from facegan import summary as step
    from facegan.params import load_params

    name = load_params(params).register_.name
    table = Table(show_header=False, title=name, title_justify="left")
    for row in step.summary(trained, metrics, evaluation, name):
        table.add_row(*row)
    Console(highlight=False).print(table)
    typer.echo(
        "next, after . .venv/bin/activate:\n"
        f"  facegan sample models:/{name}/Production faces.png\n"
        "  mlflow ui --backend-store-uri sqlite:///mlflow.db\n"
        "  dvc exp run -S train.epochs=40 && dvc exp show"
    )


def _command_line() -> str:
    if "DVC_STAGE" in os.environ:  # which DVC sets for the commands of its stages
        return "dvc repro"
    command = shlex.join(["facegan", *sys.argv[1:]])
    if "TORCHELASTIC_RUN_ID" not in os.environ:  # which torchrun sets
        return command
    from facegan.distributed import command_line

    return command_line(command)


def main() -> None:
    """Run the command; a user's mistake ends it with one line and exit status 1."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        app(prog_name="facegan")
    except Stopped as error:
        again = _command_line()
        print(f"facegan: {error}; to go on: {again}", file=sys.stderr)
        sys.exit(1)
    except FaceganError as error:
        for line in str(error).splitlines():
            print(f"facegan: {line}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:  # a full disk, a folder without permission
        where = f"{error.filename}: " if error.filename else ""
        print(f"facegan: {where}{error.strerror or error}", file=sys.stderr)
        sys.exit(1)
