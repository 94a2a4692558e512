"""Opens the generator that a person names: a version of MLflow's registry, or a file."""

import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from facegan.core.addresses import SCHEME, public
from facegan.core.digests import file_sha256
from facegan.core.errors import FaceganError
from facegan.core.events import OnEvent
from facegan.models.architectures import Generator
from facegan.models.files import load_generator
from facegan.params import load_params
from facegan.train.export import exported

WEIGHTS = "generator.safetensors"
URI = "models:/"


@dataclass(frozen=True)
class Opened:
    """A generator, on a device and in eval mode, and what is known of it.

    Attributes:
        sha256: of its safetensors file, which identifies it.
        model: its registered model; empty for a file.
        version: its number in the registry; None for a file.
        score: its FID with the metric's name; empty if it is not on record.
        protocol: the id of the score's protocol; empty if it is not on record.
    """

    network: Generator
    sha256: str
    model: str = ""
    version: int | None = None
    score: str = ""
    protocol: str = ""

    @property
    def title(self) -> str:
        """For people: the registered version, or how its hash begins."""
        return f"{self.model} version {self.version}" if self.model else self.sha256[:12]

    @property
    def caption(self) -> str:
        """Model, FID and protocol."""
        protocol = f"protocol {self.protocol}" if self.protocol else ""
        return ", ".join(filter(None, (self.title, self.score, protocol)))


def address(name: str | None, params: Path) -> str:
    """Complete what a person wrote: nothing is the project's champion, a number its version.

    Raises:
        FaceganError: if the registered model's name is needed, and `params` cannot be read.
    """
    if name is not None and re.fullmatch(r"v?\d+", name) is None:
        return name
    if not params.is_file():
        raise FaceganError(
            f"{params}: not found; run in a project, or name a models:/ URI or a .safetensors file"
        )
    model = load_params(params).register_.name
    return f"{URI}{model}@champion" if name is None else f"{URI}{model}/{name.lstrip('v')}"


def open_generator(name: str, device: torch.device, on_event: OnEvent) -> Opened:
    """Load a generator without unpickling anything.

    Args:
        name: a models:/ URI, a safetensors file, or a folder with one: that of `train`, or of an
            unfinished training.
    Raises:
        FaceganError: if there is none, or it does not have the hash that is on record.
    """
    if name.startswith(URI):
        return _open_version(name, device)
    if SCHEME.match(name):
        valid = f"valid: {URI}NAME/VERSION, a .safetensors file, or a folder with one"
        raise FaceganError(f"{public(name)}: this kind of address cannot be read; {valid}")
    with exported(Path(name), on_event) as path:
        file = path / WEIGHTS if path.is_dir() else path
        return Opened(load_generator(file, device), file_sha256(file))


def _open_version(uri: str, device: torch.device) -> Opened:
    from facegan.register import registry, versions  # late: a file needs no MLflow
    from facegan.register.scores import Scores
    from facegan.tracking import connection

    client = connection.connect(create=False)
    with connection.translate_errors(), TemporaryDirectory() as folder:
        version = versions.resolve(client, uri)
        network = versions.load_version(version, Path(folder), device)
    tags = version.tags
    protocol = tags.get(registry.PROTOCOL, "")
    scores = Scores.from_json(tags.get(registry.SCORES + protocol))
    score = f"{scores.metric} {scores.fid:.4g}" if scores else ""
    sha256 = tags[registry.GENERATOR]  # checked by load_version
    return Opened(network, sha256, version.name, version.number, score, protocol)
