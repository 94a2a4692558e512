"""What a step reports while it runs, to the caller's `on_event`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Progress:
    """`done` of `total` units of work: images, bytes, inputs."""

    done: int
    total: int


@dataclass(frozen=True)
class Metrics:
    """The newest values by name, to show beside the progress."""

    values: Mapping[str, float]


@dataclass(frozen=True)
class Message:
    """One line for the user."""

    text: str


@dataclass(frozen=True)
class Scored:
    """The history in `folder` has a new quick FID.

    Attributes:
        images_per_second: since the last one, without scoring and checkpoints.
    """

    folder: Path
    images_seen: int
    images_per_second: float


Event = Progress | Metrics | Message | Scored
OnEvent = Callable[[Event], None]


def silent(event: Event) -> None:
    """An `on_event` that ignores everything."""
