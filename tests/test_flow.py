"""The flow against answers known in closed form."""

import itertools

import pytest
import torch

from mutual_forcing.flow import (
    add_noise,
    euler_step,
    guide,
    sigma_schedule,
    velocity_target,
    velocity_to_clean,
)


def test_schedule() -> None:
    assert sigma_schedule(4) == [1.0, 0.75, 0.5, 0.25, 0.0]
    shifted = [1.0, 0.9, 0.75, 0.5, 0.0]
    assert sigma_schedule(4, shift=3.0) == pytest.approx(shifted), "3 s / (1 + 2 s)"
    with pytest.raises(ValueError, match="at least 1"):
        sigma_schedule(0)


def test_one_point_is_reached_in_one_step() -> None:
    """For a data set of one point the velocity (x - data) / sigma is exact at any step size."""
    data, x = torch.randn(5), torch.randn(5)
    for steps in (1, 3):
        moved = x.clone()
        levels = sigma_schedule(steps)
        for sigma, following in itertools.pairwise(levels):
            moved = euler_step(moved, (moved - data) / sigma, sigma - following)
        assert torch.allclose(moved, data, atol=1e-5)


def test_gaussian_data_keep_their_deviation() -> None:
    """Data N(0, s^2): the marginal velocity is known, and many Euler steps must recover s."""
    torch.manual_seed(0)
    deviation, x = 0.5, torch.randn(20_000)
    levels = sigma_schedule(200)
    for sigma, following in itertools.pairwise(levels):
        variance = (1 - sigma) ** 2 * deviation**2 + sigma**2
        velocity = x * (sigma - (1 - sigma) * deviation**2) / variance
        x = euler_step(x, velocity, sigma - following)
    assert abs(x.std().item() - deviation) < 0.02


def test_clean_estimate_inverts_noising() -> None:
    clean, noise, sigma = torch.randn(3, 4), torch.randn(3, 4), torch.rand(3, 1)
    noisy = add_noise(clean, noise, sigma)
    back = velocity_to_clean(noisy, velocity_target(clean, noise), sigma)
    assert torch.allclose(back, clean, atol=1e-6)


def test_guidance_of_one_is_none() -> None:
    a, b = torch.randn(4), torch.randn(4)
    assert torch.allclose(guide(a, b, 1.0), a)
    assert torch.allclose(guide(a, b, 0.0), b)
