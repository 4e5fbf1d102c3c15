"""What the decoder computes in shorter ways is what the plain ones give."""

from __future__ import annotations

import portraits
import pytest
import torch
import torch.nn.functional as F

from mutual_forcing import GenerationRequest, StreamingGenerator
from mutual_forcing.codecs import detail
from mutual_forcing.codecs.motion_encoder import ResidualBlock
from mutual_forcing.codecs.warping import (
    FINE,
    enlarge,
    enlarge_apart,
    matching,
    put_together,
)
from mutual_forcing.motion import UNITS


def test_cells_are_enlarged_apart_and_put_together() -> None:
    x = torch.rand(2, 3, 6, 5)
    apart = enlarge_apart(x)
    expected = enlarge(x, FINE)
    assert apart.shape == (2, 3, FINE**2, 6, 5)
    assert (put_together(apart) - expected).abs().max() < 1e-6
    assert torch.equal(put_together(apart), F.pixel_shuffle(apart.flatten(1, 2), FINE))


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_a_block_is_modulated_alike_in_any_layout(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    block = ResidualBlock(16, 8)
    torch.nn.init.normal_(block.conv2.weight, std=0.1)
    x, code = torch.randn(2, 16, 4, 6), torch.randn(2, 8)
    expected = block(x, code)
    found = block.to(memory_format=layout)(x.contiguous(memory_format=layout), code)
    assert (found - expected).abs().max() < 1e-5


def test_type_and_layout_are_taken_over() -> None:
    x = torch.randn(2, 16, 4, 6)
    for layout in (torch.channels_last, torch.contiguous_format):
        other = torch.empty_like(x, dtype=torch.bfloat16, memory_format=layout)
        found = matching(x, other)
        assert found.dtype == other.dtype and found.stride() == other.stride()
        assert torch.equal(found, x.bfloat16())


@torch.inference_mode()
def test_only_what_is_open_is_asked_about_mouth_and_lids(
    served_generator: StreamingGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = served_generator.system.video_codec
    request = GenerationRequest(portraits.portrait(), "Hello.", framing="face")
    reference = served_generator.character(request).reference
    motion = codec.read_motion(reference.told[:, :, None]).repeat(1, 4, 1)
    motion[0, 1:3, UNITS.index("eyeBlink")] = torch.tensor([0.5, 1.0])
    motion[0, 2:4, UNITS.index("jawOpen")] = 0.5
    latents = codec.encode_motion(motion)
    asked, where = [], detail._where

    def seen(share: torch.Tensor):
        asked.append(where(share))
        return asked[-1]

    monkeypatch.setattr(detail, "_where", seen)
    found = codec.layers(latents, reference)
    sizes = [
        (rows.stop - rows.start) * (columns.stop - columns.start) for _, rows, columns in asked
    ]
    assert len(sizes) == 2 and max(sizes) < found.detail_flow[0, 0].numel() / 2, "mouth and eyes"
    monkeypatch.setattr(detail, "_where", lambda _: (..., slice(None), slice(None)))
    whole = codec.layers(latents, reference)
    for name in ("detail_painted", "detail_mask"):
        assert (getattr(found, name) - getattr(whole, name)).abs().max() < 1e-6, name
