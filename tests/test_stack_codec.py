"""The codec of stacked frames: chunk by chunk is at once, a picture is a film that stands still."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mutual_forcing.codec_config import (
    VIDEO_CODECS,
    StackCodecConfig,
    codec_from_dict,
    codec_to_dict,
)
from mutual_forcing.codecs.protocol import FaceCodec, PixelCodec
from mutual_forcing.codecs.stack_codec import StackCodec
from mutual_forcing.pixels import to_pixels

CONFIG = StackCodecConfig(32, 48, latent_channels=6, widths=(8, 16, 16, 24))


@pytest.fixture(scope="module")
def codec() -> StackCodec:
    torch.manual_seed(0)
    return StackCodec(CONFIG).eval().requires_grad_(False)


def film(frames: int, batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 3, frames, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_its_latents_have_the_place_and_the_time_of_what_they_show(codec) -> None:
    assert isinstance(codec, PixelCodec) and not isinstance(codec, FaceCodec)
    grid = codec.grid
    assert (grid.frames, grid.height, grid.width, grid.rate) == (4, 2, 3, 6.25)
    whole = film(16)
    latents = codec.encode(whole)
    assert latents.shape == (1, 6, 4, 2, 3) and codec.decode(latents)[0].shape == whole.shape
    changed = whole.clone()
    changed[:, :, 9] = 0
    differs = (codec.encode(changed) - latents).abs().amax((0, 1, 3, 4)) > 0
    assert differs.tolist() == [False, False, True, False]


def test_chunk_by_chunk_is_at_once_and_rows_do_not_mix(codec) -> None:
    whole = film(32, batch=2)
    latents = codec.encode(whole)
    encoded = torch.cat([codec.encode(part) for part in whole.split(16, 2)], 2)
    assert (encoded - latents).abs().max() < 1e-6
    made = codec.decode(latents)[0]
    parts = torch.cat([codec.decode(part)[0] for part in latents.split(4, 2)], 2)
    assert (parts - made).abs().max() < 1e-6
    assert (codec.decode(latents[1:])[0] - made[1:]).abs().max() < 1e-6
    frames, state = codec.animate(latents[1:], None, None, codec.begin(0))
    assert state is None and frames.shape == (32, 32, 48, 3)
    assert np.array_equal(frames, to_pixels(made[1]).permute(1, 2, 3, 0).numpy())
    with pytest.raises(ValueError, match="one stream, not to 2"):
        codec.animate(latents, None, None, None)


def test_a_picture_is_a_film_that_stands_still(codec) -> None:
    picture = film(1)[:, :, 0]
    reference = codec.encode_reference(picture)
    still = codec.encode(picture[:, :, None].expand(-1, -1, 4, -1, -1))
    assert torch.equal(reference.latent, still[:, :, 0]) and reference.tokens.shape == (1, 6, 6)
    assert torch.equal(reference.tokens[0, 4], reference.latent[0, :, 1, 1])


def test_statistics_standardise_latents_and_change_no_film(codec) -> None:
    own = StackCodec(CONFIG).eval().requires_grad_(False)
    own.load_state_dict(codec.state_dict())
    raw = codec.encode(film(16))
    assert not own.has_statistics
    own.set_statistics(raw.mean((0, 2, 3, 4)), raw.std((0, 2, 3, 4)))
    assert own.has_statistics
    latents = own.encode(film(16))
    assert latents.mean((0, 2, 3, 4)).abs().max() < 1e-5
    assert (latents.std((0, 2, 3, 4)) - 1).abs().max() < 1e-5
    assert (own.decode(latents)[0] - codec.decode(raw)[0]).abs().max() < 1e-5


def test_what_it_is_not_for_is_refused(codec) -> None:
    with pytest.raises(ValueError, match="frames of 32 x 48, not 48 x 32"):
        codec.encode(film(4).transpose(3, 4))
    with pytest.raises(ValueError, match="6 frames are no whole number"):
        codec.encode(film(6))
    for wrong in (
        {"height": 40}, {"width": 0}, {"width": 19200}, {"widths": (8, 8, 8)}, {"widths": (8, 8, 8, 12)},
        {"widths": (8, 8, 8, 8000)}, {"latent_channels": 0},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"must be"):
            replace(CONFIG, **wrong)
    assert codec_from_dict(codec_to_dict(CONFIG), VIDEO_CODECS) == CONFIG
