"""The visitors' live streams, one for each session, and their clips."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mutual_forcing.media import remux_faststart
from mutual_forcing.types import GenerationRequest, Steering

from .live_stream import LiveLimits, LiveStream, LiveUpdate
from .session_store import SessionStore
from .texts import say

if TYPE_CHECKING:
    from .sessions import SessionManager

_MAX_STREAMS = 16
"""Number of streams that are kept, ended ones included."""


class LiveManager:
    """Starts, changes, ends and saves the live streams."""

    def __init__(self, sessions: SessionManager, limits: LiveLimits | None = None) -> None:
        self.sessions, limits = sessions, limits or LiveLimits()
        self.limits = replace(
            limits,
            longest=min(limits.longest, sessions.limits.seconds),
            minutes=min(limits.minutes, sessions.limits.minutes),
        )
        self._streams = SessionStore[LiveStream]("live", _MAX_STREAMS, self._release)
        sessions.at_close(self._streams.close)

    def running(self, session_id: str) -> bool:
        """Return whether the visitor has a stream that can be changed."""
        stream = self._streams.get(session_id)
        return stream is not None and stream.running

    def run(
        self, session_id: str, request: GenerationRequest, face: int = 1
    ) -> Generator[LiveUpdate, None, None]:
        """Stream until the visitor stops or adds no text for a while.

        Args:
            session_id: names the visitor.
            request: what to generate first.
            face: number of the face that talks, for the settings in the clip.

        Raises:
            ValueError: the text cannot be spoken or the face cannot be animated. The visitor's last
                stream is then still there.
        """
        if request.audio is not None:
            raise ValueError("A live stream is driven by text, not by a sound.")
        self.sessions.generator.plan(request)  # Raises for text that cannot be spoken.
        video = self.sessions.videos.new()
        try:  # Raises for a face that cannot be animated, and where an engine is lost.
            stream = LiveStream(self.sessions.model, video, request, self.limits, face)
        except Exception:
            self.sessions.videos.drop(video.id)
            raise
        self._streams.put(session_id, stream)
        yield from stream.updates()

    def say(self, session_id: str, text: str) -> float:
        """Append text; return the second of the stream at which it begins.

        Raises ValueError when nothing runs, for unspeakable text and beyond the longest stream.
        """
        return self._running(session_id).say(text)

    def steer(
        self,
        session_id: str,
        emotion: str | None = None,
        motion: str | None = None,
        steps: float | None = None,
    ) -> float:
        """Change the style or the steps; return the second of the stream from which this applies.

        None leaves a value as it is. Raises ValueError when nothing runs and for wrong values.
        """
        return self._running(session_id).steer(emotion, motion, steps)

    def pose(self, session_id: str, steering: Steering) -> float:
        """Ask the face for something else; return the second of the stream from which this applies.

        Raises ValueError when nothing runs.
        """
        return self._running(session_id).pose(steering)

    def stop(self, session_id: str) -> None:
        """End the visitor's stream after the chunk in progress; what was made is kept."""
        stream = self._streams.get(session_id)
        if stream:
            stream.stop(say("live.stopped"))

    def forget(self, session_id: str) -> None:
        """End the visitor's stream at once and remove its clip."""
        self._streams.drop(session_id)

    def save(self, session_id: str) -> Path | None:
        """Write what was made so far as an MP4 file; return its path, or None when there is nothing."""
        stream, generator = self._streams.get(session_id), self.sessions.generator
        if stream is None or not stream.moments:
            return None
        settings = {
            **stream.settings(),
            "model": generator.config.name,
            "checkpoint": generator.system.digest,
        }
        stream.clip = self._streams.new_clip("live")
        remux_faststart(stream.data(), stream.clip, settings)
        return stream.clip

    def _release(self, _: str, stream: LiveStream) -> None:
        stream.abandon()
        self.sessions.videos.drop(stream.video_id)
        if stream.clip:
            stream.clip.unlink(missing_ok=True)

    def _running(self, session_id: str) -> LiveStream:
        stream = self._streams.get(session_id)
        if stream is None or not stream.running:
            raise ValueError("Nothing is running: start the stream first.")
        return stream
