"""Processes that register at once, or are killed, in one SQLite store.

`FACEGAN_REPEATS=20 pytest -m faults tests/register/test_races.py` repeats each race 20 times, and
kills at each change of the registry. Repetitions do without torch.export: they meet more closely.
"""

import random
import signal
from pathlib import Path

import pytest
from mlflow import MlflowClient

import stores
from facegan.core.digests import file_sha256
from facegan.register import registry
from registrations import NAME, Trainer, exit_codes, roles, start
from repeats import REPEATS

Two = tuple[MlflowClient, Trainer]


pytestmark = pytest.mark.faults
TIMES = range(REPEATS)
# How often a registration changes the registry at least: SQL statements, or requests to a server.
CHANGES = 16 if stores.KIND == "sqlite" else 12
KILLS = range(1, CHANGES + 1) if REPEATS > 1 else (2, 8, 11, CHANGES - 2)


def check(client: MlflowClient, champion_seed: int) -> None:
    """One champion, by alias and stage, which is the expected one; and one version a generator."""
    found = registry.read(client, NAME)
    generators = [version.tags[registry.GENERATOR] for version in found.versions.values()]
    assert len(set(generators)) == len(generators), roles(client)
    number = found.aliases["champion"]
    assert found.in_production == {number}, roles(client)
    assert found.aliases_of(number) == ("champion",), roles(client)
    path = Path.cwd() / f"train-{champion_seed}" / "generator.safetensors"
    assert found.versions[number].tags[registry.GENERATOR] == file_sha256(path), roles(client)


@pytest.mark.parametrize("n", TIMES)
def test_of_two_better_versions_registered_at_once_the_best_is_champion(n: int, two: Two) -> None:
    client, register = two
    register.exports = n == 0
    register.train(3, fid=30.0)
    register.train(4, fid=40.0)
    assert exit_codes(start(register, seed) for seed in (3, 4)) == [0, 0]
    check(client, champion_seed=3)


@pytest.mark.parametrize("n", TIMES)
def test_a_generator_registered_twice_at_once_is_one_version(n: int, two: Two) -> None:
    client, register = two
    register.exports = n == 0
    register.train(3, fid=30.0)
    assert exit_codes(start(register, 3) for _ in range(2)) == [0, 0]
    assert len(roles(client)) == 3
    experiment = client.get_run(registry.read(client, NAME).versions[1].run).info.experiment_id
    assert len(client.search_logged_models([experiment])) == 3
    check(client, champion_seed=3)


@pytest.mark.parametrize("n", TIMES)
def test_while_the_champion_is_rescored_another_version_may_be_promoted(n: int, two: Two) -> None:
    client, register = two
    register.exports = n == 0
    (tag,) = (t for t in client.get_model_version(NAME, "1").tags if t.startswith(registry.SCORES))
    client.delete_model_version_tag(NAME, "1", tag)
    register.with_policy(max_recall_drop=1.0, max_precision_drop=1.0)
    register.train(3, fid=1.0)
    register.train(4, fid=2.0)
    order = (3, 4) if n % 2 else (4, 3)
    assert exit_codes(start(register, seed) for seed in order) == [0, 0]
    check(client, champion_seed=3)


@pytest.mark.parametrize("n", KILLS)
def test_after_a_kill_the_next_registration_repairs(n: int, two: Two) -> None:
    client, register = two
    register.exports = n == KILLS[0]
    register.train(3, fid=30.0)
    assert exit_codes([start(register, 3, kill_at=n)]) == [-signal.SIGKILL]
    promoted = any(entry.version == 3 for entry in registry.read(client, NAME).promotions)
    register(2, fid=60.0)
    check(client, champion_seed=3 if promoted else 1)
    assert register(3, fid=30.0).aliases == ("champion",)
    check(client, champion_seed=3)
    assert register(2, fid=60.0).messages == ()


@pytest.mark.parametrize("n", TIMES)
def test_of_several_some_of_which_are_killed_the_best_is_champion(n: int, two: Two) -> None:
    client, register = two
    register.exports = n == 0
    rng = random.Random(n)
    for seed in (3, 4, 5):
        register.train(seed, fid=20.0 + seed)
    kills = [rng.randint(1, 20), None, rng.randint(1, 20)]
    rng.shuffle(kills)
    pairs = zip((3, 4, 5), kills, strict=True)
    exit_codes([start(register, seed, kill) for seed, kill in pairs])
    for seed in (5, 4, 3):
        register(seed, fid=20.0 + seed)
    check(client, champion_seed=3)
