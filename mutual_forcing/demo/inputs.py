"""Turns the values of the page's fields into a request, and its cost into a sentence."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from html import escape
from typing import cast

import numpy as np

from mutual_forcing.chunks import CHUNK_SECONDS
from mutual_forcing.text.captions import EMOTIONS, MOTIONS
from mutual_forcing.text.inventory import LANGUAGE_CHOICES, LanguageChoice
from mutual_forcing.types import (
    FEW_MODE_MAX_STEPS,
    FRAMINGS,
    MAX_SIZE,
    FaceCrop,
    Framing,
    GenerationRequest,
    StreamPlan,
)

from .cage import read_audio, read_heard
from .latency import LatencyModel, video_size
from .limits import Limits
from .pictures import place_face, read_character, shape_of
from .texts import Phrase, say

DRIVES, LENDS = "drives the lips", "gives the voice"
MAX_TEXT = Limits().text
SIZES = (256, 384, 512, 720, 1080)
"""The choices for the pixels on the video's shorter side."""
SIZE, WHOLE = 512, FRAMINGS[0]
AUTOMATIC = LANGUAGE_CHOICES[0]
"""The language is found from the text."""
SLACK = 1.25
"""The player allows for chunks that take longer than expected by this factor (player.js)."""


@dataclass(frozen=True)
class Form:
    """The values of the page's fields in their order; 0 or None stands for an automatic value.

    The last four have defaults, because older API clients do not send them.
    """

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
    size: float | None = SIZE
    framing: str | None = WHOLE
    face: float | None = 1
    language: str | None = AUTOMATIC

    def request(self, limits: Limits | None = None) -> GenerationRequest:
        """Read the files, find the face and return the request; raises ValueError with one sentence."""
        if not self.picture:
            raise ValueError("Choose a character first: upload a picture or pick an example.")
        limits = limits or Limits()
        self._check(limits)
        picture = read_character(self.picture)
        request = self._build(picture, self._crop(self.picture), limits)
        if not self.sound or request.audio is None:
            return request
        return replace(request, heard=read_heard(self.sound, max_seconds=limits.seconds))

    def planned(self, limits: Limits | None = None) -> GenerationRequest:
        """Return a request of the same cost whose picture has the right shape but no pixels.

        Without a picture, a large square one is assumed. Raises ValueError as `request` does.
        """
        self._check(limits or Limits())
        if self.picture:
            shape, crop = shape_of(self.picture), self._crop(self.picture)
        else:
            shape, crop = (MAX_SIZE, MAX_SIZE, 3), FaceCrop(MAX_SIZE / 2, MAX_SIZE / 2, MAX_SIZE)
        return self._build(np.broadcast_to(np.uint8(128), shape), crop, limits or Limits())

    def face_number(self) -> int:
        """Return the number of the face, 1 for the largest; raises ValueError unless it is whole."""
        return _whole(self.face or 1, "number of the face", 1)

    def _crop(self, picture: str) -> FaceCrop:
        return place_face(picture, self.face_number()).crop

    def _check(self, limits: Limits) -> None:
        limits.check_text((self.text or "").strip())
        limits.check_seconds(self.seconds or 0)

    def _build(self, picture: np.ndarray, crop: FaceCrop, limits: Limits) -> GenerationRequest:
        text = (self.text or "").strip()
        sound = _cached_audio(self.sound, limits.seconds) if self.sound else None
        drives = self.sound_use == DRIVES
        if sound is not None and not drives and not text:
            raise ValueError("Type what to say: the sound only gives the voice.")
        return GenerationRequest(
            image=picture,
            text=text,
            language=cast("LanguageChoice", self.language or AUTOMATIC),  # the request checks it
            caption=caption(self.emotion, self.motion),
            crop=crop,
            framing=cast("Framing", self.framing or WHOLE),  # the request checks it
            size=_whole(self.size or SIZE, "size", SIZE),
            audio=sound if drives else None,
            voice=None if drives else sound,
            steps=_whole(self.steps, "number of steps", 4),
            guidance_scale=self.guidance or None,
            seed=_whole(self.seed, "seed", 0),
            seconds=self.seconds or None,
            window=_whole(self.window, "window", 0) or None,
        )


def caption(emotion: str, motion: str) -> str:
    """Return the style in the words of the training data."""
    if emotion not in EMOTIONS or motion not in MOTIONS:
        raise ValueError("Choose an emotion and a motion from the lists.")
    return f"{emotion}, {motion}"


def style_of(caption: str) -> tuple[str, str]:
    """Return the emotion and the motion of a caption; either may be empty."""
    emotion, _, motion = caption.partition(", ")
    return emotion, motion


def preflight(plan: StreamPlan, latency: LatencyModel, request: GenerationRequest) -> str:
    """Return the badge of the mode and the prediction for this machine as HTML."""
    expect = _expectation(plan, latency, request) if latency.known else say("expect.measuring")
    size = video_size(request)
    phrase = say(
        "expect.talk", nfe=plan.nfe_per_chunk, width=size.width, height=size.height, expect=expect
    )
    return _line(request.steps, phrase.html())


def preflight_problem(steps: float, problem: str) -> str:
    """Return the badge of the mode and a problem instead of the prediction."""
    return _line(int(steps), escape(problem))


def fastest_size(latency: LatencyModel, request: GenerationRequest) -> int | None:
    """Return the largest of SIZES that is made in real time, or None."""
    fast = (s for s in SIZES if latency.chunk_seconds(replace(request, size=s)) <= CHUNK_SECONDS)
    return max(fast, default=None)


def slow_size(latency: LatencyModel, request: GenerationRequest) -> Phrase | str:
    """Return a warning if this machine cannot make the size in real time, else an empty text."""
    if not latency.known or latency.chunk_seconds(request) <= CHUNK_SECONDS:
        return ""
    size = fastest_size(latency, request)
    if size is None:
        return say("expect.no-size", count=request.steps)
    return say("expect.size", asked=request.size, size=size)


def _expectation(plan: StreamPlan, latency: LatencyModel, request: GenerationRequest) -> Phrase:
    chunk = latency.chunk_seconds(request)
    rate = CHUNK_SECONDS / chunk
    film = f"{plan.seconds:.1f}"
    if rate >= 1:
        first = f"{latency.overhead + chunk:.1f}"
        return say("expect.ahead", film=film, first=first, rate=f"{rate:.1f}")
    total = latency.overhead + plan.chunks * chunk
    # player.js buffers so much that playback does not reach the end of what was made.
    wait = latency.overhead + (CHUNK_SECONDS + plan.seconds * (SLACK / rate - 1)) / SLACK
    return say(
        "expect.slower", film=film, rate=f"{rate:.2f}", total=_duration(total),
        wait=_duration(min(wait, total)), size=slow_size(latency, request),
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
    # The prediction reads it again whenever a slider moves. An upload's file never changes.
    audio = read_audio(path, max_seconds=max_seconds)
    audio.flags.writeable = False
    return audio
