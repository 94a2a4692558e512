import os
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from buckets import SECRET, Exchange, Proxy, use
from facegan.features import inception_weights
from samples import contents, unprivileged
from weights import (
    CORRECT,
    CORRUPT,
    PYTORCH_FID,
    STATE,
    TORCH_FIDELITY,
    Host,
    digest,
    empty_cache,
    error_line,
    put,
    same,
    saved,
    serving,
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return empty_cache(tmp_path / "torch", monkeypatch)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    with serving(monkeypatch) as host:
        yield host


def test_the_published_names_contain_the_expected_hash(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    assert [address.rpartition("/")[2] for address in inception_weights.ADDRESSES] == [
        PYTORCH_FID,
        TORCH_FIDELITY,
    ]
    assert all(inception_weights.SHA256[:8] in address for address in inception_weights.ADDRESSES)
    assert len(inception_weights.SHA256) == len(digest(b""))


# Loading.


@pytest.mark.parametrize("name", [PYTORCH_FID, TORCH_FIDELITY])
def test_the_cache_is_searched_for_the_name_of_either_tool(name: str, cache: Path) -> None:
    put(cache / name, CORRECT)
    assert same(inception_weights.inception(), STATE)


def test_a_configured_path_takes_precedence_over_the_cache(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cache / PYTORCH_FID, CORRUPT)
    monkeypatch.setenv(inception_weights.VARIABLE, str(put(tmp_path / "mine.pth", CORRECT)))
    assert same(inception_weights.inception(), STATE)


def test_an_empty_variable_counts_as_unset(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(inception_weights.VARIABLE, "")
    put(cache / PYTORCH_FID, CORRECT)
    assert same(inception_weights.inception(), STATE)


@given(
    shapes=st.dictionaries(st.text(), st.lists(st.integers(0, 3), max_size=4), min_size=1),
    legacy=st.booleans(),
    seed=st.integers(0, 99),
)
def test_tensors_load_unchanged_also_from_torchs_legacy_format(
    shapes: dict[str, list[int]],
    legacy: bool,
    seed: int,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = torch.Generator().manual_seed(seed)
    state = OrderedDict((k, torch.randn(shape, generator=rng)) for k, shape in shapes.items())
    content = saved(state, legacy)
    monkeypatch.setattr(inception_weights, "SHA256", digest(content))
    put(cache / PYTORCH_FID, content)
    assert same(inception_weights.inception(), state)


@given(offset=st.integers(0, len(CORRECT) - 1), difference=st.integers(1, 255))
def test_a_single_changed_byte_is_detected(offset: int, difference: int, cache: Path) -> None:
    content = CORRECT[:offset] + bytes([CORRECT[offset] ^ difference]) + CORRECT[offset + 1 :]
    put(cache / PYTORCH_FID, content)
    line = error_line(inception_weights.inception)
    assert line.startswith(f"{cache / PYTORCH_FID}: unexpected content")
    assert digest(content)[:12] in line
    assert digest(CORRECT)[:12] in line


def test_an_oversized_file_is_not_read_to_its_end(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inception_weights, "SIZE", 1 << 20)
    os.truncate(put(cache / PYTORCH_FID, b""), 1 << 42)  # sparse, larger than memory
    assert "unexpected content (over 1,048,576 bytes, expected" in error_line(
        inception_weights.inception
    )


def names_all_ways(line: str) -> bool:
    ways = "facegan fetch inception", "FACEGAN_INCEPTION=PATH", "FACEGAN_INCEPTION=s3://"
    return all(way in line for way in ways)


def test_an_empty_cache_is_reported_with_all_ways_to_get_the_weights_and_no_download(
    host: Host, cache: Path
) -> None:
    line = error_line(inception_weights.inception)
    assert line.startswith(f"{cache / PYTORCH_FID} or {TORCH_FIDELITY}: not found; ")
    assert names_all_ways(line)
    assert host.requested == []


def test_a_missing_path_is_reported_and_the_cache_not_used_instead(
    host: Host, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cache / PYTORCH_FID, CORRECT)
    monkeypatch.setenv(inception_weights.VARIABLE, "absent.pth")
    line = error_line(inception_weights.inception)
    assert line.startswith("absent.pth: not found; ")
    assert names_all_ways(line)
    assert host.requested == []


def test_a_folder_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(inception_weights.VARIABLE, str(tmp_path))
    line = error_line(inception_weights.inception)
    assert line == f"{tmp_path}: is a folder; expected the Inception weights, a .pth file"


@pytest.mark.parametrize("closed", ["file", "folder"])
def test_an_unreadable_file_is_reported(closed: str, cache: Path) -> None:
    path = put(cache / PYTORCH_FID, CORRECT)
    (path if closed == "file" else cache).chmod(0)
    try:
        with unprivileged(*([cache] if closed == "file" else [cache.parent])):
            line = error_line(inception_weights.inception)
    finally:
        cache.chmod(0o700)
    assert line == f"{path}: cannot be read (Permission denied)"


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize(
    "state",
    [
        {"fc.weight": Malicious()},
        {"fc.weight": 1.0},
        {1: torch.zeros(1)},
        {"fc": {"weight": torch.zeros(1)}},
        torch.zeros(1),
        [],
        {},
    ],
)
def test_anything_but_a_dict_of_tensors_is_rejected_and_not_executed(
    state: object, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = put(cache / PYTORCH_FID, saved(state))
    monkeypatch.setattr(inception_weights, "SHA256", digest(path.read_bytes()))
    line = error_line(inception_weights.inception)
    assert line.startswith(f"{path}: not a state dict of tensors (")
    assert not (tmp_path / "executed").exists()


@given(content=st.binary(max_size=100))
def test_arbitrary_bytes_cause_no_traceback(content: bytes, cache: Path) -> None:
    put(cache / PYTORCH_FID, content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inception_weights, "SHA256", digest(content))
        assert "not a state dict of tensors" in error_line(inception_weights.inception)


# On S3.

URL = "s3://inception/models/weights.pth"


@pytest.fixture
def bucket(buckets: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Path:
    put(buckets / "inception" / "models" / "weights.pth", CORRECT)
    monkeypatch.setenv(inception_weights.VARIABLE, URL)
    return buckets / "inception"


def test_s3_is_read_in_one_request_and_nothing_is_written_to_disk(
    bucket: Path, proxy: Proxy, tmp_path: Path
) -> None:
    assert same(inception_weights.inception(), STATE)
    assert len(proxy.gets()) == 1
    assert contents(tmp_path) == {}


def test_a_missing_object_is_reported_with_all_ways_to_get_the_weights(
    bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url in (f"{URL}h", "s3://nowhere/weights.pth"):
        monkeypatch.setenv(inception_weights.VARIABLE, url)
        line = error_line(inception_weights.inception)
        assert line.startswith(f"{url}: not found; ")
        assert names_all_ways(line)


def test_a_bucket_without_a_key_is_rejected(bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(inception_weights.VARIABLE, "s3://inception/")
    assert error_line(inception_weights.inception).endswith("is a bucket; expected s3://BUCKET/KEY")


def test_a_corrupt_object_is_detected_by_its_hash(bucket: Path) -> None:
    put(bucket / "models" / "weights.pth", CORRUPT)
    line = error_line(inception_weights.inception)
    assert line.startswith(
        f"{URL}: unexpected content (sha256 {digest(CORRUPT)[:12]}..., expected "
    )
    assert line.endswith("replace it with the correct file")


def test_an_oversized_object_is_not_downloaded_whole(
    bucket: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inception_weights, "SIZE", 1000)
    assert "over 1,000 bytes" in error_line(inception_weights.inception)
    assert [get.range for get in proxy.gets()] == ["bytes=0-1000"]


def test_a_truncated_body_is_retried(bucket: Path, proxy: Proxy) -> None:
    def truncate(exchange: Exchange) -> None:
        exchange.cut = 5000 if exchange.method == "GET" and len(proxy.gets()) < 3 else None

    proxy.alter = truncate
    assert same(inception_weights.inception(), STATE)
    assert len(proxy.gets()) == 3


def test_denied_access_is_reported_without_the_secret(
    bucket: Path, server: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, server.url, AWS_SECRET_ACCESS_KEY=f"{SECRET}!")
    line = error_line(inception_weights.inception)
    assert line.startswith(f"{URL}: cannot be read (PermissionError); check AWS credentials")
    assert SECRET not in line


def test_in_an_experiments_copy_a_relative_path_is_that_of_the_original_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "copy"
    (copy / ".dvc").mkdir(parents=True)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_EXP_NAME", "sour-newt")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv(inception_weights.VARIABLE, "weights.pth")
    assert inception_weights.paths() == [tmp_path / "weights.pth"]
