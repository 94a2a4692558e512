from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facegan.core.digests import code_sha256, file_sha256, fingerprint
from facegan.core.errors import FaceganError


def test_a_file_digest_equals_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_sha256(tmp_path / "file") == expected


@pytest.mark.parametrize("name", ["absent", "."])
def test_an_unreadable_file_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(FaceganError, match=f"^{tmp_path / name}: cannot be read"):
        file_sha256(tmp_path / name)


CODE = """
def f(x):
    return x + 1
class A:
    async def g(self): pass
"""
PROSE = """# What it does.

def f(
    x,
):
    '''Add one.'''
    return x + 1  # one
class A:
    '''Nothing.'''
    async def g(self):
        '''Nothing.'''
        pass
"""


def code(folder: Path, **files: str) -> str:
    """The digest of a folder with these files."""
    folder.mkdir()
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return code_sha256([folder])


def test_comments_docstrings_and_formatting_do_not_change_the_code_digest(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    before = code(tmp_path / "one" / "train", step=CODE)
    assert code(tmp_path / "two" / "train", step=PROSE) == before


@pytest.mark.parametrize(
    "files",
    [
        {"step": CODE.replace("+ 1", "+ 2")},
        {"step": CODE.replace("def f", "def h")},
        {"step": CODE + "x = 'text'"},
        {"step": CODE, "more": ""},
        {"other": CODE},
        {},
    ],
)
def test_a_code_change_changes_the_digest(files: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    before = code(tmp_path / "one" / "train", step=CODE)
    assert code(tmp_path / "two" / "train", **files) != before


def test_the_code_digest_does_not_depend_on_the_order_of_folders(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        code(folder, step=CODE)
    assert code_sha256(folders) == code_sha256(reversed(folders))


@given(
    parts=st.dictionaries(st.text(), st.integers() | st.text() | st.floats(allow_nan=False)),
    key=st.text(),
)
def test_a_fingerprint_depends_on_the_parts_but_not_on_their_order(
    parts: dict[str, Any], key: str
) -> None:
    digest = fingerprint(parts)
    assert len(digest) == 16
    assert set(digest) <= set("0123456789abcdef")
    assert fingerprint(dict(reversed(parts.items()))) == digest
    assert fingerprint({**parts, key: [parts.get(key)]}) != digest
