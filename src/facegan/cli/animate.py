"""Commands that write animations."""

from pathlib import Path
from typing import Annotated

import typer

from facegan.cli.faces import GENERATORS, Seed, Seeds, Truncation, choose_seeds, open_named, split
from facegan.cli.stages import PARAMS, ParamsFile

app = typer.Typer()

ANIMATION = "OUT is a .gif, .webp or .mp4."
Size = Annotated[
    int | None,
    typer.Option(min=16, max=4096, help="Pixels of the longer side. Default: the picture's."),
]
Count = Annotated[int | None, typer.Option(min=2, max=10_000, help="Seeds on a walk. Default: 6.")]
Fps = Annotated[float, typer.Option(help="Frames per second, at most 50.")]
Loop = Annotated[bool, typer.Option("--loop/--no-loop", help="Whether it starts again.")]


@app.command(no_args_is_help=True)
def interpolate(
    where: Annotated[
        list[str], typer.Argument(metavar="[GENERATOR] OUT", help=f"{GENERATORS} {ANIMATION}")
    ],
    count: Count = None,
    seed: Seed = None,
    seeds: Seeds = None,
    walks: Annotated[
        int, typer.Option(min=1, max=400, help="Walks side by side, of COUNT seeds each.")
    ] = 1,
    truncation: Truncation = None,
    seconds: Annotated[
        float, typer.Option(min=0.05, max=60, help="From one seed to the next.")
    ] = 1.0,
    fps: Fps = 25.0,
    loop: Loop = True,
    size: Size = None,
    caption: Annotated[
        bool, typer.Option("--caption", help="Write model, FID and protocol below.")
    ] = False,
    params: ParamsFile = PARAMS,
) -> None:
    """Morph from seed to seed, on great circles between their latents.

    Example: facegan interpolate morph.mp4 --seeds 1,5-9 --size 256
    """
    from facegan.cli.progress import Reporter
    from facegan.core.errors import FaceganError
    from facegan.sample import animation, interpolation

    name, (out,) = split(where, "OUT")
    animation.check_output(Path(out), fps)
    chosen = choose_seeds(seeds, seed, count, 6, walks)
    if len(chosen) % walks or len(chosen) < 2 * walks:
        raise FaceganError(f"--seeds {seeds}: valid: the same number, 2 or more, for each walk")
    opened = open_named(name, params, "interpolate")
    steps = max(round(seconds * fps), 1)
    with Reporter("interpolate") as report:
        frames = interpolation.frames(
            opened, chosen, walks, steps, loop, truncation, caption, size, report
        )
        animation.write_animation(frames, Path(out), fps, loop)
    typer.echo(f"{out}: {len(chosen):,} seeds of {opened.title}")


@app.command(no_args_is_help=True)
def film(
    where: Annotated[
        list[str],
        typer.Argument(
            metavar="[TRAINING] OUT",
            help="TRAINING is a folder of train, or of an unfinished training. Default: that of "
            f"dvc.yaml. {ANIMATION}",
        ),
    ],
    frames: Annotated[int, typer.Option(min=2, help="Pictures at most, evenly spaced.")] = 200,
    fps: Fps = 4.0,
    loop: Loop = True,
    size: Size = None,
    caption: Annotated[
        bool, typer.Option("--caption", help="Write images seen and quick FID below.")
    ] = False,
) -> None:
    """Show the evolution of a training, from the sample pictures of its history.

    Example: facegan film evolution.mp4 --caption
    """
    from facegan.core.project import stage_arguments
    from facegan.sample import animation
    from facegan.sample.film import Film

    name, (out,) = split(where, "OUT", first="TRAINING")
    animation.check_output(Path(out), fps)
    found = Film(Path(name or stage_arguments("train")[-1]), frames, caption, size)
    animation.write_animation(found.frames(), Path(out), fps, loop)
    typer.echo(f"{out}: {len(found.pictures):,} pictures")
