"""Borrowed GPUs, with a stand-in for the `spaces` package that forks and pickles as the real one does."""

from __future__ import annotations

import contextvars
import gc
import multiprocessing
import os
import sys
import types
from collections.abc import Callable, Iterator

import gradio as gr
import numpy as np
import pytest
import torch

from mutual_forcing import GenerationRequest
from mutual_forcing.demo import live_tab
from mutual_forcing.demo.gpu import MOST_SECONDS, lease, lease_seconds, leased
from mutual_forcing.demo.sessions import SessionManager
from mutual_forcing.demo.texts import english
from mutual_forcing.types import StreamPlan

REQUEST = GenerationRequest(np.full((64, 48, 3), 128, np.uint8), "Hello.", steps=1, seconds=1.28)
VISITOR = contextvars.ContextVar("VISITOR", default="nobody")


class Spaces(types.ModuleType):
    """Runs a generator function in a fork, where its argument arrives pickled."""

    def __init__(self) -> None:
        super().__init__("spaces")
        self.leases: list[tuple[float, str]] = []
        self.workers: list[multiprocessing.Process] = []

    def GPU(self, duration: Callable[..., float]):  # noqa: N802
        def decorate(function):
            def handler(*arguments) -> Iterator:
                self.leases.append((duration(*arguments), VISITOR.get()))
                yield from self._in_a_fork(function, arguments)

            return handler

        return decorate

    def _in_a_fork(self, function, arguments) -> Iterator:
        context = multiprocessing.get_context("fork")
        orders, results, stop = context.SimpleQueue(), context.SimpleQueue(), context.Event()

        def work() -> None:
            # A fork has none of its parent's threads: OpenMP's would be waited for, and so would those of
            # the encoders of ended sessions, which the garbage collector would free here.
            torch.set_num_threads(1)
            gc.freeze()
            for result in function(*orders.get()):
                if stop.is_set():
                    break
                results.put((os.getpid(), result))
            results.put(None)

        worker = context.Process(target=work, daemon=True)
        worker.start()
        self.workers.append(worker)
        orders.put(arguments)
        item = ()
        try:
            while (item := results.get()) is not None:
                assert item[0] != os.getpid()
                yield item[1]
        finally:
            stop.set()
            # A pipe holds less than a chunk: unread, one would keep the worker from ever seeing the stop.
            while item is not None:
                item = results.get()


@pytest.fixture
def spaces(monkeypatch):
    config = types.ModuleType("spaces.config")
    config.Config = types.SimpleNamespace(zero_gpu=True)
    stand_in = Spaces()
    monkeypatch.setitem(sys.modules, "spaces", stand_in)
    monkeypatch.setitem(sys.modules, "spaces.config", config)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield stand_in
    torch.set_num_threads(threads)


def test_without_spaces_nothing_changes(random_generator):
    assert not leased()
    state = random_generator.start(REQUEST)
    assert len(list(lease(random_generator)(REQUEST, state))) == state.index == 2


def test_a_lease_is_as_long_as_the_plan_needs():
    """A visitor with 100 s left gets no lease of 120 s, though his film takes 5."""
    asked = [(2, 1), (16, 4), (94, 4), (94, 100), (938, 100)]
    leases = [lease_seconds(StreamPlan(n, 0.64 * n, "few", nfe)) for n, nfe in asked]
    assert leases == sorted(leases) and leases[0] < 25 and leases[2] < 60
    assert leases[3:] == [MOST_SECONDS] * 2


def test_one_lease_holds_the_whole_stream(random_generator, spaces):
    expected = list(random_generator.stream(REQUEST))
    assert leased()
    state = random_generator.start(REQUEST)
    chunks = list(lease(random_generator)(REQUEST, state))
    assert len(spaces.leases) == 1 and 20 <= spaces.leases[0][0] < 25
    assert state.index == 0, "the fork's state does not come back"
    for chunk, other in zip(chunks, expected, strict=True):
        assert np.array_equal(chunk.frames, other.frames)
        assert np.array_equal(chunk.audio, other.audio)


def test_a_talk_in_a_lease_is_whole_and_cannot_be_continued(random_generator, spaces):
    sessions = SessionManager(random_generator)
    sessions.measure_in_background()
    VISITOR.set("me")
    messages = list(sessions.begin("visitor", REQUEST))
    assert messages[-1].done and messages[-1].made == pytest.approx(1.28)
    assert [who for _, who in spaces.leases] == ["me"], "lent to the visitor, and not to measure"
    assert sessions.latency.known, "the stream itself was timed"
    assert sessions.save(sessions.session_of("visitor")).stat().st_size > 1000
    with pytest.raises(ValueError, match="nothing to continue"):
        list(sessions.proceed("visitor", "More."))


@pytest.mark.slow
def test_stop_gives_the_gpu_back(random_generator, spaces):
    sessions = SessionManager(random_generator)
    request = GenerationRequest(REQUEST.image, "Hello.", steps=1, seconds=60)
    for progress in sessions.begin("visitor", request):
        if progress.made:
            sessions.stop("visitor")
    assert progress.done and progress.made < 20
    spaces.workers[-1].join(300)
    assert not spaces.workers[-1].is_alive()


def test_live_says_that_it_needs_its_own_machine(random_generator, spaces):
    with gr.Blocks() as demo:
        live_tab.build(demo, SessionManager(random_generator))
    said = [b.value for b in demo.blocks.values() if isinstance(b, gr.Markdown)]
    assert len(said) == 1 and "machine of its own" in english(said[0])
    assert not demo.fns, "no event that could not be answered"
