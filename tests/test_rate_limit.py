"""The number of one visitor's waiting requests is limited."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace

import gradio as gr
import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from gradio_client.utils import Status
from PIL import Image

import app
from mutual_forcing import AVChunk, StreamingGenerator
from mutual_forcing.demo.components import MODEL
from mutual_forcing.demo.inputs import DRIVES
from mutual_forcing.demo.limits import Limits
from mutual_forcing.demo.page import launch_options
from mutual_forcing.demo.rate_limit import address_of, limit_waiting_requests
from mutual_forcing.demo.sessions import SessionManager

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

    with gr.Blocks() as demo:
        name = gr.Textbox()
        gr.Button().click(work, name, name, api_name="work", **MODEL)
        limit_waiting_requests(demo, 2)
    demo.queue(max_size=20)
    _, address, _ = demo.launch(prevent_thread_lock=True, server_name="127.0.0.1", quiet=True)
    yield address, go, served, demo._queue
    go.set()
    demo.close()


def call(address: str, name: str, client: str) -> httpx.Response:
    headers = {"X-Forwarded-For": client}
    address += "gradio_api/call/work"
    return httpx.post(address, json={"data": [name]}, headers=headers, timeout=30)


def answer(address: str, response: httpx.Response) -> str:
    url = f"{address}gradio_api/call/work/{response.json()['event_id']}"
    return httpx.get(url, timeout=60).text


def wait_until(condition) -> None:
    for _ in range(1000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("It did not happen.")


def test_one_address_cannot_fill_the_queue(server):
    address, go, served, queue = server
    first = call(address, "running", "8.8.8.8")
    wait_until(lambda: len(queue) == 0)
    waiting = [call(address, f"mine {n}", "8.8.8.8") for n in range(2)]
    for n in range(3):
        text = answer(address, call(address, f"too much {n}", "8.8.8.8"))
        assert "event: error" in text and SENTENCE in text
        assert "Traceback" not in text
    other = call(address, "yours", "1.1.1.1")
    assert len(queue) == 3, "what was refused takes no place"
    go.set()
    for response in (first, *waiting, other):
        assert "event: complete" in answer(address, response)
    assert served == ["running", "mine 0", "mine 1", "yours"], "first come, first served"
    assert "event: complete" in answer(address, call(address, "again", "8.8.8.8"))


def test_several_tabs_of_one_browser_share_their_places(server):
    address, go, _, queue = server
    tabs = [Client(address, verbose=False) for _ in range(4)]
    jobs = []
    for number, tab in enumerate(tabs[:3]):
        jobs.append(tab.submit(f"tab {number}", api_name="/work"))
        wait_until(lambda wanted=number: len(queue) == wanted)
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


def test_the_page_shares_its_queue(random_generator, tmp_path):
    held = Held(random_generator.system, random_generator.device)
    sessions = SessionManager(held, Limits(waiting=1))
    page = app.build_demo(held, sessions)
    _, address, _ = page.launch(
        server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, **launch_options(sessions)
    )
    Image.fromarray(np.full((64, 64, 3), 128, np.uint8)).save(tmp_path / "face.png")

    def submit(text: str):
        return Client(address, verbose=False).submit(
            picture=handle_file(str(tmp_path / "face.png")), text=text, sound=None,
            sound_use=DRIVES, emotion="sad", motion="calm", steps=1, seed=0, guidance=0,
            seconds=0.64, window=0, api_name="/generate",
        )  # fmt: skip

    try:
        running = submit("One.")
        wait_until(lambda: running.status().code == Status.PROCESSING)
        waiting = submit("Two.")
        wait_until(lambda: waiting.status().code == Status.IN_QUEUE)
        with pytest.raises(AppError, match="You have a request waiting"):
            submit("Three.").result(timeout=30)
        held.go.set()
        assert running.result(timeout=60) and waiting.result(timeout=60)
    finally:
        held.go.set()
        page.close()
        sessions.close()
