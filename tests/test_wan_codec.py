"""Wan2.2's autoencoder as a video codec, with tiny random weights: the geometry is the real one."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from mutual_forcing.chunks import latents_to_tokens, tokens_to_latents
from mutual_forcing.codec_config import WanCodecConfig
from mutual_forcing.codecs.protocol import FaceCodec, PixelCodec
from mutual_forcing.codecs.wan import WanCodec
from mutual_forcing.config import TokenGrid

pytest.importorskip("diffusers", reason="Python 3.11 and later")

from tiny_codecs import WAN, wan_codec, wan_network


@pytest.fixture(scope="module")
def codec() -> WanCodec:
    return wan_codec()


def film(frames: int = 32, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, 3, frames, 64, 96, generator=generator) * 2 - 1


def latents(codec: WanCodec, count: int = 8, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, codec.channels, count, 2, 3, generator=generator)


def unfolded(tokens: torch.Tensor) -> torch.Tensor:
    """Tokens of 2 x 2 latents, rows first, as the latents that diffusers makes."""
    return torch.nn.functional.pixel_shuffle(tokens.transpose(1, 2), 2).transpose(1, 2)


def test_a_chunk_is_four_latents_of_the_grid(codec) -> None:
    assert codec.grid == TokenGrid(4, 2, 3, 6.25) and codec.channels == 4 * 8
    assert codec.grid.seconds == 0.64 and codec.film_size == (96, 64)
    assert isinstance(codec, PixelCodec) and not isinstance(codec, FaceCodec)
    encoded = codec.encode(film())
    assert encoded.shape == (1, 32, 8, 2, 3)
    assert codec.encode_reference(film()[:, :, 0]).tokens.shape == (1, 6, 32)
    tokens = latents_to_tokens(encoded, codec.grid)
    assert tokens.shape == (1, 2, 24, 32)
    assert torch.equal(tokens_to_latents(tokens, codec.grid), encoded)


@pytest.mark.parametrize(
    ("height", "width", "tokens"), [(192, 352, 66), (480, 768, 360), (704, 1280, 880)]
)
def test_the_sizes_of_the_paper_have_their_tokens(height, width, tokens) -> None:
    config = replace(WAN, height=height, width=width)
    with torch.device("meta"):
        assert WanCodec(config).grid.frame_tokens == tokens


def test_encoding_is_that_of_diffusers_with_the_reference_as_first_latent(codec) -> None:
    pixels, before = film(), film(1, seed=1)
    for reference in (before[:, :, 0], None):
        first = pixels[:, :, :1] if reference is None else before
        whole = codec.vae.encode(torch.cat([first, pixels], 2)).latent_dist.mode()
        made = codec.encode(pixels, reference)
        assert torch.equal(unfolded(made), whole[:, :, 1:])
        assert torch.equal(
            unfolded(codec.encode_reference(first[:, :, 0]).latent[:, :, None]), whole[:, :, :1]
        )


def test_decoding_chunk_by_chunk_is_that_of_diffusers_at_once(codec) -> None:
    reference = codec.encode_reference(film()[:, :, 0])
    given = latents(codec)
    whole = codec.vae.decode(unfolded(torch.cat([reference.latent[:, :, None], given], 2))).sample
    at_once, _ = codec.decode(given, reference)
    assert at_once.shape == (1, 3, 32, 64, 96) and at_once.std() > 0.01
    assert (whole[:, :, 1:] - at_once).abs().max() == 0
    for sizes in ([4, 4], [1, 3, 4]):
        state, parts = codec.begin(0), []
        for part in given.split(sizes, 2):
            frames, state = codec.decode(part, reference, state)
            parts.append(frames)
        assert (torch.cat(parts, 2) - at_once).abs().max() == 0


def test_streams_share_a_codec_and_a_state_can_be_used_twice(codec) -> None:
    references = [codec.encode_reference(film(1, seed)[:, :, 0]) for seed in (0, 1)]
    given = [latents(codec, 4, seed) for seed in (0, 1)]
    alone = [codec.decode(x, r)[0] for x, r in zip(given, references, strict=True)]
    states, made = [codec.begin(0), codec.begin(1)], [[], []]
    for chunk in range(2):
        for row in range(2):
            part = given[row][:, :, 2 * chunk : 2 * chunk + 2]
            again, _ = codec.decode(part, references[row], states[row])
            frames, states[row] = codec.decode(part, references[row], states[row])
            assert torch.equal(again, frames)
            made[row].append(frames)
    for row in range(2):
        assert torch.equal(torch.cat(made[row], 2), alone[row])
    assert not torch.equal(alone[0], alone[1])


def test_several_rows_are_decoded_as_each_alone(codec) -> None:
    both = torch.cat([film(8), film(8, seed=1)])
    encoded = codec.encode(both)
    assert (encoded[1:] - codec.encode(both[1:])).abs().max() < 1e-5
    reference = codec.encode_reference(both[:, :, 0])
    frames, _ = codec.decode(encoded, reference)
    alone, _ = codec.decode(encoded[1:], codec.encode_reference(both[1:, :, 0]))
    assert (frames[1:] - alone).abs().max() < 1e-5
    with pytest.raises(ValueError, match="one stream, not to 2"):
        codec.animate(encoded, None, reference)


def test_a_film_is_what_is_decoded_in_bytes(codec) -> None:
    reference = codec.encode_reference(film()[:, :, 0])
    frames, state = codec.animate(latents(codec)[:, :, :4], None, reference, codec.begin(0))
    signal, _ = codec.decode(latents(codec)[:, :, :4], reference)
    assert frames.shape == (16, 64, 96, 3) and frames.dtype == np.uint8
    difference = signal[0].permute(1, 2, 3, 0).numpy() - (frames / 127.5 - 1)
    assert np.abs(difference).max() <= 0.5 / 127.5 + 1e-6
    assert state.cache is not None and state.nbytes > 100_000 > codec.begin(0).nbytes == 0


def test_statistics_move_latents_and_no_film(codec) -> None:
    own = wan_codec()
    raw = own.encode(film(4))
    mean, std = torch.linspace(-1, 1, 8), torch.linspace(0.5, 2, 8)
    own.set_statistics(mean, std)
    standardised = own.encode(film(4))
    spread = (v.repeat_interleave(4)[:, None, None, None] for v in (mean, std))
    shift, scale = spread
    assert (standardised * scale + shift - raw).abs().max() < 1e-6
    before = codec.decode(raw, codec.encode_reference(film(4)[:, :, 0]))[0]
    after = own.decode(standardised, own.encode_reference(film(4)[:, :, 0]))[0]
    assert (before - after).abs().max() < 1e-4


def test_what_tokens_would_drop_is_refused(codec) -> None:
    for height, width, side in ((192, 336, "width"), (200, 352, "height"), (0, 64, "height")):
        with pytest.raises(ValueError, match=f"film's {side} must be a multiple of 32 pixels"):
            WanCodecConfig(height, width)
    with pytest.raises(ValueError, match="320 or 352, not 336"):
        WanCodecConfig(192, 336)
    assert WanCodecConfig(192, 336, patch=1).width == 336
    with pytest.raises(ValueError, match="frames of 64 x 96, not 64 x 112"):
        codec.encode(torch.zeros(1, 3, 4, 64, 112))
    with pytest.raises(ValueError, match="6 frames are no whole number of latents"):
        codec.encode(torch.zeros(1, 3, 6, 64, 96))


def test_a_folder_of_diffusers_is_loaded_as_it_is(tmp_path) -> None:
    network = wan_network()
    network.save_pretrained(tmp_path / "model" / "vae")
    codec = WanCodec.from_pretrained(tmp_path / "model", 64, 96, subfolder="vae")
    assert not codec.training and not any(p.requires_grad for p in codec.parameters())
    mean, std = (torch.tensor(network.config[name]) for name in ("latents_mean", "latents_std"))
    encoded = unfolded(codec.encode(film(8)))
    first = film(8)[:, :, :1]
    raw = network.encode(torch.cat([first, film(8)], 2)).latent_dist.mode()[:, :, 1:]
    own = encoded * std.view(-1, 1, 1, 1) + mean.view(-1, 1, 1, 1)
    assert (own - raw).abs().max() < 1e-6
    reference = codec.encode_reference(first[:, :, 0])
    frames, _ = codec.decode(codec.encode(film(8)), reference)
    whole = network.encode(torch.cat([first, film(8)], 2)).latent_dist.mode()
    assert (frames - network.decode(whole).sample[:, :, 1:]).abs().max() < 1e-5


def test_weights_in_several_files_are_found_by_their_index(tmp_path) -> None:
    network = wan_network()
    network.save_pretrained(tmp_path, max_shard_size="1MB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    loaded = WanCodec.from_pretrained(tmp_path, 64, 96).vae.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in network.state_dict().items())


def test_a_commit_in_the_hub_s_cache_is_loaded_without_a_network(tmp_path, monkeypatch) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "models--owner--name" / "snapshots" / commit
    wan_network().save_pretrained(snapshot / "vae")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    codec = WanCodec.from_pretrained("owner/name", 64, 96, revision=commit, subfolder="vae")
    assert codec.channels == 32
    with pytest.raises(ValueError, match="owner/other@abc can neither be fetched"):
        WanCodec.from_pretrained("owner/other", 64, 96, revision="abc")


def test_what_is_no_autoencoder_of_wan_is_refused(tmp_path) -> None:
    def refused(message: str) -> None:
        with pytest.raises(ValueError, match=message):
            WanCodec.from_pretrained(tmp_path, 64, 96)

    with pytest.raises(ValueError, match="give a folder or a Hub repository"):
        WanCodec.from_pretrained(tmp_path / "nothing", 64, 96)
    refused("holds no config.json")
    network = wan_network()
    network.save_pretrained(tmp_path)
    weights, config = tmp_path / "diffusion_pytorch_model.safetensors", tmp_path / "config.json"
    whole, said = weights.read_bytes(), json.loads(config.read_text())
    weights.unlink()
    torch.save(network.state_dict(), tmp_path / "diffusion_pytorch_model.bin")
    refused("pickled weights are never loaded")
    weights.write_bytes(whole[:1000])
    refused("not a readable safetensors file")
    weights.write_bytes(whole)
    config.write_text(json.dumps({**said, "base_dim": 16}))
    refused("do not fit its config.json")
    config.write_text(json.dumps({**said, "_class_name": "AutoencoderOobleck"}))
    refused("the network AutoencoderOobleck, not AutoencoderKLWan")
    config.write_text(json.dumps({**said, "unknown": 1}))
    refused("is not one of AutoencoderKLWan")
    config.write_text(json.dumps({**said, "scale_factor_spatial": 8}))
    refused("not of Wan2.2")
    config.write_text(json.dumps(said))
    for name, parameter in network.named_parameters():
        if name.endswith("conv_in.bias"):
            parameter.data[0] = float("nan")
    network.save_pretrained(tmp_path)
    refused("not all finite")
