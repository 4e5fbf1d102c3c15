"""How a face moves while it speaks: visemes with coarticulation, emotion, blinks, gaze and head.

Phonemes ask for a shape; shapes are blended by a smoothing window (coarticulation), except that lips
really close for bilabials and really touch the teeth for labiodentals, whatever their neighbours want.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mutual_forcing.blinks import LONGEST_GAP, Lid, draw_gap
from mutual_forcing.config import FPS
from mutual_forcing.text.captions import EMOTIONS
from mutual_forcing.text.inventory import plain
from mutual_forcing.types import TimedPhoneme

from .head_model import UNIT_NAMES
from .renderer import Performance

RATE = 200
"""Motion is computed at 200 Hz and sampled at the middle of each frame."""
BLEND_SECONDS = 0.042
LEAD_SECONDS = 0.03
"""Lips arrive a little before the sound."""

# jaw opening, pucker, funnel, stretch (wide lips), upper lip up, lower lip down
_SHAPES: dict[str, tuple[float, float, float, float, float, float]] = {
    "_": (0.02, 0.0, 0.0, 0.0, 0.0, 0.0),
    "ɑ": (0.85, 0.0, 0.05, 0.05, 0.15, 0.3),
    "æ": (0.75, 0.0, 0.0, 0.35, 0.2, 0.35),
    "ʌ": (0.55, 0.0, 0.0, 0.1, 0.1, 0.2),
    "ə": (0.38, 0.0, 0.0, 0.1, 0.1, 0.15),
    "ɛ": (0.5, 0.0, 0.0, 0.35, 0.15, 0.3),
    "ɪ": (0.32, 0.0, 0.0, 0.4, 0.15, 0.25),
    "i": (0.2, 0.0, 0.0, 0.65, 0.2, 0.3),
    "ɚ": (0.3, 0.35, 0.3, 0.0, 0.1, 0.1),
    "ɔ": (0.65, 0.4, 0.5, 0.0, 0.1, 0.1),
    "ʊ": (0.32, 0.6, 0.45, 0.0, 0.0, 0.1),
    "u": (0.22, 0.9, 0.45, 0.0, 0.0, 0.0),
    "eɪ": (0.42, 0.0, 0.0, 0.5, 0.15, 0.3),
    "aɪ": (0.7, 0.0, 0.0, 0.25, 0.2, 0.3),
    "oʊ": (0.5, 0.6, 0.5, 0.0, 0.05, 0.05),
    "ɔɪ": (0.55, 0.4, 0.4, 0.1, 0.1, 0.1),
    "aʊ": (0.7, 0.3, 0.35, 0.0, 0.1, 0.2),
    "w": (0.15, 1.0, 0.4, 0.0, 0.0, 0.0),
    "ɹ": (0.22, 0.45, 0.4, 0.0, 0.1, 0.1),
    "ʃ": (0.18, 0.35, 0.8, 0.0, 0.25, 0.3),
    "l": (0.32, 0.0, 0.0, 0.2, 0.15, 0.2),
    "θ": (0.25, 0.0, 0.0, 0.15, 0.1, 0.2),
    "s": (0.12, 0.0, 0.0, 0.4, 0.25, 0.4),
    "t": (0.18, 0.0, 0.0, 0.25, 0.15, 0.3),
    "k": (0.25, 0.0, 0.0, 0.15, 0.1, 0.2),
    "h": (0.4, 0.0, 0.0, 0.1, 0.1, 0.15),
    "p": (0.04, 0.0, 0.0, 0.0, 0.0, 0.0),
    "f": (0.14, 0.0, 0.0, 0.1, 0.3, 0.0),
    # Japanese lips move less, and round without pouting.
    "a": (0.7, 0.0, 0.0, 0.1, 0.15, 0.3),
    "e": (0.42, 0.0, 0.0, 0.35, 0.15, 0.3),
    "o": (0.45, 0.4, 0.35, 0.0, 0.05, 0.05),
    "ɯ": (0.2, 0.4, 0.15, 0.0, 0.0, 0.1),
    "ɨ": (0.18, 0.15, 0.1, 0.15, 0.1, 0.2),
    "ɸ": (0.12, 0.45, 0.2, 0.0, 0.05, 0.0),
    "β": (0.15, 0.7, 0.3, 0.0, 0.0, 0.0),
}
_LIKE = {
    **dict.fromkeys(("ʒ", "t͡ʃ", "d͡ʒ", "ɕ", "ʨ", "ʥ"), "ʃ"),
    **dict.fromkeys(("b", "m"), "p"),
    "v": "f",
    "ð": "θ",
    **dict.fromkeys(("z", "ʦ", "ʣ"), "s"),
    **dict.fromkeys(("d", "n", "ɾ"), "t"),
    **dict.fromkeys(("ɡ", "ŋ", "j", "ɲ", "ɴ", "ʔ", "ç"), "k"),
}
PHONEMES = (*_SHAPES, *_LIKE)
"""Of each sound one, without length, stress and palatalisation."""
_EMOTION_UNITS: dict[str, dict[str, float]] = {
    "neutral": {},
    "happy": {"mouthSmile": 0.6, "cheekSquint": 0.5, "eyeSquint": 0.25, "browOuterUp": 0.15},
    "sad": {"mouthFrown": 0.6, "browInnerUp": 0.8, "eyeSquint": 0.1, "mouthShrugLower": 0.2},
    "angry": {"browDown": 0.9, "noseSneer": 0.35, "eyeSquint": 0.3, "mouthFrown": 0.25},
    "surprised": {"browInnerUp": 0.7, "browOuterUp": 0.9, "eyeWide": 0.7},
}


@dataclass(frozen=True)
class Motion:
    """The performance, and the openness that the phonemes ask for: float32 [T], 0..1."""

    performance: Performance
    viseme_openness: np.ndarray


def animate(
    phonemes: Sequence[TimedPhoneme],
    frames: int,
    emotion: str,
    lively: bool,
    rng: np.random.Generator,
) -> Motion:
    """Move a face for `frames` frames. Raises ValueError for an unknown emotion or phoneme."""
    if emotion not in _EMOTION_UNITS:
        raise ValueError(f"Unknown emotion {emotion!r}; choose one of {', '.join(EMOTIONS)}.")
    samples = frames * RATE // FPS
    middle = (np.arange(frames) * RATE + RATE // 2) // FPS
    shapes, closed, teeth = _mouth(phonemes, samples)
    units = np.zeros((samples, len(UNIT_NAMES)), np.float32)
    strength = float(rng.uniform(0.85, 1.1))
    _set_mouth(units, shapes * strength, closed, teeth)
    _set_emotion(units, emotion, closed, rng)
    _set_blinks(units, rng)
    rotation = _head(phonemes, samples, lively, rng)
    gaze = _gaze(samples, rng)
    sway = _wander(samples, 0.35, rng, 3) * (0.06 if lively else 0.025)
    performance = Performance(
        np.clip(units[middle], 0, 1),
        rotation[middle].astype(np.float32),
        sway[middle].astype(np.float32),
        gaze[middle].astype(np.float32),
    )
    return Motion(performance, _openness(shapes, closed, teeth)[middle])


def viseme_openness(phonemes: Sequence[TimedPhoneme], frames: int) -> np.ndarray:
    """The openness that phonemes ask for in each frame: float32 [T], 0..1, as `animate` has it."""
    middle = (np.arange(frames) * RATE + RATE // 2) // FPS
    return _openness(*_mouth(phonemes, frames * RATE // FPS))[middle]


def _openness(shapes: np.ndarray, closed: np.ndarray, teeth: np.ndarray) -> np.ndarray:
    wanted = np.clip(shapes[:, 0], 0, 1) * (1 - closed) * (1 - 0.6 * teeth)
    return wanted.astype(np.float32)


def _shape_of(phoneme: str) -> str:
    """Its key in _SHAPES: neither stress, length nor palatalisation are seen. Raises ValueError if it has
    none.
    """
    name = plain(phoneme).rstrip("ʲː")
    name = _LIKE.get(name, name)
    if name not in _SHAPES:
        raise ValueError(f"No mouth shape for phoneme {phoneme!r}.")
    return name


def _mouth(
    phonemes: Sequence[TimedPhoneme], samples: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Blended shapes [N, 6], and how far lips are closed and on the teeth [N]."""
    time = (np.arange(samples) + 0.5) / RATE + LEAD_SECONDS
    raw = np.tile(np.array(_SHAPES["_"]), (samples, 1))
    closed, teeth = np.zeros(samples), np.zeros(samples)
    for phone in phonemes:
        name = _shape_of(phone.phoneme)
        raw[(time >= phone.start) & (time < phone.end)] = _SHAPES[name]
        if name == "p":
            closed = np.maximum(closed, _contact(time, phone))
        elif name == "f":
            teeth = np.maximum(teeth, _contact(time, phone))
    return _smooth(raw, BLEND_SECONDS), closed, teeth


