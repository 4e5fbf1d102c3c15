"""The visitors' live streams, one each, and their clips."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mutual_forcing.media import remux_faststart
from mutual_forcing.types import GenerationRequest

from .live_stream import Limits, Live, LiveStream
from .texts import say

if TYPE_CHECKING:
    from .studio import Studio

_KEEP = 16
"""Streams that are kept after their end: callers of the API do not say when they leave."""


class LiveStage:
    """Starts, changes and ends the streams by the name of the visitor who watches them."""

    def __init__(self, studio: Studio, limits: Limits | None = None) -> None:
        self.studio, limits = studio, limits or Limits()
        self.limits = replace(
            limits,
            longest=min(limits.longest, studio.limits.seconds),
            minutes=min(limits.minutes, studio.limits.minutes),
        )
        self._streams: dict[str, LiveStream] = {}
        self._clips: dict[str, Path] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="mutual-forcing-live-")
        studio.at_close(self.close)

    def close(self) -> None:
        """End every stream and remove every file."""
        for visitor in list(self._streams):
            self.forget(visitor)
        self._folder.cleanup()

    def running(self, visitor: str) -> bool:
        """Whether the visitor has a stream that can be changed."""
        stream = self._streams.get(visitor)
        return stream is not None and stream.running

    def run(self, visitor: str, request: GenerationRequest, face: int = 1) -> Iterator[Live]:
        """Stream until the visitor stops or stays silent; the settings will name the `face`.

        Raises ValueError for unspeakable text and for a face that cannot be animated.
        """
        if request.audio is not None:
            raise ValueError("A live stream is driven by text, not by a sound.")
        self.studio.generator.plan(request)  # before anything is lost, unspeakable text raises here
        film = self.studio.shelf.new()
        try:  # and here a face that cannot be animated
            stream = LiveStream(self.studio.model, film, request, self.limits, face)
        except ValueError:
            self.studio.shelf.drop(film.id)
            raise
        self.forget(visitor)
        self._streams[visitor] = stream
        for old in list(self._streams)[:-_KEEP]:
            self.forget(old)
        yield from stream.messages()

    def say(self, visitor: str, text: str) -> float:
        """Append text; return the second of the stream at which it begins.

        Raises ValueError when nothing runs, for unspeakable text and beyond the longest stream.
        """
        return self._running(visitor).say(text)

    def steer(
        self,
        visitor: str,
        emotion: str | None = None,
        motion: str | None = None,
        steps: float | None = None,
    ) -> float:
        """Change style or steps; return the second of the stream from which it holds.

        None leaves a value as it is. Raises ValueError when nothing runs and for wrong values.
        """
        return self._running(visitor).steer(emotion, motion, steps)

    def stop(self, visitor: str) -> None:
        """End the visitor's stream after the chunk in progress; what was made is kept."""
        if visitor in self._streams:
            self._streams[visitor].stop(say("live.stopped"))

    def forget(self, visitor: str) -> None:
        """End the visitor's stream and remove its clip."""
        stream, clip = self._streams.pop(visitor, None), self._clips.pop(visitor, None)
        if stream:
            stream.stop()
            self.studio.shelf.drop(stream.film_id)
        if clip:
            clip.unlink(missing_ok=True)

    def save(self, visitor: str) -> Path | None:
        """Write what the visitor's stream has made as an MP4; None when that is nothing."""
        stream, generator = self._streams.get(visitor), self.studio.generator
        if stream is None or not stream.moments:
            return None
        settings = {
            **stream.settings(),
            "model": generator.config.name,
            "checkpoint": generator.system.digest,
        }
        name = f"live-{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 10**6:06d}.mp4"
        path = self._clips[visitor] = Path(self._folder.name) / name
        path.write_bytes(remux_faststart(stream.film(), settings))
        return path

    def _running(self, visitor: str) -> LiveStream:
        if not self.running(visitor):
            raise ValueError("Nothing is running: start the stream first.")
        return self._streams[visitor]
