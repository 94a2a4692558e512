"""Objects on S3: listed, and read in place. `fetch.s3_download` copies them to disk."""

import errno
import io
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, BinaryIO

from facegan.core.errors import FaceganError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# Bytes requested per read, at least: one round trip costs as much as some 100 kB.
BUFFER = 1 << 20
# botocore retries requests, but not a body that is cut off.
ATTEMPTS = 5
# HEAD responses have no body, hence the number instead of the name.
MISSING = ("404", "NoSuchKey")
ARCHIVED = ("GLACIER", "DEEP_ARCHIVE")
CHANGED = ("412", "PreconditionFailed", "416", "InvalidRange")


@dataclass(frozen=True)
class Object:
    """One object.

    Attributes:
        path: relative to the URL's prefix; the last part of the key if the URL is the object's.
        key: in the bucket.
        size: bytes.
        etag: without quotes; changes with the content.
        status: why it cannot be read; None if it can.
    """

    path: str
    key: str
    size: int
    etag: str
    status: str | None = None

    @property
    def condition(self) -> dict[str, str]:
        """Request parameters with which S3 refuses to serve a changed object."""
        return {"IfMatch": f'"{self.etag}"'} if self.etag else {}


def parse(url: str) -> tuple[str, str]:
    """Split a URL into bucket and prefix.

    >>> parse("s3://bucket/a/b/")
    ('bucket', 'a/b')

    Raises:
        FaceganError: if the bucket is missing or the prefix is not UTF-8.
    """
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    # botocore's rule, without ARNs. The text may be a key and a secret, so it is not repeated.
    if not url.startswith("s3://") or not re.fullmatch(r"[\w.-]{1,255}", bucket, re.ASCII):
        advice = "write s3://BUCKET/FOLDER, and set credentials in AWS's environment variables"
        raise FaceganError(f"s3://: no bucket name before the next slash; {advice}")
    if re.search("[\ud800-\udfff]", prefix):
        raise FaceganError(f"s3://{bucket}: the rest of the URL is not UTF-8; keys are")
    return bucket, prefix.removesuffix("/")


def client() -> Any:
    """This process's client; endpoint, region and credentials come from AWS's environment.

    Without credentials, requests are not signed, as public buckets allow.
    Thread-safe. A forked process gets its own, because connections cannot be shared.
    """
    return _client(os.getpid())


@cache
def _client(process: int) -> Any:
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    session = boto3.session.Session()
    config = Config(
        signature_version=None if session.get_credentials() else UNSIGNED,
        retries={"mode": "standard"},
        connect_timeout=10,  # with the default of 60 s, a wrong endpoint takes minutes to fail
        response_checksum_validation="when_supported",
    )
    try:
        client = session.client("s3", config=config)
    except ValueError as error:
        raise FaceganError("AWS_ENDPOINT_URL: not a URL; write http://HOST:PORT") from error
    client.meta.events.register("before-parameter-build", _before_request)
    client.meta.events.register("after-call.s3.GetObject", _after_get)
    return client


def _before_request(params: dict[str, Any], context: dict[str, Any], **_: object) -> None:
    context["requested"] = params
    if "Range" in params:  # the checksum is of the whole object, but rclone sends it anyway
        params.pop("ChecksumMode", None)


def _after_get(parsed: Mapping[str, Any], context: Mapping[str, Any], **_: object) -> None:
    """Fail as S3 does if a server ignores If-Match, as rclone does, or Range."""
    from botocore.exceptions import ClientError

    requested, etag = context["requested"], parsed.get("ETag", "").strip('"')
    start = requested.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0]
    if "Body" in parsed and (
        requested.get("IfMatch", etag).strip('"') != etag
        or not parsed.get("ContentRange", "bytes 0-").startswith(f"bytes {start}-")
    ):
        parsed["Body"].close()
        raise ClientError({"Error": {"Code": "PreconditionFailed"}}, "GetObject")


@contextmanager
def translate_errors(url: str) -> Iterator[None]:
    """Translate exceptions of botocore and s3transfer into one line that names `url`.

    Nothing of the request or response is repeated: a proxy's URL, for instance, may contain a
    password.
    """
    from botocore import exceptions
    from s3transfer.exceptions import RetriesExceededError

    url = url if url.isprintable() else repr(url)
    no_response = (
        *(exceptions.ConnectionError, exceptions.HTTPClientError),
        *(exceptions.ConnectTimeoutError, exceptions.IncompleteReadError, RetriesExceededError),
    )
    try:
        yield
    except exceptions.ClientError as error:
        raise FaceganError(f"{url}: {_reason(error.response)}") from None
    except no_response as error:
        name = type(getattr(error, "last_exception", error)).__name__
        advice = "check AWS_ENDPOINT_URL and the network"
        raise FaceganError(f"{url}: no valid response from S3 ({name}); {advice}") from None
    except exceptions.BotoCoreError as error:
        name = type(error).__name__
        advice = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        raise FaceganError(f"{url}: no access to S3 ({name}); {advice}") from None