def _contact(time: np.ndarray, phone: TimedPhoneme) -> np.ndarray:
    """1 during the phoneme's middle, with an attack of 60 ms and a release of 50 ms."""
    middle, half = (phone.start + phone.end) / 2, max(0.02, (phone.end - phone.start) / 4)
    before = np.clip(1 - (middle - half - time) / 0.06, 0, 1)
    after = np.clip(1 - (time - middle - half) / 0.05, 0, 1)
    edge = np.minimum(before, after)
    return edge * edge * (3 - 2 * edge)


def _smooth(values: np.ndarray, seconds: float) -> np.ndarray:
    """Gaussian smoothing along the first axis; the ends are held."""
    reach = int(4 * seconds * RATE)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (seconds * RATE)) ** 2)
    kernel /= kernel.sum()
    flat = values.reshape(len(values), -1)
    padded = np.pad(flat, ((reach, reach), (0, 0)), mode="edge")
    out = np.stack([np.convolve(c, kernel, mode="valid") for c in padded.T], 1)
    return out.reshape(values.shape)


def _set_mouth(
    units: np.ndarray, shapes: np.ndarray, closed: np.ndarray, teeth: np.ndarray
) -> None:
    jaw, pucker, funnel, stretch, upper, lower = shapes.T
    loose = (1 - closed) * (1 - 0.5 * teeth)
    _add(units, "jawOpen", jaw * loose)
    _add(units, "mouthPucker", pucker * (1 - 0.5 * closed))
    _add(units, "mouthFunnel", funnel * (1 - closed))
    _add(units, "mouthStretch", stretch * 0.6)
    _add(units, "mouthUpperUp", upper * loose * 0.8 + 0.25 * teeth)
    _add(units, "mouthLowerDown", lower * loose * 0.8)
    _add(units, "mouthRollLower", 0.6 * teeth + 0.3 * closed)
    _add(units, "mouthRollUpper", 0.3 * closed)
    _add(units, "mouthPress", 0.35 * closed)


