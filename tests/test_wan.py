"""Branches of Wan's shape on tiny random weights: as diffusers computes them, chunk by chunk as at once."""

import copy

import diffusers
import pytest
import torch

from mutual_forcing.config import BranchConfig, TokenGrid, WanConfig
from mutual_forcing.models.joint_model import Conditions
from mutual_forcing.models.kv_cache import ParallelHistory
from mutual_forcing.models.wan_text import WanText
from mutual_forcing.models.wan_transformer import LayerContext, WanAVTransformer
from mutual_forcing.types import AVLatents, References
from mutual_forcing.wan_weights import ADDED, branch_state, load_branch, to_precision

WINDOW, ROWS = 2, 2
TEXT_DIM, TEXT_TOKENS = 24, 16
SECONDS = 0.64


def wan_config(grid: TokenGrid | None = None, patch: int = 1, audio: int = 14) -> WanConfig:
    """Two layers of two heads. The video's grid is by default 4 x 3 x 5."""
    grid = grid or TokenGrid(4, 3, 5, rate=4 / SECONDS)
    return WanConfig(
        video=BranchConfig(width=64, token_dim=6 * patch**2, grid=grid),
        audio=BranchConfig(width=64, token_dim=8, grid=TokenGrid(audio, rate=audio / SECONDS)),
        patch=patch,
        layers=2,
        heads=2,
        head_dim=32,
        window=WINDOW,
        voice_latents=5,
        ffn_width=96,
        text_dim=TEXT_DIM,
        text_tokens=TEXT_TOKENS,
        frequencies=32,
    )


def shake(model: torch.nn.Module, scale: float = 0.05) -> None:
    """Every bias, norm and table away from where it begins."""
    for parameter in model.parameters():
        parameter.data += torch.randn(parameter.shape) * scale


def random_model(config: WanConfig) -> WanAVTransformer:
    torch.manual_seed(0)
    model = WanAVTransformer(config).eval().requires_grad_(False)
    shake(model, 0.1)
    return model


def random_text(chunks: int, rows: int = ROWS) -> WanText:
    shape = (rows, chunks, TEXT_TOKENS)
    start = torch.randn(shape)
    return WanText(torch.randn(*shape, TEXT_DIM), start, start + 0.2, torch.rand(shape) < 0.5)


def text_of(text: WanText, chunk: int) -> WanText:
    part = slice(chunk, chunk + 1)
    parts = text.states, text.start, text.end, text.timed
    return WanText(*(x[:, part] for x in parts))


def random_latents(config: WanConfig, chunks: int, rows: int = ROWS) -> AVLatents:
    return AVLatents.of(
        {
            n: torch.randn(rows, chunks, b.grid.tokens, b.token_dim)
            for n, b in config.branches.items()
        }
    )


def references_of(model: WanAVTransformer, rows: int = ROWS) -> References:
    video, audio = model.config.video, model.config.audio
    return References(
        torch.randn(rows, video.grid.frame_tokens, video.token_dim),
        torch.randn(rows, model.config.voice_latents, audio.token_dim),
        torch.tensor([True] * rows),
        torch.tensor([True] + [False] * (rows - 1)),
    )


def nothing(model: WanAVTransformer, rows: int = ROWS):
    return model.encode_references(References(None, None))


def diffusers_model(config: WanConfig):
    torch.manual_seed(3)
    patch = config.patch
    theirs = diffusers.WanTransformer3DModel(
        patch_size=(1, patch, patch),
        num_attention_heads=config.heads,
        attention_head_dim=config.head_dim,
        in_channels=6,
        out_channels=6,
        text_dim=config.text_dim,
        freq_dim=config.frequencies,
        ffn_dim=config.ffn_width,
        num_layers=config.layers,
        eps=config.eps,
    )
    shake(theirs)
    return theirs.eval().requires_grad_(False)


