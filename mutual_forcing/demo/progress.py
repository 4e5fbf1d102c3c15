"""Messages to the player about a stream, and failures as one sentence for the visitor."""

from __future__ import annotations

import errno
import json
import time
from dataclasses import asdict, dataclass, replace

from mutual_forcing.config import FPS
from mutual_forcing.engine import EngineError
from mutual_forcing.media import StreamMuxer
from mutual_forcing.types import AVChunk, GenerationRequest

from .texts import say, serialised
from .video_store import ROUTE, Video


@dataclass(frozen=True)
class Progress:
    """One message to the player. Each is complete, because the page may skip some.

    `mode` and `status` are phrases of the table of texts, which the page translates, or plain text.
    """

    id: str
    path: str
    mime: str
    seconds: float
    mode: str
    continues: bool = False
    expected_rate: float = 1.0
    status: str = ""
    made: float = 0.0
    fps: float = 0.0
    rate: float = 0.0
    nfe: int = 0
    done: bool = False

    @staticmethod
    def start(
        video: Video, muxer: StreamMuxer, request: GenerationRequest, seconds: float
    ) -> Progress:
        """Return the first message about a video that will probably last `seconds`."""
        return Progress(video.id, ROUTE + video.id, muxer.mime_type, seconds, badge(request))

    def after(self, chunk: AVChunk, made: float, rate: float, status: str) -> Progress:
        """Return the message after `chunk`, with `made` seconds of video, `rate` of them per second."""
        fps = rate * FPS
        return replace(self, made=made, rate=rate, fps=fps, nfe=chunk.nfe, status=status)

    def ended(self, reason: str = "") -> Progress:
        """Return the last message of a stream; `reason` says why it is shorter than requested."""
        made = f"{self.made:.1f}"
        status = say("live.ended", made=made, reason=reason) if reason else ""
        return replace(self, done=True, status=status or say("stream.made", made=made))

    def broken_off(self) -> Progress:
        """Return the last message of a stream that failed after something was made."""
        status = say("stream.ended-early", made=f"{self.made:.1f}")
        return replace(self, done=True, status=status)

    def message(self) -> str:
        """Return what the player's script reads."""
        return json.dumps(
            {**asdict(self), "mode": serialised(self.mode), "status": serialised(self.status)}
        )


def badge(request: GenerationRequest) -> str:
    """Return the mode and the number of steps, such as "Few mode · 4 steps"."""
    mode = say("mode.few" if request.mode == "few" else "mode.multi")
    return say("stream.badge", mode=mode, count=request.steps)


_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
"""Texts in the errors of CUDA and torch's CPU allocators, which are plain RuntimeErrors."""


def failure(error: Exception) -> str:
    """Return a sentence for the visitor about an error."""
    if isinstance(error, EngineError):
        return str(error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "The machine's disk is full."
    if isinstance(error, MemoryError) or any(text in str(error).lower() for text in _OUT_OF_MEMORY):
        return "The machine ran out of memory."
    return f"The generation failed ({type(error).__name__})."


def failed_message() -> str:
    """Return the message that tells a player that the stream failed."""
    # The time makes each message different from the last one; the page ignores equal ones.
    return json.dumps({"error": time.time()})
