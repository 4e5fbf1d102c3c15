"""Parity is the law: cached chunk by chunk equals one parallel masked pass; streaming equals full."""

import pytest
import torch

from mutual_forcing.chunks import (
    CHUNK_SECONDS,
    POSITIONS_PER_SECOND,
    block_causal_mask,
    token_positions,
)
from mutual_forcing.codecs.motion_codec import MotionCodec
from mutual_forcing.config import (
    BranchConfig,
    ModelConfig,
    MotionCodecConfig,
    TokenGrid,
)
from mutual_forcing.models.attention import (
    BRANCHES,
    COUPLING_DIMS,
    KeyGroup,
    RotaryTables,
    attend,
    past_keys,
)
from mutual_forcing.models.kv_cache import KVCache, ParallelHistory
from mutual_forcing.models.layers import at_time, rotary_frequencies, rotary_table, rotate
from mutual_forcing.models.transformer import AVTransformer
from mutual_forcing.motion import MOTION
from mutual_forcing.text.timing import text_tokens
from mutual_forcing.types import AVLatents, References, TextTokens, TimedPhoneme, Transcript

CHUNKS, WINDOW = 6, 3
SECONDS = 0.64
GRIDS = {
    "16x1x1": (TokenGrid(16), TokenGrid(16)),
    "4x3x5": (TokenGrid(4, 3, 5, rate=4 / SECONDS), TokenGrid(11, rate=11 / SECONDS)),
}


@pytest.fixture(params=GRIDS)
def config(request) -> ModelConfig:
    """Equal branches, and a video of 60 tokens a chunk beside a sound of 11."""
    video, audio = GRIDS[request.param]
    return ModelConfig(
        video=BranchConfig(width=48, token_dim=16, grid=video),
        audio=BranchConfig(width=32, token_dim=8, grid=audio),
        layers=2,
        heads=2,
        head_dim=32,
        text_width=24,
        window=WINDOW,
        voice_latents=5,
    )


