"""How a face moves while it speaks: visemes with coarticulation, emotion, and what goes with the voice.

Phonemes ask for a shape; shapes are blended by a smoothing window (coarticulation), except that lips
really close for bilabials and really touch the teeth for labiodentals, whatever their neighbours want.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mutual_forcing.config import FPS
from mutual_forcing.motion import UNITS
from mutual_forcing.text.captions import EMOTIONS
from mutual_forcing.text.inventory import plain
from mutual_forcing.types import TimedPhoneme

from .head_model import UNIT_NAMES, unit_columns
from .head_motion import (
    Manner,
    breathe_in,
    close_lids,
    look_around,
    move_head,
    raise_brows,
    wander,
)
from .prosody import RATE, Prosody, hear, imagine, smooth
from .renderer import Performance

BLEND_SECONDS = 0.042
LEAD_SECONDS = 0.01
"""Lips arrive with the sound: within speech from 40 ms before it to 60 ms after (Schwartz and Savariaux
2014).
"""

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


_VOWELS = frozenset("ɑæʌəɛɪiɚɔʊuaeoɯɨ") | {"eɪ", "aɪ", "oʊ", "ɔɪ", "aʊ"}
_TONGUE = {"θ": 0.4, "l": 0.12}
"""How far the tongue comes out for a shape."""


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
    manner: Manner | None = None,
    prosody: Prosody | None = None,
) -> Motion:
    """Move a face for `frames` frames in a person's manner, head and brows by what `listen` hears, or without
    it by what might be heard. Raises ValueError for an unknown emotion or phoneme.
    """
    if emotion not in _EMOTION_UNITS:
        raise ValueError(f"Unknown emotion {emotion!r}; choose one of {', '.join(EMOTIONS)}.")
    manner = manner or Manner()
    samples = frames * RATE // FPS
    middle = (np.arange(frames) * RATE + RATE // 2) // FPS
    if prosody is None:
        prosody = imagine(phonemes, _is_vowel, samples, rng)
    shapes, closed, teeth = _mouth(phonemes, samples)
    units = np.zeros((samples, len(UNIT_NAMES)))
    strength = float(rng.uniform(0.85, 1.1))
    _set_mouth(units, shapes * strength, closed, teeth)
    _set_tongue(units, phonemes)
    _add(units, "jawOpen", breathe_in(prosody, rng))
    _set_emotion(units, emotion, closed, rng)
    up, down = raise_brows(prosody, manner, rng).T
    _add(units, "browInnerUp", 0.8 * up)
    _add(units, "browOuterUp", up)
    _add(units, "browDown", down)
    rotation, translation = move_head(prosody, manner, lively, rng)
    gaze = look_around(prosody, rotation, manner, rng)
    _set_sides(units, prosody, manner, rng)
    # After the sides: lids close together.
    _add(units, "eyeBlink", close_lids(prosody, gaze, rng))
    performance = Performance(
        *(
            track[middle].astype(np.float32)
            for track in (np.clip(units, 0, 1), rotation, translation, gaze)
        )
    )
    return Motion(performance, _openness(shapes, closed, teeth)[middle])


def listen(audio: np.ndarray, phonemes: Sequence[TimedPhoneme], frames: int) -> Prosody:
    """What of sound [N] at 24 kHz, whose phonemes are known, moves a head for `frames` frames."""
    return hear(audio, phonemes, _is_vowel, frames * RATE // FPS)


def _is_vowel(phone: TimedPhoneme) -> bool:
    return _bare(phone.phoneme) in _VOWELS


def _bare(phoneme: str) -> str:
    """Without stress, length and palatalisation."""
    return plain(phoneme).rstrip("ʲː")


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
    name = _bare(phoneme)
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
    return smooth(raw, BLEND_SECONDS), closed, teeth


def _contact(time: np.ndarray, phone: TimedPhoneme) -> np.ndarray:
    """1 during the phoneme's middle, with an attack of 60 ms and a release of 50 ms."""
    middle, half = (phone.start + phone.end) / 2, max(0.02, (phone.end - phone.start) / 4)
    before = np.clip(1 - (middle - half - time) / 0.06, 0, 1)
    after = np.clip(1 - (time - middle - half) / 0.05, 0, 1)
    edge = np.minimum(before, after)
    return edge * edge * (3 - 2 * edge)


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
    units.T[unit_columns(name)] += values


def set_unit(row: np.ndarray, name: str, value: float) -> None:
    """Set a unit of [52], or its left and right halves."""
    row[unit_columns(name)] = value


def scale_sides(units: np.ndarray, name: str, side: np.ndarray | float) -> None:
    """Let a unit of [52] or [N, 52] do more on the person's left, by `side` (a number, or [N]) of what it
    does, and less on the right; one without sides stays.
    """
    if len(halves := unit_columns(name)) == 2:
        for column, sign in zip(halves, (1, -1), strict=True):
            units[..., column] *= 1 + sign * side


def _set_emotion(
    units: np.ndarray, emotion: str, closed: np.ndarray, rng: np.random.Generator
) -> None:
    swing = 1 + 0.25 * wander(len(units), 0.3, rng, 1)[:, 0]
    level = float(rng.uniform(0.7, 1.0)) * swing
    for name, value in _EMOTION_UNITS[emotion].items():
        calm = 1 - 0.5 * closed if name.startswith("mouth") else 1.0
        _add(units, name, value * level * calm)


def _set_tongue(units: np.ndarray, phonemes: Sequence[TimedPhoneme]) -> None:
    time = (np.arange(len(units)) + 0.5) / RATE
    for phone in phonemes:
        out = _TONGUE.get(_shape_of(phone.phoneme), 0.0)
        if out:
            column = units[:, UNIT_NAMES.index("tongueOut")]
            np.maximum(column, out * _contact(time, phone), out=column)


def _set_sides(
    units: np.ndarray, prosody: Prosody, manner: Manner, rng: np.random.Generator
) -> None:
    """Nobody's face is the same on both sides: more of every unit on one, and the mouth goes there."""
    drift = 0.05 * wander(len(units), 0.3, rng, 2)
    sides = {"mouth": manner.mouth_side + drift[:, 0], "brow": manner.brow_side + drift[:, 1]}
    for name in UNITS:
        scale_sides(units, name, sides["brow" if name.startswith("brow") else "mouth"])
    skew = (manner.skew + 0.02 * wander(len(units), 0.4, rng, 1)[:, 0]) * prosody.activity
    for sign, end in ((1, "Left"), (-1, "Right")):
        _add(units, f"mouth{end}", 1.5 * np.clip(sign * skew, 0, None))
        _add(units, f"jaw{end}", np.clip(sign * skew, 0, None))
