"""Who asks the model for something, whichever way in: how many requests of one visitor wait at a time, and
whether their client is still there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gradio as gr
import httpx
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection

from .addresses import address_of
from .asgi import Answer, Replay, json_object, read_body
from .components import MODEL_QUEUE
from .leaving import Departure

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from .blocks import Page

_ASK = re.compile(r"/gradio_api/(?:queue/join|call/(?:v2/)?(?P<name>[^/]+))/?")
"""Every route that puts a request into the queue. Others cannot: the page has `api_open=False`."""
_WATCH = re.compile(r"/gradio_api/(?:queue/data|call/(?:v2/)?[^/]+/(?P<event>[^/]+))/?")
_CANCEL = re.compile(r"/gradio_api/cancel/?")
_MCP = re.compile(r"/gradio_api/mcp(?:/.*)?")
_MCP_SESSION = re.compile(rb"session_id=(\w+)")
_CALLER = "x-mutual-forcing-caller"
"""Header of the requests by which Gradio's MCP server asks this server: the connection of its caller."""
_REFUSAL = "refuse"
UNWATCHED_SECONDS = 30.0
"""How long a request may wait for, or use, the model while nobody listens for its result."""
_INTEGER = TypeAdapter(int)


@dataclass(eq=False)
class Ticket:
    """A request that waits for the model or has begun to use it."""

    session_id: str
    """Gradio's session, whose waiting requests Gradio drops when the visitor goes away."""
    visitor: frozenset[str]
    """The address and, if it belongs to one visitor only, the session."""
    caller: str = ""
    """The connection of the MCP client that asked."""
    event_id: str = ""
    waiting: bool = True
    departure: Departure = field(default_factory=Departure)


class Requests:
    """The requests that wait for the model or use it. Used by the server's event loop only."""

    def __init__(self, most: int) -> None:
        self.most = most
        """Largest number of requests of one visitor that wait."""
        self._tickets: list[Ticket] = []

    def enter(self, session_id: str, visitor: frozenset[str], caller: str = "") -> Ticket | None:
        """Add a request; None if the visitor has as many waiting as are allowed.

        Requests that share an address or a session are from one visitor.
        """
        if self.waiting_of(*visitor) >= self.most:
            return None
        ticket = Ticket(session_id, visitor, caller)
        self._tickets.append(ticket)
        return ticket

    def waiting_of(self, *visitor: str) -> int:
        """Return how many requests wait that have one of these keys of a visitor."""
        return sum(t.waiting and not t.visitor.isdisjoint(visitor) for t in self._tickets)

    def __contains__(self, ticket: Ticket) -> bool:
        return ticket in self._tickets

    def finish(self, ticket: Ticket) -> None:
        """Remove a request that the queue did not take, or that is done."""
        self._tickets = [t for t in self._tickets if t is not ticket]

    def leave(self, gone: Callable[[Ticket], bool]) -> list[Ticket]:
        """Remove the requests of clients that have gone, end the work for them, and return them."""
        left = [ticket for ticket in self._tickets if gone(ticket)]
        self._tickets = [ticket for ticket in self._tickets if ticket not in left]
        for ticket in left:
            ticket.departure.happen()
        return left

    def session_of(self, event_id: str) -> str:
        """Return the session of an event; without one of its own, Gradio names it like the event."""
        known = (t.session_id for t in self._tickets if t.event_id == event_id)
        return next(known, event_id)


def ticket_of(request: Any) -> Ticket | None:
    """Return the ticket that the middleware gave to an event's request."""
    return getattr(getattr(request, "state", None), "ticket", None)


