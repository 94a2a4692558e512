import hashlib
import io
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buckets import KEY, SECRET, Exchange, Proxy, credentials, use
from facegan.core.errors import FaceganError
from facegan.photos import s3

CONTENT = bytes(range(256)) * 8


@pytest.fixture(scope="module", autouse=True)
def root(buckets: Path) -> Path:
    """The folder that rclone serves, with a bucket for these tests."""
    for name in ("a/b/1.jpg", "a/b/below/2.jpg", "a/bc/3.jpg", "a/b.zip", "long.bin"):
        (buckets / "bucket" / name).parent.mkdir(parents=True, exist_ok=True)
        (buckets / "bucket" / name).write_bytes(name.encode())
    (buckets / "bucket" / "long.bin").write_bytes(CONTENT)
    (buckets / "bucket" / "empty").write_bytes(b"")
    with zipfile.ZipFile(buckets / "bucket" / "faces.zip", "w") as archive:
        for number in range(50):
            archive.writestr(f"{number}.jpg", bytes([number]) * 3000)
    return buckets


def test_a_url_has_a_bucket_and_a_prefix() -> None:
    assert s3.parse("s3://faces") == s3.parse("s3://faces/") == ("faces", "")
    assert s3.parse("s3://faces/a/b") == s3.parse("s3://faces/a/b/") == ("faces", "a/b")
    assert s3.parse("s3://faces/a?b#c%20") == ("faces", "a?b#c%20")


@given(st.text(max_size=20))
def test_any_text_is_parsed_or_refused_in_one_line(rest: str) -> None:
    try:
        bucket, prefix = s3.parse(f"s3://{rest}")
    except FaceganError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert f"{bucket}/{prefix}".rstrip("/") == rest.rstrip("/")


@pytest.mark.parametrize("url", ["s3://", "s3:///a", f"s3://{KEY}:{SECRET}@b/a", "s3:/b", "b/a"])
def test_an_error_about_a_url_without_a_bucket_shows_no_secret(url: str) -> None:
    with pytest.raises(FaceganError, match=r"write s3://BUCKET/FOLDER") as caught:
        s3.parse(url)
    assert SECRET not in str(caught.value)


def test_a_prefix_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(FaceganError, match=r"^s3://b: .*not UTF-8"):
        s3.parse("s3://b/\udcff")


def listed(url: str) -> list[str]:
    return [obj.path for obj in s3.list_objects(url)]


def test_a_prefix_means_a_folder_and_not_part_of_a_name(proxy: Proxy) -> None:
    assert listed("s3://bucket/a/b") == listed("s3://bucket/a/b/") == ["1.jpg", "below/2.jpg"]
    assert listed("s3://bucket/a") == ["b.zip", "b/1.jpg", "b/below/2.jpg", "bc/3.jpg"]
    assert listed("s3://bucket/none") == []


def test_an_object_is_listed_with_its_key_size_and_etag(proxy: Proxy) -> None:
    etag = hashlib.md5(b"a/b.zip").hexdigest()
    assert list(s3.list_objects("s3://bucket/a/b.zip")) == [s3.Object("b.zip", "a/b.zip", 7, etag)]


def test_an_object_and_a_folder_with_the_same_name_are_both_listed(cloud: Proxy) -> None:
    client = s3.client()
    client.create_bucket(Bucket="both")
    for key in ("a/b", "a/b/1", "a/b/folder/", "a/b/", "a/bc", "a/b-c"):
        client.put_object(Bucket="both", Key=key, Body=key.encode())
    assert listed("s3://both/a/b") == ["b", "1"]
    with s3.open_object("s3://both/a/b", "b") as stream:
        assert stream.read() == b"a/b"
    with s3.open_object("s3://both/a/b", "1") as stream:
        assert stream.read() == b"a/b/1"


def test_listing_continues_past_one_page(proxy: Proxy, root: Path) -> None:
    (root / "many").mkdir()
    names = [f"{number:04}.jpg" for number in range(1001)]
    for name in names:
        (root / "many" / name).touch()
    assert listed("s3://many") == names


@given(
    steps=st.lists(
        st.tuples(st.integers(-10, 2100), st.sampled_from([0, 1, 2]), st.integers(-1, 700)),
        max_size=8,
    )
)
def test_an_object_reads_and_seeks_like_a_file(
    steps: list[tuple[int, int, int]], proxy: Proxy
) -> None:
    with s3.open_object("s3://bucket", "long.bin") as stream, io.BytesIO(CONTENT) as same:
        for offset, whence, number in steps:
            start = [0, same.tell(), len(CONTENT)][whence]
            if start + offset >= 0:
                assert stream.seek(offset, whence) == same.seek(start + offset)
            assert stream.tell() == same.tell()
            assert stream.read(number) == same.read(number)


def test_reading_before_the_start_is_an_error(proxy: Proxy) -> None:
    with (
        s3.open_object("s3://bucket", "long.bin") as stream,
        pytest.raises(OSError, match="before the start"),
    ):
        stream.seek(-1)


def test_an_empty_object_reads_as_no_bytes(proxy: Proxy) -> None:
    with s3.open_object("s3://bucket", "empty") as stream:
        assert stream.read() == b""


def test_a_zip_is_read_in_place_by_ranges(proxy: Proxy, root: Path) -> None:
    with s3.open_object("s3://bucket", "faces.zip") as stream, zipfile.ZipFile(stream) as archive:
        assert archive.read("7.jpg") == b"\7" * 3000
        assert len(archive.namelist()) == 50
    assert all(get.range and get.status in (200, 206) for get in proxy.gets("faces.zip")[1:])


