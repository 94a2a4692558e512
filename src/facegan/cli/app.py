"""The command that serves the page."""

from typing import Annotated

import typer

from facegan.cli.stages import PARAMS, ParamsFile

app = typer.Typer()


@app.command("app")
def serve(
    name: Annotated[
        str | None, typer.Option(help="Registered model. Default: register.name of params.yaml.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 opens the page to the network.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="By default 7860, or a free one.")
    ] = None,
    browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page; only if this is a terminal.")
    ] = True,
    params: ParamsFile = PARAMS,
) -> None:
    """Serve a page to play with the registered generators: draw, morph, compare, keep.

    Ctrl-C stops it. Needs the extra app: pip install 'facegan[app]'

    Example: facegan app --port 8000
    """
    import sys
    import webbrowser

    from facegan.app import server
    from facegan.cli.device import choose_device, keep_freed_memory
    from facegan.params import load_params

    server.require_gradio()
    model = name or load_params(params).register_.name
    socket, address = server.listen(host, port)

    def on_ready() -> None:
        typer.echo(f"{model}: {address}")
        if host not in ("127.0.0.1", "::1", "localhost"):
            typer.echo(f"--host {host}: whoever reaches this machine can use the page", err=True)
        typer.echo("Ctrl-C stops the server")
        if browser and sys.stdout.isatty():
            webbrowser.open(address)

    device = choose_device()
    keep_freed_memory()
    with socket:
        server.serve(model, device, socket, on_ready)
