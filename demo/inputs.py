"""From what the page holds to a validated request, and from its cost to a plain sentence."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from html import escape

import numpy as np

from mutual_forcing.caption import EMOTIONS, MOTIONS
from mutual_forcing.chunks import CHUNK_SECONDS
from mutual_forcing.media import read_audio
from mutual_forcing.types import (
    FEW_MODE_MAX_STEPS,
    FRAMINGS,
    MAX_SIZE,
    FaceCrop,
    GenerationRequest,
    StreamPlan,
)

from .limits import Limits
from .pace import Pace, film_of
from .pictures import place_face, read_character, shape_of
from .texts import Phrase, say

DRIVES, LENDS = "drives the lips", "gives the voice"
MAX_TEXT = Limits().text
SIZES = (256, 384, 512, 720, 1080)
"""What the page offers for the pixels on a film's shorter side."""
SIZE, WHOLE = 512, FRAMINGS[0]
SLACK = 1.25
"""The player is ready for chunks that take so much longer than expected (player.js)."""


@dataclass(frozen=True)
class Form:
    """The values of the page's fields, in their order; 0 or None leaves a number open.

    The last three came later than the others: who does not know them leaves them out.
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

    def request(self, limits: Limits | None = None) -> GenerationRequest:
        """Read the files, find the face and return the request; raises ValueError in one sentence."""
        if not self.picture:
            raise ValueError("Choose a character first: upload a picture or pick an example.")
        self._check(limits or Limits())
        picture = read_character(self.picture)
        return self._asked(picture, self._crop(self.picture), limits or Limits())

    def planned(self, limits: Limits | None = None) -> GenerationRequest:
        """Return a request of the same cost, in which the picture has its size and no pixels.

        Where none is chosen yet it stands for a large square one. Raises ValueError as `request` does.
        """
        self._check(limits or Limits())
        if self.picture:
            shape, crop = shape_of(self.picture), self._crop(self.picture)
        else:
            shape, crop = (MAX_SIZE, MAX_SIZE, 3), FaceCrop(MAX_SIZE / 2, MAX_SIZE / 2, MAX_SIZE)
        return self._asked(np.broadcast_to(np.uint8(128), shape), crop, limits or Limits())

    def face_number(self) -> int:
        """Return which face is meant, 1 being the largest; raises ValueError for no whole number."""
        return _whole(self.face or 1, "number of the face", 1)

    def _crop(self, picture: str) -> FaceCrop:
        return place_face(picture, self.face_number()).crop

    def _check(self, limits: Limits) -> None:
        limits.check_text((self.text or "").strip())
        limits.check_seconds(self.seconds or 0)

    def _asked(self, picture: np.ndarray, crop: FaceCrop, limits: Limits) -> GenerationRequest:
        text = (self.text or "").strip()
        sound = _cached_audio(self.sound, limits.seconds) if self.sound else None
        drives = self.sound_use == DRIVES
        if sound is not None and not drives and not text:
            raise ValueError("Type what to say: the sound only gives the voice.")
        return GenerationRequest(
            image=picture,
            text=text,
            caption=caption(self.emotion, self.motion),
            crop=crop,
            framing=self.framing or WHOLE,
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
    film = film_of(request)
    told = say(
        "expect.talk", nfe=plan.nfe_per_chunk, width=film.width, height=film.height, expect=expect
    )
    return _line(request.steps, told.html())


def preflight_problem(steps: float, problem: str) -> str:
    """Return the badge with what is missing instead of a prediction."""
    return _line(int(steps), escape(problem))


def fastest_size(pace: Pace, request: GenerationRequest) -> int | None:
    """Return the largest of SIZES at which the film is made as fast as it plays; None if there is none."""
    fast = (s for s in SIZES if pace.chunk_seconds(replace(request, size=s)) <= CHUNK_SECONDS)
    return max(fast, default=None)


def slow_size(pace: Pace, request: GenerationRequest) -> Phrase | str:
    """Return what to say of a size that this machine cannot make in real time; empty if it can."""
    if not pace.known or pace.chunk_seconds(request) <= CHUNK_SECONDS:
        return ""
    size = fastest_size(pace, request)
    if size is None:
        return say("expect.no-size", count=request.steps)
    return say("expect.size", asked=request.size, size=size)


def _expectation(plan: StreamPlan, pace: Pace, request: GenerationRequest) -> Phrase:
    chunk = pace.chunk_seconds(request)
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
        wait=_duration(min(wait, total)), size=slow_size(pace, request),
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