def _reason(response: Mapping[str, Any]) -> str:
    code = str(response.get("Error", {}).get("Code"))
    if code == "NoSuchBucket":
        return "bucket not found; check its name and AWS_ENDPOINT_URL"
    if code in MISSING:
        return "object not found; it may have been deleted since it was listed"
    if code in CHANGED:
        return "changed while it was read; run again"
    if code == "InvalidObjectState":
        return "archived in Glacier; restore it, then run again"
    if _is_anonymous():
        advice = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        return f"no access without credentials ({code}); {advice}"
    if response.get("ResponseMetadata", {}).get("HTTPStatusCode") in (401, 403):
        return f"access denied ({code}); check the AWS credentials and AWS_ENDPOINT_URL"
    return f"S3 error {code}; check the URL, AWS_REGION and AWS_ENDPOINT_URL"


def _is_anonymous() -> bool:
    from botocore import UNSIGNED

    return client().meta.config.signature_version is UNSIGNED


def list_objects(url: str) -> Iterator[Object]:
    """The objects below `url`, in S3's order, without keys that end in / (folders).

    `s3://bucket/a/b` means the object `a/b` and those below `a/b/`, not `a/bc`.
    """
    bucket, prefix = parse(url)
    below = f"{prefix}/" if prefix else ""
    with translate_errors(url):
        s3 = client()
        # A key equal to the prefix sorts before all others that start with it.
        first = s3.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1) if prefix else {}
        for entry in first.get("Contents", ()):
            if entry["Key"] == prefix and not prefix.endswith("/"):
                yield _object(entry, prefix.rpartition("/")[2])
        for page in s3.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=below, OptionalObjectAttributes=["RestoreStatus"]
        ):
            for entry in page.get("Contents", ()):
                if not entry["Key"].endswith("/"):
                    yield _object(entry, entry["Key"].removeprefix(below))


def _object(entry: Mapping[str, Any], path: str) -> Object:
    restored = "RestoreExpiryDate" in entry.get("RestoreStatus", {})
    status = "in-glacier" if entry.get("StorageClass") in ARCHIVED and not restored else None
    return Object(path, entry["Key"], entry["Size"], entry.get("ETag", "").strip('"'), status)


def open_object(url: str, path: str, buffer_size: int = BUFFER) -> BinaryIO:
    """Open an object, by its path below `url`, for reading and seeking; nothing goes to disk.

    Raises:
        FileNotFoundError: if the object does not exist.
        FaceganError: on opening and on each read, if S3 does not serve it.
    """
    bucket, prefix = parse(url)
    keys = [f"{prefix}/{path}" if prefix else path]
    if prefix.rpartition("/")[2] == path:  # the URL may be that of the object
        keys.insert(0, prefix)
    for key in keys:
        if obj := _head(bucket, key, path):
            return io.BufferedReader(_Reader(bucket, obj), buffer_size)
    raise FileNotFoundError(errno.ENOENT, "object not found", f"{url}: {path}")


def _head(bucket: str, key: str, path: str) -> Object | None:
    from botocore.exceptions import ClientError

    with translate_errors(f"s3://{bucket}/{key}"):
        try:
            response = client().head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in MISSING:
                return None
            raise
    return _object({**response, "Key": key, "Size": response["ContentLength"]}, path)


class _Reader(io.RawIOBase):
    """An object as a raw file; each read is one request."""

    def __init__(self, bucket: str, obj: Object) -> None:
        self.bucket, self.obj, self.position = bucket, obj, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.obj.size}[whence]
        if start + offset < 0:
            raise OSError(errno.EINVAL, "before the start of the object", self.obj.key)
        self.position = start + offset
        return self.position

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer).cast("B")
        data = self._next(len(view))
        view[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:  # the inherited one reads 8 kB at a time
        return b"".join(iter(lambda: self._next(self.obj.size), b""))

    def _next(self, size: int) -> bytes:
        """At most `size` bytes: fewer if the body is cut off, none at the end."""
        from botocore.exceptions import HTTPClientError, IncompleteReadError

        size = max(0, min(size, self.obj.size - self.position))
        span = f"bytes={self.position}-{self.position + size - 1}"
        request = {"Bucket": self.bucket, "Key": self.obj.key, "Range": span, **self.obj.condition}
        data, failures = b"", 0
        with translate_errors(f"s3://{self.bucket}/{self.obj.key}"):
            while size and not data:
                with closing(client().get_object(**request)["Body"]) as body:
                    try:
                        data = body.read(size)
                        if not data:
                            raise IncompleteReadError(actual_bytes=0, expected_bytes=size)
                    except (HTTPClientError, IncompleteReadError):
                        failures += 1
                        if failures == ATTEMPTS:
                            raise
        self.position += len(data)
        return data
