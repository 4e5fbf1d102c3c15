"""What the page costs beside the model, as a share of the time of a chunk."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
import torch

import app
from mutual_forcing import AVChunk, GenerationRequest, StreamingGenerator
from mutual_forcing.demo.inputs import DRIVES
from mutual_forcing.demo.sessions import SessionManager
from mutual_forcing.media import StreamMuxer, read_image

FACE = Path(__file__).parents[1] / "examples" / "characters" / "01-blond-bob.png"
CHUNKS, STEPS = 8, 4
TEXT = "The page should cost next to nothing beside the model that makes the film."


class Replay(StreamingGenerator):
    """A generator that costs nothing: it hands out chunks that the real one has made."""

    recorded: list[AVChunk]

    def stream(self, request=None, state=None) -> Iterator[AVChunk]:
        for chunk in self.recorded:
            yield replace(chunk, frames=chunk.frames.copy(), audio=chunk.audio.copy())


@pytest.fixture(scope="module")
def made(served_generator: StreamingGenerator) -> tuple[Replay, float]:
    """Chunks of the served checkpoint on one thread, and the median seconds of CPU for each."""
    real = served_generator
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    replay = Replay(real.system, real.device)
    replay.recorded, spent = [], []
    request = GenerationRequest(read_image(FACE), TEXT, steps=STEPS, seconds=0.64 * CHUNKS)
    before = time.process_time()
    for chunk in real.stream(request):
        spent.append(time.process_time() - before)
        replay.recorded.append(chunk)
        before = time.process_time()
    torch.set_num_threads(threads)
    return replay, float(np.median(spent[1:]))


def test_the_page_costs_little_beside_a_chunk(made):
    """CPU time of all threads from one message on the page to the next, then that of the viewer.

    Hand-over between threads, muxing, the film's bytes and the message; not Gradio's own delivery.
    CPU time, not the clock: other programs on the machine do not count. Nearly all of it is x264's, so it is
    held against an encoding of the same chunks by itself: a page that encodes twice takes more. Beside the
    model it is 7 % on one processor and 10 % on the next; a quarter would be too much on any.
    """
    replay, model = made
    sessions = SessionManager(replay)
    demo = app.build_demo(replay, sessions)
    talk = next(fn.fn for fn in demo.fns.values() if fn.name == "talk")
    request = gr.Request(session_hash="cost")
    asked = (str(FACE), TEXT, None, DRIVES, "neutral", "calm", STEPS, 0, 0, 0.64 * CHUNKS, 0)
    messages, marks = [], []
    for message, *_ in talk(request, *asked):
        messages.append(message)
        marks.append(time.process_time())
    film = sessions.videos._videos[json.loads(messages[0])["id"]]

    async def watch() -> int:
        return sum([len(part) async for part in film.read()])

    before = time.process_time()
    size = asyncio.run(watch())
    viewer = (time.process_time() - before) / CHUNKS
    sessions.close()

    assert size > 1000 * CHUNKS and len(marks) == 1 + CHUNKS + 1, "everything was made"
    height, width = replay.recorded[0].frames.shape[1:3]
    muxer, alone = StreamMuxer(width, height), []
    for chunk in replay.recorded:
        before = time.process_time()
        muxer.add(chunk.frames, chunk.audio)
        alone.append(time.process_time() - before)
    page, encoding = float(np.median(np.diff(marks[:-1]))) + viewer, float(np.median(alone))
    assert page < 1.6 * encoding, f"{page:.3f} s of a chunk, and {encoding:.3f} s to encode it"
    assert page < 0.25 * model, f"the page takes {page / model:.1%} of a chunk's {model:.2f} s"
