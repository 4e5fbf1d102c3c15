"""Limits how many requests of one visitor wait for the model at a time, whichever way they come in."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr
from pydantic import TypeAdapter, ValidationError
from starlette.requests import HTTPConnection

from .addresses import address_of
from .components import MODEL_QUEUE

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from .blocks import Page

_ASK = re.compile(r"/gradio_api/(?:queue/join|call/(?:v2/)?(?P<name>[^/]+))/?")
"""Every route that puts a request into the queue. Others cannot: the page has `api_open=False`."""
_WATCH = re.compile(r"/gradio_api/(?:queue/data|call/(?:v2/)?[^/]+/(?P<event>[^/]+))/?")
_CANCEL = re.compile(r"/gradio_api/cancel/?")
_MCP = re.compile(r"/gradio_api/mcp(?:/.*)?")
_REFUSAL = "refuse"
_INTEGER = TypeAdapter(int)


@dataclass(eq=False)
class Ticket:
    """A request that waits for the model or has begun to use it."""

    session_id: str
    """Gradio's session, whose waiting requests Gradio drops when the visitor goes away."""
    visitor: frozenset[str]
    """The address and, if it belongs to one visitor only, the session."""
    event_id: str = ""
    waiting: bool = True


class WaitingRequests:
    """The requests that wait for the model, first come first. Used by the server's event loop only."""

    def __init__(self, most: int) -> None:
        self.most = most
        """Largest number of requests of one visitor that wait."""
        self._tickets: list[Ticket] = []

    def enter(self, session_id: str, visitor: frozenset[str]) -> Ticket | None:
        """Add a request; None if the visitor has as many waiting as are allowed.

        Requests that share an address or a session are from one visitor.
        """
        if self.waiting_of(*visitor) >= self.most:
            return None
        ticket = Ticket(session_id, visitor)
        self._tickets.append(ticket)
        return ticket

    def waiting_of(self, *visitor: str) -> int:
        """Return how many requests wait that have one of these keys of a visitor."""
        return sum(t.waiting and not t.visitor.isdisjoint(visitor) for t in self._tickets)

    def start(self, ticket: Ticket) -> None:
        """Note that the request does not wait any more."""
        ticket.waiting = False
        if ticket in self._tickets:
            # Nobody is overtaken, so whoever came earlier was served or has gone.
            del self._tickets[: self._tickets.index(ticket)]

    def leave(self, ticket: Ticket) -> None:
        """Remove a request that the queue did not take."""
        if ticket in self._tickets:
            self._tickets.remove(ticket)

    def leave_event(self, event_id: str) -> None:
        """Remove the request that Gradio knows by this id."""
        self._tickets = [t for t in self._tickets if t.event_id != event_id]

    def leave_session(self, session_id: str) -> None:
        """Remove all requests of a session."""
        self._tickets = [t for t in self._tickets if t.session_id != session_id]

    def session_of(self, event_id: str) -> str:
        """Return the session of an event; without one of its own, Gradio names it like the event."""
        known = (t.session_id for t in self._tickets if t.event_id == event_id)
        return next(known, event_id)


def ticket_of(request: Any) -> Ticket | None:
    """Return the ticket that the middleware gave to an event's request."""
    return getattr(getattr(request, "state", None), "ticket", None)


def add_refusal(most: int) -> None:
    """Add the event that answers what is beyond the limit, inside the open page."""

    def refuse() -> None:
        many = "a request" if most == 1 else f"{most} requests"
        message = f"You have {many} waiting already: try again when one is finished."
        raise gr.Error(message, title="Please wait", print_exception=False)

    gr.Button(visible=False).click(
        refuse, api_name=_REFUSAL, api_visibility="private", concurrency_limit=None,
        show_progress="hidden",
    )  # fmt: skip


