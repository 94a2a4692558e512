"""Addresses in messages and files, without what must not be published."""

import re

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9.+-]+:/+")
# In a sentence: without the punctuation that follows it, which would look like a port's.
IN_TEXT = re.compile(rf"{SCHEME.pattern}\S+?(?=[:;,.)]*(?:\s|$))")
MODELS = "models:/"  # MLflow's addresses have an alias after @, and no user
PLACEHOLDER = "PORT"  # of addresses in advice


def public_text(text: str) -> str:
    """A text, such as another library's message, with the addresses in it as of `public`."""
    return IN_TEXT.sub(lambda match: public(match.group()), text)


def public(address: str) -> str:
    """An address without user, password, token and query; a path is returned as it is.

    If a password contains / or @, rather too much is masked than too little.

    >>> public("https://me:secret@example.org/faces.zip?signature=5")
    'https://***@example.org/faces.zip?***'
    """
    match = SCHEME.match(address)
    if match is None or match.group() == MODELS:
        return address
    scheme, rest = match.group(), address[match.end() :]
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    port = authority.rpartition("]")[2].partition(":")[2]  # after ], in an IPv6 address
    if "@" in authority or (port and not port.isdigit() and port != PLACEHOLDER):
        _, at, rest = rest.rpartition("@")
        rest = f"***@{rest}" if at else "***"
    start, mark, _ = rest.partition("?")
    return scheme + start + (mark and "?***")
