"""A look at what was fetched, before it replaces what was there."""

from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field

from facegan.photos import discovery, formats
from facegan.photos.inputs import Input, Root, Unusable, safe_name, shown

PAGE_STARTS = (b"<!doctype html", b"<html")
PHOTOGRAPH = "photograph"


@dataclass
class Content:
    """
    Attributes:
        count: of the inputs.
        broken: a line for each archive or IDX file that is damaged.
        others: statuses of the inputs, if none of them may be a photograph; else empty.
    """

    count: int = 0
    broken: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


def look(root: Root) -> Content:
    """What is below `root`. Of photographs, only the first is looked at, and not decoded."""
    content, found = Content(), False
    with closing(discovery.Reader(root)) as reader:
        for item in discovery.find(root):
            content.count += 1
            # Known before reading only of files whose members were looked for.
            is_broken = (item.status or "").startswith(("unreadable", "truncated", "unsupported-"))
            if item.status and is_broken and item.path == safe_name(item.file):
                content.broken += _explained(root, item.file, item.status)
            if not found:
                kind = _kind(reader, item)
                found = kind == PHOTOGRAPH
                content.others[kind] += 1
    if found:
        content.others.clear()
    return content


def _kind(reader: discovery.Reader, item: Input) -> str:
    """`PHOTOGRAPH` for what looks or is named like one, maybe damaged; else what it is."""
    if item.status is None and item.shape is not None:
        return PHOTOGRAPH
    try:
        head = reader.read(item)[: formats.HEAD]
    except Unusable as error:
        return str(error)
    if not head:
        return "empty"
    if _is_page(head):
        return "web page"
    status = formats.status_of_unread(head, item.path)
    return PHOTOGRAPH if formats.decoded_format(head) or status == "unreadable" else status


def _is_page(head: bytes) -> bool:
    return head.lstrip().lower().startswith(PAGE_STARTS)


def _explained(root: Root, file: str, status: str) -> list[str]:
    try:
        with root.open(file) as stream:
            head = stream.read(formats.HEAD)
    except OSError:  # skipped by `fetch`, which lists it
        return []
    if _is_page(head):
        status = "a web page in place of the file, such as an error or a quota"
    return [f"{shown(safe_name(file))}: {status}"]
