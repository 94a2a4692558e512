"""The exported folder: a generator as ONNX, its papers, and a page that draws in the browser."""

import html
import json
import shutil
from pathlib import Path
from string import Template
from typing import Any

import torch

from facegan.core.atomic import replacing
from facegan.core.events import Message, OnEvent
from facegan.core.pictures import to_picture
from facegan.export import network, papers, web_runtime
from facegan.models.sampling import generate, latents
from facegan.sample.opening import Opened

PAGE = Path(__file__).parent / "page"
# In every exported folder.
MARKER = "generator.json"
ONNX, ICON, LICENSE, INDEX = "generator.onnx", "icon.png", "LICENSE.txt", "index.html"
CODE = ("page.js", "page.css", "worker.js", "latents.js")
ICON_SEED = 0


def require() -> Path:
    """The folder with onnxruntime-web.

    Raises:
        FaceganError: if it is missing, or a package of the extra `export`.
    """
    network.require_packages()
    return web_runtime.require()


def export(opened: Opened, out: Path, on_event: OnEvent) -> None:
    """Write the folder `out`, which any static host can serve; see `docs/sharing.md`.

    Args:
        opened: on the CPU.
    Raises:
        FaceganError: if what `require` wants is missing, or the ONNX file generates other images.
    """
    runtime = require()
    with replacing(out) as folder:
        folder.mkdir()
        on_event(Message(f"{out}: exporting {opened.title} to ONNX"))
        network.write(opened.network, folder / ONNX)
        (folder / MARKER).write_text(json.dumps(describe(opened), indent=2) + "\n", "utf-8")
        card = papers.write_card(opened, folder)
        (folder / LICENSE).write_text(papers.license_text(), "utf-8")
        shutil.copytree(runtime, folder / runtime.name)
        for name in CODE:
            shutil.copyfile(PAGE / name, folder / name)
        shutil.copyfile(PAGE / "onnxruntime-license.txt", folder / runtime.name / LICENSE)
        _write_icon(opened, folder / ICON)
        page = Template((PAGE / INDEX).read_text("utf-8"))
        content = {"title": papers.title(opened), "score": _score(opened)}
        escaped = {key: html.escape(text) for key, text in content.items()}
        escaped["card"] = papers.to_html(card)
        (folder / INDEX).write_text(page.substitute(escaped), "utf-8")


def describe(opened: Opened) -> dict[str, Any]:
    """What `generator.json` says; keys without a value are null."""
    size = opened.network.size
    return {
        "model": opened.model or None,
        "version": opened.version,
        "sha256": opened.sha256,
        "score": opened.score or None,
        "protocol": opened.protocol or None,
        "shape": [size, size, opened.network.channels],
        "latent_dim": opened.network.latent_dim,
    }


def _score(opened: Opened) -> str:
    protocol = f"protocol {opened.protocol}" if opened.protocol else ""
    return ", ".join(filter(None, (opened.score, protocol))) or "no score on record"


def _write_icon(opened: Opened, path: Path) -> None:
    z = latents(1, opened.network.latent_dim, ICON_SEED)
    image = torch.cat(list(generate(opened.network, z)))[0].numpy()
    to_picture(image).save(path, "PNG")
