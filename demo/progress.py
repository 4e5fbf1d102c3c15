"""What visitors are told about a stream: messages to the player, and failures in one sentence."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace

from mutual_forcing.chunks import CHUNK_SECONDS
from mutual_forcing.media import StreamMuxer
from mutual_forcing.types import AVChunk, GenerationRequest

from .films import ROUTE, Film
from .texts import say, told


@dataclass(frozen=True)
class Progress:
    """One message to the player. Each is complete: the page may skip some.

    `mode` and `status` are phrases of the table of texts where the page shall say them in its language.
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
        film: Film, muxer: StreamMuxer, request: GenerationRequest, seconds: float
    ) -> Progress:
        """Return the first message about a film that will probably last `seconds`."""
        return Progress(film.id, ROUTE + film.id, muxer.mime_type, seconds, badge(request))

    def after(self, chunk: AVChunk, made: float, rate: float, status: str) -> Progress:
        """Return the message after `chunk`: `made` seconds of film, `rate` of them per second."""
        fps = rate * len(chunk.frames) / CHUNK_SECONDS
        return replace(self, made=made, rate=rate, fps=fps, nfe=chunk.nfe, status=status)

    def ended(self, reason: str = "") -> Progress:
        """Return the last message of a stream; `reason` says why it is shorter than asked for."""
        made = f"{self.made:.1f}"
        status = say("live.ended", made=made, reason=reason) if reason else ""
        return replace(self, done=True, status=status or say("stream.made", made=made))

    def broken_off(self) -> Progress:
        """Return the last message of a stream that failed after something was made."""
        status = say("stream.ended-early", made=f"{self.made:.1f}")
        return replace(self, done=True, status=status)

    def message(self) -> str:
        """Return what the player's script reads."""
        return json.dumps({**asdict(self), "mode": told(self.mode), "status": told(self.status)})


def badge(request: GenerationRequest) -> str:
    """Return the mode and the number of steps, such as "Few mode · 4 steps"."""
    mode = say("mode.few" if request.mode == "few" else "mode.multi")
    return say("stream.badge", mode=mode, count=request.steps)


_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
"""What CUDA and torch's allocators for the CPU say; their errors are mere RuntimeErrors."""


def failure(error: Exception) -> str:
    """Return what went wrong as one sentence for the visitor."""
    if isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in _NO_MEMORY):
        return "The machine ran out of memory."
    return f"The generation failed ({type(error).__name__})."


def failed_message() -> str:
    """Return what tells a player that nothing will come."""
    # The time makes every message differ from the last one, else the page would not notice it.
    return json.dumps({"error": time.time()})
