"""Commands for the stages, their input and their parameters."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facegan.core.addresses import public
from facegan.core.errors import FaceganError
from facegan.core.project import in_project, project_root

if TYPE_CHECKING:
    import torch

app = typer.Typer()

Checkpoints = Annotated[
    Path,
    typer.Option(
        envvar="FACEGAN_CHECKPOINTS",
        default_factory=lambda: project_root() / "checkpoints",
        callback=in_project,
        show_default="checkpoints beside dvc.yaml",
        help="Folder of checkpoints.",
    ),
]
ParamsFile = Annotated[Path, typer.Option("--params", help="Parameter file.")]
PARAMS = Path("params.yaml")
Budget = Annotated[
    float,
    typer.Option(
        "--checkpoints-budget",
        envvar="FACEGAN_CHECKPOINTS_BUDGET",
        min=0,
        help="GB that finished trainings may keep in the folder of checkpoints.",
    ),
]
Finish = Annotated[
    bool,
    typer.Option(
        "--finish",
        envvar="FACEGAN_FINISH",
        help="End an interrupted training at its last checkpoint; write its best generator.",
    ),
]
Resume = Annotated[
    Path | None,
    typer.Option(
        envvar="FACEGAN_RESUME",
        callback=lambda folder: folder and in_project(folder),
        help="Resume the training in this folder, even with other code, or fail.",
    ),
]


@app.command()
def fetch(
    source: Annotated[
        str,
        typer.Argument(
            help="digits, mnist, celeba, inception, a folder, file or archive, s3://..."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the photographs.")] = Path("data"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be fetched.")] = False,
) -> None:
    """Fetch photographs into data/. An interrupted s3:// fetch resumes.

    An archive stays an archive. `inception` fetches the Inception weights that published FIDs use.

    Example: facegan fetch s3://bucket/faces --dry-run
    """
    from facegan.cli.progress import Reporter
    from facegan.fetch import inception as weights
    from facegan.fetch import stage as step
    from facegan.presets.auto import FEW

    inception = source == "inception"
    if inception and out != Path("data"):
        raise FaceganError(
            "--out applies to photographs only; for the weights, set FACEGAN_INCEPTION=PATH"
        )
    if dry_run:
        typer.echo(weights.preview() if inception else step.preview(source, out))
        return
    with Reporter("fetch") as report:
        if inception:
            path = weights.fetch_inception(report)
            result = f"{path}: the Inception weights that published FIDs use"
        else:
            num_inputs = step.fetch(source, out, report)
            result = f"{out}: {num_inputs:,} inputs from {public(source)}; to track them: "
            result += f"dvc add {out}; for a params.yaml that fits them: facegan preset auto"
            if num_inputs < FEW:
                result += (
                    f"\n{out}: of fewer than {FEW:,} photographs, expect visible defects, and "
                    "copies if they are very few; that params.yaml works against both, and more "
                    "photographs do more"
                )
    typer.echo(result)


@app.command()
def preset(
    name: Annotated[
        str,
        typer.Argument(
            help="auto (by number and size of the photographs), digits, mnist, celeba32, celeba64, "
            "faces128 or dcgan-paper."
        ),
    ],
    data: Annotated[
        str | None,
        typer.Argument(help="For auto: a folder, or s3://bucket/prefix. Default: data."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a modified file.")] = False,
    params: ParamsFile = PARAMS,
) -> None:
    """Write a preset to params.yaml.

    Example: facegan preset auto
    """
    from facegan.params import preset_text, write_params
    from facegan.presets import auto

    result = f"preset {name}"
    if name == "auto":
        from facegan.photos.inputs import open_root
        from facegan.presets.survey import survey

        text = auto.auto_preset(survey(open_root(data or "data")))
        result = auto.title(text)
    elif data is not None:
        raise FaceganError(f"{data}: only preset auto looks at photographs")
    else:
        text = preset_text(name)
    write_params(text, params, force or auto.is_auto(params))
    typer.echo(f"{params}: {result}")


@app.command()
def preprocess(
    data: Annotated[str, typer.Argument(help="Folder of photographs, or s3://bucket/prefix.")],
    out: Annotated[Path, typer.Argument(help="Folder for the packed dataset.")],
    params: ParamsFile = PARAMS,
    executor: Annotated[
        str,
        typer.Option(envvar="FACEGAN_EXECUTOR", help="processes, or a Dask scheduler: tcp://..."),
    ] = "processes",
    workers: Annotated[
        int | None,
        typer.Option(envvar="FACEGAN_WORKERS", min=1, help="Processes; default: one per core."),
    ] = None,
) -> None:
    """Pack photographs into one uint8 array, with a held-out set, an index and a report.

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
    dataset: Annotated[Path, typer.Argument(help="Folder of the packed dataset.")],
    quick: Annotated[Path, typer.Argument(help="Statistics for the quick FID.")],
    official: Annotated[Path, typer.Argument(help="Statistics for the official FID.")],
    params: ParamsFile = PARAMS,
) -> None:
    """Compute feature statistics of the real images.

    Example: facegan reference artifacts/dataset quick.safetensors official.safetensors
    """
    from facegan.cli.device import choose_device, keep_freed_memory
    from facegan.cli.progress import Reporter
    from facegan.params import load_params
    from facegan.reference import stage as step

    settings, device = load_params(params), choose_device()
    keep_freed_memory()
    with Reporter("reference") as report:
        step.reference(
            dataset, quick, official, settings.reference, device, report, settings.train.batch_size
        )


