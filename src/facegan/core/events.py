"""What a step tells while it runs, to whoever called it."""

from collections.abc import Callable, Mapping
from typing import Any

# Key "event" names the kind: "progress" carries `done` and `total`; "metrics" the newest numbers
# to show beside it; "message" a line of `text`; "score" the `folder` of a training whose history
# has a new score, and its speed.
Event = Mapping[str, Any]
OnEvent = Callable[[Event], None]


def silent(event: Event) -> None:
    """An `on_event` that ignores all."""
