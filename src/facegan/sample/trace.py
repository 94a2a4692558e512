"""A picture -> the version that drew it, and the run, data and code that made the version."""

import shlex
from collections.abc import Callable
from itertools import chain

from facegan.core.errors import FaceganError
from facegan.register import lineage, registry
from facegan.register.registry import Registry, Version
from facegan.sample import metadata
from facegan.sample.latents import parse_seeds
from facegan.tracking import connection

# Options of facegan sample and facegan mix -> where a picture has their values.
SAMPLED = {"--seeds": metadata.SEEDS, "--truncation": metadata.TRUNCATION}
MIXED = {
    "--coarse": metadata.COARSE, "--fine": metadata.FINE, "--below": metadata.BELOW,
    "--truncation": metadata.TRUNCATION,
}  # fmt: skip
# What raises if a value is not of its kind.
VALID: dict[str, Callable[[str], object]] = {
    "--seeds": parse_seeds, "--coarse": parse_seeds, "--fine": parse_seeds,
    "--below": int, "--truncation": float,
}  # fmt: skip

Rows = list[tuple[str, str]]


def trace(text: dict[str, str], name: str) -> Rows:
    """
    Args:
        text: what a picture says of itself, from `metadata.read`.
        name: registered model to look in.
    Returns:
        Rows (name, value): what the picture says of itself, then the version's lineage, then the
        command that draws the picture's seeds again, if there is one.
    Raises:
        FaceganError: if its generator is not in the registry.
    """
    client = connection.connect(create=False)
    with connection.translate_errors():
        found = registry.read(client, name)
        version = _version(found, text)
        facts, commands, missing = lineage.lineage(client, name, version.number)
    rows = [(key.removeprefix("facegan."), value) for key, value in text.items()]
    rows = [(key, value) for key, value in rows if key not in ("model", "version")]
    aliases = found.aliases_of(version.number)
    roles = ", ".join((version.stage, *(f"@{alias}" for alias in aliases)))
    rows += [("version", f"{version.name} version {version.number}, {roles}")]
    rows += [row for row in facts if row[0] != "generator"]
    rows += [("to reproduce it", command) for command in commands]
    rows += [("not at hand", line) for line in missing]
    if command := _command(version, text):
        rows.append(("to draw it again", command))
    return rows


def _version(found: Registry, text: dict[str, str]) -> Version:
    sha256, number = text[metadata.GENERATOR], text.get(metadata.VERSION, "")
    same = found.of_generator(sha256)
    named = [version for version in same if str(version.number) == number]
    if not same:
        known = f"; its version {number} is another one" if number else ""
        raise FaceganError(
            f"{found.name}: no version has the generator {sha256[:12]}{known}; set "
            "MLFLOW_TRACKING_URI to the registry that the picture was drawn from"
        )
    return (named or same)[0]


def _command(version: Version, text: dict[str, str]) -> str:
    """The command that draws the picture's seeds again; empty if there is none.

    Anybody may have written the text, and people copy the command into a shell.
    """
    if metadata.SHARE in text:  # no command draws one image between two seeds
        return ""
    is_mixed = metadata.COARSE in text
    keys = MIXED if is_mixed else SAMPLED
    options = {option: text[key] for option, key in keys.items() if key in text}
    try:
        for option, value in options.items():
            VALID[option](value)
    except (FaceganError, ValueError):
        return ""
    if not options.keys() >= keys.keys() - {"--truncation"}:
        return ""
    command = ["facegan", "mix" if is_mixed else "sample", version.uri, "again.png"]
    return shlex.join([*command, *chain(*options.items())])
