"""Parity is the law: cached chunk by chunk equals one parallel masked pass; streaming equals full."""

import pytest
import torch

from mutual_forcing.chunks import (
    CHUNK_SECONDS,
    POSITIONS_PER_SECOND,
    TOKENS_PER_CHUNK,
    block_causal_mask,
    token_positions,
)
from mutual_forcing.config import (
    AudioAutoencoderConfig,
    BranchConfig,
    ModelConfig,
    VideoAutoencoderConfig,
)
from mutual_forcing.models.attention import (
    BRANCHES,
    COUPLING_DIMS,
    KeyGroup,
    RotaryTables,
    attend,
    past_keys,
)
from mutual_forcing.models.audio_autoencoder import AudioAutoencoder
from mutual_forcing.models.kv_cache import LATENTS_BEFORE, KVCache, ParallelHistory
from mutual_forcing.models.layers import rotary_frequencies, rotary_table, rotate
from mutual_forcing.models.transformer import AVTransformer
from mutual_forcing.models.video_autoencoder import VideoAutoencoder
from mutual_forcing.motion import MOTION
from mutual_forcing.timing import text_tokens
from mutual_forcing.types import AVLatents, References, TextTokens, TimedPhoneme, Transcript

CHUNKS, WINDOW = 6, 3
CONFIG = ModelConfig(
    video=BranchConfig(width=48, token_dim=16),
    audio=BranchConfig(width=32, token_dim=8),
    layers=2,
    heads=2,
    head_dim=32,
    text_width=24,
    window=WINDOW,
    voice_latents=5,
)


@pytest.fixture
def model() -> AVTransformer:
    torch.manual_seed(0)
    model = AVTransformer(CONFIG).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        # Zero-initialised gates would hide every mistake. The trend of noise is large, that of motion small.
        scale = 1.0 if name.startswith("coupling") else 0.05 if "underlays" in name else 0.2
        parameter.add_(torch.randn(parameter.shape) * scale)
    return model


def make_latents(names: tuple[str, ...], batch: int = 2) -> AVLatents:
    widths = {"video": 16, "audio": 8}
    return AVLatents.of({n: torch.randn(batch, CHUNKS, TOKENS_PER_CHUNK, widths[n]) for n in names})


