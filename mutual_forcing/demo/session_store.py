"""What the server keeps of its visitors: one item for each session, and the folder of their files."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")


class SessionStore(Generic[T]):
    """Holds one item for each session id, up to a limit, and a temporary folder.

    API clients do not announce that they leave, so the oldest items are dropped beyond the limit.
    """

    def __init__(self, name: str, limit: int, release: Callable[[str, T], None]) -> None:
        """Create an empty store.

        Args:
            name: goes into the name of the temporary folder.
            limit: the largest number of items that are kept.
            release: called with the session id and the item after it left the store; it must free
                what the item holds.
        """
        self._items: dict[str, T] = {}
        self._limit, self._release = limit, release
        self._folder = tempfile.TemporaryDirectory(prefix=f"mutual-forcing-{name}-")
        self.folder = Path(self._folder.name)

    def get(self, session_id: str) -> T | None:
        """Return the session's item, or None."""
        return self._items.get(session_id)

    def put(self, session_id: str, item: T) -> None:
        """Store the session's item in place of its last one, and drop the oldest beyond the limit."""
        self.drop(session_id)
        self._items[session_id] = item
        for oldest in list(self._items)[: -self._limit]:
            self.drop(oldest)

    def pop(self, session_id: str) -> T | None:
        """Remove the session's item without releasing it, and return it."""
        return self._items.pop(session_id, None)

    def drop(self, session_id: str) -> None:
        """Remove the session's item, if there is one, and release it."""
        item = self.pop(session_id)
        if item is not None:
            self._release(session_id, item)

    def items(self) -> list[tuple[str, T]]:
        """Return all session ids with their items, the oldest first."""
        return list(self._items.items())

    def new_clip(self, name: str) -> Path:
        """Return a path for a new MP4 file whose name begins with `name`."""
        return self.folder / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}.mp4"

    def close(self) -> None:
        """Drop every item and remove the folder."""
        for session_id, _ in self.items():
            self.drop(session_id)
        self._folder.cleanup()
