"""A result as a page of Markdown."""

import base64
import io
from collections.abc import Iterable
from pathlib import Path
from textwrap import wrap

from PIL import Image

Rows = Iterable[tuple[str, str]]
WIDTH = 80  # characters that the page's table has room for


def markdown(title: str, rows: Rows, links: Rows, picture: Path) -> str:
    """Return a page with a table, links and a picture in it.

    Args:
        rows: names and values of the table.
        links: titles and addresses.
        picture: an image file; the page has it as a JPEG.
    """
    cells = [f"| {name} | {_cell(value)} |" for name, value in rows]
    linked = " · ".join(f"[{name}]({address})" for name, address in links)
    content = io.BytesIO()
    with Image.open(picture) as image:
        image.convert("RGB").save(content, "JPEG", quality=90)
    data = base64.b64encode(content.getvalue()).decode()
    table = "\n".join(["| | |", "|---|---|", *cells])
    return f"# {title}\n\n{table}\n\n{linked}\n\n![samples](data:image/jpeg;base64,{data})\n"


def _cell(value: str) -> str:
    """A value in lines, because Prefect's page cuts long ones."""
    lines = wrap(value, WIDTH, break_long_words=False, break_on_hyphens=False)
    return "<br>".join(line.replace("|", "\\|") for line in lines)
