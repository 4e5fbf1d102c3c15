"""Work ends with its client: real servers, and clients that go away in each of the ways there are."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path

import httpx
import pytest
from mcp import ClientSession
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamablehttp_client

from mutual_forcing import GenerationRequest, StreamingGenerator
from mutual_forcing.demo import rate_limit
from mutual_forcing.demo.inputs import DRIVES
from mutual_forcing.demo.leaving import Departure, GoneError, while_there
from mutual_forcing.demo.limits import Limits
from mutual_forcing.demo.server import build_app, listening
from mutual_forcing.demo.sessions import SessionManager
from mutual_forcing.types import Steering

FACE = Path(__file__).parents[1] / "examples" / "characters" / "01-blond-bob.png"
SECONDS = 3.0
"""After which the model works for nobody who has left: what the issue asks for."""
QUIET = 1.0
"""Without an evaluation of the network for so long, nothing is generated. A chunk's pictures take less."""
TEXT = "A very long stream. " * 90


@dataclass
class Server:
    """A served page, and when its model was last asked."""

    address: str
    worked: list[float] = field(default_factory=list)

    @property
    def works(self) -> bool:
        """Whether the model was asked within the last moments."""
        return bool(self.worked) and time.monotonic() - self.worked[-1] < QUIET

    def url(self, path: str) -> str:
        return f"{self.address}gradio_api/{path}"

    def post(self, path: str, body: dict) -> dict:
        answer = httpx.post(self.url(path), json=body, timeout=30)
        return answer.raise_for_status().json()

    def waiting(self) -> int:
        return httpx.get(self.url("queue/status"), timeout=30).json()["queue_size"]


@pytest.fixture(scope="module")
def server(random_generator: StreamingGenerator) -> Iterator[Server]:
    server = Server("")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SessionManager, "measure_in_background", lambda _: None)
        app = build_app(random_generator, Limits(mcp=True, minutes=1440))
        hook = random_generator.system.model.register_forward_pre_hook(
            lambda *_: server.worked.append(time.monotonic())
        )
        with listening(app, "127.0.0.1") as address:
            server.address, server.page = address, app.state.page
            yield server
        hook.remove()


@pytest.fixture(scope="module")
def face(server) -> dict:
    answer = httpx.post(server.url("upload"), files={"files": ("a.png", FACE.read_bytes())})
    return {"path": answer.raise_for_status().json()[0], "meta": {"_type": "gradio.FileData"}}


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "It did not happen."
        time.sleep(0.02)


def hung_up(server: Server) -> None:
    """Now the client has gone: the model must stop, and nothing must wait."""
    left = time.monotonic()
    wait_until(lambda: not server.works)
    assert server.worked[-1] - left < SECONDS, "it went on for nobody"
    wait_until(lambda: server.waiting() == 0, SECONDS)
    server.worked.clear()


def values(name: str, face: dict, steps: int = 50) -> list:
    look = [256, "face", 1]
    return {
        "generate": [face, TEXT, None, DRIVES, "happy", "calm", steps, 0, 0, 0, 0, *look],
        "compare": [face, TEXT, [steps], "happy", "calm", 0, 0, 0, *look],
        "live": [face, TEXT, "happy", "calm", steps, *look],
    }[name]


@contextmanager
def listening_to(server: Server, path: str) -> Iterator[Iterator[str]]:
    with httpx.stream("GET", server.url(path), timeout=60) as stream:
        yield stream.iter_lines()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["generate", "compare", "live"])
def test_plain_http_that_hangs_up(server, face, name):
    event = server.post(f"call/{name}", {"data": values(name, face)})["event_id"]
    waits = server.post("call/generate", {"data": values("generate", face)})["event_id"]
    with listening_to(server, f"call/{name}/{event}"):
        wait_until(lambda: server.works)
        with listening_to(server, f"call/generate/{waits}"):
            assert server.waiting() == 1
    hung_up(server)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["generate", "live"])
def test_plain_http_that_never_listens(server, face, name, monkeypatch):
    monkeypatch.setattr(rate_limit, "UNWATCHED_SECONDS", 1.0)
    for _ in range(2):
        server.post(f"call/{name}", {"data": values(name, face)})
    wait_until(lambda: bool(server.worked))
    hung_up(server)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["generate", "compare", "live"])
def test_a_client_program_that_is_killed(server, face, name):
    code = (
        "import sys, json; from gradio_client import Client;"
        "client = Client(sys.argv[1], verbose=False);"
        "jobs = [client.submit(*json.loads(sys.argv[3]), api_name=sys.argv[2]) for _ in '12'];"
        "print('asked', flush=True); jobs[0].result()"
    )
    asked = json.dumps(values(name, face))
    command = [sys.executable, "-c", code, server.address, f"/{name}", asked]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stdout.readline() == b"asked\n", program.stderr.read()
        wait_until(lambda: server.works and server.waiting() == 1)
        program.kill()
        hung_up(server)


