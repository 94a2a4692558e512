"""What stands between Gradio and strangers: what may come in, be shown, and stay open."""

import asyncio
import io
import logging
import re
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TextIO

import uvicorn
from starlette.exceptions import HTTPException

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

# The browser refuses what any other host would send.
POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"
# Bytes of a request. Those of the page have a few thousand, and its list of versions.
MAX_BODY = 1_000_000
# Characters of a message in the log.
MAX_MESSAGE = 2_000
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def guarded(app: Application) -> Application:
    """`app` with `POLICY` in every answer; a request with a larger body than `MAX_BODY` ends."""

    async def guarded(scope: Message, receive: Receive, send: Send) -> None:
        size = 0

        async def receive_some() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > MAX_BODY:
                raise HTTPException(413, f"too large; valid: at most {MAX_BODY:,} bytes")
            return message

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", POLICY.encode())
                message["headers"] = [*message.get("headers", ()), policy]
            await send(message)

        await app(scope, receive_some, send_with_policy)

    return guarded


class Server(uvicorn.Server):
    """Stops while pages are open, whose streams never end by themselves.

    Args:
        stopping: ends them when it is set.
    """

    def __init__(self, config: uvicorn.Config, stopping: asyncio.Event) -> None:
        super().__init__(config)
        self.stopping = stopping

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # What is cancelled from now on is no error.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self.stopping.set()
        await super().shutdown(sockets)


class Log(io.TextIOBase):
    """A log for a terminal: Gradio's tracebacks quote what strangers send, and however much."""

    def __init__(self, target: TextIO) -> None:
        self.target = target

    def write(self, text: str) -> int:
        shown = text if len(text) <= MAX_MESSAGE else f"{text[:MAX_MESSAGE]}...\n"
        self.target.write(CONTROL.sub(lambda match: repr(match[0])[1:-1], shown))
        return len(text)

    def flush(self) -> None:
        self.target.flush()
