"""A growing file: what one thread appends is read by others meanwhile."""

from __future__ import annotations

import tempfile
import threading
import weakref
from collections.abc import Iterator

_BLOCK = 2**18


class Spool:
    """Bytes on disk without a name; they are gone when nothing refers to the spool any more.

    A film of ten minutes has 60 to 90 MB, and a page keeps the films of many visitors: in memory they
    would add up.
    """

    def __init__(self) -> None:
        """Begin empty; raises OSError where no temporary file can be made."""
        self._file = tempfile.TemporaryFile(prefix="mutual-forcing-", buffering=0)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._lock = threading.Lock()
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes that can be read."""
        return self._size

    def append(self, data: bytes) -> None:
        """Add bytes at the end; raises OSError when the disk is full, and then adds nothing."""
        with self._lock:
            rest = memoryview(data)
            self._file.seek(self._size)
            while rest:  # an unbuffered file may take less than all at once
                rest = rest[self._file.write(rest) :]
            self._size += len(data)

    def blocks(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from `start` to `end` (None: all that there are now), some at a time."""
        end = self._size if end is None else end
        while start < end:
            with self._lock:
                self._file.seek(start)
                block = self._file.read(min(_BLOCK, end - start))
            if not block:
                raise ValueError(f"There is nothing at {start}: the spool has {self._size} bytes.")
            start += len(block)
            yield block
