"""The losses say what they should, and the optimisers move what they should."""

import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from mutual_forcing.checkpoint import System
from mutual_forcing.chunks import POSITIONS_PER_SECOND
from mutual_forcing.config import TokenGrid, preset
from mutual_forcing.flow import sigma_schedule
from mutual_forcing.models.attention import RotaryTables
from mutual_forcing.models.kv_cache import KVCache, ParallelHistory
from mutual_forcing.models.transformer import AVTransformer
from mutual_forcing.sampling import Sampler, prefill_static
from mutual_forcing.text.timing import text_tokens
from mutual_forcing.types import AVLatents, References
from training.data.latents import LatentBatch, autocorrelation, join_batches
from training.objectives.base import ClipConfig
from training.objectives.dmd import distribution_matching, fake_flow_matching
from training.objectives.draws import Draws
from training.objectives.guidance_distillation import GuidanceLeak, distilled_share
from training.objectives.intervals import FINEST, draw_intervals
from training.objectives.losses import (
    DEFAULT_GUIDANCE,
    Context,
    Guidance,
    guided_teacher,
    split_target,
    spread,
)
from training.objectives.monitors import Excerpt, figures, raise_alarms
from training.objectives.mutual_forcing import (
    DMDConfig,
    MutualForcingConfig,
    MutualForcingObjective,
    RolloutConfig,
)
from training.objectives.rollout import FARTHEST, Rollout, draw_span, follow_on, roll_out
from training.objectives.self_consistency import self_consistency
from training.objectives.self_forcing import clip_level, whole_clip, whole_rollout
from training.optim import Optimizers, as_matrix, hidden_matrices
from training.stage_config import OptimizerConfig


def drawn_for(rows: int) -> Draws:
    """The random numbers of a batch of so many rows."""
    return Draws(torch.Generator().manual_seed(0), rows)


def points(mean: float):
    """The velocity field of data that is always `mean`."""

    def score(x, level):
        return {name: (part - mean) / spread(level) for name, part in x.items()}

    return score


def test_dmd_moves_the_estimate_from_the_fake_to_the_real_distribution() -> None:
    draws = drawn_for(2)
    level = torch.full((2, 3), 0.5)
    weights = {"audio": torch.ones(2, 3, 4)}
    weights["audio"][0, 0] = 0  # a real chunk: nothing to learn from it
    estimate = torch.zeros(2, 3, 4, 5, requires_grad=True)
    for _ in range(300):
        fake = points(float(estimate.detach()[1].mean()))
        loss = distribution_matching({"audio": estimate}, points(1.0), fake, level, weights, draws)[
            "audio"
        ]
        (gradient,) = torch.autograd.grad(loss, estimate)
        with torch.no_grad():
            estimate -= 2.0 * gradient
    assert (estimate[1] - 1).abs().max() < 0.1
    assert (estimate[0, 0] == 0).all()


def test_the_fake_score_has_no_loss_when_it_is_right() -> None:
    draws = drawn_for(2)
    level, weights = torch.full((2, 3), 0.5), {"audio": torch.ones(2, 3, 4)}
    made = {"audio": torch.full((2, 3, 4, 5), 0.3)}
    right = fake_flow_matching(points(0.3), made, level, weights, draws)["audio"]
    wrong = fake_flow_matching(points(0.8), made, level, weights, draws)["audio"]
    assert right < 1e-10 < 0.5 < wrong


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_the_intervals_are_those_that_are_served_and_those_that_dmd_needs(shift: float) -> None:
    start, end = draw_intervals(128, drawn_for(128), shift)
    assert (start <= 1).all() and (end >= 0).all() and (start > end).all()
    drawn = torch.stack([start.flatten(), end.flatten()], 1)
    for steps in range(1, 9):
        for level in itertools.pairwise(sigma_schedule(steps, shift)):
            exact = (drawn - torch.tensor(level)).abs().amax(1) < 1e-6
            assert exact.float().mean() > 0.003, f"a step of {steps} that is served: {level}"
    for level in (1.0, 0.75, 0.5, 0.25):
        assert ((drawn - torch.tensor([level, 0.0])).abs().amax(1) < 1e-6).any(), "DMD's estimates"


