import functools
import json
import os
import struct
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from facegan.params import Params, load_params

# Other imports are in fixtures: pytest-xdist's controller loads this file too, and its workers wait
# for it.
if TYPE_CHECKING:
    import torch

    from buckets import Proxy
    from stores import Store

# Not in a fixture, because test modules import mlflow before any fixture runs.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
# For processes that tests start: two trainings of two threads each are slow on two cores.
os.environ["OMP_NUM_THREADS"] = "1"
for name in (
    *("MLFLOW_TRACKING_URI", "FACEGAN_DEVICE", "FACEGAN_CHECKPOINTS", "FACEGAN_INCEPTION"),
    *("FACEGAN_FINISH", "FACEGAN_RESUME", "FACEGAN_DEBUG"),
):
    os.environ.pop(name, None)

# No deadline, because machines differ. Derandomised, so that failures are reproducible. Examples
# share fixtures, so tests create a folder per example.
settings.register_profile(
    "facegan",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("facegan")

# The first event of a training's history.
START: dict[str, Any] = {
    "event": "start", "fingerprint": "f1", "data": "0", "images": 1, "shape": [8, 8, 1],
    "seed": 0, "train": {}, "quick_fid": "quick_fid40",
}  # fmt: skip

# The slowest files. With pytest-xdist, they run first, so that both processes finish at about the
# same time. Without, the order stays: `make mutants` runs the fastest test of a mutant first.
SLOWEST = (
    "integration/test_pipeline.py",
    "pipelines/test_training.py",
    "pipelines/test_schedule.py",
    "train/test_stage.py",
    "register/test_stage.py",
    "train/test_trainer.py",
    "register/test_roles.py",
    "register/test_init_from.py",
    "features/test_extractors.py",
    "features/test_extraction.py",
    "fetch/test_s3_download.py",
    "preprocess/test_stage.py",
    "evaluate/test_stage.py",
    "train/test_losses_of_20_steps.py",
)

DIGITS = 600
SMALL: dict[str, dict[str, Any]] = {
    "reference": {
        "quick": {"input_size": 32, "dtype": "float32"},
        "official": {"input_size": 32, "dtype": "float32"},
        "subset": 20,
    },
    "train": {
        "base_channels": 8,
        "batch_size": 20,
        "epochs": 1,
        "ema_half_life": 100,
        "dtype": "float32",
        "eval_interval": 270,
        "quick_num_samples": 40,
    },
    "evaluate": {"num_samples": 40},
    # Short trainings are promoted, too.
    "register": {"name": "facegan-test", "policy": {"min_progress": 0.0}},
}


def make_params(**overrides: Any) -> Params:
    """Return the digits preset with values small enough for tests, updated with `overrides`.

    >>> make_params(train={"epochs": 3}, seed=1)
    """
    with resources.as_file(resources.files("facegan") / "presets" / "digits.yaml") as path:
        preset = load_params(path).model_dump(by_alias=True)
    return Params.model_validate(_merged(_merged(preset, SMALL), overrides))


def _merged(base: Any, changes: Any) -> Any:
    if not isinstance(base, dict):
        return changes
    new = {name: _merged(base.get(name), value) for name, value in changes.items()}
    return base | new


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        order = {Path(__file__).parent / name: position for position, name in enumerate(SLOWEST)}
        items.sort(key=lambda item: order.get(item.path, len(SLOWEST)))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """One thread, so that parallel tests do not compete for the cores."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def small_extractor() -> Iterator[None]:
    """A fast feature extractor in place of EfficientNet-Lite0, in child processes too."""
    from facegan.features.extractors import EXTRACTORS
    from small_extractor import NAME, PYTHONPATH, SmallExtractor

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(EXTRACTORS, NAME, SmallExtractor)
        patch.setenv("PYTHONPATH", PYTHONPATH)
        yield


@pytest.fixture(scope="session", autouse=True)
def quick_trainings() -> Iterator[None]:
    """Trainings read the code once in this process, and calibrate their EMA on 20 latents."""
    import quick_training
    from facegan.core import digests
    from facegan.train import gan_state

    read = functools.cache(digests.code_sha256)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digests, "code_sha256", lambda folders: read(tuple(folders)))
        patch.setattr(gan_state, "CALIBRATION_BATCH", quick_training.CALIBRATION_BATCH)
        yield


@pytest.fixture
def device() -> "torch.device":
    import torch

    return torch.device("cpu")


@pytest.fixture
def gpu() -> "torch.device":
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a GPU with CUDA")
    return torch.device("cuda")


@pytest.fixture
def params() -> Callable[..., Params]:
    return make_params


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an IDX file of 600 real digits."""
    import numpy as np

    import samples
    from facegan.photos.idx import MAGIC

    images, _ = samples.digits()  # sorted by class, so shuffled
    chosen = np.random.default_rng(0).permutation(len(images))[:DIGITS]
    folder = tmp_path_factory.mktemp("digits")
    header = MAGIC + struct.pack(">3I", DIGITS, 28, 28)
    content = header + images[chosen].tobytes()
    (folder / "digits-images-idx3-ubyte").write_bytes(content)
    return folder


@pytest.fixture(scope="session")
def dataset(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits as a packed dataset: 32 pixels, grey, a tenth held out."""
    from facegan.preprocess.stage import preprocess

    folder = tmp_path_factory.mktemp("preprocessed") / "dataset"
    preprocess(digits, folder, make_params().preprocess)
    return folder


@pytest.fixture(scope="session")
def references(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The quick and the official statistics of the digits."""
    import torch

    from facegan.reference.stage import reference

    folder = tmp_path_factory.mktemp("reference")
    quick, official = folder / "quick.safetensors", folder / "official.safetensors"
    reference(dataset, quick, official, make_params().reference, torch.device("cpu"))
    return quick, official


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A folder like the one that train writes, with randomly initialised generators."""
    import torch

    from facegan.models.architectures import build_generator, initialise
    from facegan.models.files import save_network

    folder = tmp_path / "train"
    folder.mkdir()
    config: dict[str, Any] = {
        "architecture": "dcgan",
        "size": 32,
        "channels": 1,
        "latent_dim": 10,
        "base_channels": 4,
    }
    for seed, name in enumerate(("generator", "untrained")):
        network = build_generator(**config)
        initialise("dcgan", network, torch.Generator().manual_seed(seed))
        for parameter in network.parameters():
            parameter.data *= 20  # otherwise, all images are the same grey
            if name == "untrained":
                parameter.data.abs_()  # white, and so further from digits than noise is
        save_network(network.state_dict(), config, folder / f"{name}.safetensors")
    events = [{**START, "quick_fid": "quick_fid40_x"}]
    for seen, fid in ((0, 9.0), (100, 3.0), (200, 5.0)):
        events.append({"event": "score", "images_seen": seen, "quick_fid": fid})
    (folder / "history.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    return folder


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's SQLite file with its tables, which take seconds to create."""
    from facegan.tracking import connection

    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it
        connection.connect()
    return folder / "mlflow.db"


@pytest.fixture(scope="session")
def backend(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> "Iterator[Store]":
    """The kind of store that `FACEGAN_TEST_STORE` chooses, SQLite by default."""
    import stores

    if stores.KIND == "sqlite":
        yield stores.Sqlite(request.getfixturevalue("empty_store"))
    else:
        with stores.start(stores.KIND, tmp_path_factory.mktemp(stores.KIND)) as server:
            yield server


@pytest.fixture
def store(backend: "Store", tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder `tmp_path` as the current directory, with its own MLflow store."""
    enter(monkeypatch, tmp_path, backend.clear(tmp_path))
    return tmp_path


def enter(monkeypatch: pytest.MonkeyPatch, folder: Path, environment: dict[str, str]) -> None:
    """Use a store, outside of a DVC experiment."""
    from mlflow.store.artifact.s3_artifact_repo import _cached_get_s3_client

    _cached_get_s3_client.cache_clear()  # which knows no endpoint of boto3's own variables
    monkeypatch.chdir(folder)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)


@pytest.fixture
def sqlite(backend: "Store") -> None:
    """For tests of what only a SQLite file has."""
    import stores

    if not isinstance(backend, stores.Sqlite):
        pytest.skip("about SQLite files and their folders")


@pytest.fixture(scope="module")
def buckets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder whose subfolders rclone serves as buckets."""
    root = tmp_path_factory.mktemp("rclone") / "root"
    root.mkdir()
    return root


@pytest.fixture(scope="module")
def server(buckets: Path) -> "Iterator[Proxy]":
    """A proxy in front of rclone's S3 server."""
    from buckets import UNREMEMBERED, Proxy, rclone

    with rclone(buckets, *UNREMEMBERED) as url, Proxy(url).running() as proxy:
        yield proxy


@pytest.fixture(scope="module")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Proxy]":
    """A proxy in front of moto's S3 server."""
    from buckets import Proxy, moto

    with moto(tmp_path_factory.mktemp("moto")) as url, Proxy(url).running() as proxy:
        yield proxy


@pytest.fixture
def proxy(server: "Proxy", monkeypatch: pytest.MonkeyPatch) -> "Proxy":
    """The proxy in front of rclone, as this process's S3 endpoint."""
    from buckets import use

    server.reset()
    use(monkeypatch, server.url)
    return server


@pytest.fixture
def cloud(moto_server: "Proxy", monkeypatch: pytest.MonkeyPatch) -> "Proxy":
    """The proxy in front of moto, as this process's S3 endpoint."""
    from buckets import use

    moto_server.reset()
    use(monkeypatch, moto_server.url)
    return moto_server
