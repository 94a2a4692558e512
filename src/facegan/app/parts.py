"""Parts that several sections of the page have in common."""

import functools
import html
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import gradio as gr

from facegan.app.studio import MAX_TRUNCATION, MIN_TRUNCATION, Face, Studio
from facegan.core.errors import FaceganError
from facegan.models.sampling import MAX_SEED

P = ParamSpec("P")
R = TypeVar("R")

# Values arrive as the browser sent them, and `studio` checks them. No event is in the API, which
# has endpoints of its own.
RAW: dict[str, Any] = {"preprocess": False, "api_visibility": "private"}
# For what follows a slider: no spinner, and the last position is never left out.
LIVE: dict[str, Any] = {**RAW, "show_progress": "hidden", "trigger_mode": "always_last"}


def one_line(function: Callable[P, R]) -> Callable[P, R]:
    """Show a FaceganError on the page, and in the API's answer, as its line."""

    @functools.wraps(function)
    def translated(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except FaceganError as error:
            text = html.escape(str(error), quote=False)  # the page takes it for HTML
            raise gr.Error(text, print_exception=False) from None

    return translated


def seed_box(label: str) -> gr.Number:
    return gr.Number(0, label=label, precision=0, minimum=0, maximum=MAX_SEED, step=1, min_width=90)


def truncation_controls() -> tuple[gr.Checkbox, gr.Slider]:
    switch = gr.Checkbox(
        False, label="Truncate", info="Typical faces, less variety", min_width=120, scale=1
    )
    threshold = gr.Slider(
        MIN_TRUNCATION, MAX_TRUNCATION, 1.0, step=0.05, label="Truncation", visible=False,
        buttons=[], scale=2,
    )  # fmt: skip
    switch.change(lambda on: gr.Slider(visible=on), switch, threshold, queue=False, **RAW)
    return switch, threshold


def gallery(label: str, name: str, columns: int = 6, **options: Any) -> gr.Gallery:
    return gr.Gallery(
        label=label, elem_id=name, elem_classes="faces", format="png", columns=columns,
        object_fit="contain", height="auto", interactive=False, show_label=False, **options,
    )  # fmt: skip


def captioned(studio: Studio, faces: Sequence[Face]) -> list[tuple[Path, str]]:
    return [(path, face.label) for face, path in zip(faces, studio.draw(faces), strict=True)]


def random_seed() -> int:
    return secrets.randbelow(1_000_000)  # short enough to remember