def test_what_a_teacher_is_asked_for_is_trained() -> None:
    """Of every drawn interval the target asks for both halves: near them there are drawn ones, or they are
    short enough for Multi mode."""
    start, end = draw_intervals(96, drawn_for(96))
    drawn = torch.stack([start.flatten(), end.flatten()], 1)
    middle = drawn.mean(1)
    halves = torch.cat(
        [torch.stack([drawn[:, 0], middle], 1), torch.stack([middle, drawn[:, 1]], 1)]
    )
    asked = halves[(halves[:, 0] - halves[:, 1]) > FINEST + 1e-6]
    nearest = torch.cat([torch.cdist(part, drawn).amin(1) for part in asked.split(1024)])
    assert (nearest < 0.03).float().mean() > 0.995


def test_two_exact_halves_make_an_exact_whole() -> None:
    """On straight paths to one point the mean velocity is the same over every interval."""
    torch.manual_seed(0)
    x, s = {"audio": torch.randn(2, 3, 4, 5)}, torch.rand(2, 3) * 0.5 + 0.5

    def exact(x, sigma, delta, audio_mask=None):
        return points(0.3)(x, sigma)

    r = s * torch.rand(2, 3) * 0.9
    target = split_target(exact, x, s, (s + r) / 2, r)["audio"]
    assert (target - exact(x, s, s - r)["audio"]).abs().max() < 1e-4


class Recorder:
    """Stands for the model: notes what it is asked, and answers with `answers[context.conditions]`."""

    config = preset("smoke").model

    def __init__(self, answers: dict[str, float]) -> None:
        self.answers, self.asked = answers, []

    def __call__(self, latents, sigma, delta, conditions, history) -> AVLatents:
        self.asked.append((latents.modalities, sigma, delta, conditions))
        answer = self.answers[conditions]
        return AVLatents.of({n: torch.full_like(p, answer) for n, p in latents.modalities.items()})


def test_only_the_finest_intervals_come_from_guided_multi_mode() -> None:
    model = Recorder({"said": 1.0, "unsaid": 0.5})
    said, unsaid = (Context(name, ParallelHistory(2)) for name in ("said", "unsaid"))
    teacher = guided_teacher(model, said, unsaid, Guidance(2.0, 3.0))
    x = {"video": torch.zeros(1, 2, 4, 5), "audio": torch.zeros(1, 2, 4, 3)}
    found = teacher(x, torch.full((1, 2), 0.5), torch.tensor([[FINEST, 2 * FINEST]]))
    for name, scale in (("video", 2), ("audio", 3)):
        assert (found[name][0, 0] == 0.5 + scale * 0.5).all() and (found[name][0, 1] == 1).all()
    (_, _, few, _), (_, _, multi, asked) = model.asked
    assert few["video"].tolist() == [[0, 2 * FINEST]] and asked == "unsaid"
    assert multi["video"].tolist() == [[0, 0]]


def test_masked_audio_stays_clean_in_self_consistency_and_is_not_learned() -> None:
    """As in a stream that sound drives: the audio has sigma = delta = 0, the video alone is denoised."""
    draws = drawn_for(2)
    chunks = AVLatents(*(draws.normal(3, 4, 5) for _ in range(2)))
    clean = chunks.modalities
    weights = {name: torch.ones(2, 3, 4) for name in clean}
    audio_mask = torch.tensor([True, False])
    ema, model = Recorder({"said": 1.0, "unsaid": 0.0}), Recorder({"said": 0.2})
    said, unsaid = (Context(name, ParallelHistory(2)) for name in ("said", "unsaid"))
    teacher = guided_teacher(ema, said, unsaid, DEFAULT_GUIDANCE)
    held = self_consistency(model, said, teacher, chunks, weights, draws, audio_mask)
    for x, sigma, delta, _ in [*ema.asked, *model.asked]:
        assert torch.equal(x["audio"][0], clean["audio"][0])
        assert not sigma["audio"][0].any() and not delta["audio"][0].any()
        assert sigma["video"].all() and sigma["audio"][1].all()
        assert not torch.equal(x["video"][0], clean["video"][0])
    everywhere = self_consistency(
        model, said, teacher, chunks, weights, draws, torch.tensor([True, True])
    )
    assert everywhere["audio"] == 0 < everywhere["video"] and held["audio"] > 0


def _batch(chunks: int, rows: int, config) -> LatentBatch:
    torch.manual_seed(0)
    video, audio = config.video.token_dim, config.audio.token_dim
    one = LatentBatch(
        torch.randn(1, chunks, 16, video), torch.randn(1, chunks, 16, audio),
        text_tokens(None, "happy man", 0, chunks), torch.randn(1, 1, video),
        torch.randn(1, config.voice_latents, audio), *(torch.tensor([True]) for _ in range(3)),
    )  # fmt: skip
    return join_batches([one] * rows)


