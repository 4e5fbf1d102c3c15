"""Limits how many requests of one visitor wait in the queue at a time."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

import gradio as gr

from .components import MODEL

if TYPE_CHECKING:
    from fastapi import Request


def limit_waiting_requests(demo: gr.Blocks, most: int) -> None:
    """Limit the waiting requests of each visitor to `most`.

    Call it inside the open `demo`, before `demo.queue(...)`. Requests from one browser tab or from one
    address belong to one visitor. Requests beyond the limit are answered at once with one sentence and
    take no place in the queue.
    """

    def refuse() -> None:
        many = "a request" if most == 1 else f"{most} requests"
        message = f"You have {many} waiting already: try again when one is finished."
        raise gr.Error(message, title="Please wait", print_exception=False)

    gr.Button(visible=False).click(
        refuse, api_visibility="private", concurrency_limit=None, show_progress="hidden"
    )
    refusal, make_queue = max(demo.fns), demo.queue

    def queue(*arguments: Any, **options: Any) -> gr.Blocks:
        make_queue(*arguments, **options)
        inner = demo._queue.push

        async def push(body: Any, request: Request, username: str | None) -> Any:
            if _waiting(demo, body, request) >= most:
                # `refuse` runs instead, so that every kind of client gets the sentence as usual.
                body.fn_index, body.data = refusal, []
            return await inner(body=body, request=request, username=username)

        demo._queue.push = push  # type: ignore[method-assign]
        return demo

    demo.queue = queue  # type: ignore[method-assign]


def _waiting(demo: gr.Blocks, body: Any, request: Request) -> int:
    """Return how many of the visitor's requests wait for the model; 0 for an event that does not use it."""
    wanted = demo.fns.get(body.fn_index)
    if wanted is None or wanted.concurrency_id != MODEL["concurrency_id"]:
        return 0
    line = demo._queue.event_queue_per_concurrency_id.get(wanted.concurrency_id)
    address = address_of(request)
    return sum(
        event.session_hash == body.session_hash or address_of(event.request) == address
        for event in (line.queue if line else ())
    )


def address_of(request: Request) -> str:
    """Return the address that a request comes from; behind a proxy, that of the proxy's client."""
    peer = request.client.host if request.client else ""
    if _public(peer):
        return peer  # Not a proxy of this host: its headers may be invented.
    hops = [hop.strip() for hop in request.headers.get("x-forwarded-for", "").split(",")]
    # Each proxy appends its client's address; the first entries may be invented.
    named = [hop for hop in hops if _public(hop)] or [hop for hop in hops if hop]
    return named[-1] if named else peer


def _public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False
