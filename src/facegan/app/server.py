"""Serves the page until Ctrl-C, to this machine alone unless another address is named."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from errno import EADDRINUSE
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import TYPE_CHECKING

import torch

from facegan.core.errors import FaceganError

if TYPE_CHECKING:  # of the extra `app`
    from facegan.app.guard import Application
    from facegan.app.studio import Studio

HOST, PORT = "127.0.0.1", 7860
# Read by Gradio when it is imported, and later.
SETTINGS = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_SSR_MODE": "False",
    "GRADIO_RUN_HISTORY": "False",
    "HF_HUB_OFFLINE": "1",
}
SHUTDOWN = 2  # seconds for open connections
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def require_gradio() -> None:
    """
    Raises:
        FaceganError: if the extra `app` is not installed.
    """
    os.environ.update(SETTINGS)
    try:
        import gradio  # noqa: F401
    except ModuleNotFoundError as error:
        raise FaceganError(
            f"the page needs the extra app ({error}); run: pip install 'facegan[app]'"
        ) from None


def listen(host: str, port: int | None) -> tuple[socket.socket, str]:
    """A socket that listens, and the page's address.

    Args:
        port: by default 7860, or a free one where that is taken.
    Raises:
        FaceganError: if the port is taken, or the host is none of this machine's.
    """
    shown = f"[{host}]" if ":" in host else host
    reason = ""
    for candidate in (PORT, 0) if port is None else (port,):
        try:
            family, *_, place = socket.getaddrinfo(host, candidate, type=socket.SOCK_STREAM)[0]
            server = socket.create_server(place[:2], family=family)
            return server, f"http://{shown}:{server.getsockname()[1]}"
        except OSError as error:
            if error.errno == EADDRINUSE and port is not None:
                raise FaceganError(f"port {port} is taken; choose another --port") from None
            reason = error.strerror or str(error)
    raise FaceganError(f"--host {host}: cannot listen there ({reason})")


def serve(
    name: str, device: torch.device, server: socket.socket, on_ready: Callable[[], object]
) -> None:
    """Serve the page of a registered model until SIGINT or SIGTERM.

    Args:
        server: listens already.
        on_ready: called when the page can be opened.
    """
    # Before the handlers are set: what they raise is lost in the import of a library.
    from facegan.app import guard, page  # noqa: F401

    previous = {number: signal.signal(number, _interrupt) for number in STOP_SIGNALS}
    # Nothing stays on the disk: the visitors' pictures are in this folder.
    with TemporaryDirectory(prefix="facegan-app-", ignore_cleanup_errors=True) as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        try:
            _serve(name, device, server, Path(folder), on_ready)
        except KeyboardInterrupt:
            pass
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _serve(
    name: str,
    device: torch.device,
    server: socket.socket,
    folder: Path,
    on_ready: Callable[[], object],
) -> None:
    import uvicorn

    from facegan.app import guard
    from facegan.app.batching import Batcher
    from facegan.app.library import Library
    from facegan.app.studio import Studio

    library = Library(name, device, folder / "films")
    log = contextlib.redirect_stderr(guard.Log(sys.stderr))
    with log, Batcher() as batcher:
        app, stopping = _application(Studio(library, batcher, folder / "faces"))
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=SHUTDOWN
        )
        on_ready()  # connections wait in the socket until the server takes them
        guard.Server(config, stopping).run([server])


def _application(studio: "Studio") -> "tuple[Application, asyncio.Event]":
    """The page, and the event that ends its streams."""
    import gradio as gr
    from fastapi import FastAPI
    from gradio.routes import App
    from starlette.routing import Mount

    from facegan.app.guard import guarded
    from facegan.app.page import build

    style = resources.files("facegan.app").joinpath("page.css").read_text("utf-8")
    theme = gr.themes.Default(
        primary_hue="indigo",
        font=("system-ui", "sans-serif"),  # the system's, so that none is fetched
        font_mono=("ui-monospace", "monospace"),
    ).set(block_info_text_color="*neutral_500", block_info_text_color_dark="*neutral_400")
    app = FastAPI(openapi_url=None)
    gr.mount_gradio_app(
        app, build(studio), "/", show_error=False, ssr_mode=False, mcp_server=False,
        run_history=False, enable_monitoring=False, footer_links=["api"],
        max_file_size=1, theme=theme, css=style,
    )  # fmt: skip
    mount = app.routes[-1]
    assert isinstance(mount, Mount) and isinstance(mount.app, App)  # of Gradio
    return guarded(app), mount.app.stop_event