@pytest.fixture
def model(config) -> AVTransformer:
    torch.manual_seed(0)
    model = AVTransformer(config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        # Zero-initialised gates would hide every mistake. The trend of noise is large, that of motion small.
        scale = 1.0 if "coupling" in name else 0.05 if "contexts" in name else 0.2
        parameter.add_(torch.randn(parameter.shape) * scale)
    return model


def make_latents(config: ModelConfig, names: tuple[str, ...], batch: int = 2) -> AVLatents:
    branches = {name: config.branches[name] for name in names}
    return AVLatents.of(
        {n: torch.randn(batch, CHUNKS, b.grid.tokens, b.token_dim) for n, b in branches.items()}
    )


def chunk_of(latents: AVLatents, k: int) -> AVLatents:
    return latents.map(lambda tokens: tokens[:, k : k + 1])


def make_references(config: ModelConfig, names: tuple[str, ...], batch: int = 2) -> References:
    frame = config.video.grid.frame_tokens
    return References(
        picture=torch.randn(batch, frame, 16) if "video" in names else None,
        voice=torch.randn(batch, 5, 8) if "audio" in names else None,
        has_picture=torch.tensor([True] * batch),
        has_voice=torch.tensor([True] + [False] * (batch - 1)),
    )


def make_text(first: int, conditional: bool) -> TextTokens:
    times = [first * CHUNK_SECONDS - 0.987 + 0.08 * k for k in range(80)]
    names = ["h", "ə", "l", "oʊ"]
    spoken = Transcript(tuple(TimedPhoneme(names[k % 4], t, t + 0.08) for k, t in enumerate(times)))
    parts = [
        text_tokens(
            spoken if conditional else None, "happy man" if conditional else "", first, CHUNKS
        )
    ] * 2
    return TextTokens(
        *(torch.cat([getattr(p, f) for p in parts]) for f in ("ids", "start", "end", "caption"))
    )


def one_chunk(text: TextTokens, k: int) -> TextTokens:
    part = slice(k, k + 1)
    return TextTokens(text.ids[:, part], text.start[:, part], text.end[:, part], text.caption)


@pytest.mark.parametrize("names", [("video", "audio"), ("audio",), ("video",)])
@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("first", [0, 1571])
def test_cache_equals_parallel_pass(model, names, conditional, first) -> None:
    """Across eviction (6 chunks, window 3), at two clock offsets, conditional and not."""
    torch.manual_seed(1)
    clean, noisy = make_latents(model.config, names), make_latents(model.config, names)
    references, text = make_references(model.config, names), make_text(first, conditional)
    sigma = {n: torch.rand(2, CHUNKS) for n in names}
    delta = {n: torch.rand(2, CHUNKS) * sigma[n] for n in names}
    conditions = model.condition(text, references)
    stored = model.prefill(clean, conditions, ParallelHistory(WINDOW))
    parallel = model(noisy, sigma, delta, conditions, ParallelHistory(WINDOW, stored, clean))

    cache = KVCache(WINDOW)
    for k in range(CHUNKS):
        here = model.condition(one_chunk(text, k), references)
        part = slice(k, k + 1)
        levels = [{n: v[:, part] for n, v in level.items()} for level in (sigma, delta)]
        chunk, done = chunk_of(noisy, k), chunk_of(clean, k)
        out = model(chunk, *levels, here, cache)
        for n in names:
            error = (out.modalities[n] - parallel.modalities[n][:, part]).abs().max()
            assert error < 1e-4, f"{n}, chunk {k}: {error}"
            assert parallel.modalities[n].abs().max() > 0.1
        cache.append(model.prefill(done, here, cache), done)
    assert cache.length == WINDOW


@pytest.mark.parametrize("seconds", [0.0, 1234.56])
def test_attention_by_unfolding_equals_one_dense_mask(config, seconds: float) -> None:
    """Clean and noisy chunks in one sequence, at the times of a clock, under one block-causal mask."""
    torch.manual_seed(0)
    heads, width = 2, config.head_dim
    content = width - COUPLING_DIMS
    tables = RotaryTables.build(config, torch.device("cpu"))
    coupling = {name: torch.randn(heads) for name in BRANCHES}
    counts = {name: grid.tokens for name, grid in config.grids.items()}
    q, k, v = (
        {
            side: {n: torch.randn(1, CHUNKS, counts[n], heads, size) for n in BRANCHES}
            for side in ("clean", "noisy")
        }
        for size in (content, content, width)
    )
    stored = {n: (k["clean"][n], v["clean"][n]) for n in BRANCHES}
    ours = []
    for side in ("clean", "noisy"):
        own = [KeyGroup(n, rotate(k[side][n], tables.own[n]), v[side][n]) for n in BRANCHES]
        past = past_keys(ParallelHistory(WINDOW).past(0, stored), tables)
        queries = {n: rotate(q[side][n], tables.own[n]) for n in BRANCHES}
        out = attend(queries, own + past, coupling)
        ours.append(torch.cat([out[n] for n in BRANCHES], 2).flatten(1, 2))

    clock = seconds + torch.arange(CHUNKS, dtype=torch.float64) * CHUNK_SECONDS
    positions = torch.cat([token_positions(config.grids[n]) for n in BRANCHES])
    positions = at_time(clock * POSITIONS_PER_SECOND)[:, None] + positions
    table = rotary_table(positions.flatten(0, 1).repeat(2, 1), rotary_frequencies(content))

    def sequence(parts: dict[str, dict[str, torch.Tensor]]) -> torch.Tensor:
        return torch.cat([torch.cat(list(p.values()), 2).flatten(1, 2) for p in parts.values()], 1)

    branch = torch.tensor([False] * counts["video"] + [True] * counts["audio"]).repeat(2 * CHUNKS)
    bias = torch.where(branch[:, None], coupling["audio"], coupling["video"]).T[:, :, None]
    bias = bias * (branch[:, None] != branch[None])
    seen = block_causal_mask(CHUNKS, sum(counts.values()), WINDOW)
    dense = torch.nn.functional.scaled_dot_product_attention(
        *(rotate(sequence(x), table).transpose(1, 2) for x in (q, k)),
        sequence(v).transpose(1, 2),
        attn_mask=bias.masked_fill(~seen, -torch.inf),
        scale=width**-0.5,
    )
    assert (torch.cat(ours, 1) - dense.transpose(1, 2).flatten(2)).abs().max() < 1e-4


def passes_over_a_clip(model, both_ways: bool = False) -> list[torch.Tensor]:
    """Keys and values of a clean pass and the velocities of a noisy one, of both branches."""
    torch.manual_seed(1)
    names = ("video", "audio")
    clean, noisy = make_latents(model.config, names), make_latents(model.config, names)
    conditions = model.condition(make_text(0, True), make_references(model.config, names))
    level = {name: torch.full((2, CHUNKS), 0.5) for name in names}
    if both_ways:
        history = ParallelHistory(WINDOW, both_ways=True)
        return list(model(noisy, level, level, conditions, history).modalities.values())
    stored = model.prefill(clean, conditions, ParallelHistory(WINDOW))
    history = ParallelHistory(WINDOW, stored, clean)
    out = model(noisy, level, level, conditions, history).modalities.values()
    return [*out, *(x for pairs in stored for pair in pairs.values() for x in pair)]


@pytest.mark.parametrize("both_ways", [False, True])
def test_flex_attention_over_a_clip_equals_attention_by_unfolding(model, both_ways: bool) -> None:
    """Its rule and its clock; gradients are CUDA's alone (test_cuda.py)."""
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape)
    with torch.no_grad():
        unfolded = passes_over_a_clip(model, both_ways)
        model.flex = True
        whole = passes_over_a_clip(model, both_ways)
    for ours, theirs in zip(whole, unfolded, strict=True):
        assert theirs.abs().max() > 0.1 and (ours - theirs).abs().max() < 1e-4


