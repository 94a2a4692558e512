"""Objects on S3: list them, and read them in place. What brings them to disk is in `download`."""

import errno
import io
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, BinaryIO

from facegan.core.errors import FaceganError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# Bytes that one block of a body has at most.
BLOCK = 1 << 18
# A reader in place asks for this much at once: a request takes as long as some 100 kB.
BUFFER = 1 << 20
# How often in a row a body may break off without a byte; botocore repeats requests, not bodies.
ATTEMPTS = 5
# HEAD answers without a body, hence with the number instead of the name.
MISSING = ("404", "NoSuchKey")
CHANGED = ("412", "PreconditionFailed", "416", "InvalidRange")


@dataclass(frozen=True)
class Object:
    """One object.

    Attributes:
        path: below the URL's prefix; the last part of the key where the URL is the object's own.
        key: in the bucket.
        size: bytes.
        etag: without quotes; another content has another.
    """

    path: str
    key: str
    size: int
    etag: str


class Changed(Exception):
    """The object is no longer the one that was listed."""


def parse(url: str) -> tuple[str, str]:
    """The bucket and the prefix of a URL.

    >>> parse("s3://bucket/a/b/")
    ('bucket', 'a/b')

    Raises:
        FaceganError: if it names no bucket.
    """
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    # botocore's own rule, without ARNs; the text may be a key and a secret, so it isn't repeated.
    if not url.startswith("s3://") or not re.fullmatch(r"[\w.-]{1,255}", bucket, re.ASCII):
        advice = "write s3://BUCKET/FOLDER, and credentials into AWS's environment variables"
        raise FaceganError(f"s3://: no name of a bucket stands before the next slash; {advice}")
    if re.search("[\ud800-\udfff]", prefix):
        raise FaceganError(f"s3://{bucket}: the rest of the URL is not UTF-8, as keys are")
    return bucket, prefix.removesuffix("/")


def client() -> Any:
    """This process's client; endpoint, region and credentials are those of AWS's environment.

    Threads may share it. A forked process gets its own, because connections can't be shared.
    """
    return _client(os.getpid())


@cache
def _client(process: int) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(
        retries={"mode": "standard"},
        connect_timeout=10,  # the default of 60 s keeps a user with a wrong endpoint for minutes
        # Only whole objects have one, and here it is what lies on disk that is compared.
        response_checksum_validation="when_required",
    )
    try:
        return boto3.session.Session().client("s3", config=config)
    except ValueError as error:
        raise FaceganError("AWS_ENDPOINT_URL: is no URL; write http://HOST:PORT") from error


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn what botocore raises into one line that names `url`.

    It repeats nothing of the request or the answer: a proxy's URL, say, can hold a password.
    """
    url = url if url.isprintable() else repr(url)
    try:
        from botocore import exceptions
    except ImportError:
        raise FaceganError(f"{url}: needs boto3; pip install 'facegan[s3]'") from None
    no_answer = (
        *(exceptions.ConnectionError, exceptions.HTTPClientError),
        *(exceptions.ConnectTimeoutError, exceptions.IncompleteReadError),
    )
    try:
        yield
    except exceptions.ClientError as error:
        raise FaceganError(f"{url}: {_refusal(error.response)}") from None
    except no_answer as error:
        reason = f"S3 doesn't answer as it should ({type(error).__name__})"
        raise FaceganError(f"{url}: {reason}; check AWS_ENDPOINT_URL and the network") from None
    except exceptions.BotoCoreError as error:
        advice = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        raise FaceganError(f"{url}: no use of S3 ({type(error).__name__}); {advice}") from None


def _refusal(response: Mapping[str, Any]) -> str:
    code = str(response.get("Error", {}).get("Code"))
    if code == "NoSuchBucket":
        return "no such bucket; check its name and AWS_ENDPOINT_URL"
    if code in MISSING:
        return "no such object; it may be gone since it was listed"
    if response.get("ResponseMetadata", {}).get("HTTPStatusCode") in (401, 403):
        return f"S3 refuses access ({code}); check the AWS credentials and AWS_ENDPOINT_URL"
    return f"S3 answers {code}; check the URL, AWS_REGION and AWS_ENDPOINT_URL"


def list_objects(url: str) -> Iterator[Object]:
    """The objects below `url`, as S3 sorts them; names that end in / stand for folders.

    `s3://bucket/a/b` stands for the object `a/b` and those below `a/b/`, not for `a/bc`.
    """
    bucket, prefix = parse(url)
    below = f"{prefix}/" if prefix else ""
    with explained(url):
        s3 = client()
        # The key that is the prefix itself sorts before all others that begin with it.
        first = s3.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1) if prefix else {}
        for entry in first.get("Contents", ()):
            if entry["Key"] == prefix and not prefix.endswith("/"):
                yield as_object(entry, prefix.rpartition("/")[2])
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=below):
            for entry in page.get("Contents", ()):
                if not entry["Key"].endswith("/"):
                    yield as_object(entry, entry["Key"].removeprefix(below))


def as_object(entry: Mapping[str, Any], path: str) -> Object:
    """What a list, or `head`, says of an object."""
    return Object(path, entry["Key"], entry["Size"], entry.get("ETag", "").strip('"'))


def open_object(url: str, path: str) -> BinaryIO:
    """An object, by its path below `url`, to be read and sought in; nothing is kept on disk.

    Raises:
        FileNotFoundError: if there is no such object.
        FaceganError: here and in each read, if S3 doesn't give it.
    """
    bucket, prefix = parse(url)
    keys = [f"{prefix}/{path}" if prefix else path]
    if prefix.rpartition("/")[2] == path:  # the URL may be the object's own
        keys.insert(0, prefix)
    with explained(f"{url}: {path}"):
        for key in keys:
            if facts := head(bucket, key):
                return io.BufferedReader(_Reader(bucket, as_object(facts, path)), BUFFER)
    raise FileNotFoundError(errno.ENOENT, "no such object", f"{url}: {path}")


def head(bucket: str, key: str, **more: Any) -> dict[str, Any] | None:
    """What S3 says of an object, named as in a list of objects; None where there is none."""
    from botocore.exceptions import ClientError

    try:
        facts = client().head_object(Bucket=bucket, Key=key, **more)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in MISSING:
            return None
        raise
    return {"ETag": "", **facts, "Key": key, "Size": facts["ContentLength"]}


def part_size(bucket: str, key: str, number: int) -> int:
    """The size of one part of an object that was sent in parts; 0 where the server doesn't say."""
    from botocore.exceptions import ClientError

    try:
        facts = head(bucket, key, PartNumber=number)
    except ClientError:
        return 0
    return int(facts["Size"]) if facts else 0


