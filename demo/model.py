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
_WAITING_CHUNKS = 1
"""How far the model may run ahead of the muxer; the frames of a large chunk have 100 MB."""
_PATIENCE = 30.0
"""Seconds that the end of the program waits for the chunk in progress."""


class ClosedError(RuntimeError):
    """The model is not for use any more: the program ends."""


class Model:
    """A generator that several threads share."""

    def __init__(self, generator: StreamingGenerator) -> None:
        self.generator = generator
        self.closed = threading.Event()
        """Set: whoever uses the model ends after the chunk in progress."""
        self._lock = threading.Lock()
        self._stream = lease(generator)

    @contextlib.contextmanager
    def alone(self) -> Iterator[StreamingGenerator]:
        """Wait until nobody uses the model, and have it to oneself until the block ends.

        Raises ClosedError once the model is closed.
        """
        with self._lock:
            if self.closed.is_set():
                raise ClosedError
            yield self.generator

    def close(self) -> None:
        """Let nobody use the model any more and wait for the chunk in progress, 30 s at most.

        A thread inside torch while the interpreter shuts down would end the program with an abort.
        """
        self.closed.set()
        if self._lock.acquire(timeout=_PATIENCE):
            self._lock.release()
        else:
            log.warning("The model is still in use.")

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
        while (item := self._next(chunks, abandoned)) is not None:
            if isinstance(item, Exception):
                raise item
            yield item

    def _next(self, chunks: queue.Queue, abandoned: threading.Event) -> Any:
        """Wait for the next item, but not for a producer who puts nothing any more."""
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
            with self.alone(), contextlib.closing(self._stream(request, state)) as stream:
                for chunk in stream:
                    _put(chunks, chunk, abandoned)
                    if stop.is_set() or abandoned.is_set() or self.closed.is_set():
                        break
        except ClosedError:
            log.info("A stream came too late: the program ends.")
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
