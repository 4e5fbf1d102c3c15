"""The source-filter codec: chunk by chunk is the whole, and its sources are what they claim."""

import numpy as np
import pytest
import torch

from mutual_forcing.codecs.source_filter_codec import (
    BINS,
    FRAME,
    FRAMES_PER_LATENT,
    HIGHEST_HARMONIC,
    HOP,
    SAMPLES_PER_LATENT,
    Frames,
    SourceFilterCodec,
    pulses,
)
from mutual_forcing.config import SAMPLE_RATE, SourceFilterConfig

SILENT = -20.0


@pytest.fixture(scope="module")
def codec() -> SourceFilterCodec:
    torch.manual_seed(0)
    small = SourceFilterConfig(encoder_width=32, decoder_width=32, latent_channels=8)
    return SourceFilterCodec(small).eval().requires_grad_(False)


@pytest.mark.parametrize(("lengths", "bound"), [((16, 16, 16), 1e-4), ((1, 2, 45), 5e-3)])
def test_chunk_by_chunk_is_the_whole(
    codec: SourceFilterCodec, lengths: tuple[int, ...], bound: float
) -> None:
    """A phase adds up what pitches round differently where convolutions have other lengths: up to 2e-3 of
    1.3, by the processor and its threads. Streams have one length.
    """
    latents = torch.randn(2, 8, 48, generator=torch.Generator().manual_seed(1)) * 2
    whole, _ = codec.decode(latents)
    assert whole.shape == (2, 48 * SAMPLES_PER_LATENT) and whole.std() > 1e-3
    state, parts = None, []
    for part in latents.split(lengths, 2):
        audio, state = codec.decode(part, state)
        parts.append(audio)
    assert (torch.cat(parts, 1) - whole).abs().max() < bound
    assert state.frames == 48 * FRAMES_PER_LATENT


def test_streams_side_by_side_do_not_mix(codec: SourceFilterCodec) -> None:
    latents = torch.randn(2, 8, 12, generator=torch.Generator().manual_seed(2))
    both, _ = codec.decode(latents)
    for row in range(2):
        alone, _ = codec.decode(latents[row : row + 1])
        assert (alone[0] - both[row]).abs().max() < 1e-3, "a mix would be as loud as the sound"


def _spectrum(audio: torch.Tensor) -> torch.Tensor:
    """Amplitudes by hertz, from the second second."""
    part = audio[0, SAMPLE_RATE : 2 * SAMPLE_RATE]
    return torch.fft.rfft(part * torch.hann_window(SAMPLE_RATE)).abs() * 4 / SAMPLE_RATE


def test_voiced_sound_has_the_harmonics_of_its_pitch(codec: SourceFilterCodec) -> None:
    shape = (1, 2 * SAMPLE_RATE // HOP + 4)
    flat, silent = torch.zeros(*shape, BINS), torch.full((*shape, BINS), SILENT)
    frames = Frames(torch.full(shape, 125.0), flat, silent)
    audio, *_ = codec.decoder.synthesize(frames, None)
    found = _spectrum(audio)
    for harmonic in (1, 2, 10, 60):
        assert found[125 * harmonic] == pytest.approx(1, abs=0.02)
        assert found[125 * harmonic + 62] < 1e-3
    assert found[12_000 - 60 :].max() < 1e-3, "nothing above the highest harmonic"


def test_unvoiced_sound_is_noise_of_the_envelope_s_height(codec: SourceFilterCodec) -> None:
    shape = (1, 400)
    silent = torch.full((*shape, BINS), SILENT)
    frames = Frames(torch.full(shape, 125.0), silent, torch.zeros(*shape, BINS))
    audio, *_ = codec.decoder.synthesize(frames, None)
    loud, *_ = codec.decoder.synthesize(
        Frames(frames.pitch, silent, torch.full((*shape, BINS), float(np.log(2)))), None
    )
    assert torch.allclose(loud, 2 * audio, atol=1e-3)
    bands = _spectrum(audio).square()[:12_000].view(6, 2000).mean(1)
    assert bands.max() / bands.min() < 1.3, "white"


def test_pulses_follow_a_gliding_pitch() -> None:
    """Every harmonic has amplitude 1: all pulses are as high as there are harmonics."""
    pitch, slope = torch.tensor([[150.0]]), torch.tensor([[0.02]])
    train = pulses(torch.zeros(1, 1, dtype=torch.float64), pitch, slope)[0, 0]
    count = int(HIGHEST_HARMONIC // 150)
    # The middle lies between two samples, where the highest harmonic has turned by a quarter.
    assert 0.6 * count < train[FRAME // 2] < count
    peaks = (train > 0.5 * count).nonzero()[:, 0]
    gaps = peaks.diff()[peaks.diff() > 10].float()
    assert gaps[0] > gaps[-1], "a rising pitch brings pulses closer together"


def test_a_length_that_does_not_fit_is_refused(codec: SourceFilterCodec) -> None:
    with pytest.raises(ValueError, match="no whole number of latents"):
        codec.encode(torch.zeros(1, 1000))
    assert codec.encode(torch.zeros(1, 1920)).shape == (1, 8, 2)


def test_statistics_do_not_change_reconstructions() -> None:
    torch.manual_seed(0)
    small = SourceFilterConfig(encoder_width=32, decoder_width=32, latent_channels=8)
    model = SourceFilterCodec(small).eval().requires_grad_(False)
    audio = torch.randn(1, 9600) * 0.1
    before, _ = model.decode(model.encode(audio))
    model.set_statistics(torch.randn(8), torch.rand(8) + 0.5)
    after, _ = model.decode(model.encode(audio))
    assert (before - after).abs().max() < 1e-3
