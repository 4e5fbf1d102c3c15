"""Flow matching in four lines each. sigma = 1 is noise, sigma = 0 is data.

    noisy = (1 - sigma) * clean + sigma * noise          velocity = noise - clean

`u(x, sigma, delta)` is the mean velocity over [sigma - delta, sigma]: delta = 0 is Multi mode's
instantaneous velocity, delta > 0 is Few mode's displacement per unit of sigma.
"""

from __future__ import annotations

import torch
from torch import Tensor


def add_noise(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """Return the point at noise level `sigma` (broadcastable to `clean`) between data and noise."""
    return (1 - sigma) * clean + sigma * noise


def velocity_target(clean: Tensor, noise: Tensor) -> Tensor:
    """Return the constant velocity of the straight path from data to noise."""
    return noise - clean


def velocity_to_clean(noisy: Tensor, velocity: Tensor, sigma: Tensor) -> Tensor:
    """Return the clean estimate reached from `noisy` at `sigma` with mean velocity `velocity`."""
    return noisy - sigma * velocity


def euler_step(noisy: Tensor, velocity: Tensor, delta: Tensor | float) -> Tensor:
    """Move from sigma to sigma - delta."""
    return noisy - delta * velocity


def guide(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance: uncond + scale * (cond - uncond); scale 1 means none."""
    return unconditional + scale * (conditional - unconditional)


def shift_sigma(sigma: Tensor, shift: float) -> Tensor:
    """Move noise levels towards 1, 0 and 1 aside: `shift` times as much noise for what is left of the data.

    A large picture shows through noise that hides a small one (arXiv 2403.03206). 1 changes nothing.
    """
    return shift * sigma / (1 + (shift - 1) * sigma)


def sigma_schedule(steps: int, shift: float = 1.0) -> list[float]:
    """Return `steps` + 1 noise levels from 1 down to 0, see shift_sigma; raises ValueError for steps < 1."""
    if steps < 1:
        raise ValueError(f"The number of steps must be at least 1, not {steps}.")
    return shift_sigma(torch.linspace(1, 0, steps + 1, dtype=torch.float64), shift).tolist()
