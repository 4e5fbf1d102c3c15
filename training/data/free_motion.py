"""Numbers of a latent that have no name: what the renderer's 52 units do beyond the 20 named ones.

Named units move both sides alike. What is left of a performance (one side alone, jaw and mouth that go aside,
the tongue) moves points of the face; its principal components, seen from the front, are the free numbers, the
first the largest. They are kept in free_units.npz, since a decomposition may come out with other signs on
another machine; made by

    python -m training.data.free_motion
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mutual_forcing.motion import MOTION, POSE, UNITS

from .head_model import UNIT_NAMES, load_head_model, unit_columns

MOST = 8
"""Free numbers there can be."""
_KEPT = Path(__file__).with_name("free_units.npz")
_PEOPLE, _SEED = 300, 12
"""Who shows by moving what the components are."""


def with_free(truth: Mapping[str, np.ndarray], free: int) -> np.ndarray:
    """Motion of a clip or a portrait as latents have it, not standardised yet: float32 [T, 28 + free].

    truth: "motion" [T, 28], in the order of motion.MOTION, and "units" [T, 52], in that of
    head_model.UNIT_NAMES, or "free" [T, F], the first of the free numbers themselves; without either nothing
    has happened that has no name. Raises ValueError for more numbers than there are.
    """
    motion = truth["motion"]
    if free > MOST:
        raise ValueError(f"There are {MOST} free numbers of motion, not {free}.")
    units, read = truth.get("units"), truth.get("free")
    numbers = np.zeros((len(motion), free), np.float32)
    if read is not None:
        known = min(free, read.shape[1])
        numbers[:, :known] = read[:, :known]
    elif units is not None:
        numbers = (units @ free_units()[:, :free]).astype(np.float32)
    named, pose = np.split(motion, [len(MOTION) - len(POSE)], axis=1)
    return np.concatenate([named, numbers, pose], 1)


@functools.cache
def free_units() -> np.ndarray:
    """How much of every unit a free number is, float32 [52, 8]."""
    with np.load(_KEPT) as file:
        return file["free_units"]


def unnamed() -> np.ndarray:
    """What takes from units [52] what the named ones say, [52, 52]."""
    means = np.zeros((len(UNIT_NAMES), len(UNIT_NAMES)))
    for name in UNITS:
        halves = unit_columns(name)
        means[np.ix_(halves, halves)] = 1 / len(halves)
    return np.eye(len(UNIT_NAMES)) - means


def principal(units: np.ndarray) -> np.ndarray:
    """The free numbers that performances with units [T, 52] ask for, of deviation 1 in them, [52, 8]."""
    from .tracked_points import tracked_corners

    ways = load_head_model().units[:, tracked_corners()].mean(2)[..., :2]
    # Thousands of coordinates lie in a space of 52: distances there are the same.
    ways = np.linalg.qr((unnamed() @ ways.reshape(len(UNIT_NAMES), -1)).T)[1].T
    moved = units @ ways
    _, _, components = np.linalg.svd(moved - moved.mean(0), full_matrices=False)
    weights = ways @ components[:MOST].T
    return (weights / (units @ weights).std(0)).astype(np.float32)


def _shown() -> np.ndarray:
    """Units [T, 52] of many people who speak and grimace."""
    from .portraits import sample_faces

    rows = [sample_faces(np.random.default_rng([_SEED, n])).units for n in range(_PEOPLE)]
    return np.concatenate(rows)


def main() -> int:
    """Command line; returns the exit status."""
    np.savez(_KEPT, free_units=principal(_shown()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