@app.command()
def train(
    dataset: Annotated[Path, typer.Argument(help="Folder of the packed dataset.")],
    quick: Annotated[Path, typer.Argument(help="Statistics for the quick FID.")],
    out: Annotated[Path, typer.Argument(help="Folder for networks, history and samples.")],
    checkpoints: Checkpoints,
    params: ParamsFile = PARAMS,
    resume: Resume = None,
    budget: Budget = 10.0,
    finish: Finish = False,
) -> None:
    """Train a generator. An interrupted training resumes from its last checkpoint.

    Example: facegan train artifacts/dataset artifacts/reference/quick.safetensors artifacts/train
    """
    from facegan.cli.command import command_line
    from facegan.cli.device import choose_device, keep_freed_memory
    from facegan.cli.progress import Reporter
    from facegan.params import load_params
    from facegan.register.init_from import pretrained_networks
    from facegan.tracking.mirror import Mirror
    from facegan.train import stage as step

    settings = load_params(params)
    name, device = settings.register_.name, choose_device()
    keep_freed_memory()
    with (
        pretrained_networks(settings.train.init_from) as init,
        Reporter("train") as report,
        Mirror(name, report, str(device)) as mirror,
    ):
        step.train(
            dataset, quick, out, settings.train, settings.seed, device, checkpoints, mirror,
            resume, init, int(budget * 1e9), settings.reference.quick, command_line(), finish,
        )  # fmt: skip


@app.command()
def evaluate(
    trained: Annotated[
        Path, typer.Argument(help="Folder that train wrote, or an unfinished training's.")
    ],
    dataset: Annotated[Path, typer.Argument(help="Folder of the packed dataset.")],
    official: Annotated[Path, typer.Argument(help="Statistics for the official FID.")],
    out: Annotated[Path, typer.Argument(help="Folder for sample grids and plots.")],
    metrics: Annotated[Path, typer.Argument(help="JSON file for the scores.")],
    params: ParamsFile = PARAMS,
) -> None:
    """Score the generator under a named protocol.

    Example: facegan evaluate artifacts/train artifacts/dataset official.safetensors out out.json
    """
    from facegan.cli.device import choose_device, keep_freed_memory
    from facegan.cli.progress import Reporter
    from facegan.evaluate import stage as step
    from facegan.params import load_params
    from facegan.train.export import exported

    settings, device = load_params(params), choose_device()
    keep_freed_memory()
    extractor = settings.reference.official
    with Reporter("evaluate") as report, exported(trained, report) as folder:
        step.evaluate(
            folder, dataset, official, out, metrics, settings.evaluate, extractor, device, report
        )


@app.command()
def register(
    trained: Annotated[Path, typer.Argument(help="Folder that train wrote.")],
    metrics: Annotated[Path, typer.Argument(help="Scores that evaluate wrote.")],
    official: Annotated[Path, typer.Argument(help="Statistics for the official FID.")],
    params: ParamsFile = PARAMS,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Explain the gate's decision; change nothing.")
    ] = False,
) -> None:
    """Register the generator as a version in MLflow; promote it if the promotion gate passes.

    Example: facegan register artifacts/train artifacts/metrics.json official.safetensors
    """
    from facegan.params import load_params
    from facegan.register import stage

    settings = load_params(params).register_
    if dry_run:
        for line in stage.preview(trained, metrics, official, settings, _device):
            typer.echo(line)
        return
    result = stage.register(trained, metrics, official, settings, _device)
    for message in result.messages:
        typer.echo(f"register: {message}", err=True)
    typer.echo(f"{result.name} version {result.version}: {result.roles} ({result.reason})")


def _device() -> "torch.device":
    from facegan.cli.device import choose_device, keep_freed_memory

    keep_freed_memory()
    return choose_device()
