"""The page's sections: faces, a morph, two versions side by side, the film, the model card."""

from typing import Any

import gradio as gr

from facegan.app.parts import (
    LIVE,
    RAW,
    captioned,
    gallery,
    one_line,
    random_seed,
    seed_box,
    truncation_controls,
)
from facegan.app.studio import FRAMES, MAX_COUNT, Studio

BESIDE = 9  # faces of each of two versions
# All faces of a morph are sent at once, so that the slider moves without the server.
STRIP = """${value ? `<div role="img" aria-label="The face between the two seeds"
  style="background-image: url(${value})"></div>` : ""}"""
MOVE = f"""share => document.getElementById("morph").style.setProperty(
  "--share", Math.round(share * {FRAMES - 1}) / {FRAMES - 1})"""


def faces(studio: Studio, version: gr.Dropdown) -> tuple[gr.Number, gr.Gallery, gr.JSON]:
    """Random faces.

    Returns:
        The box of the first seed, the gallery, and what it shows.
    """
    with gr.Row(elem_classes="controls"):
        new = gr.Button("New faces", variant="primary", min_width=120, elem_id="new-faces")
        seed = seed_box("First seed")
        count = gr.Slider(1, MAX_COUNT, 12, step=1, label="Faces", buttons=[], min_width=120)
        truncate, threshold = truncation_controls()
    shown = gallery("Faces", "faces", buttons=["download", "fullscreen"])
    drawn = gr.JSON(visible=False)

    @one_line
    def draw(number: Any, first: Any, total: Any, is_truncated: Any, largest: Any) -> Any:
        if number is None:
            return [], []
        found = studio.faces(number, first, total, largest if is_truncated else None)
        return (
            gr.Gallery(captioned(studio, found), selected_index=None),
            [face.triple for face in found],
        )

    controls = [version, seed, count, truncate, threshold]
    new.click(random_seed, None, seed, **RAW).then(draw, controls, [shown, drawn], **RAW)
    changes = [version.change, seed.input, count.input, truncate.input, threshold.input]
    gr.on(changes, draw, controls, [shown, drawn], **LIVE)
    return seed, shown, drawn


def morph(studio: Studio, version: gr.Dropdown) -> tuple[gr.Number, gr.Number]:
    """A slider from the face of one seed to that of another one.

    Returns:
        The boxes of both seeds.
    """
    with gr.Row(elem_classes="controls"):
        new = gr.Button("New pair", variant="primary", min_width=120, elem_id="new-pair")
        first, second = seed_box("From seed"), seed_box("To seed")
        truncate, threshold = truncation_controls()
    share = gr.Slider(
        0, 1, 0, step=0.01, label="Drag, or use the arrow keys", buttons=[], elem_id="share"
    )
    strip = gr.HTML(html_template=STRIP, elem_id="morph")

    @one_line
    def draw(number: Any, start: Any, end: Any, is_truncated: Any, largest: Any) -> str:
        if number is None:
            return ""
        return studio.strip(number, start, end, largest if is_truncated else None)

    controls = [version, first, second, truncate, threshold]
    pair = new.click(lambda: (random_seed(), random_seed()), None, [first, second], **RAW)
    pair.then(draw, controls, strip, **RAW)
    changes = (c.input for c in (first, second, truncate, threshold))
    gr.on([version.change, *changes], draw, controls, strip, **LIVE)
    share.change(None, share, None, js=MOVE)
    return first, second


def comparison(studio: Studio) -> tuple[gr.Dropdown, gr.Dropdown, gr.Number]:
    """Two versions on the same latents.

    Returns:
        The choices of both versions, and the box of the first seed.
    """
    with gr.Row(elem_classes="controls"):
        new = gr.Button("New faces", variant="primary", min_width=120, elem_id="new-compared")
        seed = seed_box("First seed")
        truncate, threshold = truncation_controls()
    versions, pictures, facts = [], [], []
    with gr.Row(elem_id="beside"):
        for side in ("left", "right"):
            with gr.Column(min_width=120):
                versions.append(gr.Dropdown([], label=f"Version on the {side}", interactive=True))
                facts.append(gr.Markdown(elem_classes="facts"))
                pictures.append(gallery(side, side, 3, allow_preview=False, buttons=[]))
    note = gr.Markdown()

    @one_line
    def compare(left: Any, right: Any, first: Any, is_truncated: Any, largest: Any) -> Any:
        if left is None or right is None:
            return [], [], "", "", "A comparison needs two versions."
        threshold = largest if is_truncated else None
        both = [studio.library.opened(number) for number in (left, right)]
        drawn = [
            [(path, str(face.seed)) for face, path in zip(faces, studio.draw(faces), strict=True)]
            for faces in (studio.faces(n, first, BESIDE, threshold) for n in (left, right))
        ]
        return (*drawn, *(opened.score or "no score on record" for opened in both), _note(*both))

    controls = [*versions, seed, truncate, threshold]
    outputs = [*pictures, *facts, note]
    new.click(random_seed, None, seed, **RAW).then(compare, controls, outputs, **RAW)
    changes = [
        versions[0].change,
        versions[1].change,
        *(c.input for c in (seed, truncate, threshold)),
    ]
    gr.on(changes, compare, controls, outputs, **LIVE)
    return versions[0], versions[1], seed


def _note(left: Any, right: Any) -> str:
    notes = []
    if left.network.latent_dim != right.network.latent_dim:
        notes.append(
            "The versions have latents of different length: only the seeds are the same, so that "
            "two faces side by side need not resemble each other."
        )
    if left.protocol != right.protocol:
        notes.append("Their scores have different protocols and cannot be compared.")
    return " ".join(notes)


def film(studio: Studio, version: gr.Dropdown) -> None:
    """The evolution of the training."""
    picture = gr.Image(
        type="filepath", show_label=False, interactive=False, elem_id="film",
        buttons=["download", "fullscreen"], alt_text="Samples while the generator was trained",
    )  # fmt: skip
    note = gr.Markdown()

    @one_line
    def show(number: Any) -> Any:
        if number is None:
            return None, ""
        found = studio.library.film(number)
        return gr.Image(str(found.path or "") or None, visible=found.path is not None), found.note

    version.change(show, version, [picture, note], **LIVE)


def card(studio: Studio, version: gr.Dropdown) -> None:
    """The gate's decision and the model card."""
    text = gr.Markdown(elem_id="card")

    @one_line
    def show(number: Any) -> str:
        return "" if number is None else studio.library.card(number)

    version.change(show, version, text, **LIVE)
