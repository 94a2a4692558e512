"""A look at what was fetched, before it replaces what was there."""

from facegan.photos import discovery, formats
from facegan.photos.inputs import Root, safe_name, shown

PAGE_STARTS = (b"<!doctype html", b"<html")


def count_inputs(root: Root) -> tuple[int, list[str]]:
    """The number of inputs, and a line for each archive or IDX file that is damaged."""
    count, broken = 0, []
    for item in discovery.find(root):
        count += 1
        # Known before reading only of files whose members were looked for.
        is_broken = (item.status or "").startswith(("unreadable", "truncated", "unsupported-"))
        if item.status and is_broken and item.path == safe_name(item.file):
            broken += _explained(root, item.file, item.status)
    return count, broken


def _explained(root: Root, file: str, status: str) -> list[str]:
    try:
        with root.open(file) as stream:
            head = stream.read(formats.HEAD)
    except OSError:  # skipped by `fetch`, which lists it
        return []
    if head.lstrip().lower().startswith(PAGE_STARTS):
        status = "a web page in place of the file, such as an error or a quota"
    return [f"{shown(safe_name(file))}: {status}"]