@pytest.fixture(scope="module", params=[1, 2])
def loaded(request, tmp_path_factory):
    """A model of diffusers and ours with its weights, which came through shards in a folder."""
    config = wan_config(patch=request.param)
    theirs = diffusers_model(config)
    folder = tmp_path_factory.mktemp("transformer")
    theirs.save_pretrained(folder, max_shard_size="100KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    torch.manual_seed(0)
    ours = WanAVTransformer(config).eval().requires_grad_(False)
    load_branch(ours, "video", folder)
    return theirs, ours


def to_tokens(latents: torch.Tensor, patch: int) -> torch.Tensor:
    """[B, C, T, H, W] to one chunk for every 4 latents: [B, K, N, C * patch * patch]."""
    folded = latents.unflatten(4, (-1, patch)).unflatten(3, (-1, patch))
    tokens = folded.permute(0, 2, 3, 5, 1, 4, 6).flatten(4)
    return tokens.unflatten(1, (-1, 4)).flatten(2, 4)


def as_diffusers(theirs, latents, levels, states):
    """Velocities of latents [B, C, T, H, W] at levels [B, T], one for each latent frame."""
    _, height, width = theirs.config.patch_size
    tokens = latents.shape[3] // height * latents.shape[4] // width
    times = 1000 * levels.repeat_interleave(tokens, 1)
    velocity = theirs(latents, times, states, return_dict=False)[0]
    return to_tokens(velocity, width)


def video_only(model, latents, sigma, delta, text, history=None):
    tokens = AVLatents(to_tokens(latents, model.config.patch), None)
    history = history or ParallelHistory(8, both_ways=True)
    conditions = Conditions(text, nothing(model))
    out = model(tokens, {"video": sigma}, {"video": delta}, conditions, history)
    return out.video


def plain_text(chunks: int) -> tuple[torch.Tensor, WanText]:
    """A text with filling, as diffusers takes it, and for our chunks."""
    states = torch.randn(ROWS, TEXT_TOKENS, TEXT_DIM)
    states[:, TEXT_TOKENS // 2 :] = 0
    shape = (ROWS, chunks, TEXT_TOKENS)
    whole = states[:, None].expand(-1, chunks, -1, -1)
    return states, WanText(whole, torch.randn(shape), torch.randn(shape), torch.rand(shape) < 0.5)


def test_video_alone_is_wan(loaded) -> None:
    """One chunk with its first latent clean, as Wan begins a film with a picture; loaded weights ignore the
    interval and the words' times.
    """
    theirs, ours = loaded
    patch = ours.config.patch
    latents = torch.randn(ROWS, 6, 4, 3 * patch, 5 * patch)
    levels = torch.rand(ROWS, 4)
    levels[:, 0] = 0
    states, text = plain_text(1)
    wanted = as_diffusers(theirs, latents, levels, states)
    levels = levels[:, None]
    found = video_only(ours, latents, levels, torch.rand_like(levels), text)
    assert wanted.abs().max() > 0.5
    assert (found - wanted).abs().max() < 2e-6


def test_two_chunks_that_see_each_other_are_wan(loaded) -> None:
    theirs, ours = loaded
    patch = ours.config.patch
    latents = torch.randn(ROWS, 6, 8, 3 * patch, 5 * patch)
    levels = torch.rand(ROWS, 2)
    states, text = plain_text(2)
    wanted = as_diffusers(theirs, latents, levels.repeat_interleave(4, 1), states)
    found = video_only(ours, latents, levels, torch.zeros_like(levels), text)
    assert (found - wanted).abs().max() < 2e-6


def test_without_coupling_the_video_branch_is_wan(loaded) -> None:
    theirs, ours = loaded
    ours = copy.deepcopy(ours)
    for layer in ours.layers:
        layer.coupling["video"].fill_(-torch.inf)
    patch = ours.config.patch
    latents = torch.randn(ROWS, 6, 4, 3 * patch, 5 * patch)
    levels = torch.rand(ROWS, 1)
    states, text = plain_text(1)
    wanted = as_diffusers(theirs, latents, levels.expand(-1, 4), states)
    both = AVLatents(to_tokens(latents, ours.config.patch), torch.randn(ROWS, 1, 14, 8))
    level = dict.fromkeys(("video", "audio"), levels)
    conditions = Conditions(text, nothing(ours))
    out = ours(both, level, level, conditions, ParallelHistory(WINDOW))
    assert (out.video - wanted).abs().max() < 2e-6
    ours.layers[0].coupling["video"].fill_(0.0)
    joined = ours(both, level, level, conditions, ParallelHistory(WINDOW))
    assert (joined.video - out.video).abs().max() > 1e-3


def test_half_precision_is_wan_s(loaded) -> None:
    """Both in bf16 are as far from fp32 as from each other."""
    theirs, ours = copy.deepcopy(loaded[0]), copy.deepcopy(loaded[1])
    patch = ours.config.patch
    latents = torch.randn(ROWS, 6, 4, 3 * patch, 5 * patch)
    levels = torch.rand(ROWS, 1)
    states, text = plain_text(1)
    exact = video_only(ours, latents, levels, levels, text)
    to_precision(ours, torch.bfloat16)
    to_precision(theirs, torch.bfloat16)
    half, times = latents.bfloat16(), levels.expand(-1, 4)
    wanted = as_diffusers(theirs, half, times, states.bfloat16()).float()
    found = video_only(ours, latents, levels, levels, plain_like(text)).float()
    scale = exact.abs().mean()
    assert (found - exact).abs().mean() < 1.2 * (wanted - exact).abs().mean()
    assert (found - exact).abs().mean() < 0.03 * scale


def plain_like(text: WanText) -> WanText:
    """The same text, of which nothing is projected yet."""
    return WanText(text.states, text.start, text.end, text.timed)


def test_weights_go_in_and_out_under_the_names_of_diffusers(loaded) -> None:
    theirs, ours = loaded
    state = branch_state(ours, "video", added=False)
    wanted = theirs.state_dict()
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[key], wanted[key]) for key in wanted)
    extra = branch_state(ours, "video").keys() - state.keys()
    assert extra and all(key.startswith(ADDED) for key in extra)
    assert not any(
        "delta_embedder.linear_2" in key and ours_value.any()
        for key, ours_value in branch_state(ours, "video").items()
    )


