"""What middleware shares that reads a request before the application does, and its answer afterwards."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Send


class Replay:
    """Gives a body that was read to the application, and then what else is received."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


class Answer:
    """Passes a response on and keeps its body if its status is 200."""

    def __init__(self, send: Send) -> None:
        self.accepted, self.body = False, bytearray()
        self._send = send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.accepted = message["status"] == 200
        elif self.accepted:
            self.body += message.get("body", b"")
        await self._send(message)


async def read_body(receive: Receive) -> bytes:
    """Return the whole body; BodyLimit bounds it."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)


def json_object(body: bytes) -> dict[str, Any]:
    """Return the body's JSON object; empty for anything else, which Gradio will refuse."""
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