def event_of(server: Server, button: str) -> int:
    """The number of the event of a button on the page."""
    components = {
        c["id"]
        for c in httpx.get(f"{server.address}config").json()["components"]
        if c["props"].get("elem_id") == button
    }
    dependencies = httpx.get(f"{server.address}config").json()["dependencies"]
    return next(
        d["id"]
        for d in dependencies
        if any(t[0] in components for t in d["targets"]) and d["queue"]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("button", "name"),
    [("talk-button", "generate"), ("compare-button", "compare"), ("live-start", "live")],
)
@pytest.mark.parametrize("closed", ["queue/data?session_hash={}", "heartbeat/{}"])
def test_a_tab_that_is_closed(server, face, button, name, closed):
    """Its stream of messages ends, and its heartbeat: each alone is enough for what runs."""
    session = f"{button}-{closed[:5]}"
    body = {"fn_index": event_of(server, button), "session_hash": session}
    # The page's own start tells what the face is asked for.
    pose = [0] * len(fields(Steering)) if name == "live" else []
    data = [*pose, *values(name, face)]
    # A checkpoint of several languages asks for one.
    data += ["auto"] * (len(server.page.fns[body["fn_index"]].inputs) - len(data))
    server.post("queue/join", {**body, "data": data})
    paths = ["queue/data?session_hash={}", "heartbeat/{}"]
    streams = {path: listening_to(server, path.format(session)) for path in paths}
    for stream in streams.values():
        stream.__enter__()
    wait_until(lambda: server.works)
    streams.pop(closed).__exit__(None, None, None)
    hung_up(server)
    for stream in streams.values():
        stream.__exit__(None, None, None)


@pytest.mark.slow
def test_a_request_that_is_cancelled(server, face):
    asked = {"data": values("generate", face), "session_hash": "cancels"}
    number = next(i for i, fn in server.page.fns.items() if fn.api_name == "generate")
    event = server.post("queue/join", {**asked, "fn_index": number})["event_id"]
    with listening_to(server, "queue/data?session_hash=cancels"):
        wait_until(lambda: server.works)
        body = {"session_hash": "cancels", "fn_index": -1, "event_id": event}
        assert server.post("cancel", body)["success"]
        hung_up(server)


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["generate", "compare"])
@pytest.mark.parametrize("transport", ["http", "sse"])
def test_an_mcp_client_that_hangs_up(server, face, transport, tool):
    """Those who hang up, one served and one in the queue, are told from one who stays."""
    uploaded = server.url(f"file={face['path']}")
    steps = {"generate": 50, "compare": [50]}[tool]
    asked = {"picture": uploaded, "text": TEXT, "steps": steps}

    async def call(arguments: dict):
        url = server.url("mcp/") if transport == "http" else server.url("mcp/sse")
        connect = streamablehttp_client if transport == "http" else sse_client
        async with (
            connect(url) as (reading, writing, *_),
            ClientSession(reading, writing) as session,
        ):
            await session.initialize()
            return await session.call_tool(tool, arguments)

    async def conversation():
        running = asyncio.create_task(call(asked))
        await asyncio.to_thread(
            wait_until, lambda: running.done() or (server.works and server.waiting() == 0)
        )
        assert not running.done(), running.result()
        queued = asyncio.create_task(call(asked))
        await asyncio.to_thread(wait_until, lambda: server.waiting() == 1)
        short = {"text": "Hi.", "seconds": 0.64, "steps": 1 if tool == "generate" else [1]}
        stays = asyncio.create_task(call({**asked, **short}))
        await asyncio.to_thread(wait_until, lambda: server.waiting() == 2)
        queued.cancel()
        await asyncio.to_thread(wait_until, lambda: server.waiting() == 1)
        running.cancel()
        left = time.monotonic()
        await asyncio.to_thread(wait_until, lambda: server.waiting() == 0)
        assert time.monotonic() - left < SECONDS, "whoever waited is served now"
        return await asyncio.wait_for(stays, 60)

    assert not asyncio.run(conversation()).isError
    hung_up(server)


def test_who_has_gone_before_the_work_began_gets_none():
    departure, forgotten = Departure(), []
    departure.happen()

    def work():
        yield "prepared"
        raise AssertionError("The model was asked.")

    with pytest.raises(GoneError):
        list(while_there(departure, work(), lambda: forgotten.append(1)))
    assert forgotten


def test_the_work_is_told_at_once_and_only_while_it_lasts():
    departure, told = Departure(), threading.Event()

    def work():
        yield 1
        assert told.wait(30), "nobody said that the client has gone"

    stream = while_there(departure, work(), told.set)
    assert next(stream) == 1
    threading.Timer(0.05, departure.happen).start()
    with pytest.raises(GoneError):
        next(stream)
    calm = Departure()
    assert list(while_there(calm, (n for n in range(3)), pytest.fail)) == [0, 1, 2]
    calm.happen()


def test_a_chunk_is_given_up_between_two_steps(random_generator, picture):
    sessions = SessionManager(random_generator)
    evaluations = []
    hook = random_generator.system.model.register_forward_pre_hook(
        lambda *_: evaluations.append(sessions.forget("visitor"))
    )
    try:
        list(sessions.begin("visitor", GenerationRequest(picture, "Hello.", steps=50)))
    finally:
        hook.remove()
    assert 1 <= len(evaluations) < 5, "not all the 50 of the chunk in progress"
    sessions.close()
