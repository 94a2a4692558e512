"""The endpoints that Gradio's clients call, beside those of the page."""

from gradio.events import api

from facegan.app.parts import one_line
from facegan.app.studio import Studio, data_uri


def endpoints(studio: Studio) -> None:
    """Add them to the page under construction. Without `version`, they answer for the champion."""
    library = studio.library

    @one_line
    def faces(
        seed: int = 0, count: int = 1, truncation: float | None = None, version: int | None = None
    ) -> list[str]:
        """Faces of consecutive seeds: PNGs as data URIs, with seed and generator as text chunks."""
        found = studio.faces(library.or_champion(version), seed, count, truncation)
        return [data_uri(path.read_bytes()) for path in studio.draw(found)]

    @one_line
    def morph(
        first: int,
        second: int,
        share: float,
        truncation: float | None = None,
        version: int | None = None,
    ) -> str:
        """The face between two seeds: a PNG as data URI. `share` is that of the second one."""
        return studio.morph(library.or_champion(version), first, second, share, truncation)

    @one_line
    def versions() -> list[dict[str, int | str]]:
        """The versions that can be drawn with, the newest first."""
        choices = library.snapshot().choices()
        return [{"version": number, "label": label} for label, number in choices]

    @one_line
    def card(version: int | None = None) -> str:
        """The model card, as Markdown."""
        return library.card(library.or_champion(version))

    for function in (faces, morph, versions, card):
        api(function, api_name=function.__name__)
