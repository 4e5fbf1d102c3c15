"""What a face does beside speaking, as its voice asks for it: head, brows, gaze, lids, breath, asymmetry.

Everything is computed at 200 Hz (prosody.RATE). Seconds, radians and eye distances; shares of 0..1 for units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mutual_forcing.blinks import LONGEST_GAP, SHORTEST_GAP, Lid, draw_gap

from .prosody import RATE, Prosody, SpokenPhrase, bump, smooth

POSTURE = np.array([0.07, 0.035, 0.035])
"""Deviation of yaw, pitch and roll that somebody takes up for a while, calm; lively ones have more."""
LIVELY = 1.7
BREATHS = 0.25
"""A second, at rest."""
LONG_PAUSE = 0.35
"""Seconds of a pause in which somebody breathes in."""
SNAP = 0.5
"""Seconds by which a blink waits for the end of a phrase, or for the eyes to move, or comes sooner."""
GLANCE = 0.1
"""Radians by which eyes move when a blink may go with it."""


@dataclass(frozen=True)
class Manner:
    """The ways of one person. nods, follows, brows, gaze: factors about 1 of how far the head nods on an
    accent and follows the voice's pitch, how high brows go, and how often eyes look away. mouth_side and
    brow_side: how much more the person's left does than the right, about 0; skew: how far mouth and jaw go to
    that side when they speak.
    """

    nods: float = 1.0
    follows: float = 1.0
    brows: float = 1.0
    gaze: float = 1.0
    mouth_side: float = 0.0
    brow_side: float = 0.0
    skew: float = 0.0

    @staticmethod
    def draw(rng: np.random.Generator) -> Manner:
        """A person's."""
        nods, follows, brows, gaze = np.exp(rng.normal(0, 0.35, 4))
        mouth, brow, skew = rng.normal(0, 1, 3) * (0.14, 0.2, 0.06)
        sides = np.clip([mouth, brow, skew], -0.4, 0.4)
        return Manner(float(nods), float(follows), float(brows), float(gaze), *map(float, sides))