def test_wrong_weights_are_refused(loaded, tmp_path) -> None:
    theirs, _ = loaded
    theirs.save_pretrained(tmp_path)
    deeper = WanAVTransformer(wan_config(patch=3))
    with pytest.raises(ValueError, match="does not fit the video branch"):
        load_branch(deeper, "video", tmp_path)
    with pytest.raises(ValueError, match="holds no weights"):
        load_branch(deeper, "video", tmp_path / "nowhere")


GRIDS = {
    "4x3x5": TokenGrid(4, 3, 5, rate=4 / SECONDS),
    "16x1x1": TokenGrid(16),
}
CHUNKS = 5


@pytest.mark.parametrize("names", [("video", "audio"), ("audio",), ("video",)])
@pytest.mark.parametrize("grid", GRIDS)
def test_cached_chunks_are_one_parallel_pass(grid: str, names: tuple[str, ...]) -> None:
    """Across eviction (5 chunks, window 2), with references, text and intervals."""
    model = random_model(wan_config(GRIDS[grid]))
    torch.manual_seed(1)
    clean, noisy = (
        AVLatents.of({n: random_latents(model.config, CHUNKS).modalities[n] for n in names})
        for _ in range(2)
    )
    sigma = {n: torch.rand(ROWS, CHUNKS) for n in names}
    delta = {n: torch.rand(ROWS, CHUNKS) * sigma[n] for n in names}
    given = references_of(model)
    references = model.encode_references(
        References(
            given.picture if "video" in names else None,
            given.voice if "audio" in names else None,
            given.has_picture,
            given.has_voice,
        )
    )
    text = random_text(CHUNKS)
    conditions = Conditions(text, references)
    stored = model.prefill(clean, conditions, ParallelHistory(WINDOW))
    parallel = model(noisy, sigma, delta, conditions, ParallelHistory(WINDOW, stored, clean))

    cache = model.new_cache()
    for k in range(CHUNKS):
        here, part = Conditions(text_of(text, k), references), slice(k, k + 1)
        levels = [{n: v[:, part] for n, v in level.items()} for level in (sigma, delta)]
        chunk, done = (x.map(lambda t, part=part: t[:, part]) for x in (noisy, clean))
        assert cache.length == min(k, WINDOW)
        for _ in range(2):  # what a pass leaves in the chunk's slot does not matter
            out = model(chunk, *levels, here, cache)
        for n in names:
            wanted = parallel.modalities[n][:, part]
            assert wanted.abs().max() > 0.1
            assert (out.modalities[n] - wanted).abs().max() < 1e-5, (n, k)
        cache.append(model.prefill(done, here, cache), done)


