"""The losses say what they should, and the optimisers move what they should."""

import numpy as np
import torch
from torch import nn

from mutual_forcing.models.kv_cache import ParallelHistory
from training.config import OptimizerConfig
from training.objectives.dmd import distribution_matching, fake_flow_matching
from training.objectives.losses import spread
from training.objectives.monitors import Material, figures, raise_alarms
from training.optim import Optimizers, as_matrix, hidden_matrices


def points(mean: float):
    """The velocity field of data that is always `mean`."""

    def score(x, level):
        return {name: (part - mean) / spread(level) for name, part in x.items()}

    return score


def test_dmd_moves_the_estimate_from_the_fake_to_the_real_distribution() -> None:
    generator = torch.Generator().manual_seed(0)
    level = torch.full((2, 3), 0.5)
    weights = {"audio": torch.ones(2, 3, 4)}
    weights["audio"][0, 0] = 0  # a real chunk: nothing to learn from it
    estimate = torch.zeros(2, 3, 4, 5, requires_grad=True)
    for _ in range(300):
        fake = points(float(estimate.detach()[1].mean()))
        loss = distribution_matching(
            {"audio": estimate}, points(1.0), fake, level, weights, generator
        )["audio"]
        (gradient,) = torch.autograd.grad(loss, estimate)
        with torch.no_grad():
            estimate -= 2.0 * gradient
    assert (estimate[1] - 1).abs().max() < 0.1
    assert (estimate[0, 0] == 0).all()


def test_the_fake_score_has_no_loss_when_it_is_right() -> None:
    generator = torch.Generator().manual_seed(0)
    level, weights = torch.full((2, 3), 0.5), {"audio": torch.ones(2, 3, 4)}
    made = {"audio": torch.full((2, 3, 4, 5), 0.3)}
    right = fake_flow_matching(points(0.3), made, level, weights, generator)["audio"]
    wrong = fake_flow_matching(points(0.8), made, level, weights, generator)["audio"]
    assert right < 1e-10 < 0.5 < wrong


def test_both_ways_sees_the_future_and_a_causal_history_does_not() -> None:
    keys = torch.arange(4.0).view(1, 4, 1, 1, 1)
    own = {"audio": (keys, keys)}
    causal = ParallelHistory(2).past(0, own)
    both = ParallelHistory(2, both_ways=True).past(0, own)
    assert causal.offsets == (-2, -1) and both.offsets == (-2, -1, 1, 2)
    assert causal.branches["audio"][0][0, 3].flatten().tolist() == [1, 2]
    assert both.branches["audio"][0][0, 1].flatten().tolist() == [0, 0, 2, 3]
    assert both.valid[1].tolist() == [False, True, True, True]
    assert both.valid[3].tolist() == [True, True, False, False]


def test_muon_moves_hidden_matrices_in_place_and_adamw_the_rest() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.GroupNorm(2, 8),
    )
    module.add_module("out", nn.Conv2d(8, 3, 1))
    assert [p.shape for p in hidden_matrices(module)] == [(8, 4, 3, 3)]
    optimizers = Optimizers(module, OptimizerConfig(lr=1e-2))
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    module(torch.randn(2, 4, 9, 9)).square().sum().backward()
    optimizers.step(1e-2)
    for name, parameter in module.named_parameters():
        assert not torch.equal(parameter, before[name]), name
        assert parameter.grad is None
    # Muon's update is orthogonal: all its singular values are about the same.
    change = as_matrix(module[0].weight - before["0.weight"], before["0.weight"])
    values = torch.linalg.svdvals(change.detach())
    assert values.min() > 0.3 * values.max()


def test_a_kernel_and_its_matrix_share_memory_in_either_layout() -> None:
    for layout in (torch.contiguous_format, torch.channels_last):
        kernel = torch.randn(8, 4, 3, 3).to(memory_format=layout)
        assert as_matrix(kernel, kernel).data_ptr() == kernel.data_ptr()
        gradient = torch.randn(8, 4, 3, 3)
        flat = as_matrix(gradient, kernel)
        assert torch.equal(flat[0].sort().values, gradient[0].flatten().sort().values)


def test_monitors_raise_an_alarm_for_each_unwanted_outcome() -> None:
    rng = np.random.default_rng(0)
    drift = np.linspace(0, 60, 48)[:, None, None, None]
    frames = (90 + drift + rng.normal(0, 3, (48, 16, 16, 3))).astype(np.uint8)
    real = Material(frames, rng.normal(0, 0.1, 30_720))
    jumping = frames.copy()
    jumping[16:32] += 80
    damaged = {
        "fading": Material(frames, real.audio * 0.01),
        "black or white": Material(np.where(frames > 120, 255, 0).astype(np.uint8), real.audio),
        "freezes": Material(np.repeat(frames[:1], 48, 0), real.audio),
        "jumps": Material(jumping, real.audio),
    }
    assert not raise_alarms({**figures([real], [real]), "diversity": 0.5}, 0)
    for meaning, made in damaged.items():
        lines = raise_alarms(figures([made], [real]), 7)
        assert any(meaning in line and "step 7" in line for line in lines), (meaning, lines)
    assert "same clip" in raise_alarms({"diversity": 0.0}, 0)[0]
