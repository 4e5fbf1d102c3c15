"""What a long stream keeps: the same after a minute and a half as after half of one."""

from __future__ import annotations

import gc
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from mutual_forcing import GenerationRequest
from mutual_forcing.demo.sessions import SessionManager
from mutual_forcing.pixels import frame_array
from mutual_forcing.spool import Spool

PICTURE = np.full((64, 64, 3), 128, np.uint8)
EARLY, CHUNKS = 40, 90


def held_bytes() -> int:
    """What is alive in this process: Python's objects and arrays since tracing began, and all tensors.

    Not the resident size, in which the allocator's habits would drown a small stream.
    """
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some modules' attributes warn when they are looked at
        tensors = [x for x in gc.get_objects() if isinstance(x, torch.Tensor)]
    storages = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}
    return tracemalloc.get_traced_memory()[0] + sum(storages.values())


@pytest.mark.slow
def test_a_long_stream_of_the_page_hardly_grows(random_generator):
    """Stopped after 40 chunks and continued to 90: once stopped, no chunk is on its way anywhere."""
    sessions, sizes = SessionManager(random_generator), {}
    text = "One sentence after the other is said, and nobody remembers any of them. " * 25
    request = GenerationRequest(PICTURE, text, steps=1, seconds=0.64 * CHUNKS)
    tracemalloc.start()
    try:
        stream = sessions.begin("visitor", request)
        for progress in stream:
            if progress.made > 0.64 * (EARLY - 1):
                sessions.stop("visitor")
        session = sessions.session_of("visitor")
        sizes[session.state.index] = held_bytes()
        assert len(list(sessions.proceed("visitor", ""))) > CHUNKS - 2 * EARLY
        sizes[session.state.index] = held_bytes()
    finally:
        tracemalloc.stop()
    early, late = sizes
    assert early < EARLY + 5 and late == CHUNKS
    growth = sizes[late] - sizes[early]
    assert growth < 0.01 * sizes[early], f"{sizes[early]} bytes grew by {growth}"
    # However much other tests of this process hold.
    assert growth < 0.5 * session.film.size * (1 - early / late), "the film is kept in memory"
    assert session.state.cache.length == random_generator.config.model.window
    sessions.close()


def test_frames_go_back_to_the_system_when_they_are_dropped():
    frames, between = [], []
    for _ in range(16):
        frames.append(frame_array((16, 512, 512, 3)))
        frames[-1][:] = 1
        between.append(torch.ones(1000))  # what stays above them in a heap
    before = resident_bytes()
    frames.clear()
    assert before - resident_bytes() > 0.9 * 16 * 16 * 512 * 512 * 3


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def test_a_spool_is_read_from_anywhere_while_it_grows():
    spool = Spool()
    assert spool.size == 0 and not list(spool.blocks())
    spool.append(b"abc")
    spool.append(bytes(2**20))
    assert b"".join(spool.blocks(1, 4)) == b"bc\0" and spool.size == 2**20 + 3
    assert max(map(len, spool.blocks())) < spool.size, "some at a time"
    with pytest.raises(ValueError, match="nothing at"):
        list(spool.blocks(spool.size, spool.size + 1))
