"""One thread that advances the streams of all callers together (batching.py), for servers with threads."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .batching import StreamBatch
from .streaming import AbandonedError, StreamingGenerator, StreamState
from .types import AVChunk, GenerationRequest

_AHEAD = 2
"""Chunks that wait for their reader before a stream rests: the frames of a large one take 100 MB."""


@dataclass(eq=False)
class _Reader:
    """Who reads a stream; its queue ends with None, or with what went wrong."""

    state: StreamState
    ahead: int
    chunks: queue.SimpleQueue[AVChunk | Exception | None] = field(default_factory=queue.SimpleQueue)
    waiting: int = 0


class SharedModel:
    """A generator that any number of threads may use at the same time."""

    def __init__(self, generator: StreamingGenerator) -> None:
        """Start the thread; `close` ends it."""
        self.generator = generator
        self._batch = StreamBatch(generator)
        self._readers: dict[int, _Reader] = {}
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="shared-model", daemon=True)
        self._thread.start()

    def do(self, work: Callable[[StreamingGenerator], Any]) -> Any:
        """Return what `work` returns, called with the generator between two passes; raises what it raises."""
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(work(self.generator))
            except Exception as error:  # it belongs to the caller
                future.set_exception(error)

        self._submit(run)
        return future.result()

    def start(self, request: GenerationRequest) -> StreamState:
        """As `StreamingGenerator.start`."""
        return self.do(lambda generator: generator.start(request))

    def stream(self, state: StreamState) -> Generator[AVChunk, None, None]:
        """Yield the rest of a stream, which nobody else reads, or until it is abandoned.

        When it is closed the stream rests; up to two chunks that were made ahead are lost then.
        """
        if not StreamBatch.takes(state):
            while made := self.some(state):
                yield from made
            return
        with self._reading(state, _AHEAD) as reader:
            while (chunk := _taken(reader.chunks.get())) is not None:
                yield chunk
                self._submit(lambda: self._read(reader))

    def some(self, state: StreamState) -> list[AVChunk]:
        """The next chunk of a stream and no more, but for those at its end that waited for sound with it.

        Empty at the end, and once the stream was abandoned.
        """
        if not StreamBatch.takes(state):
            try:
                chunk = self.do(lambda generator: next(generator.stream(state=state), None))
            except AbandonedError:
                chunk = None
            return [] if chunk is None else [chunk]
        with self._reading(state, 1) as reader:
            made = [_taken(reader.chunks.get())]
        while not reader.chunks.empty():
            made.append(_taken(reader.chunks.get()))
        return [chunk for chunk in made if chunk is not None]

    @contextmanager
    def _reading(self, state: StreamState, ahead: int) -> Iterator[_Reader]:
        """Take part in the passes; afterwards the stream rests, and its reader gets nothing more."""
        reader = _Reader(state, ahead)
        self._submit(lambda: self._join(reader))
        try:
            yield reader
        finally:
            left = threading.Event()

            def leave() -> None:
                self._leave(reader)
                left.set()

            if self._thread.is_alive():
                self._submit(leave)
                left.wait(60)

    def close(self) -> None:
        """End all streams and the thread. Nothing may be asked afterwards."""
        self._work.put(None)
        self._thread.join()

    def _submit(self, work: Callable[[], None]) -> None:
        if not self._thread.is_alive():
            raise RuntimeError("The model is closed.")
        self._work.put(work)

    def _run(self) -> None:
        while True:
            try:
                # While there are streams nothing waits here.
                work = self._work.get(block=not len(self._batch))
            except queue.Empty:
                self._advance()
                continue
            if work is None:
                break
            work()
        # Whoever asked while it was being closed waits for an answer too, and may join only now.
        while not self._work.empty():
            if (late := self._work.get()) is not None:
                late()
        for reader in list(self._readers.values()):
            reader.chunks.put(RuntimeError("The model was closed."))

    def _advance(self) -> None:
        try:
            made = self._batch.advance()
        except Exception as error:
            # A pass is of all its streams: none can go on as if nothing had been.
            for reader in list(self._readers.values()):
                reader.chunks.put(error)
                self._leave(reader)
            return
        for state, chunk in made:
            reader = self._readers[id(state)]
            reader.waiting += 1
            reader.chunks.put(chunk)
            if reader.waiting >= reader.ahead:
                self._batch.remove(state)
        self._end_finished()

    def _end_finished(self) -> None:
        for reader in list(self._readers.values()):
            state = reader.state
            if state.ended or (state.abandoned and state.abandoned()):
                reader.chunks.put(None)
                self._leave(reader)

    def _join(self, reader: _Reader) -> None:
        self._readers[id(reader.state)] = reader
        self._batch.add(reader.state)
        self._end_finished()

    def _read(self, reader: _Reader) -> None:
        reader.waiting -= 1
        if self._readers.get(id(reader.state)) is reader and reader.state not in self._batch:
            self._batch.add(reader.state)

    def _leave(self, reader: _Reader) -> None:
        if self._readers.get(id(reader.state)) is reader:
            del self._readers[id(reader.state)]
            self._batch.remove(reader.state)


def _taken(item: AVChunk | Exception | None) -> AVChunk | None:
    if isinstance(item, Exception):
        raise item
    return item
