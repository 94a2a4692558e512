"""The progress of a command: a bar on a terminal, plain lines elsewhere."""

import datetime
import os
import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from facegan.core import events

# Minimum seconds between plain lines.
PLAIN_INTERVAL = 10.0


class Reporter:
    """An `on_event` that shows a step's progress and its newest metrics on stderr."""

    def __init__(self, step: str) -> None:
        self.step = step
        self.console = Console(stderr=True, highlight=False)
        self.metrics: dict[str, float] = {}
        self.bar: Progress | None = None
        self.done = self.total = 0
        self.printed = time.monotonic()
        # `done` and the time at the first event: resumed work does not start at 0, and imports
        # must not count as work.
        self.start: tuple[int, float] | None = None
        self.printed_at = -1

    def __enter__(self) -> Self:
        return self

    def _start_bar(self) -> Progress:
        # How far and how long come first; the metrics get what is left of the line.
        rest = Column(ratio=1, no_wrap=True, overflow="ellipsis")
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[metrics]}", table_column=rest),
            console=self.console,
            expand=True,
        )
        self.task = bar.add_task(self.step, total=None, metrics="")
        bar.start()
        return bar

    def __call__(self, event: events.Event) -> None:
        try:
            self._handle(event)
        except (OSError, SystemExit):  # stderr is a closed pipe or terminal; Rich exits then
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())

    def _handle(self, event: events.Event) -> None:
        match event:
            case events.Message(text):
                self.console.print(f"{self.step}: {text}", soft_wrap=True, markup=False)
            case events.Metrics(values):
                self.metrics |= values
            case events.Progress(done, total):
                self.done, self.total = done, total
                self.start = self.start or (self.done, time.monotonic())
                self._show()

    def _show(self) -> None:
        if self.console.is_terminal:
            self.bar = self.bar or self._start_bar()
            self.bar.update(
                self.task, completed=self.done, total=self.total, metrics=self._metrics()
            )
        elif self.done == self.total or time.monotonic() - self.printed > PLAIN_INTERVAL:
            self._print_line()

    def _print_line(self) -> None:
        if self.done == self.printed_at:
            return
        self.printed, self.printed_at = time.monotonic(), self.done
        parts = [f"{self.step}: {self.done:,}/{self.total:,}", self._time_left(), self._metrics()]
        print("  ".join(part for part in parts if part), file=sys.stderr, flush=True)

    def _time_left(self) -> str:
        first, start = self.start or (self.done, self.printed)
        if first == self.done or self.done == self.total:
            return ""
        seconds = (self.printed - start) * (self.total - self.done) / (self.done - first)
        return f"{datetime.timedelta(seconds=round(seconds))} left"

    def _metrics(self) -> str:
        return "  ".join(f"{name} {value:.4g}" for name, value in self.metrics.items())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.stop()