class Partly:
    """Stands for a model whose Few mode holds a share of guidance 3."""

    def __init__(self, share: float) -> None:
        self.share, self.config = share, preset("smoke").model

    def condition(self, text, references) -> bool:
        return bool(text.caption.any())

    def prefill(self, clean, conditions, history) -> list:
        return []

    def __call__(self, latents, sigma, delta, said, history) -> AVLatents:
        few = 1 + self.share * (3 - 1)
        return AVLatents.of(
            {
                n: torch.where(spread(delta[n]) > 0, few, float(said)).expand_as(p)
                for n, p in latents.modalities.items()
            }
        )


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0, 1.5])
def test_the_share_of_guidance_that_few_mode_holds_is_measured(share: float) -> None:
    branches, generator = ("video", "audio"), torch.Generator().manual_seed(0)
    batch = _batch(3, 2, preset("smoke").model)
    guidance = Guidance(1.0, 3.0)
    found = distilled_share(Partly(share), batch, branches, guidance, generator)
    assert found["video"] == 0, "there is none to hold"
    assert abs(found["audio"] - share) < 1e-3


def test_guidance_that_leaks_into_multi_mode_is_measured() -> None:
    """Multi mode that answers without guidance what guidance once gave has it all; none is none."""
    branches, batch = ("video", "audio"), _batch(3, 2, preset("smoke").model)
    leak = GuidanceLeak(Leaking(0.0), batch, branches, Guidance(1.0, 3.0))
    for share in (0.0, 0.5, 1.0):
        found = leak(Leaking(share), batch)
        assert found["video"] == 0, "there is none to leak"
        assert abs(found["audio"] - share) < 1e-3


class Leaking(Partly):
    """Its Multi mode itself has moved to where guidance 3 led."""

    def __call__(self, latents, sigma, delta, said, history) -> AVLatents:
        asked = float(said) * (1 + self.share * (3 - 1))
        return latents.map(lambda part: torch.full_like(part, asked))


class Clips:
    """A corpus of noise."""

    class corpus:  # noqa: N801 - stands for one
        @staticmethod
        def split(name: str) -> list:
            return []

    def __init__(self, config) -> None:
        self.config = config

    def memory(self) -> torch.Tensor:
        return torch.full((16, self.config.video.token_dim), 0.5)

    def batch(self, rng, split, size, chunks, dropout) -> LatentBatch:
        return _batch(chunks, size, self.config)


def _objective(config: MutualForcingConfig) -> MutualForcingObjective:
    torch.manual_seed(0)
    system = System.build(preset("smoke"))
    return MutualForcingObjective(system, Clips(system.config.model), config, 4, 0)


def _turns(objective: MutualForcingObjective) -> list[tuple[str, dict[str, torch.Tensor]]]:
    ema = copy.deepcopy(objective.model).requires_grad_(False)
    return list(objective.step(objective.batch(0), ema, torch.Generator().manual_seed(0), 0))


def test_a_step_is_the_models_turn_and_then_the_fake_scores() -> None:
    config = MutualForcingConfig(ClipConfig(lengths=(4,)), dmd=DMDConfig(fake_updates=2))
    turns = _turns(_objective(config))
    assert [name for name, _ in turns] == ["model", "fake", "fake"]
    losses = turns[0][1]
    parts = [
        weight * (losses[f"{name}_video"] + losses[f"{name}_audio"]) / 2
        for name, weight in (("flow", 1), ("consistency", 2 / 3), ("dmd", 1 / 3))
    ]
    assert torch.allclose(losses["loss"], sum(parts))
    assert losses["drift"] > 0, "a part of the history is the model's own"


@pytest.mark.slow
def test_the_ablations_leave_out_what_they_say() -> None:
    clips = ClipConfig(lengths=(4,))
    shortcut = _objective(MutualForcingConfig(clips, rollout=None, dmd=None))
    ((_, losses),) = _turns(shortcut)
    assert losses["drift"] > 0, "of what Few mode makes after real history"
    assert not any(name.startswith("dmd") for name in losses)
    assert set(shortcut.networks) == {"model"} and shortcut.memory is None
    alone = _turns(_objective(MutualForcingConfig(clips, consistency=0.0)))
    assert not any(name.startswith("consistency") for name in alone[0][1])


