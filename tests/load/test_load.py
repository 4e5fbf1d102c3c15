"""Many visitors at once: every one gets his own film, the queue is bounded, memory does not grow.

MF_LOAD_RUNS sets the number of films for the memory test (more than 10; default 100: minutes).
"""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import gradio as gr
import numpy as np
import pytest
from gradio_client import Client, handle_file
from PIL import Image

import app
from demo.inputs import DRIVES
from demo.limits import Limits
from demo.studio import Studio
from mutual_forcing import AVChunk, GenerationRequest, StreamingGenerator

pytestmark = pytest.mark.slow
QUEUE = 20
EARLY, RUNS = 10, int(os.environ.get("MF_LOAD_RUNS", "100"))


class Painter(StreamingGenerator):
    """The real generator, whose pictures it then paints in the brightness that the seed names."""

    def stream(self, request=None, state=None) -> Iterator[AVChunk]:
        for chunk in super().stream(request, state):
            asked = state.request if state else request
            chunk.frames[:] = _level(asked.seed)
            yield chunk


def _level(seed: int) -> int:
    return 30 + 8 * seed


@pytest.fixture(scope="module")
def generator() -> Painter:
    other = StreamingGenerator.random("tiny")
    return Painter(other.system, other.device)


@pytest.fixture(scope="module")
def address(generator):
    yield app.serve(
        generator, host="127.0.0.1", block=False, limits=Limits(queue=QUEUE, waiting=QUEUE)
    )
    gr.close_all()


@pytest.fixture(scope="module")
def face(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "face.png"
    Image.fromarray(np.full((64, 64, 3), 128, np.uint8)).save(path)
    return path


def submit(client: Client, face: Path, seed: int):
    return client.submit(
        picture=handle_file(str(face)), text=f"Number {seed}.", sound=None, sound_use=DRIVES,
        emotion="happy", motion="calm", steps=1, seed=seed, guidance=0, seconds=1.28, window=0,
        api_name="/generate",
    )  # fmt: skip


def check_film(result, seed: int) -> None:
    with av.open(result["video"] if isinstance(result, dict) else result) as film:
        settings = json.loads(film.metadata["comment"])
        frames = [frame.to_ndarray(format="rgb24").mean() for frame in film.decode(video=0)]
    assert settings["seed"] == seed and settings["text"] == f"Number {seed}."
    assert len(frames) == 32
    assert np.ptp(frames) < 3, "one visitor's pictures only"
    assert abs(np.mean(frames) - _level(seed)) < 3.5, "half way to the next visitor's would be 4"


def test_four_at_once_get_their_own_films(address, face):
    clients = [Client(address, verbose=False) for _ in range(4)]
    jobs = [submit(client, face, seed) for seed, client in enumerate(clients, start=1)]
    for seed, job in enumerate(jobs, start=1):
        check_film(job.result(timeout=300), seed)


def test_the_queue_is_bounded_and_everyone_in_it_is_served(address, face):
    with ThreadPoolExecutor(8) as pool:
        clients = list(pool.map(lambda _: Client(address, verbose=False), range(QUEUE + 6)))
    jobs = [submit(client, face, seed) for seed, client in enumerate(clients, start=1)]
    served, refused = 0, 0
    for seed, job in enumerate(jobs, start=1):
        error = job.exception(timeout=600)
        if error is None:
            check_film(job.result(), seed)
            served += 1
        else:
            assert "Queue is full" in str(error), error
            refused += 1
    assert served >= QUEUE and served + refused == len(jobs)
    assert refused >= 1, "more than the queue holds were asked for at once"


def test_memory_after_many_films(generator):
    studio = Studio(generator)
    picture = np.full((64, 64, 3), 128, np.uint8)
    sizes = {}
    for number in range(1, RUNS + 1):
        request = GenerationRequest(picture, "Hello.", steps=1, seconds=1.28, seed=1)
        visitor = f"visitor-{number}"
        list(studio.begin(visitor, request))
        studio.save(studio.talk_of(visitor))
        studio.forget(visitor)
        if number in (EARLY, RUNS):
            gc.collect()
            sizes[number] = _resident_bytes()
    early, late = sizes[EARLY], sizes[RUNS]
    assert late < 1.05 * early, f"{early / 2**20:.0f} MB became {late / 2**20:.0f} MB"
    studio.close()


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
