"""Commands for the stages, and for what they begin with."""

from pathlib import Path
from typing import Annotated

import typer

from facegan.core.errors import FaceganError

app = typer.Typer()

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
    from facegan.cli.progress import Reporter
    from facegan.fetch import inception as weights
    from facegan.fetch import stage as step

    inception = source == "inception"
    if inception and out != Path("data"):
        raise FaceganError("--out: is for photographs; FACEGAN_INCEPTION=PATH moves the weights")
    if dry_run:
        typer.echo(weights.preview() if inception else step.preview(source, out))
        return
    with Reporter("fetch") as report:
        if inception:
            path = weights.fetch_inception(report)
            result = f"{path}: the weights that published FIDs are computed with"
        else:
            number = step.fetch(source, out, report)
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
    from facegan.cli.progress import Reporter
    from facegan.params import load_params
    from facegan.preprocess import stage as step

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
    from facegan.cli.device import choose_device
    from facegan.cli.progress import Reporter
    from facegan.params import load_params
    from facegan.reference import stage as step

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
    from facegan.cli.device import choose_device
    from facegan.cli.progress import Reporter
    from facegan.params import load_params
    from facegan.register.init_from import pretrained_networks
    from facegan.tracking.runs import Mirror
    from facegan.train import stage as step

    settings = load_params(params)
    name, device = settings.register_.name, choose_device()
    with (
        pretrained_networks(settings.train.init_from) as init,
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
    from facegan.cli.device import choose_device
    from facegan.cli.progress import Reporter
    from facegan.evaluate import stage as step
    from facegan.params import load_params

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
    from facegan.cli.device import choose_device
    from facegan.params import load_params
    from facegan.register import stage

    name = load_params(params).register_.name
    result = stage.register(trained, metrics, official, name, choose_device())
    aliases = "".join(f", @{alias}" for alias in result.aliases)
    typer.echo(f"{name} version {result.version}: {result.stage}{aliases} ({result.reason})")
