"""A registered model as the page knows it, while MLflow may come and go."""

import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock

import torch

from facegan.app import film
from facegan.core.errors import FaceganError
from facegan.core.events import silent
from facegan.register import catalog, registry
from facegan.register.card import SAMPLES
from facegan.register.registry import CHAMPION, GENERATOR, SCORES, Version
from facegan.register.scores import Scores
from facegan.sample.opening import Opened, open_generator
from facegan.tracking import connection

MAX_MODELS = 4  # in memory
INTERVAL = 2.0  # seconds between two looks at the registry
SHARE = 0.2  # of the time that looks may take, where there are thousands of versions


@dataclass(frozen=True)
class Snapshot:
    """What the registry said last.

    Attributes:
        versions: those that FaceGAN registered, the newest first.
        problem: why it could not be read just now; empty if it was.
    """

    versions: Mapping[int, Version] = field(default_factory=dict)
    aliases: Mapping[str, int] = field(default_factory=dict)
    problem: str = ""

    @property
    def champion(self) -> int | None:
        number = self.aliases.get(CHAMPION)
        return number if number in self.versions else None

    def choices(self, is_short: bool = False) -> list[tuple[str, int]]:
        """Label and number of each version."""
        return [(self._label(v, is_short), number) for number, v in self.versions.items()]

    def _label(self, version: Version, is_short: bool) -> str:
        aliases = (name for name, n in sorted(self.aliases.items()) if n == version.number)
        if is_short:
            return " · ".join((str(version.number), *aliases))
        protocol = version.tags.get(registry.PROTOCOL, "")
        scores = Scores.from_json(version.tags.get(SCORES + protocol))
        fid = [f"FID {scores.fid:.4g}"] if scores else []
        return " · ".join((f"version {version.number}", *aliases, *fid))


class Library:
    """Safe in any thread. MLflow is asked by one thread at a time.

    Args:
        name: of the registered model.
        folder: for films.
    """

    def __init__(self, name: str, device: torch.device, folder: Path) -> None:
        self.name, self.device, self.folder = name, device, folder
        self._snapshot = Snapshot()
        self._next_look = 0.0  # monotonic time
        self._asking = Lock()  # held while MLflow is asked
        # Held while a generator is loaded: who waits for the same one waits for nothing else.
        self._loading = Lock()
        self._opened: OrderedDict[str, Opened] = OrderedDict()  # by sha256, the last used last
        self._cards: dict[int, str] = {}
        self._films: dict[int, film.Film] = {}

    def snapshot(self) -> Snapshot:
        """What the registry says; what it said last, while another thread asks it."""
        if time.monotonic() >= self._next_look and self._asking.acquire(blocking=False):
            try:
                start = time.monotonic()
                self._snapshot = self._look()
                now = time.monotonic()
                self._next_look = now + max(INTERVAL, (now - start) / SHARE)
            finally:
                self._asking.release()
        return self._snapshot

    def _look(self) -> Snapshot:
        try:
            client = connection.connect(create=False)
            with connection.translate_errors():
                found = registry.read(client, self.name)
        except FaceganError as error:
            return replace(self._snapshot, problem=str(error))
        newest = sorted(found.versions.items(), reverse=True)
        versions = {number: v for number, v in newest if GENERATOR in v.tags}
        return Snapshot(versions, found.aliases)

    def version(self, number: object) -> Version:
        """
        Raises:
            FaceganError: if there is none with this number.
        """
        versions, is_number = self._snapshot.versions, type(number) is int
        if is_number and number not in versions:
            versions = self.snapshot().versions  # it may be new
        if not isinstance(number, int) or not is_number or number not in versions:
            known = ", ".join(map(str, list(versions)[:10])) or "none"
            text = f"{self.name} has no version {number!r:.40}; the last ones: {known}"
            raise FaceganError((is_number and self._snapshot.problem) or text)
        return versions[number]

    def or_champion(self, number: object) -> object:
        """`number`, or the champion's for None.

        Raises:
            FaceganError: if there is no champion.
        """
        snapshot = self.snapshot()
        if number is None and snapshot.champion is None:
            raise FaceganError(snapshot.problem or f"{self.name} has no champion; name a version")
        return snapshot.champion if number is None else number

    def opened(self, number: object) -> Opened:
        """The version's generator; the last `MAX_MODELS` of different sha256 stay in memory.

        Raises:
            FaceganError: if there is no such version, or it cannot be loaded.
        """
        version = self.version(number)
        if found := self._in_memory(version):
            return found
        with self._loading:
            if found := self._in_memory(version):  # another thread loaded it
                return found
            with self._asking:
                loaded = open_generator(version.uri, self.device, silent)
            self._opened[loaded.sha256] = loaded
            while len(self._opened) > MAX_MODELS:
                self._opened.popitem(last=False)
        return loaded

    def _in_memory(self, version: Version) -> Opened | None:
        sha256 = version.tags[GENERATOR]
        try:
            self._opened.move_to_end(sha256)
            return replace(self._opened[sha256], version=version.number)
        except KeyError:
            return None

    def card(self, number: object) -> str:
        """The gate's decision and the model card, as Markdown without pictures."""
        version = self.version(number)
        if version.number not in self._cards:
            with self._asking, connection.translate_errors():
                text = catalog.show(connection.connect(create=False), self.name, version.number)
            self._cards[version.number] = text.replace(f"![samples]({SAMPLES})", "").strip()
        return self._cards[version.number]

    def film(self, number: object) -> film.Film:
        """The evolution of the version's training."""
        version = self.version(number)
        if version.number not in self._films:
            with self._asking, connection.translate_errors():
                self._films[version.number] = film.find(version, self.folder)
        return self._films[version.number]