def blocks(bucket: str, source: Object, start: int, end: int) -> Iterator[bytes]:
    """The bytes from `start` up to `end`; where a body breaks off, the next one goes on.

    Raises:
        Changed: if the object is no longer `source`.
    """
    from botocore.exceptions import HTTPClientError, IncompleteReadError

    failures = 0
    while start < end:
        body = _body(bucket, source, start, end)
        try:
            for block in body.iter_chunks(BLOCK):
                start, failures = start + len(block), 0
                yield block
        except (HTTPClientError, IncompleteReadError):
            failures += 1
            if failures == ATTEMPTS:
                raise
        finally:
            body.close()


def _body(bucket: str, source: Object, start: int, end: int) -> Any:
    from botocore.exceptions import ClientError

    wanted = {"IfMatch": f'"{source.etag}"'} if source.etag else {}
    if (start, end) != (0, source.size):
        wanted["Range"] = f"bytes={start}-{end - 1}"
    try:
        response = client().get_object(Bucket=bucket, Key=source.key, **wanted)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in CHANGED:
            raise Changed from None
        raise
    # Some servers ignore If-Match (rclone's does) or ranges.
    etag, sent = response.get("ETag", "").strip('"'), response.get("ContentRange", "bytes 0-")
    if etag != source.etag or not sent.startswith(f"bytes {start}-"):
        response["Body"].close()
        raise Changed
    return response["Body"]


class _Reader(io.RawIOBase):
    """An object as a file; each read is a request of its own."""

    def __init__(self, bucket: str, source: Object) -> None:
        self.bucket, self.source, self.position = bucket, source, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.source.size}[whence]
        if start + offset < 0:
            raise OSError(errno.EINVAL, "before the start of the object", self.source.key)
        self.position = start + offset
        return self.position

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view, done = memoryview(buffer).cast("B"), 0
        end = min(self.position + len(view), self.source.size)
        url = f"s3://{self.bucket}/{self.source.key}"
        try:
            with explained(url):
                for block in blocks(self.bucket, self.source, self.position, end):
                    view[done : done + len(block)] = block
                    done += len(block)
        except Changed:
            raise FaceganError(f"{url}: changed while it was read; start again") from None
        self.position += done
        return done
