"""What a stage reports to the caller's `on_event` while it runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Progress:
    """`done` of `total` units of work: images, bytes or inputs."""

    done: int
    total: int


@dataclass(frozen=True)
class Metrics:
    """The latest values by name, shown beside the progress."""

    values: Mapping[str, float]


@dataclass(frozen=True)
class Message:
    """One line for the user."""

    text: str


@dataclass(frozen=True)
class Scored:
    """A new quick FID was appended to the history in `folder`.

    Attributes:
        images_per_second: since the previous score, excluding scoring and checkpoints.
    """

    folder: Path
    images_seen: int
    images_per_second: float


Event = Progress | Metrics | Message | Scored
OnEvent = Callable[[Event], None]


def once(on_event: OnEvent) -> OnEvent:
    """An `on_event` that passes each message on to another once, and all other events."""
    passed = set[str]()

    def filtered(event: Event) -> None:
        if isinstance(event, Message):
            if event.text in passed:
                return
            passed.add(event.text)
        on_event(event)

    return filtered


def silent(event: Event) -> None:
    """An `on_event` that ignores every event."""
