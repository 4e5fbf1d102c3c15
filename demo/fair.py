"""A queue in which one visitor cannot take all the places."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

import gradio as gr

from .parts import MODEL

if TYPE_CHECKING:
    from fastapi import Request


def share_queue(demo: gr.Blocks, most: int) -> None:
    """Let no visitor have more than `most` requests waiting in the queue that `demo` will get.

    Call it inside the open `demo`, before `demo.queue(...)`. A visitor is a browser tab and
    everything else from the same address. What they ask for beyond their share is answered at once,
    with one sentence, and takes no place.
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
                # Another function answers: every kind of client then gets the sentence as usual.
                body.fn_index, body.data = refusal, []
            return await inner(body=body, request=request, username=username)

        demo._queue.push = push  # type: ignore[method-assign]
        return demo

    demo.queue = queue  # type: ignore[method-assign]


def _waiting(demo: gr.Blocks, body: Any, request: Request) -> int:
    """How many requests of this visitor wait for the model; 0 for an event that does not use it."""
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
    """Return the address that a request comes from, behind a proxy that of its client."""
    peer = request.client.host if request.client else ""
    if _public(peer):
        return peer  # no proxy of ours: what its headers say proves nothing
    hops = [hop.strip() for hop in request.headers.get("x-forwarded-for", "").split(",")]
    # Each proxy adds whom it hears at the end; the first ones may be invented.
    named = [hop for hop in hops if _public(hop)] or [hop for hop in hops if hop]
    return named[-1] if named else peer


def _public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False
