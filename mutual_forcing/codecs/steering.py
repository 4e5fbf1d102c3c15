"""What somebody asks of a face beside what it does by itself: eased in, held, and let go again.

A control adds to the motion that is shown, so a head that is turned goes on to sway and nod. The transformer
does not see it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from ..config import FPS
from ..motion import MOTION, POSE, UNITS
from ..types import Steering

Way = dict[str, float]


@dataclass(frozen=True)
class Control:
    """way: what 1 adds to the motion, and -1 takes from it; seconds: the time constant of its easing."""

    way: Way
    seconds: float


CONTROLS = {
    "look_right": Control({"gazeX": 0.4}, 0.05),
    "look_up": Control({"gazeY": 0.25}, 0.05),
    "turn_right": Control({"yaw": 0.2}, 0.16),
    "nod_up": Control({"pitch": -0.15}, 0.16),
    "tilt_right": Control({"roll": -0.15}, 0.16),
    "brows_up": Control({"browInnerUp": 0.7, "browOuterUp": 0.7, "browDown": -0.8}, 0.08),
    "smile": Control({"mouthSmile": 0.8, "cheekSquint": 0.4, "mouthFrown": -0.8}, 0.12),
    "eyes_shut": Control({"eyeBlink": 1.0}, 0.04),
}
"""By the names of types.Steering."""
_PULL = np.array([1 - np.exp(-1 / (FPS * control.seconds)) for control in CONTROLS.values()])
_STILL = 1e-3
"""Less than this moves nothing."""


_NAMED = np.r_[: len(UNITS), -len(POSE) : 0]
"""Where in a latent motion.MOTION stands."""


_WAYS = np.array([[c.way.get(name, 0.0) for name in MOTION] for c in CONTROLS.values()])
"""What every control adds, [controls, C]."""


@dataclass(frozen=True)
class SteeringState:
    """wanted: what is asked for; eased [2, controls]: where a control is, and where what it follows is."""

    wanted: Steering = field(default_factory=Steering)
    eased: np.ndarray | None = field(default=None, compare=False)

    def steer(self, wanted: Steering) -> SteeringState:
        """The same moment, with something else asked for from here on."""
        return replace(self, wanted=wanted)

    def apply(self, motion: np.ndarray) -> tuple[np.ndarray, SteeringState]:
        """Motion [T, C] of the next frames with what is asked for, and the state after them; the very same
        motion where nothing is.
        """
        target = np.array([getattr(self.wanted, name) for name in CONTROLS])
        eased = np.zeros((2, len(CONTROLS))) if self.eased is None else self.eased.copy()
        if not target.any() and np.abs(eased).max() < _STILL:
            return motion, replace(self, eased=None)
        steered = motion.copy()
        for frame in range(len(motion)):
            # Twice the same pull: heads begin to move as gently as they stop.
            eased[0] += _PULL * (target - eased[0])
            eased[1] += _PULL * (eased[0] - eased[1])
            steered[frame, _NAMED] += eased[1] @ _WAYS
        # A unit is whole at 1 and at rest at 0; one that the model has beyond that stays there.
        units = slice(0, len(UNITS))
        least, most = np.minimum(motion[:, units], 0), np.maximum(motion[:, units], 1)
        steered[:, units] = np.clip(steered[:, units], least, most)
        return steered, replace(self, eased=eased)
