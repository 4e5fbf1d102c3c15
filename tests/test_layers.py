"""Small layers against what they claim to be."""

import torch

from mutual_forcing.models.layers import SpectralGains, cosine_transform, sine_transform
from mutual_forcing.models.transformer import TREND_SCALE, trend


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
    layer = SpectralGains(8, 3).requires_grad_(False)
    features, tokens = torch.randn(2, 4, 8), torch.randn(2, 4, 16, 3)
    assert not layer(features, tokens).any(), "starts as nothing"
    layer.gain.bias.fill_(0.7)
    assert torch.allclose(layer(features, tokens), 0.7 * tokens, atol=1e-5)
    layer.gain.bias.view(16, 3)[1:] = 0
    mean = tokens.mean(2, keepdim=True).expand_as(tokens)
    assert torch.allclose(layer(features, tokens), 0.7 * mean, atol=1e-5)


def test_the_trend_is_the_last_latent_its_speed_and_its_turn() -> None:
    time = torch.arange(3.0)[None, None, :, None]
    found = trend(torch.cat([time.new_full(time.shape, 5.0), 2 * time, time**2], 3))
    assert found[0, 0].tolist() == [[5, 4, 4], [0, 2 * TREND_SCALE, 3 * TREND_SCALE], [0, 0, 18]]


def test_bfloat16_keeps_the_tokens_precise() -> None:
    layer = SpectralGains(8, 3).requires_grad_(False)
    layer.gain.bias.fill_(1.0)
    tokens = torch.randn(1, 1, 16, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(layer(torch.randn(1, 1, 8), tokens), tokens, atol=1e-5)
