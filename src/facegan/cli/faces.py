"""Commands that draw with a generator."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facegan.cli.stages import PARAMS, ParamsFile
from facegan.core.errors import FaceganError

if TYPE_CHECKING:
    from facegan.sample.opening import Opened

app = typer.Typer()

GENERATORS = (
    "GENERATOR is a models:/ URI, the number of a version, a .safetensors file, or a folder: "
    "train's, or an unfinished training's. Default: the champion of register.name."
)
Seed = Annotated[
    int | None, typer.Option(min=0, max=2**32 - 1, help="Of the first image. Default: 0.")
]
Seeds = Annotated[str | None, typer.Option(help="Seeds and ranges, such as 1,5-9.")]
Truncation = Annotated[
    float | None,
    typer.Option(
        min=0.01,
        help="Largest absolute value of a latent; lower is less diverse. Default: none.",
    ),
]


def split(
    arguments: list[str], *names: str, first: str = "GENERATOR"
) -> tuple[str | None, list[str]]:
    """Arguments -> the first one, which may be left out, and the others.

    Raises:
        BadParameter: if there are too few or too many.
    """
    extra = len(arguments) - len(names)
    if extra not in (0, 1):
        raise typer.BadParameter(f"expected [{first}] {' '.join(names)}")
    return (arguments[0] if extra else None), arguments[extra:]


def open_named(name: str | None, params: Path, step: str) -> "Opened":
    from facegan.cli.device import choose_device, keep_freed_memory
    from facegan.cli.progress import Reporter
    from facegan.sample import opening

    address = opening.address(name, params)
    device = choose_device()
    keep_freed_memory()
    with Reporter(step) as report:
        return opening.open_generator(address, device, report)


def choose_seeds(
    seeds: str | None, first: int | None, count: int | None, default: int, walks: int = 1
) -> list[int]:
    """Those of `--seeds`, or consecutive ones from `--seed`, `--count` for each walk."""
    from facegan.models.sampling import MAX_SEED
    from facegan.sample.latents import MAX_COUNT, parse_seeds

    if seeds is not None:
        if first is not None or count is not None:
            raise FaceganError(f"--seeds {seeds}: valid: without --seed and --count")
        return parse_seeds(seeds)
    seed, count = first or 0, (count or default) * walks
    if count > MAX_COUNT:
        raise FaceganError(f"{count:,} seeds: valid: at most {MAX_COUNT:,}")
    if seed + count - 1 > MAX_SEED:
        raise FaceganError(f"seeds {seed} to {seed + count - 1}: valid: 0 to {MAX_SEED}")
    return list(range(seed, seed + count))


@app.command(no_args_is_help=True)
def sample(
    where: Annotated[
        list[str],
        typer.Argument(
            metavar="[GENERATOR] OUT",
            help=f"{GENERATORS} OUT is a .png or .jpg, which gets a grid; a .zip of PNGs; a .npy "
            "of uint8 (n, H, W, C); - for its bytes on standard output; or a new folder of PNGs.",
        ),
    ],
    count: Annotated[int | None, typer.Option(min=1, help="Number of images. Default: 64.")] = None,
    seed: Seed = None,
    seeds: Seeds = None,
    truncation: Truncation = None,
    columns: Annotated[int | None, typer.Option(min=1, help="Of the grid.")] = None,
    caption: Annotated[
        bool, typer.Option("--caption", help="Write model, FID and protocol below the grid.")
    ] = False,
    params: ParamsFile = PARAMS,
) -> None:
    """Generate random images. A seed is one image of a generator, whatever the other options.

    Example: facegan sample faces.png --seeds 1,5-9 --truncation 2
    """
    from facegan.cli.progress import Reporter
    from facegan.sample import latents, metadata, renderer
    from facegan.sample.writing import Output

    name, (out,) = split(where, "OUT")
    chosen = choose_seeds(seeds, seed, count, default=64)
    output = Output(out, chosen, columns, caption)  # checked before anything is loaded
    opened = open_named(name, params, "sample")
    z = latents.latents(chosen, opened.network.latent_dim, truncation)
    with Reporter("sample") as report:
        output.write(
            renderer.Renderer(opened.network)(z),
            lambda some: metadata.describe(opened, some, truncation),
            opened.caption,
            report,
        )
    if out != "-":
        typer.echo(f"{out}: {len(chosen):,} images of {opened.title}")


@app.command(no_args_is_help=True)
def mix(
    where: Annotated[
        list[str],
        typer.Argument(
            metavar="[GENERATOR] OUT",
            help=f"{GENERATORS} Its architecture is modulated-resnet or stylegan2. OUT is a "
            ".png or .jpg.",
        ),
    ],
    coarse: Annotated[
        str, typer.Option(help="Seeds of the rows, such as 1,5-9: pose and shape of the face.")
    ],
    fine: Annotated[str, typer.Option(help="Seeds of the columns: colours and texture.")],
    below: Annotated[
        int | None,
        typer.Option(
            help="Pixels: layers with smaller feature maps are coarse. Default: 16; 28 for images "
            "of 28 pixels."
        ),
    ] = None,
    truncation: Truncation = None,
    caption: Annotated[
        bool, typer.Option("--caption", help="Write model, FID and protocol below the table.")
    ] = False,
    params: ParamsFile = PARAMS,
) -> None:
    """Mix styles: a table of images, with the coarse styles of rows and the fine ones of columns.

    Its first column and its first row are the images of the seeds themselves.

    Example: facegan mix mix.png --coarse 1-3 --fine 10-15
    """
    from facegan.cli.progress import Reporter
    from facegan.sample import mixing
    from facegan.sample.latents import parse_seeds

    name, (out,) = split(where, "OUT")
    rows, columns = parse_seeds(coarse, "--coarse"), parse_seeds(fine, "--fine")
    mixing.check(Path(out), rows, columns)
    opened = open_named(name, params, "mix")
    with Reporter("mix") as report:
        side = mixing.mix(opened, Path(out), rows, columns, below, truncation, caption, report)
    typer.echo(
        f"{out}: {len(rows):,} x {len(columns):,} mixtures of {opened.title}, coarse styles below "
        f"{side} pixels"
    )


@app.command()
def trace(
    picture: Annotated[Path, typer.Argument(help="A PNG or JPEG that facegan wrote.")],
    params: ParamsFile = PARAMS,
) -> None:
    """Show which version drew a picture, and the run, data and code that made the version.

    Example: facegan trace faces.png
    """
    from facegan.params import load_params
    from facegan.sample import metadata
    from facegan.sample import trace as step

    text = metadata.read(picture)  # first: it needs no registry
    name = text.get(metadata.MODEL) or load_params(params).register_.name
    for key, value in step.trace(text, name):
        typer.echo(f"{key}: {value}")


@app.command(no_args_is_help=True)
def project(
    where: Annotated[
        list[str],
        typer.Argument(
            metavar="[GENERATOR] PHOTO OUT",
            help=f"{GENERATORS} PHOTO is cropped as preprocess does. OUT is a .png or .jpg of the "
            "photograph and the image found; or a .gif, .webp or .mp4 of the course.",
        ),
    ],
    steps: Annotated[int, typer.Option(min=1, max=10_000, help="Of the optimisation.")] = 300,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the first latents.")] = 0,
    latent: Annotated[
        Path | None, typer.Option(help=".npy to write the latent to; default: none.")
    ] = None,
    params: ParamsFile = PARAMS,
) -> None:
    """Find the latent whose image is nearest to a photograph.

    The image is a look-alike, not the person: do not use it to identify anybody, or to tell whether
    a photograph was trained on (facegan models saw does that).

    Example: facegan project photo.jpg nearest.png
    """
    from facegan.cli.progress import Reporter
    from facegan.params import load_params
    from facegan.sample import photograph, projection, projection_output

    name, (photo, out) = split(where, "PHOTO", "OUT")
    projection_output.check(Path(photo), Path(out), latent)
    opened = open_named(name, params, "project")
    pixels = photograph.read_photograph(Path(photo), load_params(params).preprocess, opened.network)
    with Reporter("project") as report:
        found = projection.project(opened.network, pixels, steps, seed, report)
    projection_output.write(found, pixels, Path(out), latent)
    typer.echo(
        f"{out}: left the photograph, right an image of {opened.title}; they differ by "
        f"{found.distance:.1f} grey levels (nearest random image: {found.typical:.1f})"
    )
    typer.echo("it is a look-alike that this generator can draw, not the person")
