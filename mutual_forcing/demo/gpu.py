"""ZeroGPU on Hugging Face Spaces: one GPU lease for each stream."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

import torch

from mutual_forcing.types import AVChunk, GenerationRequest, StreamPlan

if TYPE_CHECKING:
    from mutual_forcing import StreamingGenerator, StreamState

MOST_SECONDS = 120
"""The longest lease. Longer ones wait longer, and a visitor whose quota is shorter gets none."""
_START_SECONDS, _CHUNK_SECONDS, _NFE_SECONDS = 20.0, 0.15, 0.02
"""What a lease is given for its start, a chunk's pictures and one evaluation of the network: with room."""
Stream = Callable[[GenerationRequest, "StreamState"], Generator[AVChunk, None, None]]


def leased() -> bool:
    """Return whether streams run in the process of a GPU lease, so that their state is lost at the end."""
    try:
        from spaces.config import Config  # pyright: ignore[reportMissingImports] # only Spaces have it
    except ImportError:
        return False
    return bool(Config.zero_gpu)


def report_startup() -> None:
    """On ZeroGPU, tell the host that functions for its GPU exist, or it would end the program.

    The package `spaces` does so when `Blocks.launch` is called, which a mounted page never is. Call this
    after `lease` and before the page is served.
    """
    if leased():
        from spaces.zero import startup  # pyright: ignore[reportMissingImports] # only Spaces have it

        startup()


def lease_seconds(plan: StreamPlan) -> int:
    """Return for how many seconds a stream borrows a GPU: for no more than it needs."""
    work = plan.chunks * (_CHUNK_SECONDS + plan.nfe_per_chunk * _NFE_SECONDS)
    return min(MOST_SECONDS, math.ceil(_START_SECONDS + work))


def lease(generator: StreamingGenerator) -> Stream:
    """Return `generator.stream`, on ZeroGPU wrapped in one GPU lease for each stream.

    On ZeroGPU the page's process has no GPU. Its generator only plans and reads references. The lease runs
    in a forked process, which moves its copy of the generator to the GPU and starts again from the request.
    Such a stream can be neither continued nor changed while it runs.
    """
    if not leased():
        return lambda request, state: generator.stream(request, state=state)
    import spaces  # pyright: ignore[reportMissingImports] # only Spaces have it

    def duration(request: GenerationRequest) -> int:
        return lease_seconds(generator.plan(request))

    @spaces.GPU(duration=duration)
    def borrowed(request: GenerationRequest) -> Generator[AVChunk, None, None]:
        if torch.cuda.is_available():
            generator.device = torch.device("cuda")
            generator.system.to(generator.device)
        yield from generator.stream(request)

    return lambda request, state: borrowed(request)
