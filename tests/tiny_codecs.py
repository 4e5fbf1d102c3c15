"""Public codecs as small as they get, with random weights; folders of them as diffusers writes them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import torch

from mutual_forcing.codec_config import OobleckConfig, PublicWeights, WanCodecConfig
from mutual_forcing.codecs.oobleck import OobleckCodec
from mutual_forcing.codecs.wan import WanCodec
from mutual_forcing.config import BranchConfig, SystemConfig, TokenGrid, preset

WAN = WanCodecConfig(
    64, 96, latent_channels=8, encoder_width=8, decoder_width=8, blocks=1
)  # 2 x 3 tokens
OOBLECK = OobleckConfig(latent_channels=8, encoder_width=16, decoder_width=4)
WAN_NETWORK = {
    "base_dim": 8, "decoder_base_dim": 8, "z_dim": 8, "num_res_blocks": 1, "is_residual": True,
    "temperal_downsample": [False, True, True], "in_channels": 12, "out_channels": 12, "patch_size": 2,
    "scale_factor_spatial": 16, "latents_mean": [0.1 * i - 0.4 for i in range(8)],
    "latents_std": [0.5 + 0.1 * i for i in range(8)],
}  # fmt: skip
OOBLECK_NETWORK = {
    "encoder_hidden_size": 16, "decoder_channels": 4, "decoder_input_channels": 8,
}  # fmt: skip


def seeded(make: Any) -> Any:
    """What `make` returns with random weights that are always the same, for inference."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().eval().requires_grad_(False)


def wan_codec(config: WanCodecConfig = WAN) -> WanCodec:
    return seeded(lambda: WanCodec(config))


def oobleck_codec(look_ahead: int = 10) -> OobleckCodec:
    return seeded(lambda: OobleckCodec(replace(OOBLECK, look_ahead=look_ahead)))


def wan_network() -> Any:
    return seeded(lambda: diffusers.AutoencoderKLWan(**WAN_NETWORK))


def oobleck_network() -> Any:
    return seeded(lambda: diffusers.AutoencoderOobleck(**OOBLECK_NETWORK))


def system_config(wan: WanCodecConfig = WAN, oobleck: OobleckConfig = OOBLECK) -> SystemConfig:
    """A small transformer with a spatial grid over both codecs."""
    smoke = preset("smoke")
    height, width = wan.height // 32, wan.width // 32
    model = replace(
        smoke.model,
        video=BranchConfig(width=48, token_dim=32, grid=TokenGrid(4, height, width, 6.25)),
        audio=BranchConfig(width=32, token_dim=8, grid=TokenGrid(14, rate=21.875)),
    )
    return replace(smoke, name="pixels", video_codec=wan, audio_codec=oobleck, model=model)


def with_weights(wan: Path | str, oobleck: Path | str) -> SystemConfig:
    """The same with public weights from two folders."""
    return system_config(
        replace(WAN, weights=PublicWeights(str(wan))),
        replace(OOBLECK, weights=PublicWeights(str(oobleck))),
    )
