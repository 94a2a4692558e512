"""The tray: faces that a visitor keeps. The browser remembers them; the server does not."""

from typing import Any

import gradio as gr

from facegan.app.parts import RAW, captioned, gallery, one_line
from facegan.app.studio import Face, Studio
from facegan.core.errors import FaceganError

MAX_KEPT = 24
EMPTY = "No face is kept yet: choose one above and keep it. This browser remembers it."
CHOOSE = "Choose a face to keep it"


def keep_button(faces: gr.Gallery, drawn: gr.JSON) -> tuple[gr.Button, gr.JSON]:
    """The button that keeps the face chosen in a gallery, and that face.

    Args:
        drawn: what the gallery shows.
    """
    button = gr.Button(CHOOSE, interactive=False, elem_id="keep")
    chosen = gr.JSON(visible=False)

    @one_line
    def choose(triples: Any, event: gr.SelectData) -> Any:
        face = Face.of(triples[event.index])
        return face.triple, gr.Button(f"Keep {face.label}", interactive=True)

    faces.select(choose, drawn, [chosen, button], **RAW)
    drawn.change(
        lambda: (None, gr.Button(CHOOSE, interactive=False)), None, [chosen, button], **RAW
    )
    return button, chosen


def tray(studio: Studio, keep: gr.Button, chosen: gr.JSON, ready: gr.Dropdown) -> None:
    """
    Args:
        keep: adds the face in `chosen`.
        ready: changes when there is a version to draw with.
    """
    gr.HTML("<h2>Kept faces</h2>")
    note = gr.Markdown(EMPTY, elem_id="tray-note")
    pictures = gallery("Kept faces", "tray", visible=False, buttons=["download", "fullscreen"])
    with gr.Row(visible=False, elem_id="tray-buttons") as buttons:
        download = gr.DownloadButton("Download all", size="sm", min_width=110)
        remove = gr.Button("Remove chosen", size="sm", min_width=110, interactive=False)
        clear = gr.Button("Remove all", size="sm", min_width=110)
    name = studio.library.name
    kept = gr.BrowserState([], storage_key=f"facegan {name}", secret="not a secret")
    drawn, marked = gr.JSON(visible=False), gr.JSON(visible=False)

    outputs = [kept, pictures, drawn, note, buttons, download, remove]

    @one_line
    def add(triple: Any, triples: Any) -> Any:
        face, before = Face.of(triple), _faces(triples)
        if face in before:
            raise FaceganError("this face is kept already")
        if len(before) >= MAX_KEPT:
            raise FaceganError(f"{MAX_KEPT} faces are kept; remove one first")
        return _show(studio, [*before, face])

    @one_line
    def drop(triple: Any, triples: Any) -> Any:
        return _show(studio, [face for face in _faces(triples) if face != Face.of(triple)])

    @one_line
    def mark(triples: Any, event: gr.SelectData) -> Any:
        return triples[event.index], gr.Button(interactive=True)

    keep.click(add, [chosen, kept], outputs, **RAW)
    remove.click(drop, [marked, kept], outputs, **RAW)
    clear.click(one_line(lambda: _show(studio, [])), None, outputs, **RAW)
    pictures.select(mark, drawn, [marked, remove], **RAW)
    restore = one_line(lambda triples: _show(studio, _faces(triples)))
    ready.change(restore, kept, outputs, **RAW)


def _show(studio: Studio, faces: list[Face]) -> Any:
    """The values of `tray`'s outputs."""
    good, note = _drawable(studio, faces)
    return (
        [face.triple for face in faces],
        gr.Gallery(captioned(studio, good), visible=bool(good), selected_index=None),
        [face.triple for face in good],
        note,
        gr.Row(visible=bool(good)),
        gr.DownloadButton(value=studio.zip(good) if good else None),
        gr.Button(interactive=False),
    )


def _faces(triples: Any) -> list[Face]:
    """What the browser remembers; nothing where somebody else wrote there."""
    try:
        return [Face.of(triple) for triple in (triples or [])[:MAX_KEPT]]
    except (FaceganError, TypeError):
        return []


def _drawable(studio: Studio, faces: list[Face]) -> tuple[list[Face], str]:
    """Those that can be drawn now, with a note on the others, which the browser remembers."""
    good, reasons = list[Face](), dict[str, None]()
    for face in faces:
        try:
            studio.draw([face])
            good.append(face)
        except FaceganError as error:
            reasons[str(error)] = None
    if reasons:
        return good, f"{len(faces) - len(good)} kept cannot be drawn now: {'; '.join(reasons)}"
    return good, "" if good else EMPTY
