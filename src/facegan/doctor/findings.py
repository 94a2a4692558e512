"""What `facegan doctor` finds: one line for each check, and the checks side by side."""

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from facegan.core.addresses import public_text
from facegan.core.errors import FaceganError

# Seconds after which a check hangs. Requests and commands have limits of their own, but importing
# MLflow took 15 on a busy machine.
TIMEOUT = 60.0
# Names of environment variables whose values no line may have.
SECRET = re.compile(r"(?i)pass|secret|token|key|auth|credential")
SHORTEST_SECRET = 4  # a shorter value, such as `1`, would be replaced in ordinary words


@dataclass(frozen=True)
class Finding:
    """
    Attributes:
        status: `ok`; `warning` if only some commands are affected; `problem` if one will fail.
        found: what is there, or what is wrong.
        advice: how to mend it; empty if nothing is wrong.
    """

    status: Literal["ok", "warning", "problem"]
    found: str
    advice: str = ""


Check = Callable[[], Finding]


def ok(found: str) -> Finding:
    return Finding("ok", found)


def warning(found: str, advice: str) -> Finding:
    return Finding("warning", found, advice)


def problem(found: str, advice: str) -> Finding:
    return Finding("problem", found, advice)


def run(checks: Mapping[str, Check], timeout: float = TIMEOUT) -> Iterator[tuple[str, Finding]]:
    """Run all checks at once, and yield their findings in the given order, without secrets.

    Args:
        timeout: seconds after which a check that has not ended is a problem itself.
    """
    found: dict[str, Finding] = {}
    # Daemons, because a mount or a driver that hangs can be neither interrupted nor waited for.
    threads = {
        name: threading.Thread(target=_work, args=(name, check, found), daemon=True)
        for name, check in checks.items()
    }
    deadline = time.monotonic() + timeout
    for thread in threads.values():
        thread.start()
    for name, thread in threads.items():
        thread.join(max(0.0, deadline - time.monotonic()))
        late = problem(f"no answer within {timeout:g} s", "see whether its server or disk hangs")
        yield name, _without_secrets(found.get(name, late))


def _work(name: str, check: Check, found: dict[str, Finding]) -> None:
    try:
        found[name] = check()
    except FaceganError as error:
        text, _, advice = str(error).partition("; ")
        found[name] = problem(text, advice)
    except Exception as error:  # a check must not hide the others
        text = (str(error).splitlines() or [""])[0]
        found[name] = problem(f"{type(error).__name__}: {text}", "please report this")


def _without_secrets(finding: Finding) -> Finding:
    return replace(finding, found=redact(finding.found), advice=redact(finding.advice))


def redact(text: str) -> str:
    """`text` without the values of the environment's secrets, and users and queries of addresses.

    >>> redact("http://me:secret@host/x?token=5 failed")
    'http://***@host/x?*** failed'
    """
    values = {v for name, v in os.environ.items() if SECRET.search(name)}
    values |= {value.partition(":")[2] for value in values}  # of USER:PASSWORD
    for value in sorted(values, key=len, reverse=True):
        if len(value) >= SHORTEST_SECRET:
            text = text.replace(value, "***")
    return public_text(text)