def departure_of(request: Any) -> Departure:
    """Return the departure of the client that sent an event's request."""
    ticket = ticket_of(request)
    return ticket.departure if ticket else Departure()


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
    """ASGI middleware: knows every request for the model, bounds them, and ends them with their clients.

    A visitor's requests beyond the limit become requests for the page's refusal. That is an event like any
    other, so browsers, Gradio's clients, plain HTTP and MCP clients are told in their own way. It takes no
    place in the model's queue.
    """

    def __init__(self, app: ASGIApp, page: Page) -> None:
        """Wrap `app`, which serves `page`; the page has an event from `add_refusal`."""
        self.app, self.page, self.requests = app, page, page.requests
        self._watchers: Counter[str] = Counter()
        self._tasks: set[asyncio.Task] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        path = scope.get("path", "")
        method = scope.get("method", "")
        if method == "POST" and (asked := _ASK.fullmatch(path)):
            await self._ask(scope, receive, send, asked["name"])
        elif method == "GET" and (watched := _WATCH.fullmatch(path)):
            await self._watch(scope, receive, send, watched["event"])
        elif method == "POST" and _CANCEL.fullmatch(path):
            body, answer = await read_body(receive), Answer(send)
            await self.app(scope, Replay(body, receive), answer)
            if answer.accepted:
                event_id = str(json_object(body).get("event_id"))
                self.requests.leave(lambda ticket: ticket.event_id == event_id)
        elif scope["type"] == "http" and _MCP.fullmatch(path):
            await self._relay(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _ask(self, scope: Scope, receive: Receive, send: Send, name: str | None) -> None:
        body = await read_body(receive)
        request = json_object(body)
        if not self._wants_model(name, request):
            await self.app(scope, Replay(body, receive), send)
            return
        session_id = request.get("session_hash")
        session_id = session_id if isinstance(session_id, str) else ""
        caller = Headers(scope=scope).get(_CALLER, "")
        ticket = self.requests.enter(session_id, _visitor(scope, session_id), caller)
        if ticket is None:
            scope, body = self._refused(scope, request, name)
            await self.app(scope, Replay(body, receive), send)
            return
        answer = Answer(send)
        scope = {**scope, "state": {**scope.get("state", {}), "ticket": ticket}}
        try:
            await self.app(scope, Replay(body, receive), answer)
        finally:
            ticket.event_id = str(json_object(bytes(answer.body)).get("event_id", ""))
            ticket.session_id = session_id or ticket.event_id
            if ticket.event_id:
                self._in_background(self._watch_over(ticket))
            else:
                self.requests.finish(ticket)

    async def _watch(
        self, scope: Scope, receive: Receive, send: Send, event_id: str | None
    ) -> None:
        """Serve the messages of a session. When the visitor breaks them off, Gradio drops what waits."""
        query = HTTPConnection(scope).query_params
        session_id = (
            self.requests.session_of(event_id) if event_id else query.get("session_hash", "")
        )

        def leave() -> None:
            self.requests.leave(lambda ticket: ticket.session_id == session_id)

        self._watchers[session_id] += 1
        try:
            await self._serve(scope, receive, send, leave)
        finally:
            self._watchers[session_id] -= 1
            if not self._watchers[session_id]:
                del self._watchers[session_id]

    async def _watch_over(self, ticket: Ticket) -> None:
        """End a request that nobody listens to: its client never came to fetch what it asked for."""
        while ticket in self.requests:
            await asyncio.sleep(UNWATCHED_SECONDS)
            if not self._watchers[ticket.session_id]:
                await self._drop(lambda other: other is ticket)

    async def _relay(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve an MCP client; what it asks for comes back as requests of Gradio's MCP server."""
        caller = HTTPConnection(scope).query_params.get("session_id") or secrets.token_urlsafe(16)

        def leave() -> None:
            self._in_background(self._drop(lambda ticket: ticket.caller == caller))

        async def sent(message: Message) -> None:
            # The older transport answers elsewhere, and says first by which name its client will ask.
            nonlocal caller
            if scope["method"] == "GET" and (
                named := _MCP_SESSION.search(message.get("body", b""))
            ):
                caller = named[1].decode()
            await send(message)

        await self._serve(_forwarded(scope, caller), receive, sent, leave)

    async def _serve(
        self, scope: Scope, receive: Receive, send: Send, leave: Callable[[], None]
    ) -> None:
        """Let the application answer; call `leave` if the client goes before it has the whole answer."""
        complete = False

        async def received() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect" and not complete:
                leave()
            return message

        async def sent(message: Message) -> None:
            nonlocal complete
            complete = message["type"] == "http.response.body" and not message.get("more_body")
            await send(message)

        await self.app(scope, received, sent)

    async def _drop(self, gone: Callable[[Ticket], bool]) -> None:
        """End requests, and take them out of Gradio's queue if they wait there."""
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://page") as web:
            for ticket in self.requests.leave(gone):
                # No event has this number: only the one request is cancelled, not all of its session.
                body = {
                    "session_hash": ticket.session_id,
                    "fn_index": -1,
                    "event_id": ticket.event_id,
                }
                await web.post("/gradio_api/cancel", json=body)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

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


def _visitor(scope: Scope, session_id: str) -> frozenset[str]:
    connection = HTTPConnection(scope)
    # All MCP clients share one session, that of Gradio's MCP server.
    shared = connection.headers.get("x-gradio-user") == "mcp"
    keys = {f"address {address_of(connection)}"}
    return frozenset(keys if shared or not session_id else {*keys, f"session {session_id}"})


def _forwarded(scope: Scope, caller: str) -> Scope:
    """Return the scope with the caller's address in X-Forwarded-For, as any proxy would add it.

    Gradio's MCP server calls this server with the headers of its caller, and is no other visitor. `caller`
    is its connection.
    """
    connection = HTTPConnection(scope)
    peer = connection.client.host if connection.client else ""
    hops = ", ".join(filter(None, [*connection.headers.getlist("x-forwarded-for"), peer]))
    own = {b"x-forwarded-for": hops.encode("latin-1"), _CALLER.encode(): caller.encode()}
    headers = [header for header in scope["headers"] if header[0] not in own]
    return {**scope, "headers": [*headers, *own.items()]}
