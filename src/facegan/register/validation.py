"""Errors of records that people can edit, in words."""

from pydantic import ValidationError


def first_error(error: ValidationError) -> str:
    """The first key that is missing or invalid, and why."""
    detail = error.errors(include_url=False)[0]
    key = ".".join(map(str, detail["loc"]))
    if detail["type"] == "missing" or detail["input"] is None:
        return f"{key} is missing"
    return f"{key} {str(detail['input'])[:40]!r}: {detail['msg']}" if key else detail["msg"]
