"""When people blink and how: a distribution of pauses, the shape of a lid, and a clock for streams.

The transformer sees two seconds of its past and knows a blink as four numbers among thousands, so it blinks
too often, sometimes twice in half a second, and with few steps it leaves blinks half done. The clock reads
the control eyeBlink of what is to be decoded. It keeps the model's own blinks where a person might blink as
well and completes them, holds the lids open where another one comes too early, and adds one where none comes
for too long. Nothing but that control is touched, and that only where it is outside of what lids do.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np

from .config import FPS

SHORTEST_GAP, MEAN_GAP, LONGEST_GAP = 1.2, 3.5, 8.0
"""Seconds from one blink's beginning to the next one's: 17 blinks a minute, as people do in talk."""
GAP_SHAPE = 1.6
"""Of the gamma distribution of what a gap is longer than the shortest: most gaps are short, a few long."""
_STREAM = 0xB114
"""Keeps the clock's random numbers apart from those of a stream's noise."""

RISE, FALL = 0.35, 0.2
"""A blink of the model begins where eyeBlink rises above RISE after it was below FALL."""
OPEN = 0.1
"""Lids that do not blink are at most this far closed."""
EARLY, LATE = 1.2, 1.2
"""Seconds by which the model's own blink may come before the clock's, and by which the clock waits for it."""


def draw_gap(rng: np.random.Generator) -> float:
    """Seconds from one blink to the next, within SHORTEST_GAP and LONGEST_GAP, about MEAN_GAP on average."""
    more = float(rng.gamma(GAP_SHAPE, (MEAN_GAP - SHORTEST_GAP) / GAP_SHAPE))
    return min(SHORTEST_GAP + more, LONGEST_GAP)


@dataclass(frozen=True)
class Lid:
    """One blink: seconds that the lid takes to close, stays closed and takes to open again."""

    closing: float
    closed: float
    opening: float

    @staticmethod
    def draw(rng: np.random.Generator) -> Lid:
        """As people blink: more than half closed for 0.15 to 0.23 s, fully for one frame or more."""
        return Lid(
            float(rng.uniform(0.08, 0.12)),
            float(rng.uniform(0.045, 0.075)),
            float(rng.uniform(0.12, 0.19)),
        )

    @property
    def seconds(self) -> float:
        """From open to open."""
        return self.closing + self.closed + self.opening

    def at(self, time: np.ndarray) -> np.ndarray:
        """How far the lid is closed, 0..1, at `time` in seconds since it began (any shape)."""
        down = np.clip(time / self.closing, 0, 1)
        up = np.clip((self.seconds - time) / self.opening, 0, 1)
        edge = np.minimum(down, up)
        return edge * edge * (3 - 2 * edge)


@dataclass(frozen=True)
class Blink:
    """A blink as a viewer sees it: its first frame, for how many it is more than half closed, its peak."""

    first: int
    frames: int
    peak: float


def find_blinks(closed: np.ndarray) -> list[Blink]:
    """The blinks in eyeBlink [T]: it rises above 0.5 after it was below 0.25. One cut by an end counts."""
    found: list[Blink] = []
    shut = False
    for frame, value in enumerate(closed.tolist()):
        if not shut and value > 0.5:
            shut = True
            found.append(Blink(frame, 0, value))
        shut = shut and value >= 0.25
        if shut:
            last = found[-1]
            found[-1] = Blink(last.first, last.frames + (value > 0.5), max(last.peak, value))
    return found


@functools.cache
def _bounds() -> tuple[np.ndarray, np.ndarray]:
    """Per frame from a blink's first on, the least and the most that its lid is closed, [N] each."""
    quick, slow = Lid(0.08, 0.045, 0.12), Lid(0.12, 0.07, 0.14)
    count = round(slow.seconds * FPS)
    time = (np.arange(count) + 0.5) / FPS
    most = slow.at(time)
    most[: int(most.argmax())] = 1.0  # the model may close as fast as it likes
    return quick.at(time), most


@dataclass(frozen=True)
class BlinkState:
    """Where a stream's clock stands between two chunks.

    due: the frame at which the next blink is expected. frame: frames so far. began: first frame of the last
    blink that was kept or added; None before any. armed: whether the model's lids were open since its last
    blink. drawn: gaps drawn so far.
    """

    due: float
    frame: int = 0
    began: int | None = None
    armed: bool = True
    drawn: int = 0


class BlinkClock:
    """Keeps the blinks of one stream to what people do; holds nothing but the stream's seed.

    The clock expects a blink a drawn gap after the last one was expected, or after it came if that was
    later. The model's own blink is kept from EARLY seconds before that moment on, unless the last one began
    less than SHORTEST_GAP ago. LATE seconds after it the clock blinks itself: no gap is longer than
    LONGEST_GAP. A blink follows the model where
    that lies between the quickest and the slowest full blink, and else the nearer of these: half blinks
    close, and no eye stays shut. It goes frame by frame and never looks ahead: chunk by chunk is the same as
    all at once.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def begin(self) -> BlinkState:
        """The beginning of a stream, at any moment between two blinks."""
        rng = np.random.default_rng([self.seed, _STREAM])
        return BlinkState(due=float(rng.random()) * MEAN_GAP * FPS)

    def mend(self, closed: np.ndarray, state: BlinkState) -> tuple[np.ndarray, BlinkState]:
        """eyeBlink of the next frames [T], any length, as it shall be, and the clock after them."""
        mended = np.array(closed, dtype=np.float32)
        least, most = _bounds()
        for index, value in enumerate(closed):
            state = self._look(float(value), state)
            age = len(least) if state.began is None else state.frame - state.began
            if age < len(least):
                mended[index] = np.clip(value, least[age], max(most[age], OPEN))
            else:
                mended[index] = min(value, OPEN)
            state = replace(state, frame=state.frame + 1)
        return mended, state

    def _look(self, value: float, state: BlinkState) -> BlinkState:
        """The state in which the frame's lid is drawn."""
        wanted = state.armed and value > RISE
        armed = value < FALL or (state.armed and not wanted)
        state = replace(state, armed=armed)
        if state.began is not None and state.frame - state.began < SHORTEST_GAP * FPS:
            return state
        # Eyes that are shut in the picture open as after a blink.
        own = wanted and (state.frame >= state.due - EARLY * FPS or state.frame == 0)
        if not own and state.frame < state.due + LATE * FPS:
            return state
        rng = np.random.default_rng([self.seed, _STREAM, 1 + state.drawn])
        latest = state.frame + (LONGEST_GAP - LATE) * FPS
        due = min(max(state.due, state.frame) + draw_gap(rng) * FPS, latest)
        return replace(state, began=state.frame, due=due, drawn=state.drawn + 1)