def _add(units: np.ndarray, name: str, values: np.ndarray | float) -> None:
    """Add to a unit, or to its left and right halves."""
    units.T[_columns(name)] += values


def set_unit(row: np.ndarray, name: str, value: float) -> None:
    """Set a unit of [52], or its left and right halves."""
    row[_columns(name)] = value


def _columns(name: str) -> list[int]:
    names = (name, f"{name}Left", f"{name}Right")
    return [UNIT_NAMES.index(found) for found in names if found in UNIT_NAMES]


def _set_emotion(
    units: np.ndarray, emotion: str, closed: np.ndarray, rng: np.random.Generator
) -> None:
    swing = 1 + 0.25 * _wander(len(units), 0.3, rng, 1)[:, 0]
    level = float(rng.uniform(0.7, 1.0)) * swing
    for name, value in _EMOTION_UNITS[emotion].items():
        calm = 1 - 0.5 * closed if name.startswith("mouth") else 1.0
        _add(units, name, value * level * calm)
    _add(units, "browInnerUp", 0.12 * np.clip(_wander(len(units), 0.6, rng, 1)[:, 0], 0, 2))


def _set_blinks(units: np.ndarray, rng: np.random.Generator) -> None:
    """A clip is a window into blinking that goes on before and after it.

    The gap in which the clip begins is drawn in proportion to its length, and the beginning anywhere within
    it, so that every second of a clip has the same rate.
    """
    time = np.arange(len(units)) / RATE
    gap = draw_gap(rng)
    while rng.random() * LONGEST_GAP > gap:
        gap = draw_gap(rng)
    clock = -float(rng.random()) * gap
    while clock < time[-1]:
        shape = Lid.draw(rng).at(time - clock)
        for side in ("Left", "Right"):
            column = units[:, UNIT_NAMES.index(f"eyeBlink{side}")]
            np.maximum(column, shape, out=column)
        clock, gap = clock + gap, draw_gap(rng)


def _wander(samples: int, hertz: float, rng: np.random.Generator, columns: int) -> np.ndarray:
    """Smooth noise of unit deviation: a sum of five sines around `hertz`, [samples, columns]."""
    time = np.arange(samples)[:, None] / RATE
    total = np.zeros((samples, columns))
    for _ in range(5):
        speed = hertz * rng.uniform(0.4, 1.8, columns)
        total += np.sin(2 * np.pi * (speed * time + rng.random(columns)))
    return total / np.sqrt(2.5)


def _head(
    phonemes: Sequence[TimedPhoneme], samples: int, lively: bool, rng: np.random.Generator
) -> np.ndarray:
    """Yaw, pitch and roll [N, 3]: slow wandering, and nods on long vowels."""
    scale = np.array([0.11, 0.06, 0.05]) if lively else np.array([0.05, 0.03, 0.02])
    rotation = _wander(samples, 0.3, rng, 3) * scale
    rotation[:, 0] += rng.normal(0, 0.06)
    time = np.arange(samples) / RATE
    depth = 0.09 if lively else 0.03
    for phone in phonemes:
        vowel = _SHAPES[_shape_of(phone.phoneme)][0] >= 0.4
        if vowel and phone.end - phone.start > 0.11 and rng.random() < 0.5:
            middle = (phone.start + phone.end) / 2
            rotation[:, 1] += depth * np.exp(-0.5 * ((time - middle) / 0.12) ** 2)
    return rotation


def _gaze(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Mostly at the camera, with short glances away and tiny saccades: [N, 2]."""
    gaze = np.zeros((samples, 2))
    clock = 0
    while clock < samples:
        length = int(rng.uniform(0.3, 1.6) * RATE)
        away = rng.random() < 0.15
        spread = np.array([0.25, 0.12]) if away else np.array([0.03, 0.02])
        gaze[clock : clock + length] = rng.normal(0, 1, 2) * spread
        clock += length
    return _smooth(gaze, 0.015)
