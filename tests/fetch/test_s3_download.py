import hashlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buckets import PROGRAMS, Exchange, Proxy, use
from facegan.core.errors import FaceganError
from facegan.core.events import Message, Metrics, Progress, silent
from facegan.fetch import s3_download
from facegan.fetch.stage import fetch, preview
from facegan.photos import discovery, s3
from facegan.photos.inputs import MANIFEST, Folder, open_root, stored_name

MIB = 1 << 20


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def bucket(buckets: Path, request: pytest.FixtureRequest) -> Path:
    """A bucket for this test alone: 30 photographs in two folders."""
    folder = buckets / re.sub("[^a-z]+", "-", request.node.name)[:60]
    for number in range(30):
        path = folder / "faces" / f"{number % 2}" / f"{number:02}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number]) * (20_000 + number))
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "parent" / "data"


@pytest.fixture
def staging(out: Path) -> Path:
    return out.with_name(".data.fetch")


def photographs(out: Path) -> dict[str, bytes]:
    return {name: content for name, content in tree(out).items() if name != "source.json"}


@pytest.fixture
def start(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Starts the real command, which is killed at the end of the test."""
    processes = []

    def start_command(url: str, out: Path) -> subprocess.Popen[str]:
        command = [f"{PROGRAMS}/facegan", "fetch", url, "--out", str(out)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ
        )
        processes.append(process)
        return process

    yield start_command
    for process in processes:
        process.kill()
        process.communicate()


def until(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_prefix_is_fetched_completely_without_leftovers(
    proxy: Proxy, bucket: Path, out: Path
) -> None:
    assert fetch(f"s3://{bucket.name}/faces", out) == 30
    assert photographs(out) == tree(bucket / "faces")
    assert [path.name for path in out.parent.iterdir()] == ["data"]


def test_a_repositorys_own_objects_stay_behind_and_so_does_clutter(
    proxy: Proxy, bucket: Path, out: Path
) -> None:
    before = tree(bucket / "faces")
    for name in (".dvc/cache/a.jpg", "0/.git/config", "1/.DS_Store"):
        path = bucket / "faces" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    url = f"s3://{bucket.name}/faces"
    assert [name for name, status in open_root(url).files() if status is None] == sorted(before)
    events: list[Any] = []
    assert fetch(url, out, events.append) == 30
    assert photographs(out) == before
    (message,) = (event.text for event in events if isinstance(event, Message))
    assert message.startswith("2 skipped, the first .dvc (repository); ")


def test_a_killed_fetch_resumes_and_downloads_nothing_twice(
    proxy: Proxy, bucket: Path, out: Path, staging: Path, start: Any
) -> None:
    killed = Event()

    def hang(exchange: Exchange) -> None:
        if "jpg" in exchange.key and not any(exchange is get for get in proxy.gets()[:12]):
            exchange.cut, exchange.wait = 0, lambda: killed.wait(60)

    proxy.alter = hang
    process = start(f"s3://{bucket.name}/faces", out)
    until(lambda: len(tree(staging / "files")) >= 12)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed.set()
    finished = tree(staging / "files")
    assert len(finished) == 12
    assert not out.exists()

    proxy.exchanges.clear()
    proxy.alter = silent  # type: ignore[assignment]
    assert fetch(f"s3://{bucket.name}/faces", out) == 30
    downloaded = sorted(get.key.partition("/faces/")[2] for get in proxy.gets())
    assert downloaded == sorted(tree(bucket / "faces").keys() - finished.keys())
    assert photographs(out) == tree(bucket / "faces")
    assert [path.name for path in out.parent.iterdir()] == ["data"]


def sizes(folder: Path) -> Iterator[int]:
    for path in folder.glob("*"):
        with suppress(FileNotFoundError):  # renamed meanwhile
            yield path.stat().st_size


def kill_during_a_long_object(proxy: Proxy, url: str, out: Path, start: Any) -> None:
    """Kill a fetch after the first MiB of the object long.jpg."""
    killed = Event()

    def hang(exchange: Exchange) -> None:
        if exchange.method == "GET" and "long.jpg" in exchange.key:
            exchange.cut, exchange.wait = MIB, lambda: killed.wait(60)

    proxy.alter = hang
    process = start(url, out)
    parts = out.with_name(".data.fetch") / "parts"
    until(lambda: MIB in sizes(parts))
    process.kill()
    process.wait()
    killed.set()
    proxy.alter = silent  # type: ignore[assignment]
    proxy.exchanges.clear()


@pytest.fixture
def long(bucket: Path) -> Path:
    path = bucket / "long.jpg"
    path.write_bytes(os.urandom(3 * MIB + 7))
    return path


def test_a_partially_downloaded_object_is_downloaded_again(
    proxy: Proxy, bucket: Path, long: Path, out: Path, start: Any
) -> None:
    kill_during_a_long_object(proxy, f"s3://{bucket.name}/long.jpg", out, start)
    assert tree(out.with_name(".data.fetch") / "files") == {}
    fetch(f"s3://{bucket.name}/long.jpg", out)
    assert [get.range for get in proxy.gets("long.jpg")] == [None]
    assert photographs(out) == {"long.jpg": long.read_bytes()}
    assert [path.name for path in out.parent.iterdir()] == ["data"]


@pytest.mark.parametrize("kind", ["proxy", "cloud"])
def test_a_large_object_is_downloaded_in_parts_of_one_version(
    kind: str, out: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    proxy: Proxy = request.getfixturevalue(kind)
    monkeypatch.setattr(s3_download, "PART", MIB)
    content = os.urandom(2 * MIB + 7)
    s3.client().create_bucket(Bucket="large")
    s3.client().put_object(Bucket="large", Key="a.jpg", Body=content)
    fetch("s3://large/a.jpg", out)
    assert photographs(out) == {"a.jpg": content}
    ranges = ["bytes=0-1048575", "bytes=1048576-2097151", "bytes=2097152-"]
    assert sorted(str(get.range) for get in proxy.gets("a.jpg")) == ranges
    etag = f'"{hashlib.md5(content).hexdigest()}"'
    assert {get.if_match for get in proxy.gets("a.jpg")} == {etag}


@pytest.mark.parametrize("kind", ["proxy", "cloud"])  # rclone ignores If-Match
def test_a_large_object_that_changes_between_parts_is_downloaded_again(
    kind: str, out: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    proxy: Proxy = request.getfixturevalue(kind)
    monkeypatch.setattr(s3_download, "PART", MIB)
    old, new = bytes(15 * MIB), os.urandom(15 * MIB)
    s3.client().create_bucket(Bucket="versions")
    s3.client().put_object(Bucket="versions", Key="a.jpg", Body=old)

    changed = Event()

    def change(exchange: Exchange) -> None:
        if exchange.range == "bytes=0-1048575" and not changed.is_set():
            s3.client().put_object(Bucket="versions", Key="a.jpg", Body=new)
            changed.set()
        if exchange.range:  # the first ten parts are old, the others are requested later
            assert changed.wait(60)

    proxy.alter = change
    fetch("s3://versions/a.jpg", out)
    assert photographs(out) == {"a.jpg": new}


def test_a_truncated_body_is_requested_again(proxy: Proxy, bucket: Path, out: Path) -> None:
    def truncate(exchange: Exchange) -> None:
        if "05.jpg" in exchange.key and len(proxy.gets("05.jpg")) < 3:
            exchange.cut = 700

    proxy.alter = truncate
    events: list[Any] = []
    fetch(f"s3://{bucket.name}/faces", out, events.append)
    assert photographs(out) == tree(bucket / "faces")
    assert len(proxy.gets("05.jpg")) == 3
    done = [event.done for event in events if isinstance(event, Progress)]
    assert done[-1] == sum(map(len, tree(bucket / "faces").values()))


def test_a_body_that_is_always_truncated_fails_with_one_line(
    proxy: Proxy, bucket: Path, out: Path
) -> None:
    def truncate(exchange: Exchange) -> None:
        exchange.cut = 700 if exchange.method == "GET" and "jpg" in exchange.key else None

    proxy.alter = truncate
    with pytest.raises(FaceganError, match=r"/05.jpg: no valid response from S3 \(") as caught:
        fetch(f"s3://{bucket.name}/faces/1/05.jpg", out)
    assert len(str(caught.value).splitlines()) == 1


def test_names_may_be_as_long_as_file_systems_allow(upload: Any, cloud: Proxy, out: Path) -> None:
    name = "é" * 125 + "x.jpg"
    upload(name, b"long")
    assert fetched(out)[0] == {name: b"long"}


def test_an_object_that_changed_since_an_interruption_is_downloaded_again(
    proxy: Proxy, bucket: Path, long: Path, out: Path, start: Any
) -> None:
    kill_during_a_long_object(proxy, f"s3://{bucket.name}/long.jpg", out, start)
    long.write_bytes(os.urandom(3 * MIB + 7))
    fetch(f"s3://{bucket.name}/long.jpg", out)
    assert [get.range for get in proxy.gets("long.jpg")] == [None]
    assert photographs(out) == {"long.jpg": long.read_bytes()}


@pytest.mark.parametrize("kind", ["proxy", "cloud"])  # rclone ignores If-Match
def test_an_object_that_changes_during_the_download_is_downloaded_again(
    kind: str, out: Path, request: pytest.FixtureRequest
) -> None:
    proxy: Proxy = request.getfixturevalue(kind)
    old, new = os.urandom(700_000), os.urandom(650_000)
    s3.client().create_bucket(Bucket="changing")
    s3.client().put_object(Bucket="changing", Key="a.jpg", Body=old)

    def change(exchange: Exchange) -> None:
        if exchange.method == "GET" and len(proxy.gets("a.jpg")) == 1:
            exchange.cut = 600_000
            s3.client().put_object(Bucket="changing", Key="a.jpg", Body=new)

    proxy.alter = change
    fetch("s3://changing/a.jpg", out)
    assert photographs(out) == {"a.jpg": new}


def test_progress_counts_an_object_downloaded_again_once(
    proxy: Proxy, bucket: Path, long: Path, out: Path
) -> None:
    new = os.urandom(2 * MIB)

    def change(exchange: Exchange) -> None:
        if len(proxy.gets("long.jpg")) == 1:
            exchange.cut = MIB
            long.write_bytes(new)

    proxy.alter = change
    events: list[Any] = []
    fetch(f"s3://{bucket.name}/long.jpg", out, events.append)
    assert photographs(out) == {"long.jpg": new}
    assert events[-1] == Progress(len(new), len(new))


def test_a_truncated_file_in_the_staging_folder_is_downloaded_again(
    proxy: Proxy, bucket: Path, out: Path, staging: Path
) -> None:
    url = f"s3://{bucket.name}/faces"
    interrupted_fetch(url, out, after=10)
    finished = sorted(tree(staging / "files"))
    (staging / "files" / finished[0]).write_bytes(b"short")
    proxy.exchanges.clear()
    fetch(url, out)
    assert len(proxy.gets(finished[0])) == 1
    assert proxy.gets(finished[1]) == []
    assert photographs(out) == tree(bucket / "faces")


@pytest.mark.parametrize("record", ["{", "[" * 100_000], ids=["cut off", "nested"])
def test_without_its_record_the_staging_folder_is_not_trusted(
    record: str, proxy: Proxy, bucket: Path, out: Path, staging: Path
) -> None:
    url = f"s3://{bucket.name}/faces"
    interrupted_fetch(url, out, after=30)
    (staging / "parts" / "objects.json").write_text(record)
    proxy.exchanges.clear()
    fetch(url, out)
    assert len(proxy.gets(".jpg")) == 30
    assert photographs(out) == tree(bucket / "faces")


def interrupted_fetch(url: str, out: Path, after: int) -> None:
    """Fetch, with an interrupt once `after` objects are complete."""
    staging = out.with_name(".data.fetch")

    def interrupt(event: Any) -> None:
        if len(tree(staging / "files")) >= after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(url, out, interrupt)
    assert not out.exists()


def test_an_interrupt_cancels_all_transfers(
    proxy: Proxy, bucket: Path, out: Path, staging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_download, "INTERVAL", 0.001)
    for number in range(40):
        (bucket / f"{number}.bin").write_bytes(bytes(10 * MIB))

    def interrupt(event: Any) -> None:
        if getattr(event, "done", None):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(f"s3://{bucket.name}", out, interrupt)
    assert [path.name for path in (staging / "parts").iterdir()] == ["objects.json"]
    assert all(path.stat().st_size == 10 * MIB for path in (staging / "files").glob("*.bin"))
    assert len(proxy.gets(".bin")) < 40


def test_the_staging_folder_of_another_source_is_discarded_with_a_message(
    proxy: Proxy, bucket: Path, out: Path, staging: Path
) -> None:
    (bucket / "other").mkdir(exist_ok=True)
    (bucket / "other" / "00.jpg").write_bytes(b"other")
    interrupted_fetch(f"s3://{bucket.name}/faces/0", out, after=5)
    events: list[Any] = []
    fetch(f"s3://{bucket.name}/other", out, events.append)
    assert photographs(out) == {"00.jpg": b"other"}
    text = f"{staging}: left by a fetch of another source; discarded"
    assert Message(text) in events


def test_objects_deleted_since_are_deleted_from_the_staging_folder(
    proxy: Proxy, bucket: Path, out: Path, staging: Path
) -> None:
    interrupted_fetch(f"s3://{bucket.name}/faces", out, after=30)
    assert len(tree(staging / "files")) == 30
    (bucket / "faces" / "0" / "00.jpg").unlink()
    for path in (bucket / "faces" / "1").iterdir():
        path.unlink()
    (bucket / "faces" / "1").rmdir()
    (bucket / "faces" / "1").write_bytes(b"now a file")
    fetch(f"s3://{bucket.name}/faces", out)
    assert photographs(out) == tree(bucket / "faces")


def test_the_old_folder_stays_until_the_new_one_is_complete(
    proxy: Proxy, bucket: Path, out: Path, staging: Path
) -> None:
    fetch(f"s3://{bucket.name}/faces/0", out)
    before = tree(out)

    def fail(exchange: Exchange) -> None:
        if "05.jpg" in exchange.key:
            exchange.status, exchange.headers, exchange.body = 403, {}, b""

    proxy.alter = fail
    with pytest.raises(FaceganError, match=rf"^s3://{bucket.name}/faces/1/05.jpg: access denied"):
        fetch(f"s3://{bucket.name}/faces/1", out)
    assert tree(out) == before
    assert staging.exists()


def test_a_folder_fetch_did_not_write_is_refused_before_any_request(
    proxy: Proxy, bucket: Path, out: Path
) -> None:
    out.mkdir(parents=True)
    (out / "dear.jpg").write_bytes(b"dear")
    with pytest.raises(FaceganError, match="was not written by facegan fetch"):
        fetch(f"s3://{bucket.name}/faces", out)
    assert proxy.exchanges == []
    assert [path.name for path in out.parent.iterdir()] == ["data"]


def test_progress_counts_bytes_up_to_the_total(
    proxy: Proxy, bucket: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_download, "INTERVAL", 0.01)
    events: list[Any] = []
    fetch(f"s3://{bucket.name}/faces", out, events.append)
    total = sum(map(len, tree(bucket / "faces").values()))
    progress = [event for event in events if isinstance(event, Progress)]
    assert progress[-1] == Progress(total, total)
    assert [e.done for e in progress] == sorted(e.done for e in progress)
    assert any(isinstance(event, Metrics) and event.values["MB/s"] > 0 for event in events)
    assert not [event for event in events if isinstance(event, Message)]


def test_an_empty_prefix_contains_no_files(proxy: Proxy, bucket: Path, out: Path) -> None:
    with pytest.raises(FaceganError, match=r"^s3://[a-z-]*/none: contains no files"):
        fetch(f"s3://{bucket.name}/none", out)
    assert not out.parent.exists()


def test_an_object_deleted_after_listing_is_reported(proxy: Proxy, bucket: Path, out: Path) -> None:
    def remove(exchange: Exchange) -> None:
        if len(proxy.exchanges) == 2:  # the first requests an object with the prefix's name
            (bucket / "faces" / "1" / "05.jpg").unlink()

    proxy.alter = remove
    with pytest.raises(FaceganError, match=r"faces/1/05.jpg: object not found; it may have"):
        fetch(f"s3://{bucket.name}/faces", out)


def test_an_object_that_keeps_changing_is_reported(
    proxy: Proxy, bucket: Path, out: Path, staging: Path
) -> None:
    def change(exchange: Exchange) -> None:
        if exchange.method == "GET":
            exchange.headers["Etag"] = f'"{len(proxy.exchanges)}"'

    proxy.alter = change
    with pytest.raises(FaceganError, match=r"/00.jpg: changed during the download; fetch again"):
        fetch(f"s3://{bucket.name}/faces/0/00.jpg", out)
    assert len(proxy.gets("00.jpg")) == s3.ATTEMPTS
    assert tree(staging / "parts").keys() == {"objects.json"}
    assert tree(staging / "files") == {}


@pytest.fixture
def kms(cloud: Proxy) -> Callable[[Exchange], None]:
    """Makes ETags unrelated to the content, as under KMS encryption."""
    cloud.dropped = "If-Match"

    def alter(exchange: Exchange) -> None:
        etag = exchange.headers.get("ETag", "")
        exchange.headers["ETag"] = re.sub("[0-9a-f]{32}", lambda found: found[0][::-1], etag)
        if b"<ListBucketResult" in exchange.body:
            found = re.compile(rb"(?<=[^0-9a-f])[0-9a-f]{32}")
            exchange.body = found.sub(lambda etag: etag[0][::-1], exchange.body)

    cloud.alter = alter
    return alter


@pytest.fixture
def upload(cloud: Proxy) -> Iterator[Any]:
    """Puts an object into moto's bucket `faces`, in parts of the given sizes, if any."""
    s3.client().create_bucket(Bucket="faces")

    def put(key: str, content: bytes, *sizes: int, **options: str) -> None:
        target = {"Bucket": "faces", "Key": key}
        if not sizes:
            s3.client().put_object(**target, Body=content, **options)
            return
        target["UploadId"] = s3.client().create_multipart_upload(**target, **options)["UploadId"]
        parts, start = [], 0
        for number, size in enumerate(sizes, start=1):
            body = content[start : start + size]
            tag = s3.client().upload_part(**target, PartNumber=number, Body=body)["ETag"]
            parts.append({"PartNumber": number, "ETag": tag})
            start += size
        s3.client().complete_multipart_upload(**target, MultipartUpload={"Parts": parts})

    yield put
    for obj in list(s3.list_objects("s3://faces")):
        s3.client().delete_object(Bucket="faces", Key=obj.key)


def fetched(out: Path) -> tuple[dict[str, bytes], list[str]]:
    """The files fetched from s3://faces, and the messages."""
    events: list[Any] = []
    fetch("s3://faces", out, events.append)
    return photographs(out), [event.text for event in events if isinstance(event, Message)]


@pytest.mark.parametrize("options", [{}, {"ChecksumAlgorithm": "SHA256"}])
def test_a_corrupt_object_is_reported_and_not_kept(
    options: dict[str, str], upload: Any, cloud: Proxy, out: Path, staging: Path
) -> None:
    def damage(exchange: Exchange) -> None:
        if exchange.body == b"one":
            exchange.body = b"two"

    upload("a.jpg", b"one", **options)
    upload("b.jpg", b"fine")
    cloud.alter = damage
    with pytest.raises(FaceganError, match=r"^s3://faces/a.jpg: size or checksum mismatch"):
        fetched(out)
    assert tree(staging / "files") == {"b.jpg": b"fine"}
    cloud.reset()
    assert fetched(out)[0] == {"a.jpg": b"one", "b.jpg": b"fine"}
    assert len(cloud.gets()) == 1


def test_an_object_of_another_size_than_listed_is_reported_and_not_kept(
    proxy: Proxy, bucket: Path, out: Path, staging: Path
) -> None:
    def shorten(exchange: Exchange) -> None:
        if exchange.method == "GET" and "00.jpg" in exchange.key:
            exchange.body = exchange.body[1:]
            exchange.headers["Content-Length"] = str(len(exchange.body))

    proxy.alter = shorten
    with pytest.raises(FaceganError, match=r"/00.jpg: size or checksum mismatch; fetch again"):
        fetch(f"s3://{bucket.name}/faces/0/00.jpg", out)
    assert tree(staging / "files") == {}


def test_a_corrupt_object_is_downloaded_again(upload: Any, cloud: Proxy, out: Path) -> None:
    def damage(exchange: Exchange) -> None:
        if len(cloud.gets("a.jpg")) == 1 and exchange.body == b"one":
            exchange.body = b"two"

    upload("a.jpg", b"one")
    cloud.alter = damage
    assert fetched(out)[0] == {"a.jpg": b"one"}
    assert len(cloud.gets("a.jpg")) == 2


@pytest.mark.parametrize("sizes", [(5 * MIB, 6 * MIB, 9), (77,)])
def test_an_object_uploaded_in_parts_is_fetched_completely(
    sizes: tuple[int, ...], upload: Any, cloud: Proxy, out: Path
) -> None:
    content = os.urandom(sum(sizes))
    upload("a.jpg", content, *sizes)
    assert next(s3.list_objects("s3://faces")).etag.endswith(f"-{len(sizes)}")
    assert fetched(out) == ({"a.jpg": content}, [])


@pytest.mark.parametrize("etag", ["v1", "", "a-b"])
def test_etags_need_not_be_md5s(etag: str, upload: Any, cloud: Proxy, out: Path) -> None:
    def alter(exchange: Exchange) -> None:
        exchange.headers["ETag"] = f'"{etag}"'
        if b"<ListBucketResult" in exchange.body:
            tag = f"<ETag>{etag}</ETag>".encode()
            exchange.body = re.sub(rb"<ETag>[^<]*</ETag>", tag, exchange.body)
            exchange.headers["Content-Length"] = str(len(exchange.body))

    cloud.alter, cloud.dropped = alter, "If-Match"
    upload("a.jpg", b"one")
    assert fetched(out) == ({"a.jpg": b"one"}, [])


def test_resuming_keeps_only_unchanged_kms_encrypted_objects(
    upload: Any, cloud: Proxy, kms: Any, out: Path, staging: Path
) -> None:
    upload("kept.jpg", b"kept", ServerSideEncryption="aws:kms")
    upload("changed.jpg", b"old", ServerSideEncryption="aws:kms")
    upload("cut.jpg", b"whole", ServerSideEncryption="aws:kms")
    interrupted_fetch("s3://faces", out, after=3)
    (staging / "files" / "cut.jpg").write_bytes(b"who")
    upload("changed.jpg", b"new", ServerSideEncryption="aws:kms")
    cloud.exchanges.clear()
    assert fetched(out)[0] == {"kept.jpg": b"kept", "changed.jpg": b"new", "cut.jpg": b"whole"}
    assert sorted(get.key for get in cloud.gets()) == ["faces/changed.jpg", "faces/cut.jpg"]


parts = st.sampled_from(
    ["a", "b.jpg", "..", ".", "", "source.json", "%2e", "%2E", "%", "\\", "a\nb", "\0", "x" * 300]
)


@settings(max_examples=300)
@given(
    paths=st.lists(
        st.lists(parts | st.text(max_size=2), min_size=1, max_size=3).map("/".join), max_size=4
    )
)
def test_keys_become_distinct_files_in_the_folder_or_are_skipped(
    paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = [s3.Object(path, f"p/{path}", 1, "") for path in paths]
    monkeypatch.setattr(s3, "list_objects", lambda url: iter(objects))
    found, skipped = s3_download.find_files("s3://faces/p")
    targets = [Path("/folder") / stored_name(obj.path) for obj in found]
    assert len(set(targets)) == len(targets)
    assert not {*targets} & {parent for target in targets for parent in target.parents}
    for target in targets:
        assert Path(os.path.normpath(target)) == target and Path("/folder") in target.parents
        assert target.parts[2] != MANIFEST and "\0" not in str(target)
        assert all(len(os.fsencode(part)) <= 255 for part in target.parts)
    assert {*(obj.path for obj in found), *skipped} | {MANIFEST} == {*paths, MANIFEST}
    assert set(skipped.values()) <= {"name-conflict"}


def test_odd_keys_are_stored_safely_and_have_a_row_each(
    upload: Any, cloud: Proxy, out: Path
) -> None:
    long = "é" * 200
    keys = [
        "p/../../x",
        "p//etc/passwd",
        "p/./x",
        f"p/{long}.jpg",
        f"p/{long}2.jpg",
        "p/a",
        "p/a/b",
    ]
    keys += ["p/source.json", "p/source.json/a", "p/fine.jpg"]
    for key in keys:
        upload(key, key.encode())
    assert fetch("s3://faces/p", out) == 7
    found = photographs(out)
    short = [name for name in found if name.startswith("é")]
    assert all(len(name.encode()) <= 255 and name.endswith(".jpg") for name in short)
    assert {name: content.decode() for name, content in found.items() if name not in short} == {
        "%2E%2E/%2E%2E/x": "p/../../x",
        "%/etc/passwd": "p//etc/passwd",
        "%2E/x": "p/./x",
        "a": "p/a",
        "fine.jpg": "p/fine.jpg",
    }
    assert {found[name].decode() for name in short} == {f"p/{long}.jpg", f"p/{long}2.jpg"}
    manifest = json.loads((out / MANIFEST).read_text("utf-8"))
    assert manifest["skipped"] == {"a/b": "name-conflict", "source.json/a": "name-conflict"}
    originals = {"../../x", "/etc/passwd", "./x", f"{long}.jpg", f"{long}2.jpg"}
    assert set(manifest["originals"].values()) == originals
    fetch("s3://faces/p", out)  # recognises what it wrote


def test_objects_in_glacier_are_named_and_skipped(upload: Any, cloud: Proxy, out: Path) -> None:
    upload("a.jpg", b"a")
    upload("b.jpg", b"b", StorageClass="GLACIER")
    upload("c.jpg", b"c", StorageClass="DEEP_ARCHIVE")
    upload("d.jpg", b"d", StorageClass="STANDARD_IA")
    text = preview("s3://faces", out)
    assert text.startswith("2 files, 2 bytes")
    assert text.endswith("2 skipped, the first b.jpg (in-glacier)")
    assert fetched(out)[0] == {"a.jpg": b"a", "d.jpg": b"d"}
    statuses = {item.path: item.status for item in discovery.find(Folder(out))}
    assert statuses == {"a.jpg": None, "d.jpg": None, "b.jpg": "in-glacier", "c.jpg": "in-glacier"}


def test_a_bucket_in_glacier_is_one_line(upload: Any, cloud: Proxy, out: Path) -> None:
    upload("b.jpg", b"b", StorageClass="GLACIER")
    with pytest.raises(FaceganError, match=r"no files; 1 skipped, the first b.jpg \(in-glacier\)$"):
        fetch("s3://faces", out)


def test_objects_restored_from_glacier_are_fetched(upload: Any, cloud: Proxy, out: Path) -> None:
    def restore(exchange: Exchange) -> None:
        status = (
            b"<RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress>"
            b"<RestoreExpiryDate>2030-01-01T00:00:00Z</RestoreExpiryDate></RestoreStatus></Contents>"
        )
        exchange.body = exchange.body.replace(b"</Contents>", status)
        if b"<ListBucketResult" in exchange.body:
            exchange.headers["Content-Length"] = str(len(exchange.body))

    upload("b.jpg", b"b", StorageClass="GLACIER")
    cloud.alter = restore
    assert [obj.status for obj in s3.list_objects("s3://faces")] == [None]


def test_a_public_bucket_is_fetched_without_keys(
    upload: Any, cloud: Proxy, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload("a.jpg", b"a", ACL="public-read")
    with monkeypatch.context() as patch:
        use(patch, cloud.url, AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None)
        assert fetched(out)[0] == {"a.jpg": b"a"}


def test_folder_objects_are_skipped_and_part_is_not_a_reserved_suffix(
    upload: Any, cloud: Proxy, out: Path
) -> None:
    for key in ("p/", "p/below/", "p/a.part", "p/below/b.jpg"):
        upload(key, key.encode())
    assert fetch("s3://faces/p", out) == 2
    assert photographs(out) == {"a.part": b"p/a.part", "below/b.jpg": b"p/below/b.jpg"}


def test_a_dry_run_only_lists_and_writes_nothing(proxy: Proxy, bucket: Path, out: Path) -> None:
    text = preview(f"s3://{bucket.name}/faces", out)
    total = sum(map(len, tree(bucket / "faces").values()))
    assert text.splitlines() == [
        f"30 files, {total:,} bytes, would be fetched from s3://{bucket.name}/faces into {out}",
        *(f"  0/{number:02}.jpg" for number in (0, 2, 4, 6, 8)),
        "  and 25 more",
    ]
    assert proxy.gets() == []
    assert not out.parent.exists()
