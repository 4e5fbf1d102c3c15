"""Stable Audio's autoencoder as an audio codec, with tiny random weights: its reach in time is real."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mutual_forcing.audio import resample, resample_waveform
from mutual_forcing.chunks import SAMPLES_PER_CHUNK
from mutual_forcing.codec_config import OobleckConfig
from mutual_forcing.codecs.oobleck import FADE, RATE, OobleckCodec
from mutual_forcing.codecs.protocol import decode_whole
from mutual_forcing.config import SAMPLE_RATE, TokenGrid

pytest.importorskip("diffusers", reason="Python 3.11 and later")

from tiny_codecs import oobleck_codec, oobleck_network


def latents(count: int = 56, seed: int = 0, rows: int = 1) -> torch.Tensor:
    """Latents that change as sound does, not from each to the next."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(rows, 8, count, generator=generator)
    return 2 * torch.nn.functional.avg_pool1d(drawn, 5, 1, 2)


def offline(codec: OobleckCodec, given: torch.Tensor) -> torch.Tensor:
    """The sound of a whole clip by diffusers' own decode."""
    return resample_waveform(codec.vae.decode(given).sample.mean(1), RATE, SAMPLE_RATE)


def streamed(codec: OobleckCodec, given: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    state, parts = None, []
    for part in given.split(sizes, 2):
        sound, state = codec.decode(part, state)
        parts.append(sound)
    parts.append(codec.finish(state)[0])
    return torch.cat(parts, 1)


def decibels(sound: torch.Tensor, true: torch.Tensor) -> float:
    """Signal to error, but in the last chunk: a stream that does not look ahead cannot know that it ends."""
    sound, true = (x[:, :-SAMPLES_PER_CHUNK] for x in (sound, true))
    error = (sound - true).square().mean().item()
    return 10 * math.log10(true.square().mean().item() / max(error, 1e-30))


@pytest.mark.slow
def test_fourteen_latents_are_a_chunk() -> None:
    codec = oobleck_codec()
    assert codec.grid == TokenGrid(14, rate=21.875) and codec.grid.seconds == 0.64
    assert codec.channels == 8 and codec.look_ahead == 10
    assert decode_whole(codec, latents(14)).shape == (1, SAMPLES_PER_CHUNK)
    assert codec.encode(torch.zeros(2, 2 * SAMPLES_PER_CHUNK)).shape == (2, 8, 28)


@pytest.mark.slow
def test_with_whole_look_ahead_a_stream_is_the_whole() -> None:
    codec, given = oobleck_codec(), latents()
    true = offline(codec, given)
    assert true.shape == (1, 4 * SAMPLES_PER_CHUNK) and true.std() > 0.01
    assert (streamed(codec, given, [14] * 4) - true).abs().max() < 1e-5
    exact = codec.double()
    true = offline(exact, given.double())
    assert (streamed(exact, given.double(), [14] * 4) - true).abs().max() < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("look_ahead", [0, 1, 4, 10])
def test_the_sound_does_not_depend_on_how_latents_come(look_ahead) -> None:
    codec, given = oobleck_codec(look_ahead), latents()
    at_once = decode_whole(codec, given)
    for sizes in ([14] * 4, [1] * 56, [3, 40, 13]):
        assert torch.equal(streamed(codec, given, sizes), at_once)


@pytest.mark.slow
def test_less_look_ahead_is_less_exact() -> None:
    given, found = latents(14 * 8), []
    for look_ahead in (0, 1, 2, 4, 7, 10):
        codec = oobleck_codec(look_ahead)
        found.append(decibels(streamed(codec, given, [14] * 8), offline(codec, given)))
    # Measured here: 44.4, 45.4, 49.5, 59.9, 81.4 and 137.5 dB.
    assert found == sorted(found)
    assert found[0] > 40 and found[3] > 55 and found[5] > 120


@pytest.mark.parametrize("look_ahead", [0, 4])
def test_a_chunk_goes_on_where_the_one_before_it_ended(look_ahead) -> None:
    codec, given = oobleck_codec(look_ahead), latents(42)
    _, state = codec.decode(given[..., : 14 + look_ahead])
    assert state.guess is not None and state.guess.shape == (1, FADE)
    faded, _ = codec.decode(given[..., 14 + look_ahead :], state)
    hard, _ = codec.decode(given[..., 14 + look_ahead :], replace(state, guess=None))
    apart = hard[:, 0] - state.guess[:, 0]
    assert apart.abs() > 1e-4, "else nothing would have to be faded"
    assert (faded[:, 0] - state.guess[:, 0]).abs() <= apart.abs() / FADE
    assert not torch.equal(faded[:, :FADE], hard[:, :FADE])
    assert torch.equal(faded[:, FADE:SAMPLES_PER_CHUNK], hard[:, FADE:SAMPLES_PER_CHUNK])


def test_sound_comes_as_much_later_as_the_protocol_says() -> None:
    for look_ahead in (0, 4, 10):
        codec, given = oobleck_codec(look_ahead), latents(42)
        state, heard = None, 0
        for count in range(1, 43):
            sound, state = codec.decode(given[..., count - 1 : count], state)
            heard += sound.shape[1]
            assert heard == SAMPLES_PER_CHUNK * max(0, (count - look_ahead) // 14)
        rest, _ = codec.finish(state)
        assert heard + rest.shape[1] == 3 * SAMPLES_PER_CHUNK


def test_streams_share_a_codec_and_a_state_can_be_used_twice() -> None:
    codec, given = oobleck_codec(4), [latents(seed=seed) for seed in (0, 1)]
    alone = [decode_whole(codec, x) for x in given]
    states, made = [None, None], [[], []]
    for chunk in range(4):
        for row in range(2):
            part = given[row][..., 14 * chunk : 14 * chunk + 14]
            again, _ = codec.decode(part, states[row])
            sound, states[row] = codec.decode(part, states[row])
            assert torch.equal(again, sound)
            made[row].append(sound)
    for row in range(2):
        made[row].append(codec.finish(states[row])[0])
        assert torch.equal(torch.cat(made[row], 1), alone[row])


def test_a_stream_goes_on_after_its_end_but_not_within_a_chunk() -> None:
    codec, given = oobleck_codec(), latents(28)
    _, state = codec.decode(given[..., :14])
    first, ended = codec.finish(state)
    assert first.shape == (1, SAMPLES_PER_CHUNK) and codec.finish(ended)[0].shape == (1, 0)
    sound, state = codec.decode(given[..., 14:], ended)
    rest = torch.cat([sound, codec.finish(state)[0]], 1)
    whole = offline(codec, given)
    assert (rest - whole[:, SAMPLES_PER_CHUNK:]).abs().max() < 1e-5, "what was heard is still known"
    _, state = codec.decode(given[..., :5])
    partial, ended = codec.finish(state)
    assert partial.shape == (1, math.ceil(5 * 2048 * SAMPLE_RATE / RATE))
    with pytest.raises(ValueError, match="finished within a chunk"):
        codec.decode(given, ended)


def test_rows_are_decoded_as_each_alone() -> None:
    codec, given = oobleck_codec(4), latents(28, rows=2)
    both = decode_whole(codec, given)
    assert (both[1:] - decode_whole(codec, given[1:])).abs().max() < 1e-5


@pytest.mark.slow
def test_mono_and_stereo_are_heard_and_lengths_rounded() -> None:
    codec = oobleck_codec()
    sound = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, SAMPLES_PER_CHUNK)).float()
    mono = codec.encode(sound[None])
    heard = torch.from_numpy(resample(sound.numpy(), SAMPLE_RATE, RATE))
    true = codec.vae.encode(heard.expand(1, 2, -1)).latent_dist.mode()
    assert (mono - true).abs().max() < 1e-5 and mono.std() > 0.001
    assert (codec.encode(sound.expand(1, 2, -1)) - mono).abs().max() < 1e-5
    other = torch.stack([sound, -sound])[None]
    assert (codec.encode(other) - mono).abs().max() > 0.001
    one = OobleckCodec(
        OobleckConfig(latent_channels=8, encoder_width=16, decoder_width=4, audio_channels=1)
    )
    assert one.encode(other).shape == (1, 8, 14)
    assert (one.encode(other) - one.encode(torch.zeros(1, SAMPLES_PER_CHUNK))).abs().max() < 1e-6
    assert decode_whole(one, latents(14)).shape == (1, SAMPLES_PER_CHUNK)
    for count in (1, 32, 64):  # as many latents as a voice sample is long, rounded to samples
        samples = round(count / codec.grid.rate * SAMPLE_RATE)
        assert codec.encode(torch.zeros(1, samples)).shape[-1] == count
    assert codec.encode(torch.zeros(1, SAMPLES_PER_CHUNK + 200)).shape[-1] == 15


def test_a_folder_of_diffusers_is_loaded_as_it_is(tmp_path) -> None:
    network = oobleck_network()
    network.save_pretrained(tmp_path)
    codec = OobleckCodec.from_pretrained(tmp_path, look_ahead=4)
    given, sound = latents(14), torch.linspace(-0.1, 0.1, 28 * 1024).expand(1, 2, -1)
    assert torch.equal(codec.vae.decode(given).sample, network.decode(given).sample)
    assert torch.equal(codec.vae.encoder(sound), network.encoder(sound))
    assert codec.look_ahead == 4 and codec.channels == 8


def test_impossible_settings_are_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="look-ahead must be 0 to 10"):
        OobleckConfig(look_ahead=11)
    with pytest.raises(ValueError, match="one channel or two"):
        OobleckConfig(audio_channels=3)
    import diffusers

    diffusers.AutoencoderOobleck(
        encoder_hidden_size=8, decoder_channels=4, decoder_input_channels=4, downsampling_ratios=[2, 4],
        channel_multiples=[1, 2],
    ).save_pretrained(tmp_path)  # fmt: skip
    with pytest.raises(ValueError, match="Latents of 8 samples do not divide a chunk"):
        OobleckCodec.from_pretrained(tmp_path)
