"""The model card and the licences of an exported folder."""

from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

from facegan.sample.opening import URI, Opened

CARD, SAMPLES = "card.md", "samples.png"  # as register attaches them to a version
TERMS = """\
The generator (generator.onnx) was trained on photographs, whose terms apply to it. The model card
({card}) says which they are, where they are on record.

onnxruntime-web, in its folder, has a licence of its own, beside it.

The page's code is FaceGAN's, under the following licence.

"""


def title(opened: Opened) -> str:
    return opened.title if opened.model else f"Generator {opened.title}"


def write_card(opened: Opened, folder: Path) -> str:
    """Write the version's model card and samples, or a short card for a generator without one.

    Returns:
        The card's text, in Markdown.
    """
    files = _attached(opened) if opened.model else {}
    if CARD not in files:
        files = {CARD: _short(opened).encode()}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return files[CARD].decode("utf-8")


def _attached(opened: Opened) -> dict[str, bytes]:
    from facegan.register import versions  # late: a file needs no MLflow

    # By number, because an alias may move meanwhile.
    uri = f"{URI}{opened.model}/{opened.version}"
    with TemporaryDirectory() as name:
        paths = versions.download_papers(uri, Path(name), (CARD, SAMPLES))
        return {path.name: path.read_bytes() for path in paths}


def _short(opened: Opened) -> str:
    network = opened.network
    kind = "grey" if network.channels == 1 else "RGB"
    return f"""# {title(opened)}

**Generates** {network.size}x{network.size} {kind} images from standard normal latents.

**Generator**: sha256 {opened.sha256}. It was exported from a file; its data and its scores are on
record where it was trained.

**Licence**: the code is Apache-2.0. The weights come from the photographs, whose terms apply.
"""


def to_html(card: str) -> str:
    """Markdown -> HTML. Raw HTML in it is shown as text."""
    from markdown_it import MarkdownIt  # of the extra `export`

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    return str(parser.render(card))


def license_text() -> str:
    own = metadata.distribution("facegan").read_text("licenses/LICENSE")
    return TERMS.format(card=CARD) + (own or "Apache-2.0")
