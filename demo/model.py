"""The one model of this server: who uses it has it alone."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import queue
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mutual_forcing.types import AVChunk, GenerationRequest

from .gpu import lease

if TYPE_CHECKING:
    from mutual_forcing import StreamingGenerator, StreamState

log = logging.getLogger(__name__)
_WAITING_CHUNKS = 2
"""How far the model may run ahead of the muxer."""


class Model:
    """A generator that several threads share."""

    def __init__(self, generator: StreamingGenerator) -> None:
        self.generator = generator
        self._lock = threading.Lock()
        self._stream = lease(generator)

    @contextlib.contextmanager
    def alone(self) -> Iterator[StreamingGenerator]:
        """Wait until nobody uses the model, and have it to oneself until the block ends."""
        with self._lock:
            yield self.generator

    def chunks(
        self,
        request: GenerationRequest,
        state: StreamState,
        stop: threading.Event,
        abandoned: threading.Event,
    ) -> Iterator[AVChunk]:
        """Yield the chunks of `state`, made by a thread so that model and muxer work side by side.

        stop: end after the chunk in progress. abandoned: nobody reads the chunks any more.
        """
        chunks: queue.Queue[AVChunk | Exception | None] = queue.Queue(_WAITING_CHUNKS)
        # With the event's context: a borrowed GPU is lent to the visitor it names.
        context = contextvars.copy_context()
        arguments = (self._produce, chunks, request, state, stop, abandoned)
        threading.Thread(target=context.run, args=arguments, daemon=True).start()
        while (item := chunks.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item

    def _produce(
        self,
        chunks: queue.Queue,
        request: GenerationRequest,
        state: StreamState,
        stop: threading.Event,
        abandoned: threading.Event,
    ) -> None:
        end: Exception | None = None
        try:
            with self.alone(), contextlib.closing(self._stream(request, state)) as stream:
                for chunk in stream:
                    _put(chunks, chunk, abandoned)
                    if stop.is_set() or abandoned.is_set():
                        break
        except Exception as error:
            log.exception("Generation failed.")
            end = error.with_traceback(None)  # which would keep the tensors of its frames
        _put(chunks, end, abandoned)


def _put(chunks: queue.Queue, item: Any, abandoned: threading.Event) -> None:
    """Wait for room, but not for a reader who has gone."""
    while not abandoned.is_set():
        try:
            chunks.put(item, timeout=0.1)
        except queue.Full:
            continue
        return