@pytest.mark.parametrize("clean_past", [True, False])
@pytest.mark.parametrize("both_ways", [True, False])
def test_slices_are_one_dense_mask(clean_past: bool, both_ways: bool) -> None:
    """Which tokens a chunk sees, and the bias between branches, under one mask over all of them."""
    model = random_model(wan_config())
    layer, chunks, heads, width = model.layers[0], 4, 2, 32
    torch.manual_seed(2)
    counts = {n: g.tokens for n, g in model.config.grids.items()}

    def draw() -> dict[str, torch.Tensor]:
        return {n: torch.randn(ROWS, chunks, c, heads, width) for n, c in counts.items()}

    query, own, past = draw(), [draw(), draw()], [draw(), draw()]
    pairs = {n: (own[0][n], own[1][n]) for n in counts}
    clean = {n: (past[0][n], past[1][n]) for n in counts} if clean_past else None
    history = ParallelHistory(
        WINDOW,
        None if clean is None else [clean],
        None if clean is None else random_latents(model.config, chunks),
        both_ways,
    )
    seen = history.slices(0, pairs)
    still = {n: torch.stack([torch.ones(c, 16), torch.zeros(c, 16)], -1) for n, c in counts.items()}
    context = LayerContext(still, still, {}, history, 0, random_text(chunks), chunks)
    ours = torch.cat([x.flatten(1, 2) for x in layer._attend(query, seen, context).values()], 1)

    index = {n: torch.arange(chunks).repeat_interleave(c) for n, c in counts.items()}
    queries = torch.cat([index[n] for n in counts])
    kind = torch.cat([torch.full((len(index[n]),), i) for i, n in enumerate(counts)])
    apart = queries[:, None] - queries[None]
    near = apart.abs() <= WINDOW if both_ways else (apart >= 0) & (apart <= WINDOW)
    sources = (
        [(pairs, near & (apart == 0)), (clean, near & (apart != 0))]
        if clean_past
        else [(pairs, near)]
    )
    biases = torch.stack([layer.coupling[n] for n in counts])
    bias = torch.where(kind[:, None] == kind[None], 0.0, biases[kind].T[:, :, None])
    masks = torch.cat([bias.masked_fill(~mask, -torch.inf) for _, mask in sources], -1)

    def flat(parts) -> torch.Tensor:
        return torch.cat([parts[n].flatten(1, 2) for n in counts], 1).transpose(1, 2)

    keys, values = (
        torch.cat([flat({n: s[n][i] for n in counts}) for s, _ in sources], 2) for i in (0, 1)
    )
    dense = torch.nn.functional.scaled_dot_product_attention(flat(query), keys, values, masks)
    assert (ours - dense.transpose(1, 2)).abs().max() < 1e-5


def test_a_stream_keeps_no_gradient_and_its_branches() -> None:
    model = random_model(wan_config())
    chunk, level = (
        random_latents(model.config, 1),
        {n: torch.rand(ROWS, 1) for n in ("video", "audio")},
    )
    conditions, cache = Conditions(random_text(1), nothing(model)), model.new_cache()
    alone = AVLatents(chunk.video, None)
    cache.append(model.prefill(alone, conditions, cache), alone)
    with pytest.raises(ValueError, match="began without audio"):
        model(chunk, level, level, conditions, cache)
    model.requires_grad_(True)
    with pytest.raises(ValueError, match="keeps no gradient"):
        model(chunk, level, level, conditions, model.new_cache())


def test_what_another_pass_made_can_be_appended() -> None:
    """A stream may go on from the keys of a parallel pass over what came before."""
    model = random_model(wan_config())
    clean, noisy = (random_latents(model.config, 4) for _ in range(2))
    text, references = random_text(4), model.encode_references(references_of(model))
    stored = model.prefill(clean, Conditions(text, references), ParallelHistory(WINDOW))
    level = {n: torch.rand(ROWS, 1) for n in ("video", "audio")}
    caches = model.new_cache(), model.new_cache()
    outs = []
    for cache, given in zip(caches, (False, True), strict=True):
        for k in range(3):
            here, part = Conditions(text_of(text, k), references), slice(k, k + 1)
            done = clean.map(lambda x, part=part: x[:, part])
            own = model.prefill(done, here, cache)
            if given:
                own = [{n: (a[:, part], b[:, part]) for n, (a, b) in x.items()} for x in stored]
            cache.append(own, done)
        chunk = noisy.map(lambda x: x[:, 3:])
        outs.append(model(chunk, level, level, Conditions(text_of(text, 3), references), cache))
    for one, two in zip(*(out.modalities.values() for out in outs), strict=True):
        assert (one - two).abs().max() < 1e-5