class RateLimit:
    """ASGI middleware: a visitor's requests beyond the limit become requests for the page's refusal.

    The refusal is an event like any other, so browsers, Gradio's clients, plain HTTP and MCP clients are
    told in their own way. It takes no place in the model's queue.
    """

    def __init__(self, app: ASGIApp, page: Page) -> None:
        """Wrap `app`, which serves `page`; the page has an event from `add_refusal`."""
        self.app, self.page, self.waiting = app, page, page.waiting

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        path = scope.get("path", "")
        method = scope.get("method", "")
        if method == "POST" and (asked := _ASK.fullmatch(path)):
            await self._ask(scope, receive, send, asked["name"])
        elif method == "GET" and (watched := _WATCH.fullmatch(path)):
            await self._watch(scope, receive, send, watched["event"])
        elif method == "POST" and _CANCEL.fullmatch(path):
            body, answer = await _read(receive), _Answer(send)
            await self.app(scope, _Replay(body, receive), answer)
            if answer.accepted:
                self.waiting.leave_event(str(_json(body).get("event_id")))
        elif scope["type"] == "http" and _MCP.fullmatch(path):
            await self.app(_forwarded(scope), receive, send)
        else:
            await self.app(scope, receive, send)

    async def _ask(self, scope: Scope, receive: Receive, send: Send, name: str | None) -> None:
        body = await _read(receive)
        request = _json(body)
        if not self._wants_model(name, request):
            await self.app(scope, _Replay(body, receive), send)
            return
        session_id = request.get("session_hash")
        session_id = session_id if isinstance(session_id, str) else ""
        ticket = self.waiting.enter(session_id, _visitor(scope, session_id))
        if ticket is None:
            scope, body = self._refused(scope, request, name)
            await self.app(scope, _Replay(body, receive), send)
            return
        answer = _Answer(send)
        scope = {**scope, "state": {**scope.get("state", {}), "ticket": ticket}}
        try:
            await self.app(scope, _Replay(body, receive), answer)
        finally:
            ticket.event_id = str(_json(bytes(answer.body)).get("event_id", ""))
            ticket.session_id = session_id or ticket.event_id
            if not ticket.event_id:
                self.waiting.leave(ticket)

    async def _watch(
        self, scope: Scope, receive: Receive, send: Send, event_id: str | None
    ) -> None:
        """Serve the messages of a session. When the visitor breaks them off, Gradio drops what waits."""
        query = HTTPConnection(scope).query_params
        session_id = (
            self.waiting.session_of(event_id) if event_id else query.get("session_hash", "")
        )
        gone = False

        async def received() -> Message:
            nonlocal gone
            message = await receive()
            gone = gone or message["type"] == "http.disconnect"
            return message

        try:
            await self.app(scope, received, send)
        finally:
            if gone:
                self.waiting.leave_session(session_id)

    def _wants_model(self, name: str | None, request: dict[str, Any]) -> bool:
        """Return whether the event uses the model; it is found as Gradio does."""
        if name is not None:
            known = [fn for fn in self.page.fns.values() if fn.api_name == name]
        else:
            known = []
            with contextlib.suppress(ValidationError, KeyError):
                known = [self.page.fns[_INTEGER.validate_python(request.get("fn_index"))]]
        return any(fn.concurrency_id == MODEL_QUEUE for fn in known)

    def _refused(
        self, scope: Scope, request: dict[str, Any], name: str | None
    ) -> tuple[Scope, bytes]:
        """Return the scope and the body of a request for the refusal in place of what was asked."""
        if name is None:
            index = next(i for i, fn in self.page.fns.items() if fn.api_name == _REFUSAL)
            body = json.dumps({**request, "fn_index": index, "data": []}).encode()
        else:
            path = f"/gradio_api/call/{_REFUSAL}"
            scope = {**scope, "path": path, "raw_path": path.encode()}
            body = b'{"data": []}'
        headers = [h for h in scope["headers"] if h[0] != b"content-length"]
        headers.append((b"content-length", str(len(body)).encode()))
        return {**scope, "headers": headers}, body


class _Replay:
    """Gives a body that was read to the application, and then what else is received."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


class _Answer:
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


async def _read(receive: Receive) -> bytes:
    """Return the whole body; BodyLimit bounds it."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)


def _json(body: bytes) -> dict[str, Any]:
    """Return the body's JSON object; empty for anything else, which Gradio will refuse."""
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _visitor(scope: Scope, session_id: str) -> frozenset[str]:
    connection = HTTPConnection(scope)
    # All MCP clients share one session, that of Gradio's MCP server.
    shared = connection.headers.get("x-gradio-user") == "mcp"
    keys = {f"address {address_of(connection)}"}
    return frozenset(keys if shared or not session_id else {*keys, f"session {session_id}"})


def _forwarded(scope: Scope) -> Scope:
    """Return the scope with the caller's address in X-Forwarded-For, as any proxy would add it.

    Gradio's MCP server calls this server with the headers of its caller, and is no other visitor.
    """
    connection = HTTPConnection(scope)
    peer = connection.client.host if connection.client else ""
    hops = ", ".join(filter(None, [*connection.headers.getlist("x-forwarded-for"), peer]))
    headers = [h for h in scope["headers"] if h[0] != b"x-forwarded-for"]
    return {**scope, "headers": [*headers, (b"x-forwarded-for", hops.encode("latin-1"))]}
