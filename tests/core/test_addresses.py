import pytest

from facegan.core.addresses import public, public_text


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://me:secret@example.org/a.zip", "https://***@example.org/a.zip"),
        ("https://token@example.org/a.zip", "https://***@example.org/a.zip"),
        ("https://example.org/a.zip?X-Amz-Signature=secret", "https://example.org/a.zip?***"),
        ("s3://KEY:sec/ret@bucket/faces", "s3://***@bucket/faces"),
        ("s3://KEY:secret/faces", "s3://***"),
        ("s3://bucket/faces?versionId=secret", "s3://bucket/faces?***"),
        ("http://me:sec?ret#@example.org", "http://***@example.org"),
        ("http://me:s@cret@example.org/x", "http://***@example.org/x"),
        (
            "postgresql+psycopg://me:secret@db:5432/m?host=x",
            "postgresql+psycopg://***@db:5432/m?***",
        ),
        ("https:/me:secret@example.org/a.zip", "https:/***@example.org/a.zip"),
    ],
)
def test_credentials_and_query_are_masked(address: str, expected: str) -> None:
    assert public(address) == expected
    assert "secret" not in public_text(f"(error at {address} and elsewhere)")


@pytest.mark.parametrize(
    "address",
    ["s3://bucket/me@home/a.zip", "s3://bucket", "sqlite:////tmp/mlflow.db", "tcp://10.0.0.1:8786",
     "models:/faces@champion", "http://HOST:PORT",
     "tcp://[fe80::1]:8786", "http://[::1]/x", "/home/me/a?b@c.zip", "faces?.zip", "C:/faces", ""],
)  # fmt: skip
def test_an_address_without_credentials_and_a_path_stay(address: str) -> None:
    assert public(address) == public_text(address) == address


@pytest.mark.parametrize("after", [":", ",", ").", ";", ""])
def test_punctuation_after_an_address_is_not_a_part_of_it(after: str) -> None:
    assert public_text(f"at http://127.0.0.1:5000{after} and") == (
        f"at http://127.0.0.1:5000{after} and"
    )
    assert public_text(f"http://me:secret@host/x?y{after}") == f"http://***@host/x?***{after}"
