"""The page: which version it shows, what is new in the registry, and the sections below."""

import html
from typing import Any

import gradio as gr

from facegan.app import api, sections
from facegan.app.library import Snapshot
from facegan.app.parts import RAW, one_line, random_seed
from facegan.app.studio import Studio
from facegan.app.tray import keep_button, tray
from facegan.register.registry import PREVIOUS

TICK = 3.0  # seconds
# Files that the page shows are deleted after that many seconds.
KEEP_FILES, LOOK_FOR_OLD_FILES = 6 * 3600, 1800
HIDDEN: dict[str, Any] = {**RAW, "show_progress": "hidden"}


def build(studio: Studio) -> gr.Blocks:
    """The page of a registered model."""
    name = studio.library.name
    page: gr.Blocks
    with gr.Blocks(
        title=f"FaceGAN: {name}",
        analytics_enabled=False,
        delete_cache=(LOOK_FOR_OLD_FILES, KEEP_FILES),
    ) as page:
        with gr.Row(elem_id="head"):
            gr.HTML(f"<h1>{html.escape(name)}</h1>", min_width=240)
            version = gr.Dropdown([], label="Version", interactive=True, min_width=240)
        facts = gr.Markdown(elem_classes="facts")
        notice = gr.HTML(visible=False, elem_id="notice")
        load = gr.Button("", visible=False, elem_id="load")
        with gr.Tabs():
            with gr.Tab("Faces"):
                first, shown, drawn = sections.faces(studio, version)
                keep, chosen = keep_button(shown, drawn)
            with gr.Tab("Morph"):
                pair = sections.morph(studio, version)
            with gr.Tab("Compare"):
                left, right, compared = sections.comparison(studio)
            with gr.Tab("Film"):
                sections.film(studio, version)
            with gr.Tab("Model"):
                sections.card(studio, version)
        tray(studio, keep, chosen, version)
        version.change(one_line(lambda n: _facts(studio, n)), version, facts, **HIDDEN)
        choices = [version, left, right]
        _watch(studio, page, choices, notice, load, [first, *pair, compared])
        api.endpoints(studio)
    page.queue(max_size=200, default_concurrency_limit=None)
    return page


def _facts(studio: Studio, number: Any) -> str:
    if number is None:
        return ""
    opened = studio.library.opened(number)
    score = opened.score or "no score on record"
    size, channels = opened.network.size, opened.network.channels
    kind = "grey" if channels == 1 else "RGB"
    protocol = f", protocol {opened.protocol}" if opened.protocol else ""
    return f"{size}x{size} {kind} · {score}{protocol}"


def _watch(
    studio: Studio,
    page: gr.Blocks,
    choices: list[gr.Dropdown],
    notice: gr.HTML,
    load: gr.Button,
    seeds: list[gr.Number],
) -> None:
    """Fill the page when it opens, and tell what changes in the registry meanwhile."""
    seen = gr.JSON(visible=False)  # what this visitor was told

    def look(number: Any, told: Any) -> Any:
        snapshot = studio.library.snapshot()
        told = told if isinstance(told, dict) else {}
        known = told.get("champion")
        if known is None or number == snapshot.champion:
            known = snapshot.champion
        text, to_load = _news(studio.library.name, snapshot, known)
        offered = [list(choice) for choice in snapshot.choices()]
        now = {"champion": known, "choices": offered, "news": text}
        if now == told:
            return gr.skip()
        return [
            now,
            gr.HTML(f'<p role="status">{html.escape(text)}</p>', visible=bool(text)),
            gr.Button(f"Load version {to_load}", visible=to_load is not None),
            *_choices(snapshot, number),
            *(random_seed() if number is None else gr.skip() for _ in seeds),
        ]

    outputs = [seen, notice, load, *choices, *seeds]
    timer = gr.Timer(TICK)
    gr.on([page.load, timer.tick, choices[0].change], look, [choices[0], seen], outputs, **HIDDEN)
    load.click(lambda: studio.library.snapshot().champion, None, choices[0], **HIDDEN)


def _news(name: str, snapshot: Snapshot, known: int | None) -> tuple[str, int | None]:
    """What is to be told, and the version to load."""
    if snapshot.problem:
        rest = "goes on with what it knows" if snapshot.versions else "tries again by itself"
        return f"The registry cannot be read. {snapshot.problem}. This page {rest}.", None
    if not snapshot.versions:
        return f"{name} has no version yet. This page shows the first one by itself.", None
    if snapshot.champion not in (None, known):
        return f"Version {snapshot.champion} is the champion now.", snapshot.champion
    return "", None


def _choices(snapshot: Snapshot, number: Any) -> list[Any]:
    """The three choices of versions; without a version yet, the champion, and the one before."""
    choices, short = snapshot.choices(), snapshot.choices(is_short=True)
    offered = [choices, short, short]
    if number is not None or not choices:
        return [gr.Dropdown(choices=some) for some in offered]
    champion = snapshot.champion or choices[0][1]
    others = [n for _, n in choices if n != champion]
    other = snapshot.aliases.get(PREVIOUS)
    right = other if other in others else next(iter(others), champion)
    values = (champion, champion, right)
    return [gr.Dropdown(choices=c, value=v) for c, v in zip(offered, values, strict=True)]
