"""What a GPU makes is what a CPU makes, and the method learns there."""

from __future__ import annotations

import copy
import time

import numpy as np
import pytest
import torch

from mutual_forcing import GenerationRequest, StreamingGenerator
from mutual_forcing.chunks import CHUNK_SECONDS
from mutual_forcing.config import preset
from mutual_forcing.precision import mixed_precision
from mutual_forcing.text.timing import text_tokens
from mutual_forcing.types import TimedPhoneme, TimedWord, Transcript
from training.data.latents import LatentBatch, join_batches
from training.objectives.base import ClipConfig
from training.objectives.mutual_forcing import MutualForcingConfig, MutualForcingObjective
from training.objectives.self_forcing import SelfForcingConfig, SelfForcingObjective
from training.optim import Optimizers
from training.stage_config import WHOLE, OptimizerConfig
from training.trainer import step_generator

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
SAID = Transcript(
    tuple(TimedPhoneme(p, 0.1 * i, 0.1 * i + 0.1) for i, p in enumerate(("h", "ə", "l", "oʊ"))),
    (TimedWord("hello", 0.0, 0.5),),
)


def _request(picture: np.ndarray, steps: int, seconds: float = 2.56) -> GenerationRequest:
    return GenerationRequest(picture, transcript=SAID, steps=steps, seconds=seconds)


def _generator(device: str) -> StreamingGenerator:
    """Random weights, of which none is zero."""
    system = StreamingGenerator.random("tiny").system
    generator = torch.Generator().manual_seed(0)
    for parameter in system.model.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.01)
    return StreamingGenerator(system.to(torch.device(device)), torch.device(device))


@pytest.mark.parametrize("steps", [4, 12])
def test_a_stream_is_that_of_a_cpu(picture: np.ndarray, steps: int) -> None:
    made = [list(_generator(device).stream(_request(picture, steps))) for device in ("cpu", "cuda")]
    for ours, theirs in zip(*made, strict=True):
        assert np.abs(ours.frames.astype(int) - theirs.frames).mean() < 1
        assert np.abs(ours.audio - theirs.audio).mean() < 0.01


def test_four_steps_are_far_faster_than_real_time(picture: np.ndarray) -> None:
    generator = _generator("cuda")
    list(generator.stream(_request(picture, 4)))
    began = time.perf_counter()
    chunks = list(generator.stream(_request(picture, 4, 12.8)))
    assert len(chunks) * CHUNK_SECONDS / (time.perf_counter() - began) > 2


class Data:
    """Clips of noise on the CPU, as the latents of a corpus come."""

    def __init__(self, config) -> None:
        self.config = config

    class corpus:  # noqa: N801 - stands for one
        @staticmethod
        def split(name: str) -> list:
            return []

    def memory(self) -> torch.Tensor:
        return torch.full((16, self.config.video.token_dim), 0.5)

    def batch(self, rng, split, size, chunks, dropout) -> LatentBatch:
        config = self.config
        one = LatentBatch(
            torch.randn(1, chunks, 16, config.video.token_dim),
            torch.randn(1, chunks, 16, config.audio.token_dim),
            text_tokens(SAID, "happy man", 0, chunks),
            torch.randn(1, 1, config.video.token_dim),
            torch.randn(1, config.voice_latents, config.audio.token_dim),
            *(torch.tensor([True]) for _ in range(3)),
        )
        return join_batches([one] * size)


@pytest.mark.parametrize("method", [MutualForcingObjective, SelfForcingObjective])
def test_the_method_takes_steps(method: type[MutualForcingObjective]) -> None:
    torch.manual_seed(0)
    device = torch.device("cuda")
    system = _generator("cuda").system
    clips, data = ClipConfig(lengths=(5, 6)), Data(system.config.model)
    if method is SelfForcingObjective:
        teacher = copy.deepcopy(system.model)
        objective = SelfForcingObjective(system, data, SelfForcingConfig(clips), 4, 0, "", teacher)
    else:
        objective = MutualForcingObjective(system, data, MutualForcingConfig(clips), 4, 0)
    ema = copy.deepcopy(objective.model).requires_grad_(False)
    optimizers = {n: Optimizers(m, OptimizerConfig(lr=1e-4)) for n, m in objective.networks.items()}
    before = [p.detach().clone() for p in objective.model.parameters()]
    for step in range(2):
        batch = objective.batch(step)
        turns = objective.step(batch, ema, step_generator(0, step, "step", device), step)
        while True:
            with mixed_precision(device):
                turn = next(turns, None)
            if turn is None:
                break
            name, losses = turn
            losses["loss"].backward()
            assert torch.isfinite(losses["loss"])
            norm = torch.nn.utils.clip_grad_norm_(objective.networks[name].parameters(), 1.0)
            assert torch.isfinite(norm) and norm > 0
            optimizers[name].step(1e-4)
    moved = [
        (a - b).abs().max() > 0 for a, b in zip(objective.model.parameters(), before, strict=True)
    ]
    assert any(moved)


def test_flex_attention_learns_what_attention_by_unfolding_does() -> None:
    """The gradients of a loss over real history, in fp32. On a CPU test_parity.py compares the passes."""
    objective = MutualForcingObjective(
        _generator("cuda").system, Data(preset("tiny").model), MutualForcingConfig(), 4, 0
    )
    model, clips, found = objective.model, objective.batch(0), []
    for flex in (False, True):
        model.flex = flex
        draws, batch, weights = objective.share(
            clips, torch.Generator("cuda").manual_seed(0), WHOLE
        )
        model.zero_grad()
        sum(objective.teacher_forcing(model, batch, draws, weights).values()).backward()
        found.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        assert (found[1][name] - value).abs().max() <= 2e-3 * value.abs().max() + 1e-7, name
