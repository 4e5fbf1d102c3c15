"""Borrowed GPUs on Spaces (ZeroGPU): one lease per stream, the whole loop inside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch

from mutual_forcing.types import AVChunk, GenerationRequest

if TYPE_CHECKING:
    from mutual_forcing import StreamingGenerator, StreamState

MOST_SECONDS = 120
"""A lease ends after this; longer ones wait longer and use up a visitor's share."""
Stream = Callable[[GenerationRequest, "StreamState"], Iterator[AVChunk]]


def leased() -> bool:
    """Whether streams run in a borrowed GPU's own process, so that their state is lost at the end."""
    try:
        from spaces.config import Config
    except ImportError:
        return False
    return bool(Config.zero_gpu)


def lease(generator: StreamingGenerator) -> Stream:
    """Return `generator.stream`; where there is ZeroGPU, run inside one GPU lease per stream.

    There the page's own process has no GPU. The generator stays in its memory, ready to plan and to
    read references; the lease's process, a fork, moves its copy to the GPU and starts anew from the
    request. A stream can therefore be neither continued nor changed while it runs.
    """
    if not leased():
        return lambda request, state: generator.stream(request, state=state)
    import spaces

    @spaces.GPU(duration=MOST_SECONDS)
    def borrowed(request: GenerationRequest) -> Iterator[AVChunk]:
        if torch.cuda.is_available():
            generator.device = torch.device("cuda")
            generator.system.to(generator.device)
        yield from generator.stream(request)

    return lambda request, state: borrowed(request)
