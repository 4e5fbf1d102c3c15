"""The model of this server, which one thread uses at a time, or as many as an engine lets."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import queue
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mutual_forcing.streaming import AbandonedError
from mutual_forcing.types import AVChunk, GenerationRequest

from .gpu import lease

if TYPE_CHECKING:
    from mutual_forcing import StreamingGenerator, StreamState

log = logging.getLogger(__name__)
_WAITING_CHUNKS = 1
"""Number of chunks that may wait for the muxer; the frames of a large chunk take 100 MB."""
_CLOSE_TIMEOUT = 30.0
"""Seconds that `close` waits for the chunk in progress."""


class ClosedError(RuntimeError):
    """The model cannot be used any more, because the program ends."""


class Model:
    """Gives as many threads at a time access to a generator as it makes streams."""

    def __init__(self, generator: StreamingGenerator) -> None:
        self.generator = generator
        self.closed = threading.Event()
        """When set, all streams end at once."""
        self._places = threading.BoundedSemaphore(generator.streams)
        self._stream = lease(generator)

    @contextlib.contextmanager
    def place(self) -> Iterator[StreamingGenerator]:
        """Wait for a place at the model, which lasts until the block ends; there is one, without an engine.

        Raises ClosedError once the model is closed.
        """
        with self._places:
            if self.closed.is_set():
                raise ClosedError
            yield self.generator

    def close(self) -> None:
        """Refuse further use of the model and wait at most 30 s for the chunks in progress.

        A thread that is inside torch while the interpreter shuts down would abort the program.
        """
        self.closed.set()
        patience, own = time.monotonic() + _CLOSE_TIMEOUT, 0
        while own < self.generator.streams:
            if not self._places.acquire(timeout=max(0.0, patience - time.monotonic())):
                log.warning("The model is still in use.")
                break
            own += 1
        if own:
            self._places.release(own)  # Whoever still waits is refused.

    def chunks(
        self,
        request: GenerationRequest,
        state: StreamState,
        stop: threading.Event,
        abandoned: threading.Event,
    ) -> Iterator[AVChunk]:
        """Yield the chunks of `state`. A thread makes them, so that model and muxer work in parallel.

        Args:
            request: what to generate.
            state: from `start`; it is advanced.
            stop: when set, the stream ends after the chunk in progress.
            abandoned: when set, nobody reads the chunks any more, and the one in progress is given up.
        """
        state.abandoned = lambda: abandoned.is_set() or self.closed.is_set()
        state.halves = True
        chunks: queue.Queue[AVChunk | Exception | None] = queue.Queue(_WAITING_CHUNKS)
        # In the context of the event, which names the visitor to whom ZeroGPU lends a GPU.
        context = contextvars.copy_context()
        arguments = (self._produce, chunks, request, state, stop, abandoned)
        threading.Thread(target=context.run, args=arguments, daemon=True).start()
        while (item := self._next(chunks, abandoned)) is not None:
            if isinstance(item, Exception):
                raise item
            yield item

    def _next(self, chunks: queue.Queue, abandoned: threading.Event) -> Any:
        """Wait for the next item; return None when the producer puts nothing any more."""
        while True:
            try:
                return chunks.get(timeout=0.5)
            except queue.Empty:
                if abandoned.is_set() or self.closed.is_set():
                    return None

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
            with self.place(), contextlib.closing(self._stream(request, state)) as stream:
                for chunk in stream:
                    _put(chunks, chunk, abandoned)
                    if stop.is_set() or abandoned.is_set() or self.closed.is_set():
                        break
        except ClosedError:
            log.info("A stream was refused because the program ends.")
        except AbandonedError:
            log.info("A stream was given up.")
        except Exception as error:
            log.exception("Generation failed.")
            end = error.with_traceback(None)  # The traceback would keep tensors alive.
        _put(chunks, end, abandoned)


def _put(chunks: queue.Queue, item: Any, abandoned: threading.Event) -> None:
    """Put an item into the queue, unless the reader has gone."""
    while not abandoned.is_set():
        try:
            chunks.put(item, timeout=0.1)
        except queue.Full:
            continue
        return
