"""Work ends with its client: what happens when the client of a request goes away."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import TypeVar

T = TypeVar("T")


class GoneError(ValueError):
    """The client has gone, so nobody hears this sentence."""

    def __init__(self) -> None:
        super().__init__("The client has gone.")


class Departure:
    """The moment at which the client of a request goes away. It may be used from any thread."""

    def __init__(self) -> None:
        self.happened = False
        self._callbacks: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    def happen(self) -> None:
        """Note that the client has gone, and call whoever asked for it."""
        with self._lock:
            self.happened, callbacks = True, self._callbacks
            self._callbacks = []
        for callback in callbacks:
            callback()

    @contextmanager
    def calling(self, callback: Callable[[], None]) -> Iterator[None]:
        """While the block lasts, `callback` is called when the client goes, at once if it has gone."""
        with self._lock:
            self._callbacks.append(callback)
        if self.happened:
            self.happen()
        try:
            yield
        finally:
            with self._lock:
                self._callbacks = [c for c in self._callbacks if c is not callback]


def while_there(
    departure: Departure, stream: Generator[T, None, None], forget: Callable[[], None]
) -> Generator[T, None, None]:
    """Yield what `stream` yields; raises GoneError once the client has gone.

    Args:
        departure: that of the client.
        stream: does the work. It is closed at the end.
        forget: ends the work and drops what was made. It is called by another thread as soon as the client
            goes, so that the stream need not come to its next item first.
    """
    with closing(stream), departure.calling(forget):
        for item in stream:
            if departure.happened:
                break
            yield item
        if departure.happened:
            forget()  # The client may have gone before there was anything to forget.
            raise GoneError
