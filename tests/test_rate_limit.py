"""The number of one visitor's waiting requests is limited."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import gradio as gr
import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from gradio_client.utils import Status
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client
from mcp.types import CallToolResult
from PIL import Image

import app
from mutual_forcing import AVChunk, StreamingGenerator
from mutual_forcing.demo import blocks, event_stream
from mutual_forcing.demo.addresses import address_of
from mutual_forcing.demo.blocks import Page
from mutual_forcing.demo.components import MODEL
from mutual_forcing.demo.inputs import DRIVES
from mutual_forcing.demo.limits import Limits
from mutual_forcing.demo.rate_limit import Requests, add_refusal
from mutual_forcing.demo.server import listening, page_app

SENTENCE = "You have 2 requests waiting already"


def asked_by(peer: str, forwarded: str = "") -> SimpleNamespace:
    headers = {"x-forwarded-for": forwarded} if forwarded else {}
    return SimpleNamespace(client=SimpleNamespace(host=peer), headers=headers)


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.114.7", "", "203.0.114.7"),
        ("203.0.114.7", "8.8.8.8", "203.0.114.7"),
        ("10.0.0.2", "8.8.8.8", "8.8.8.8"),
        ("10.0.0.2", "1.1.1.1, 8.8.8.8", "8.8.8.8"),
        ("10.0.0.2", "1.1.1.1, 8.8.8.8, 10.0.0.9", "8.8.8.8"),
        ("10.0.0.2", "192.168.1.5", "192.168.1.5"),
        ("10.0.0.2", "", "10.0.0.2"),
        ("127.0.0.1", "nonsense", "nonsense"),
    ],
)
def test_the_address_behind_a_proxy_cannot_be_invented(peer, forwarded, address):
    assert address_of(asked_by(peer, forwarded)) == address


@pytest.fixture
def server():
    """A page whose only event uses the model and lasts until `go`; at most 2 wait per visitor."""
    go, served = threading.Event(), []

    def work(name: str) -> str:
        go.wait(60)
        served.append(name)
        return name

    limits = Limits(waiting=2)
    with Page(limits) as page:
        name = gr.Textbox()
        gr.Button().click(work, name, name, api_name="work", **MODEL)
        add_refusal(limits.waiting)
    page.queue(max_size=20, api_open=False)
    application = gr.mount_gradio_app(page_app(page, limits), page, path="/", mcp_server=True)
    with listening(application, "127.0.0.1") as address:
        yield address, go, served, page
        go.set()


def call(address: str, name: str, client: str, route: str = "call/work") -> httpx.Response:
    headers = {"X-Forwarded-For": client}
    body = {"name": name} if "v2" in route else {"data": [name]}
    return httpx.post(f"{address}gradio_api/{route}", json=body, headers=headers, timeout=30)


def join(address: str, page: Page, client: str, session: str) -> httpx.Response:
    index = next(i for i, fn in page.fns.items() if fn.api_name == "work")
    body = {"data": ["joined"], "fn_index": str(index), "session_hash": session}
    headers = {"X-Forwarded-For": client}
    return httpx.post(f"{address}gradio_api/queue/join", json=body, headers=headers, timeout=30)


def answer(address: str, response: httpx.Response) -> str:
    url = f"{address}gradio_api/call/work/{response.json()['event_id']}"
    return httpx.get(url, timeout=60).text


def waiting(address: str) -> int:
    return httpx.get(f"{address}gradio_api/queue/status", timeout=30).json()["queue_size"]


def wait_until(condition) -> None:
    for _ in range(1000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("It did not happen.")


def test_one_address_cannot_fill_the_queue(server):
    address, go, served, _ = server
    first = call(address, "running", "8.8.8.8")
    wait_until(lambda: waiting(address) == 0)
    mine = [call(address, f"mine {n}", "8.8.8.8") for n in range(2)]
    for n in range(3):
        text = answer(address, call(address, f"too much {n}", "8.8.8.8"))
        assert "event: error" in text and SENTENCE in text
        assert "Traceback" not in text
    other = call(address, "yours", "1.1.1.1")
    assert waiting(address) == 3, "what was refused takes no place"
    go.set()
    for response in (first, *mine, other):
        assert "event: complete" in answer(address, response)
    assert served == ["running", "mine 0", "mine 1", "yours"], "first come, first served"
    assert "event: complete" in answer(address, call(address, "again", "8.8.8.8"))


def test_the_limit_holds_for_every_way_in(server):
    address, _, served, page = server
    call(address, "running", "8.8.8.8")
    wait_until(lambda: waiting(address) == 0)
    for n in range(2):
        assert call(address, f"mine {n}", "8.8.8.8").is_success
    for route in ("call/work", "call/work/", "call/v2/work", "call/v2/work/"):
        response = call(address, "too much", "8.8.8.8", route)
        assert SENTENCE in answer(address, response), route
    assert SENTENCE in answer(address, join(address, page, "8.8.8.8", "another tab"))
    for route in ("run/work", "api/work", "run/predict"):
        response = call(address, "past the queue", "8.8.8.8", route)
        assert response.status_code in (400, 404), (route, response.text)
    assert waiting(address) == 2 and served == []
    # The tab counts too, wherever it calls from.
    assert join(address, page, "1.1.1.1", "tab").is_success
    assert join(address, page, "9.9.9.9", "tab").is_success
    assert waiting(address) == 4
    with httpx.stream("GET", f"{address}gradio_api/queue/data?session_hash=tab") as messages:
        assert join(address, page, "208.67.222.222", "tab").is_success
        lines = messages.iter_lines()
        assert SENTENCE in next(line for line in lines if "process_completed" in line)


def test_mcp_clients_are_told_apart_by_their_addresses(server):
    address, go, served, _ = server
    call(address, "running", "127.0.0.1")
    wait_until(lambda: waiting(address) == 0)

    async def ask(name: str, client: str) -> CallToolResult:
        url, headers = f"{address}gradio_api/mcp/", {"X-Forwarded-For": client}
        async with (
            streamablehttp_client(url, headers=headers) as (reading, writing, _),
            ClientSession(reading, writing) as session,
        ):
            await session.initialize()
            return await session.call_tool("work", {"name": name})

    with ThreadPoolExecutor(4) as pool:
        asked = []
        for n, client in enumerate(("8.8.8.8", "8.8.8.8", "1.1.1.1"), start=1):
            asked.append(pool.submit(asyncio.run, ask(f"{client} {n}", client)))
            wait_until(lambda wanted=n: waiting(address) == wanted)
        refused = pool.submit(asyncio.run, ask("too much", "8.8.8.8")).result(timeout=30)
        assert refused.isError and SENTENCE in refused.content[0].text
        go.set()
        assert not any(job.result(timeout=30).isError for job in asked)
    assert served == ["running", "8.8.8.8 1", "8.8.8.8 2", "1.1.1.1 3"]


def test_who_goes_away_or_cancels_waits_no_more(server):
    address, _, _, page = server
    call(address, "running", "8.8.8.8")
    wait_until(lambda: waiting(address) == 0)
    for _ in range(3):
        for _ in range(2):
            assert join(address, page, "8.8.8.8", "tab").is_success
        wait_until(lambda: waiting(address) == 2)
        with httpx.stream("GET", f"{address}gradio_api/queue/data?session_hash=tab") as messages:
            next(messages.iter_lines())
        wait_until(lambda: waiting(address) == 0)
        wait_until(lambda: not page.requests.waiting_of("address 8.8.8.8"))
    events = [join(address, page, "8.8.8.8", "other").json()["event_id"] for _ in range(2)]
    wait_until(lambda: waiting(address) == 2)
    wrong = {"session_hash": "other", "event_id": events[0]}
    assert httpx.post(f"{address}gradio_api/cancel", json=wrong).status_code == 400
    assert page.requests.waiting_of("address 8.8.8.8") == 2, "what Gradio refuses changes nothing"
    for event in events:
        body = {"session_hash": "other", "fn_index": 0, "event_id": event}
        assert httpx.post(f"{address}gradio_api/cancel", json=body).is_success
    assert waiting(address) == 0 and not page.requests.waiting_of("address 8.8.8.8")


def test_a_place_is_free_once_its_request_runs_or_its_client_left():
    requests = Requests(2)
    me = frozenset({"address 8.8.8.8"})
    first, second = requests.enter("a", me), requests.enter("b", me)
    assert requests.enter("c", me) is None
    first.waiting = False  # it runs
    third = requests.enter("c", me)
    assert third and requests.enter("d", me) is None
    assert requests.leave(lambda ticket: ticket.session_id in "ab") == [first, second]
    assert first.departure.happened and second.departure.happened
    assert requests.waiting_of("address 8.8.8.8") == 1 and not third.departure.happened
    requests.finish(third)
    requests.finish(first)  # does no harm
    assert requests.waiting_of("address 8.8.8.8") == 0


def test_several_tabs_of_one_browser_share_their_places(server):
    address, go, _, _ = server
    tabs = [Client(address, verbose=False) for _ in range(4)]
    jobs = []
    for number, tab in enumerate(tabs[:3]):
        jobs.append(tab.submit(f"tab {number}", api_name="/work"))
        wait_until(lambda wanted=number: waiting(address) == wanted)
    with pytest.raises(AppError, match=SENTENCE):
        tabs[3].predict("tab 3", api_name="/work")
    go.set()
    assert [job.result(timeout=30) for job in jobs] == ["tab 0", "tab 1", "tab 2"]


class Held(StreamingGenerator):
    """A generator that waits for `go` before each chunk."""

    go = threading.Event()

    def stream(self, request=None, state=None) -> Iterator[AVChunk]:
        for chunk in super().stream(request, state):
            self.go.wait(60)
            yield chunk


@pytest.mark.slow
def test_the_page_shares_its_queue(random_generator, tmp_path):
    held = Held(random_generator.system, random_generator.device)
    Image.fromarray(np.full((64, 64, 3), 128, np.uint8)).save(tmp_path / "face.png")

    def submit(text: str):
        return Client(address, verbose=False).submit(
            picture=handle_file(str(tmp_path / "face.png")), text=text, sound=None,
            sound_use=DRIVES, emotion="sad", motion="calm", steps=1, seed=0, guidance=0,
            seconds=0.64, window=0, api_name="/generate",
        )  # fmt: skip

    with app.serving(held, host="127.0.0.1", limits=Limits(waiting=1)) as address:
        try:
            running = submit("One.")
            wait_until(lambda: running.status().code == Status.PROCESSING)
            second = submit("Two.")
            wait_until(lambda: second.status().code == Status.IN_QUEUE)
            with pytest.raises(AppError, match="You have a request waiting"):
                submit("Three.").result(timeout=30)
            held.go.set()
            assert running.result(timeout=60) and second.result(timeout=60)
        finally:
            held.go.set()


def end_of(address: str, session: str) -> float:
    """Listen to a session until its stream ends; return when that is heard."""
    with httpx.stream("GET", f"{address}gradio_api/queue/data?session_hash={session}") as stream:
        for line in stream.iter_lines():
            if "close_stream" in line:
                return time.monotonic()
    raise AssertionError("The stream broke off.")


def test_what_is_asked_as_a_stream_ends_is_answered_when_that_is_read(server, monkeypatch):
    """Gradio's clients take their stream for open until they have read of its end."""
    monkeypatch.setattr(event_stream, "SETTLED_SECONDS", 3.0)
    address, go, served, page = server
    go.set()
    assert join(address, page, "8.8.8.8", "tab").is_success
    for _ in range(2):
        ended = end_of(address, "tab")
        assert join(address, page, "1.1.1.1", "another tab").is_success
        assert time.monotonic() - ended < 1.5, "only whose stream ended waits"
        assert join(address, page, "8.8.8.8", "tab").is_success
        assert time.monotonic() - ended > 1.5
    assert end_of(address, "tab") and len(served) == 5


@pytest.mark.slow
def test_sessions_of_callers_are_forgotten(monkeypatch, request):
    """Every request of plain HTTP is a session; Gradio keeps what its components were for ten thousand."""
    monkeypatch.setattr(blocks, "KNOWN_SESSIONS", 3)
    address, go, served, page = request.getfixturevalue("server")
    go.set()
    for number in range(6):
        assert "event: complete" in answer(address, call(address, str(number), "8.8.8.8"))
    assert len(served) == 6 and len(page.state_holder.session_data) == 3
