"""The command that checks whether everything a project needs is there and works."""

import json as encoder
from functools import partial
from typing import Annotated

import typer

from facegan.cli.stages import PARAMS, Checkpoints, ParamsFile

app = typer.Typer()


@app.command()
def doctor(
    checkpoints: Checkpoints,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
    params: ParamsFile = PARAMS,
) -> None:
    """Check git, DVC, MLflow, Prefect, S3, device, disk, weights and packages.

    One line for each: what is there or wrong, and how to mend it. The exit status is 1 if there is
    a problem, 0 with warnings only.

    Example: facegan doctor --json
    """
    from facegan.doctor import findings, hardware, servers, workspace

    checks: dict[str, findings.Check] = {
        "git": workspace.git,
        "dvc": workspace.dvc,
        "mlflow": servers.mlflow,
        "prefect": servers.prefect,
        "s3": servers.s3,
        "device": partial(hardware.device, _accelerator),
        "disk": partial(workspace.disk, checkpoints),
        "weights": partial(hardware.weights, params),
        "packages": workspace.packages,
    }
    found = {}
    for name, finding in findings.run(checks):
        found[name] = finding
        if not json:
            advice = finding.advice and f"; {finding.advice}"
            typer.echo(f"{finding.status:<8} {name:<9} {finding.found}{advice}")
    if json:
        rows = [{"check": name, **vars(finding)} for name, finding in found.items()]
        typer.echo(encoder.dumps(rows, indent=2))
    if any(finding.status == "problem" for finding in found.values()):
        raise typer.Exit(1)


def _accelerator() -> str:
    """The device that commands choose; a GPU with its name and memory."""
    import torch

    from facegan.cli.device import choose_device

    device = choose_device()
    if device.type != "cuda":
        return device.type
    properties = torch.cuda.get_device_properties(device)
    return f"{device}, {properties.name} with {properties.total_memory / 1e9:,.0f} GB"