def test_small_reads_share_a_request(proxy: Proxy) -> None:
    with s3.open_object("s3://bucket", "long.bin") as stream:
        while stream.read(10):
            pass
    assert len(proxy.gets("long.bin")) == 1


def test_an_object_is_read_completely_in_one_request(proxy: Proxy, root: Path) -> None:
    content = bytes(3 * s3.BUFFER)
    (root / "bucket" / "large.bin").write_bytes(content)
    with s3.open_object("s3://bucket", "large.bin") as stream:
        assert stream.read() == content
    assert len(proxy.gets("large.bin")) == 1


def test_a_url_may_be_that_of_an_object(proxy: Proxy) -> None:
    with s3.open_object("s3://bucket/a/b.zip", "b.zip") as stream:
        assert stream.read() == b"a/b.zip"


def test_a_missing_object_raises_file_not_found(proxy: Proxy) -> None:
    with pytest.raises(FileNotFoundError, match="object not found: 's3://bucket/a: none"):
        s3.open_object("s3://bucket/a", "none")


def test_a_read_resumes_after_a_truncated_body(proxy: Proxy) -> None:
    def break_off(exchange: Exchange) -> None:
        if exchange.method == "GET" and len(proxy.gets("long.bin")) < 3:
            exchange.cut = 300

    proxy.alter = break_off
    with s3.open_object("s3://bucket", "long.bin") as stream:
        assert stream.read() == CONTENT
    assert [get.range for get in proxy.gets("long.bin")] == [
        "bytes=0-2047",
        "bytes=300-2047",
        "bytes=600-2047",
    ]


def test_a_body_that_is_always_truncated_fails_with_one_line(proxy: Proxy) -> None:
    def break_off(exchange: Exchange) -> None:
        exchange.cut = 0 if exchange.method == "GET" else None

    proxy.alter = break_off
    with (
        s3.open_object("s3://bucket", "long.bin") as stream,
        pytest.raises(FaceganError, match=r"^s3://bucket/long.bin: no valid response from S3"),
    ):
        stream.read()
    assert len(proxy.gets("long.bin")) == s3.ATTEMPTS


@pytest.mark.parametrize("kind", ["proxy", "cloud"])  # rclone ignores If-Match
def test_an_object_that_changes_while_being_read_is_reported(
    kind: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(kind)
    s3.client().create_bucket(Bucket="edited")
    s3.client().put_object(Bucket="edited", Key="a", Body=b"one")
    with s3.open_object("s3://edited", "a") as stream:
        s3.client().put_object(Bucket="edited", Key="a", Body=b"two")
        with pytest.raises(FaceganError, match="s3://edited/a: changed while"):
            stream.read()


def test_a_server_that_ignores_ranges_never_gives_wrong_bytes(proxy: Proxy) -> None:
    def ignore(exchange: Exchange) -> None:
        if exchange.method == "GET":
            del exchange.headers["Content-Range"]
            exchange.status, exchange.body = 200, CONTENT
            exchange.headers["Content-Length"] = str(len(CONTENT))

    proxy.alter = ignore
    with s3.open_object("s3://bucket", "long.bin") as stream:
        stream.seek(300)
        with pytest.raises(FaceganError, match=r"long.bin: changed while"):
            stream.read()


def error_of(url: str) -> str:
    """The error message of listing `url`."""
    with pytest.raises(FaceganError) as caught:
        list(s3.list_objects(url))
    text = str(caught.value)
    assert text.startswith(f"{url}: ")
    assert len(text.splitlines()) == 1
    assert SECRET not in text
    return text


def test_a_missing_bucket_is_reported(proxy: Proxy) -> None:
    assert "bucket not found" in error_of("s3://nowhere/a")


def test_wrong_credentials_fail_without_showing_the_secret(
    server: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, server.url, AWS_SECRET_ACCESS_KEY=f"{SECRET}!")
    assert "access denied (SignatureDoesNotMatch)" in error_of("s3://bucket/a")


def test_missing_credentials_are_reported_with_advice(
    server: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, server.url, AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None)
    assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in error_of("s3://bucket/a")


def test_a_missing_profile_is_reported(server: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, server.url, AWS_PROFILE="nobody")
    assert "(ProfileNotFound)" in error_of("s3://bucket/a")


def test_an_unreachable_endpoint_is_reported_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, f"http://somebody:{SECRET}@127.0.0.1:9", AWS_MAX_ATTEMPTS="2")
    assert "check AWS_ENDPOINT_URL and the network" in error_of("s3://bucket/a")


def test_an_invalid_endpoint_url_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FaceganError, match="AWS_ENDPOINT_URL: not a URL"):
        use(monkeypatch, "nowhere")
        s3.client()


def test_transient_server_errors_are_retried(proxy: Proxy) -> None:
    def fail_once(exchange: Exchange) -> None:
        if len(proxy.exchanges) == 1:
            exchange.status, exchange.body, exchange.headers = 503, b"", {}

    proxy.alter = fail_once
    assert listed("s3://bucket/a/b") == ["1.jpg", "below/2.jpg"]


def test_permanent_server_errors_are_reported(proxy: Proxy) -> None:
    def fail(exchange: Exchange) -> None:
        exchange.status, exchange.body, exchange.headers = 500, b"", {}

    proxy.alter = fail
    assert "S3 error 500" in error_of("s3://bucket/a")


def test_a_process_has_one_client_and_a_fork_another(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in credentials("http://127.0.0.1:9").items():
        monkeypatch.setenv(name, value)
    client = s3.client()
    assert s3.client() is client
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert s3.client() is not client
    s3._client.cache_clear()