def move_head(
    prosody: Prosody, manner: Manner, lively: bool, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rotation (yaw to the picture's right, pitch down, roll) and translation, [N, 3] each.

    Postures change where phrases begin; accents nod; the head rises with the voice's pitch and sinks at the
    end of a phrase. Whoever is silent moves less, but breathes.
    """
    samples, scale = len(prosody.pitch), LIVELY if lively else 1.0
    time = np.arange(samples) / RATE
    rotation = _postures(prosody, scale, rng)
    alive = 0.35 + 0.65 * prosody.activity
    rotation += wander(samples, 0.35, rng, 3) * (0.022, 0.014, 0.012) * scale * alive[:, None]
    rotation += wander(samples, 1.4, rng, 3) * 0.004 * scale * prosody.loudness[:, None]
    rotation[:, 1] -= 0.008 * scale * manner.follows * smooth(prosody.pitch, 0.08)
    for accent in prosody.accents:
        if rng.random() < 0.75:
            depth = float(rng.uniform(0.03, 0.075)) * scale * manner.nods * accent.strength
            rotation[:, 1] += depth * _nod(time - accent.time)
        if rng.random() < 0.25:  # a beat to the side
            way = rng.normal(0, 1, 2) * (0.03, 0.03) * scale * accent.strength
            rotation[:, (0, 2)] += way * bump(time - accent.time, 0.16)[:, None]
    for phrase in prosody.phrases:
        if rng.random() < 0.6:
            rotation[:, 1] += 0.03 * scale * bump(time - phrase.end, 0.25)
    translation = wander(samples, 0.3, rng, 3) * 0.02 * scale * alive[:, None]
    # Who leans or turns does it from the neck: the face goes along.
    translation[:, 0] += 0.25 * (rotation[:, 0] - rotation[:, 0].mean())
    translation[:, 1] += 0.02 * breath(prosody, rng)
    return rotation, translation


def breath(prosody: Prosody, rng: np.random.Generator) -> np.ndarray:
    """How full the lungs are, about -1..1 [N]: a phrase empties them, between phrases come slow waves."""
    time = np.arange(len(prosody.pitch)) / RATE
    rest = np.sin(2 * np.pi * (BREATHS * time + rng.random())) * (1 - prosody.activity)
    spoken = np.zeros(len(time))
    for phrase in prosody.phrases:
        way = (time - phrase.start) / (phrase.end - phrase.start)
        spoken = np.where((way >= 0) & (way < 1), 1 - 1.6 * way, spoken)
    return smooth(rest + spoken, 0.15)


def breathe_in(prosody: Prosody, rng: np.random.Generator) -> np.ndarray:
    """How far the jaw opens before what is said after a longer pause, 0..0.1 [N]."""
    time = np.arange(len(prosody.pitch)) / RATE
    opened = np.zeros(len(time))
    for phrase in prosody.phrases:
        if phrase.pause > LONG_PAUSE and rng.random() < 0.6:
            depth, before = rng.uniform(0.03, 0.1), rng.uniform(0.14, 0.24)
            opened = np.maximum(opened, depth * bump(time - phrase.start + before, 0.07))
    return opened


def raise_brows(prosody: Prosody, manner: Manner, rng: np.random.Generator) -> np.ndarray:
    """How far brows are raised and lowered, [N, 2] of 0..1: on accents, and with the pitch."""
    time = np.arange(len(prosody.pitch)) / RATE
    brows = np.zeros((len(time), 2))
    brows[:, 0] = 0.035 * np.clip(smooth(prosody.pitch, 0.12) - 1, 0, 6)
    for accent in prosody.accents:
        if rng.random() < 0.55:
            lowered = accent.rise < 0 and rng.random() < 0.4
            height = rng.uniform(0.15, 0.5) * accent.strength
            brows[:, int(lowered)] += height * bump(time - accent.time, rng.uniform(0.12, 0.25))
    brows[:, 0] += 0.05 * np.clip(wander(len(time), 0.5, rng, 1)[:, 0], 0, None)
    return (manner.brows * brows).clip(0, 1)


def look_around(
    prosody: Prosody, rotation: np.ndarray, manner: Manner, rng: np.random.Generator
) -> np.ndarray:
    """Where the eyes look, [N, 2] beside the camera: mostly into it.

    Away where a phrase begins and in silence, back towards its end (Kendon 1967), ahead of a head that turns.
    """
    samples = len(prosody.pitch)
    gaze, clock = np.zeros((samples, 2)), 0
    while clock < samples:
        now = clock / RATE
        if any(0 <= now - phrase.start < 0.5 for phrase in prosody.phrases):
            chance = 0.3
        elif any(0 <= phrase.end - now < 0.8 for phrase in prosody.phrases):
            chance = 0.03
        else:
            chance = 0.12 if prosody.activity[clock] > 0.5 else 0.22
        away = rng.random() < chance * manner.gaze
        length = int(rng.uniform(0.25, 1.0 if away else 1.8) * RATE)
        spread = np.array([0.22, 0.11]) if away else np.array([0.025, 0.018])
        target = rng.normal(0, 1, 2) * spread
        turned = rotation[min(clock + RATE // 5, samples - 1), 0] - rotation[clock, 0]
        if abs(turned) > 0.08:
            target[0] += turned
        gaze[clock : clock + length] = target
        clock += length
    return smooth(gaze.clip(-0.6, 0.6), 0.015)


def close_lids(prosody: Prosody, gaze: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How far the lids are closed by blinks, [N] of 0..1.

    A clip is a window into blinking that goes on before and after it: the gap in which it begins is drawn in
    proportion to its length, and the beginning anywhere within it, so that every second has the same rate.
    Blinks then move to where people have them, but no closer to each other than they may be.
    """
    time = np.arange(len(gaze)) / RATE
    gap = draw_gap(rng)
    while rng.random() * LONGEST_GAP > gap:
        gap = draw_gap(rng)
    starts = [-float(rng.random()) * gap]
    while starts[-1] < time[-1]:
        starts.append(starts[-1] + (gap if len(starts) == 1 else draw_gap(rng)))
    closed = np.zeros(len(time))
    for start in _snapped(starts, _occasions(prosody, gaze), rng):
        closed = np.maximum(closed, Lid.draw(rng).at(time - start))
    return closed


def _occasions(prosody: Prosody, gaze: np.ndarray) -> np.ndarray:
    """When people like to blink, in seconds: phrases end, or eyes move far."""
    moved = np.linalg.norm(gaze[RATE // 10 :] - gaze[: -RATE // 10], axis=1)
    far = (moved[1:-1] > GLANCE) & (moved[1:-1] >= moved[:-2]) & (moved[1:-1] > moved[2:])
    jumps = np.flatnonzero(far) / RATE
    return np.array([*(phrase.end for phrase in prosody.phrases), *jumps])


def _snapped(
    starts: Sequence[float], occasions: np.ndarray, rng: np.random.Generator
) -> list[float]:
    """Three of four blinks that have an occasion near go there."""
    found: list[float] = []
    for number, start in enumerate(starts):
        wish, after = start, starts[number + 1] if number + 1 < len(starts) else np.inf
        near = occasions[np.abs(occasions - start) < SNAP]
        if len(near) and rng.random() < 0.75:
            wish = float(near[np.abs(near - start).argmin()])
        before = found[-1] if found else -np.inf
        fits = wish - before >= SHORTEST_GAP and after - wish >= SHORTEST_GAP
        found.append(wish if fits else max(start, before + SHORTEST_GAP))
    return found


def wander(samples: int, hertz: float, rng: np.random.Generator, columns: int) -> np.ndarray:
    """Smooth noise of unit deviation: a sum of five sines around `hertz`, [samples, columns]."""
    time = np.arange(samples)[:, None] / RATE
    total = np.zeros((samples, columns))
    for _ in range(5):
        speed = hertz * rng.uniform(0.4, 1.8, columns)
        total += np.sin(2 * np.pi * (speed * time + rng.random(columns)))
    return total / np.sqrt(2.5)


def _postures(prosody: Prosody, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Poses that are taken up one after another, [N, 3]: where a phrase begins, or after a few seconds."""
    samples = len(prosody.pitch)
    time = np.arange(samples) / RATE
    track = np.tile(rng.normal(0, 1, 3) * POSTURE, (samples, 1))
    for begin in _changes(prosody.phrases, samples / RATE, rng):
        # About where it is, drawn back to the camera.
        far = scale if prosody.activity[min(int(begin * RATE), samples - 1)] > 0.3 else 0.6
        here = track[-1]
        there = 0.4 * here + rng.normal(0, 1, 3) * POSTURE * far
        way = np.clip((time - begin) / rng.uniform(0.35, 0.9), 0, 1)[:, None]
        track = track + (there - here) * way**3 * (10 - 15 * way + 6 * way**2)  # of least jerk
    return track


def _changes(
    phrases: Sequence[SpokenPhrase], seconds: float, rng: np.random.Generator
) -> list[float]:
    """When postures change."""
    found = [phrase.start - float(rng.uniform(0, 0.25)) for phrase in phrases if rng.random() < 0.7]
    clock = float(rng.uniform(1, 5))
    while clock < seconds:
        if all(abs(clock - other) > 1 for other in found):
            found.append(clock)
        clock += float(rng.uniform(2, 5))
    return sorted(max(begin, 0.0) for begin in found)


def _nod(time: np.ndarray) -> np.ndarray:
    """Down with the accent, after a little way up."""
    return bump(time - 0.03, 0.1) - 0.3 * bump(time + 0.2, 0.1)