def test_the_chunk_before_a_chunk_is_its_past_s_last(model) -> None:
    """What the video tokens are told of it, in a parallel pass and in a stream."""
    clean = make_latents(model.config, ("video", "audio"))
    parallel = ParallelHistory(WINDOW).previous(clean)
    assert parallel.present.tolist() == [False] + [True] * (CHUNKS - 1)
    assert not parallel.tokens[:, 0].any()
    cache = KVCache(WINDOW)
    assert cache.previous(clean) is None
    text = one_chunk(make_text(0, True), 0)
    conditions = model.condition(text, make_references(model.config, ("video", "audio")))
    for k in range(CHUNKS - 1):
        part = chunk_of(clean, k)
        cache.append(model.prefill(part, conditions, cache), part)
        assert torch.equal(cache.previous(part).tokens[:, 0], clean.video[:, k])
        assert torch.equal(clean.video[:, k], parallel.tokens[:, k + 1])


def test_text_is_relative_to_the_chunk(model) -> None:
    """The same words at another time give the same tokens, so no clock can overflow."""
    early, late = make_text(0, True), make_text(1571, True)
    assert torch.allclose(early.start, late.start, atol=1e-4)


def test_history_and_text_matter(model) -> None:
    """The parity test would also pass for a model that ignores its past."""
    torch.manual_seed(1)
    clean, noisy = (
        make_latents(model.config, ("video", "audio")),
        make_latents(model.config, ("video", "audio")),
    )
    level = {n: torch.full((2, CHUNKS), 0.5) for n in noisy.modalities}
    outs = []
    for conditional in (True, False):
        conditions = model.condition(
            make_text(0, conditional), make_references(model.config, ("video", "audio"))
        )
        stored = model.prefill(clean, conditions, ParallelHistory(WINDOW))
        outs.append(model(noisy, level, level, conditions, ParallelHistory(WINDOW, stored, clean)))
        outs.append(model(noisy, level, level, conditions, KVCache(WINDOW)))
    for name in ("video", "audio"):
        assert (outs[0].modalities[name] - outs[1].modalities[name])[:, 1:].abs().max() > 1e-2
        assert (outs[0].modalities[name] - outs[2].modalities[name]).abs().max() > 1e-2


def test_coupling_starts_gently(config) -> None:
    """At the initial coupling bias a branch's output hardly changes when the other one joins, however many
    tokens that one has."""
    torch.manual_seed(0)
    model = AVTransformer(config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if "coupling" not in name:
            parameter.add_(torch.randn(parameter.shape) * 0.05)
    both = make_latents(model.config, ("video", "audio"))
    text = make_text(0, True)
    references = make_references(model.config, ("video", "audio"))
    level = {n: torch.full((2, CHUNKS), 0.5) for n in both.modalities}
    joint = model(both, level, level, model.condition(text, references), KVCache(WINDOW))
    for name, part in both.modalities.items():
        alone = References(
            references.picture if name == "video" else None,
            references.voice if name == "audio" else None,
            references.has_picture,
            references.has_voice,
        )
        own = {name: level[name]}
        single = model(
            AVLatents.of({name: part}), own, own, model.condition(text, alone), KVCache(WINDOW)
        )
        without = single.modalities[name]
        change = (joint.modalities[name] - without).norm() / without.norm()
        assert change < 0.05, f"{name}: {change}"


def test_video_streaming_decode_equals_full() -> None:
    torch.manual_seed(0)
    config = MotionCodecConfig(
        size=64, encoder_widths=(16, 16), animator_widths=(16, 24), code_width=16
    )
    model = MotionCodec(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape) * 0.05)
    pictures = torch.rand(2, 3, 128, 128) * 2 - 1
    reference = model.encode_reference(pictures)
    latents = torch.randn(2, len(MOTION), 8)
    full = model.decode(latents, reference)
    assert full.shape == (2, 3, 8, 128, 128)
    parts = [model.decode(part, reference) for part in latents.split([1, 4, 3], 2)]
    assert (torch.cat(parts, 2) - full).abs().max() < 5e-5
    other = model.decode(latents, model.encode_reference(pictures.flip(0)))
    assert (other - full).abs().max() > 1e-2, "the reference must matter"
    assert (full[:, :, :-1] - full[:, :, 1:]).abs().max() > 1e-2, "the latents must matter"
