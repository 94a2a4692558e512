"""JSON of files and servers."""

import json
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """
    Raises:
        ValueError: if it is not JSON, not UTF-8, or nested too deep.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError(str(error)) from None
