"""Small layers against what they claim to be."""

import pytest
import torch

from mutual_forcing.chunks import (
    last_frames,
    latents_to_tokens,
    repeat_static,
    token_positions,
    token_spans,
    tokens_to_latents,
)
from mutual_forcing.config import BranchConfig, ModelConfig, TokenGrid
from mutual_forcing.models.branch import TREND_SCALE, trend
from mutual_forcing.models.layers import SpectralGains, cosine_transform, sine_transform


def test_the_cosines_are_orthonormal_and_the_slowest_is_the_mean() -> None:
    cosines = cosine_transform(16)
    assert torch.allclose(cosines @ cosines.T, torch.eye(16), atol=1e-6)
    assert torch.allclose(cosines[0], torch.full((16,), 0.25))


def test_the_sines_decorrelate_a_random_walk_from_the_token_before() -> None:
    sines = sine_transform(16)
    assert torch.allclose(sines @ sines.T, torch.eye(16), atol=1e-6)
    place = torch.arange(1.0, 17.0)
    spectrum = sines @ torch.minimum(place[:, None], place[None]) @ sines.T
    assert (spectrum - torch.diag(spectrum.diagonal())).abs().max() < 1e-3
    assert (spectrum.diagonal().diff() < 0).all(), "the slowest first"


def test_equal_gains_scale_and_gains_of_the_slow_smooth() -> None:
    layer = SpectralGains(8, BranchConfig(8, 3)).requires_grad_(False)
    features, tokens = torch.randn(2, 4, 8), torch.randn(2, 4, 16, 3)
    assert not layer(features, tokens).any(), "starts as nothing"
    layer.gain.bias.fill_(0.7)
    assert torch.allclose(layer(features, tokens), 0.7 * tokens, atol=1e-5)
    layer.gain.bias.view(16, 3)[1:] = 0
    mean = tokens.mean(2, keepdim=True).expand_as(tokens)
    assert torch.allclose(layer(features, tokens), 0.7 * mean, atol=1e-5)


def test_the_trend_is_the_last_latent_its_speed_and_its_turn() -> None:
    time = torch.arange(3.0)[None, None, :, None, None]
    found = trend(torch.cat([time.new_full(time.shape, 5.0), 2 * time, time**2], 4))
    assert found[0, 0, :, 0].tolist() == [
        [5, 4, 4],
        [0, 2 * TREND_SCALE, 3 * TREND_SCALE],
        [0, 0, 18],
    ]


def test_bfloat16_keeps_the_tokens_precise() -> None:
    layer = SpectralGains(8, BranchConfig(8, 3)).requires_grad_(False)
    layer.gain.bias.fill_(1.0)
    tokens = torch.randn(1, 1, 16, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(layer(torch.randn(1, 1, 8), tokens), tokens, atol=1e-5)


GRID = TokenGrid(4, 3, 5, rate=6.25)


def test_latents_of_a_grid_become_tokens_and_come_back() -> None:
    latents = torch.randn(2, 7, 8, 3, 5)
    tokens = latents_to_tokens(latents, GRID)
    assert tokens.shape == (2, 2, GRID.tokens, 7) and GRID.tokens == 60
    assert torch.equal(tokens[1, 1, 17], latents[1, :, 5, 0, 2]), "the last index is the fastest"
    assert torch.equal(tokens_to_latents(tokens, GRID), latents)
    sound = torch.randn(2, 7, 32)
    assert torch.equal(
        tokens_to_latents(latents_to_tokens(sound, TokenGrid(16)), TokenGrid(16)), sound
    )
    for wrong in (latents[:, :, :7], latents[..., :4], sound):
        with pytest.raises(ValueError, match=r"whole number of chunks|do not lie on"):
            latents_to_tokens(wrong, GRID)


def test_frames_of_a_chunk_are_whole_latent_frames() -> None:
    tokens = latents_to_tokens(torch.randn(1, 7, 4, 3, 5), GRID)
    last = last_frames(tokens, GRID)
    assert torch.equal(last, tokens[:, :, 45:])
    static = repeat_static(last, GRID)
    assert static.shape == tokens.shape
    assert torch.equal(static[:, :, :15], last) and torch.equal(static[:, :, 15:30], last)


def test_tokens_lie_in_time_and_in_the_picture() -> None:
    positions, spans = token_positions(GRID), token_spans(GRID)
    assert positions.shape == (60, 3) and spans.shape == (2, 60)
    assert positions[16].tolist() == [6.0, 0.0, 1.0], "the middle of the second frame x 25, y, x"
    assert spans[:, 16].tolist() == pytest.approx([0.16, 0.32])
    assert not token_positions(TokenGrid(16))[:, 1:].any()
    with pytest.raises(ValueError, match="needs tokens"):
        TokenGrid(0)
    with pytest.raises(ValueError, match="equally long"):
        ModelConfig(BranchConfig(8, 4, grid=GRID), BranchConfig(8, 4, grid=TokenGrid(12)))