def make_references(names: tuple[str, ...], batch: int = 2) -> References:
    return References(
        picture=torch.randn(batch, 1, 16) if "video" in names else None,
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
    clean, noisy = make_latents(names), make_latents(names)
    references, text = make_references(names), make_text(first, conditional)
    sigma = {n: torch.rand(2, CHUNKS) for n in names}
    delta = {n: torch.rand(2, CHUNKS) * sigma[n] for n in names}
    conditions = model.condition(text, references)
    stored = model.remember(clean, conditions, ParallelHistory(WINDOW))
    parallel = model(noisy, sigma, delta, conditions, ParallelHistory(WINDOW, stored, clean))

    cache = KVCache(WINDOW)
    for k in range(CHUNKS):
        here = model.condition(one_chunk(text, k), references)
        part = slice(k, k + 1)
        levels = [{n: v[:, part] for n, v in level.items()} for level in (sigma, delta)]
        chunk = AVLatents.of({n: p[:, part] for n, p in noisy.parts.items()})
        out = model(chunk, *levels, here, cache)
        for n in names:
            error = (out.parts[n] - parallel.parts[n][:, part]).abs().max()
            assert error < 1e-4, f"{n}, chunk {k}: {error}"
            assert parallel.parts[n].abs().max() > 0.1
        done = AVLatents.of({n: p[:, part] for n, p in clean.parts.items()})
        cache.append(model.remember(done, here, cache), done)
    assert cache.length == WINDOW


@pytest.mark.parametrize("seconds", [0.0, 1234.56])
def test_attention_by_unfolding_equals_one_dense_mask(seconds: float) -> None:
    """Clean and noisy chunks in one sequence, at the times of a clock, under one block-causal mask."""
    torch.manual_seed(0)
    heads, content = 2, 32
    width = content + COUPLING_DIMS
    tables = RotaryTables.build(content, 5, torch.device("cpu"))
    coupling = {name: torch.randn(heads) for name in BRANCHES}
    shape = (1, CHUNKS, TOKENS_PER_CHUNK, heads)
    q, k, v = (
        {side: {n: torch.randn(*shape, size) for n in BRANCHES} for side in ("clean", "noisy")}
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
    times = clock[:, None] * POSITIONS_PER_SECOND + token_positions()
    table = rotary_table(times.repeat(1, 2).flatten().repeat(2), rotary_frequencies(content))

    def sequence(parts: dict[str, dict[str, torch.Tensor]]) -> torch.Tensor:
        return torch.cat([torch.cat(list(p.values()), 2).flatten(1, 2) for p in parts.values()], 1)

    branch = (torch.arange(2) > 0).repeat_interleave(TOKENS_PER_CHUNK).repeat(2 * CHUNKS)
    bias = torch.where(branch[:, None], coupling["audio"], coupling["video"]).T[:, :, None]
    bias = bias * (branch[:, None] != branch[None])
    seen = block_causal_mask(CHUNKS, 2 * TOKENS_PER_CHUNK, WINDOW)
    dense = torch.nn.functional.scaled_dot_product_attention(
        *(rotate(sequence(x), table).transpose(1, 2) for x in (q, k)),
        sequence(v).transpose(1, 2),
        attn_mask=bias.masked_fill(~seen, -torch.inf),
        scale=width**-0.5,
    )
    assert (torch.cat(ours, 1) - dense.transpose(1, 2).flatten(2)).abs().max() < 1e-4


def test_the_latent_before_a_chunk_is_its_past_s_last(model) -> None:
    """What lies under the video tokens, in a parallel pass and in a stream."""
    clean = make_latents(("video", "audio"))
    parallel = ParallelHistory(WINDOW).before(clean)
    assert parallel.present.tolist() == [False] + [True] * (CHUNKS - 1)
    assert not parallel.tokens[:, 0].any()
    cache = KVCache(WINDOW)
    assert cache.before(clean) is None
    text = one_chunk(make_text(0, True), 0)
    conditions = model.condition(text, make_references(("video", "audio")))
    for k in range(CHUNKS - 1):
        part = AVLatents.of({n: p[:, k : k + 1] for n, p in clean.parts.items()})
        cache.append(model.remember(part, conditions, cache), part)
        last = cache.before(part).tokens
        assert torch.equal(last[:, 0], clean.video[:, k, -LATENTS_BEFORE:])
        assert torch.equal(last[:, 0], parallel.tokens[:, k + 1])


def test_text_is_relative_to_the_chunk(model) -> None:
    """The same words at another time give the same tokens, so no clock can overflow."""
    early, late = make_text(0, True), make_text(1571, True)
    assert torch.allclose(early.start, late.start, atol=1e-4)


def test_history_and_text_matter(model) -> None:
    """The parity test would also pass for a model that ignores its past."""
    torch.manual_seed(1)
    clean, noisy = make_latents(("video", "audio")), make_latents(("video", "audio"))
    level = {n: torch.full((2, CHUNKS), 0.5) for n in noisy.parts}
    outs = []
    for conditional in (True, False):
        conditions = model.condition(make_text(0, conditional), make_references(("video", "audio")))
        stored = model.remember(clean, conditions, ParallelHistory(WINDOW))
        outs.append(model(noisy, level, level, conditions, ParallelHistory(WINDOW, stored, clean)))
        outs.append(model(noisy, level, level, conditions, KVCache(WINDOW)))
    for name in ("video", "audio"):
        assert (outs[0].parts[name] - outs[1].parts[name])[:, 1:].abs().max() > 1e-2
        assert (outs[0].parts[name] - outs[2].parts[name]).abs().max() > 1e-2


def test_coupling_starts_gently() -> None:
    """At the initial coupling bias a branch's output hardly changes when the other one joins."""
    torch.manual_seed(0)
    model = AVTransformer(CONFIG).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if not name.startswith("coupling"):
            parameter.add_(torch.randn(parameter.shape) * 0.05)
    both = make_latents(("video", "audio"))
    text = make_text(0, True)
    references = make_references(("video", "audio"))
    level = {n: torch.full((2, CHUNKS), 0.5) for n in both.parts}
    joint = model(both, level, level, model.condition(text, references), KVCache(WINDOW))
    for name, part in both.parts.items():
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
        change = (joint.parts[name] - single.parts[name]).norm() / single.parts[name].norm()
        assert change < 0.05, f"{name}: {change}"


def test_video_streaming_decode_equals_full() -> None:
    torch.manual_seed(0)
    config = VideoAutoencoderConfig(
        size=64, encoder_widths=(16, 16), animator_widths=(16, 24), code_width=16
    )
    model = VideoAutoencoder(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape) * 0.05)
    pictures = torch.rand(2, 3, 128, 128) * 2 - 1
    reference = model.encode_reference(pictures)
    latents = torch.randn(2, len(MOTION), 8)
    full = model.decode(latents, reference)
    assert full.shape == (2, 3, 8, 128, 128)
    parts = [model.decode(part, reference) for part in latents.split([1, 4, 3], 2)]
    assert (torch.cat(parts, 2) - full).abs().max() < 1e-5
    other = model.decode(latents, model.encode_reference(pictures.flip(0)))
    assert (other - full).abs().max() > 1e-2, "the reference must matter"
    assert (full[:, :, :-1] - full[:, :, 1:]).abs().max() > 1e-2, "the latents must matter"


def test_audio_streaming_decode_equals_full() -> None:
    torch.manual_seed(0)
    config = AudioAutoencoderConfig(latent_channels=8, decoder_width=32, decoder_blocks=4)
    model = AudioAutoencoder(config).eval().requires_grad_(False)
    latents = torch.randn(2, 8, 48)
    full, _ = model.decode(latents)
    state, parts = None, []
    for part in latents.split([16, 1, 31], 2):
        audio, state = model.decode(part, state)
        parts.append(audio)
    assert full.shape == (2, 48 * 640)
    assert (torch.cat(parts, 1) - full).abs().max() < 1e-5


def test_statistics_do_not_change_reconstructions() -> None:
    torch.manual_seed(0)
    model = AudioAutoencoder(AudioAutoencoderConfig(decoder_width=32)).eval().requires_grad_(False)
    audio = torch.randn(1, 6400) * 0.1
    before, _ = model.decode(model.encode(audio))
    model.set_statistics(torch.randn(32), torch.rand(32) + 0.5)
    after, _ = model.decode(model.encode(audio))
    assert (before - after).abs().max() < 1e-5