def test_the_fake_score_learns_what_it_judged() -> None:
    """One step later than the model's, on the very same estimates, which carry no gradient to the model."""
    objective = _objective(
        MutualForcingConfig(ClipConfig(lengths=(4,)), dmd=DMDConfig(fake_updates=1))
    )
    (_, model), (_, fake) = _turns(objective)
    fake["loss"].backward()
    assert all(p.grad is None for p in objective.model.parameters())
    assert any(p.grad is not None and p.grad.any() for p in objective.fake.parameters())
    model["loss"].backward()
    assert any(p.grad is not None and p.grad.any() for p in objective.model.parameters())


def test_a_noisy_past_tells_nothing_of_how_the_motion_goes_on() -> None:
    """The differences of noisy latents are noise, enlarged: the model must not be told them."""
    config = preset("smoke").model
    torch.manual_seed(0)
    model = AVTransformer(config).eval().requires_grad_(False)
    batch = _batch(3, 2, config)
    clean, conditions = batch.clean(("video",)), batch.conditions(model, ("video",))
    alone, after = ParallelHistory(2), ParallelHistory(2, both_ways=True)
    for history in (alone, after):
        contexts = model._contexts(clean, conditions, history.previous(None))
        assert not contexts["video"]["last"].trend.any()
    known = ParallelHistory(2, model.prefill(clean, conditions, alone), clean)
    contexts = model._contexts(clean, conditions, known.previous(None))
    assert contexts["video"]["last"].trend[:, 1:].any()


def test_self_consistency_takes_from_a_rollout_only_what_it_made() -> None:
    objective = MutualForcingObjective.__new__(MutualForcingObjective)
    target = AVLatents(torch.zeros(64, 3, 4, 2), None)
    clip = AVLatents(torch.ones(64, 3, 4, 2), None)
    made = torch.zeros(64, 3, dtype=torch.bool)
    made[:, 1] = True
    rollout = Rollout(clip, clip, made, {}, 1.0)
    mask = torch.zeros(64, dtype=torch.bool)
    found = objective._real_or_made(target, rollout, drawn_for(64), mask).video
    assert not found[:, [0, 2]].any(), "a chunk that nothing made stays the shifted real one"
    assert 0.3 < found[:, 1].mean() < 0.7


def test_references_lie_before_all_of_the_past() -> None:
    for window in (3, 16):
        config = replace(preset("smoke").model, window=window)
        tables = RotaryTables.build(config, torch.device("cpu"))
        earliest = -window * config.video.grid.seconds * POSITIONS_PER_SECOND
        assert tables.reference_end < earliest


def test_a_rollout_replaces_its_span_alone() -> None:
    torch.manual_seed(0)
    config = preset("smoke").model
    model = AVTransformer(config).eval().requires_grad_(False)
    batch = _batch(5, 3, config)
    clean = batch.clean(("video", "audio"))
    draws = drawn_for(3)
    for _ in range(50):
        span = draw_span(5, 8, 2, draws)
        assert span.first >= 1 and span.first + span.length <= 4, "real chunks on both sides"
    made = roll_out(model, batch, clean, span, draws)
    inside = torch.zeros(3, 5, dtype=torch.bool)
    inside[:2, span.first : span.first + span.length] = True
    assert torch.equal(made.made, inside) and made.sigma in sigma_schedule(4)[:4]
    for name, part in made.clip.modalities.items():
        same = (part == clean.modalities[name]).flatten(2).all(2)
        assert torch.equal(same, ~inside), name
        assert torch.equal(made.past.modalities[name], part)
        x = made.x[name][inside]
        if made.sigma == 1:
            assert abs(float(x.std()) - 1) < 0.1, "the exit is noise before the first step"


def test_self_forcing_makes_all_but_the_first_chunk_of_every_row() -> None:
    """And the teacher, which sees the whole clip, is shown nothing else."""
    config = preset("smoke").model
    model = AVTransformer(config).eval().requires_grad_(False)
    batch = _batch(5, 2, config)
    clean = batch.clean(("video", "audio"))
    draws = drawn_for(2)
    made = whole_rollout(model, batch, clean, draws)
    assert made.made[:, 1:].all() and not made.made[:, 0].any()
    estimate = {name: torch.zeros_like(part) for name, part in clean.modalities.items()}
    judged = whole_clip(estimate, made, draws)
    for name, part in clean.modalities.items():
        assert torch.equal(judged[name][:, 0], part[:, 0]) and not judged[name][:, 1:].any()
    level = clip_level(clean.shape[1], draws)
    assert (level == level[:, :1]).all() and level[0, 0] != level[1, 0], "as the teacher learned"


