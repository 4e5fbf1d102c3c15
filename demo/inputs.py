"""From what the page holds to a validated request, and from its cost to a plain sentence."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from html import escape

import numpy as np

from mutual_forcing.caption import EMOTIONS, MOTIONS
from mutual_forcing.chunks import CHUNK_SECONDS
from mutual_forcing.media import read_audio, read_image
from mutual_forcing.types import FEW_MODE_MAX_STEPS, GenerationRequest, StreamPlan

from .limits import Limits
from .pace import Pace
from .pictures import frame_figure
from .texts import Phrase, say

DRIVES, LENDS = "drives the lips", "gives the voice"
MAX_TEXT = Limits().text
ANY_PICTURE = np.full((64, 64, 3), 128, np.uint8)
"""Stands for the character where a request is only planned."""
SLACK = 1.25
"""The player is ready for chunks that take so much longer than expected (player.js)."""


@dataclass(frozen=True)
class Form:
    """The values of the page's fields, in their order; 0 or None leaves a number open."""

    picture: str | None
    text: str | None
    sound: str | None
    sound_use: str
    emotion: str
    motion: str
    steps: float
    seed: float | None
    guidance: float | None
    seconds: float | None
    window: float | None

    def request(
        self, picture: np.ndarray | None = None, limits: Limits | None = None
    ) -> GenerationRequest:
        """Read the files and return the request; raises ValueError in one sentence."""
        limits = limits or Limits()
        if picture is None:
            if not self.picture:
                raise ValueError("Choose a character first: upload a picture or pick an example.")
            picture = read_character(self.picture)
        text = (self.text or "").strip()
        limits.check_text(text)
        limits.check_seconds(self.seconds or 0)
        sound = _cached_audio(self.sound, limits.seconds) if self.sound else None
        drives = self.sound_use == DRIVES
        if sound is not None and not drives and not text:
            raise ValueError("Type what to say: the sound only gives the voice.")
        return GenerationRequest(
            image=picture,
            text=text,
            caption=caption(self.emotion, self.motion),
            audio=sound if drives else None,
            voice=None if drives else sound,
            steps=_whole(self.steps, "number of steps", 4),
            guidance_scale=self.guidance or None,
            seed=_whole(self.seed, "seed", 0),
            seconds=self.seconds or None,
            window=_whole(self.window, "window", 0) or None,
        )


def read_character(path: str) -> np.ndarray:
    """Read an uploaded picture and return the square that the model sees, uint8 RGB [S, S, 3]."""
    return frame_figure(read_image(path))


def caption(emotion: str, motion: str) -> str:
    """Return the style in the words that the corpus uses."""
    if emotion not in EMOTIONS or motion not in MOTIONS:
        raise ValueError("Choose an emotion and a motion from the lists.")
    return f"{emotion}, {motion}"


def style_of(caption: str) -> tuple[str, str]:
    """Return the emotion and the motion of a caption; empty where it names none."""
    emotion, _, motion = caption.partition(", ")
    return emotion, motion


def preflight(plan: StreamPlan, pace: Pace, request: GenerationRequest) -> str:
    """Return the mode's badge and what to expect on this machine, as HTML."""
    expect = _expectation(plan, pace, request) if pace.known else say("expect.measuring")
    return _line(request.steps, say("expect.talk", nfe=plan.nfe_per_chunk, expect=expect).html())


def preflight_problem(steps: float, problem: str) -> str:
    """Return the badge with what is missing instead of a prediction."""
    return _line(int(steps), escape(problem))


def _expectation(plan: StreamPlan, pace: Pace, request: GenerationRequest) -> Phrase:
    chunk = pace.chunk_seconds(request.steps, request.guidance_scale)
    rate = CHUNK_SECONDS / chunk
    film = f"{plan.seconds:.1f}"
    if rate >= 1:
        first = f"{pace.overhead + chunk:.1f}"
        return say("expect.ahead", film=film, first=first, rate=f"{rate:.1f}")
    total = pace.overhead + plan.chunks * chunk
    # The film that player.js wants ahead, over the speed at which the two approach each other.
    wait = pace.overhead + (CHUNK_SECONDS + plan.seconds * (SLACK / rate - 1)) / SLACK
    return say(
        "expect.slower", film=film, rate=f"{rate:.2f}", total=_duration(total),
        wait=_duration(min(wait, total)),
    )  # fmt: skip


def _line(steps: int, html: str) -> str:
    kind = "few" if steps <= FEW_MODE_MAX_STEPS else "multi"
    name = say("mode.few") if kind == "few" else say("mode.multi")
    return (
        f'<div class="mf-preflight" role="status"><span class="mf-mode {kind}" id="mode-badge">'
        f"{name.html()}</span><span>{html}</span></div>"
    )


def _duration(seconds: float) -> Phrase:
    if seconds < 90:
        return say("time.seconds", seconds=max(1, math.ceil(seconds)))
    return say("time.minutes", minutes=f"{seconds / 60:.1f}")


def _whole(value: float | None, name: str, default: int) -> int:
    if value is None:
        return default
    if not math.isfinite(value) or value != int(value):
        raise ValueError(f"The {name} must be a whole number.")
    return int(value)


@functools.lru_cache(maxsize=4)
def _cached_audio(path: str, max_seconds: float) -> np.ndarray:
    # The prediction asks again whenever a slider moves; a path names one upload for ever.
    audio = read_audio(path, max_seconds=max_seconds)
    audio.flags.writeable = False
    return audio