def test_real_chunks_follow_on_from_another_past_and_forget_it() -> None:
    clean = AVLatents(torch.randn(2, 3, 16, 4), torch.randn(2, 3, 16, 5))
    other = clean.video.clone()
    other[0, 1] += 0.4
    other[1, 1] += 100
    memory = torch.linspace(1, 0, 16)[:, None].expand(16, 4)
    target = follow_on(clean, AVLatents(other, clean.audio), memory, TokenGrid(16))
    assert torch.equal(target.audio, clean.audio)
    assert torch.equal(target.video[:, :2], clean.video[:, :2]), "their past is the real one"
    assert torch.allclose(target.video[0, 2, 0], clean.video[0, 2, 0] + 0.4)
    assert torch.allclose(target.video[0, 2, -1], clean.video[0, 2, -1])
    apart = target.video[1, 2] - clean.video[1, 2]
    assert torch.allclose(apart, FARTHEST * memory, atol=1e-5), "a fault is not believed"


def test_memory_tells_what_stands_from_what_flickers() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(20, 400, 2, generator=generator)
    slow = torch.zeros(20, 400)
    for step in range(1, 400):
        slow[:, step] = 0.9 * slow[:, step - 1] + noise[:, step, 0]
    memory = autocorrelation(list(torch.stack([slow, noise[:, :, 1]], 2)), 16)
    assert memory.shape == (16, 2) and memory[:, 1].max() < 0.05
    assert torch.allclose(memory[:, 0], 0.9 ** torch.arange(1.0, 17.0), atol=0.05)


def test_audio_is_given_only_where_the_history_is_real() -> None:
    objective = MutualForcingObjective.__new__(MutualForcingObjective)
    objective.config = MutualForcingConfig(rollout=RolloutConfig(real_share=0.4), audio_driven=0.15)
    draws = drawn_for(10)
    drawn = torch.stack([objective._draw_audio_mask(draws) for _ in range(400)])
    assert not drawn[:, : objective._generated(10)].any()
    assert abs(drawn.float().mean() - 0.15) < 0.03
    objective.config = replace(objective.config, rollout=None)
    drawn = torch.stack([objective._draw_audio_mask(draws) for _ in range(400)])
    assert drawn[:, 0].any() and abs(drawn.float().mean() - 0.15) < 0.03


def test_a_still_before_the_stream_needs_only_the_branches_that_take_part() -> None:
    """What audio_pretrain holds of video has no tokens, nor has video_pretrain's audio."""
    config = preset("smoke").model
    model = AVTransformer(config).eval().requires_grad_(False)
    sampler = Sampler(4, "few")
    for branches in (("audio",), ("video",), ("video", "audio")):
        picture = torch.randn(1, 1, config.video.token_dim) if "video" in branches else None
        voice = torch.zeros(1, config.voice_latents, config.audio.token_dim)
        there = torch.tensor([True])
        references = References(picture, voice if "audio" in branches else None, there, there)
        conditions = model.condition(text_tokens(None, "", 0, 1), references)
        cache = KVCache(config.window)
        still = torch.zeros(1, 0, 0) if picture is None else picture
        silence = torch.zeros(1, 1, 16, config.audio.token_dim)
        prefill_static(model, still, silence, branches, conditions, cache, sampler)
        assert cache.length == 1 and set(cache.layers[0]) == set(branches)


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
    real = Excerpt(frames, rng.normal(0, 0.1, 30_720))
    jumping = frames.copy()
    jumping[16:32] += 80
    damaged = {
        "fading": Excerpt(frames, real.audio * 0.01),
        "black or white": Excerpt(np.where(frames > 120, 255, 0).astype(np.uint8), real.audio),
        "freezes": Excerpt(np.repeat(frames[:1], 48, 0), real.audio),
        "jumps": Excerpt(jumping, real.audio),
    }
    assert not raise_alarms({**figures([real], [real]), "diversity": 0.5}, 0)
    for meaning, made in damaged.items():
        lines = raise_alarms(figures([made], [real]), 7)
        assert any(meaning in line and "step 7" in line for line in lines), (meaning, lines)
    poses = Excerpt(None, None, rng.normal(0, 0.1, (48, 4)).cumsum(0))
    still = Excerpt(None, None, np.repeat(poses.latents[:1], 48, 0))
    assert not raise_alarms(figures([poses], [poses]), 0)
    assert "freezes" in raise_alarms(figures([still], [poses]), 0)[0], "before there is a decoder"
    assert "same clip" in raise_alarms({"diversity": 0.0}, 0)[0]
