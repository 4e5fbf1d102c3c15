"""What torchaudio does here means what it meant before, and its absence of a compiled library is survived."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio

from mutual_forcing import StreamingGenerator
from mutual_forcing.audio import (
    SPEECH_LOUDNESS,
    loudness,
    mel_filters,
    resample,
    to_speech_loudness,
)
from mutual_forcing.codecs.source_filter_codec import Analysis
from mutual_forcing.config import SAMPLE_RATE
from mutual_forcing.media import read_audio
from mutual_forcing.metrics.spectrum import log_mel

VOICES = sorted((Path(__file__).parents[1] / "examples" / "voices").glob("*.flac"))


def sine(hertz: float, rate: int, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate).astype(np.float32)


def triangles(bins: int, fft: int, rate: int) -> torch.Tensor:
    """The mel filters that the codec and the judges were trained with, from their definition."""
    lowest, highest = (2595 * np.log10(1 + hertz / 700) for hertz in (20, rate / 2))
    edges = 700 * (10 ** (np.linspace(lowest, highest, bins + 2) / 2595) - 1)
    frequencies = np.linspace(0, rate / 2, fft // 2 + 1)
    rising = (frequencies - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - frequencies) / np.diff(edges)[1:, None]
    return torch.from_numpy(np.minimum(rising, falling).clip(0)).float()


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return read_audio(VOICES[0])


@pytest.mark.parametrize(("bins", "fft", "rate"), [(80, 1024, SAMPLE_RATE), (40, 512, 16_000)])
def test_mel_filters_are_those_of_the_trained_networks(bins: int, fft: int, rate: int) -> None:
    assert (mel_filters(bins, fft, rate) - triangles(bins, fft, rate)).abs().max() < 1e-4


def test_what_the_judges_see_is_what_they_learned(speech: np.ndarray) -> None:
    heard = torch.from_numpy(resample(speech, SAMPLE_RATE, 16_000))
    whole = torch.stft(heard, 512, 160, window=torch.hann_window(512), return_complex=True)
    filters = triangles(40, 512, 16_000)
    filters = filters / filters.sum(1, keepdim=True)
    known = (filters @ whole.abs()).clamp_min(1e-4).log()[:, : len(heard) // 160]
    found = log_mel(speech)
    assert found.shape == known.shape and (found - known).abs().max() < 1e-4


def test_what_the_codec_sees_stays_precise_under_bfloat16(speech: np.ndarray) -> None:
    samples, analysis = torch.from_numpy(speech)[None], Analysis(80)
    with torch.autocast("cpu", torch.bfloat16):
        found = analysis(samples)
    assert found.dtype == torch.float32 and torch.equal(found, analysis(samples))


@pytest.mark.parametrize(("rate", "target"), [(22_050, 16_000), (44_100, 16_000), (1000, 615)])
def test_resampling_keeps_the_band_and_nothing_beyond_it(rate: int, target: int) -> None:
    inside, beyond = 0.35 * target, 0.62 * target
    found = resample(sine(inside, rate, 4000 / rate), rate, target)
    assert found.dtype == np.float32 and len(found) == -(-4000 * target // rate)
    middle = slice(len(found) // 4, -len(found) // 4)
    assert np.abs(found - sine(inside, target, 4)[: len(found)])[middle].max() < 1e-3
    if beyond < rate / 2:
        assert np.abs(resample(sine(beyond, rate, 4000 / rate), rate, target))[middle].max() < 1e-3
    same = sine(440, SAMPLE_RATE)
    assert np.array_equal(resample(same, SAMPLE_RATE), same)


def test_loudness_is_that_of_torchaudio_and_of_the_standard() -> None:
    # ITU-R BS.1770: a sine of 997 Hz at full scale in one channel has -3.01 LUFS.
    assert loudness(sine(997, SAMPLE_RATE, 2)) == pytest.approx(-3.01, abs=0.1)
    noise = np.random.default_rng(0).normal(0, 0.1, 20_000).astype(np.float32)
    noise[5000:11_000] *= 1e-3
    theirs = torchaudio.functional.loudness(torch.from_numpy(noise)[None], SAMPLE_RATE)
    assert loudness(noise) == pytest.approx(float(theirs), abs=1e-3)
    assert loudness(np.zeros(SAMPLE_RATE, np.float32)) == loudness(np.zeros(0)) == -np.inf
    assert np.isfinite(loudness(noise[:800])), "shorter than a block"


def test_speech_of_any_level_becomes_as_loud_as_the_corpus(speech: np.ndarray) -> None:
    assert loudness(speech) == pytest.approx(SPEECH_LOUDNESS, abs=2)
    assert to_speech_loudness(speech, 3.0) is speech
    for gain in (0.01, 0.3, 9.0):
        louder = to_speech_loudness(speech * np.float32(gain), 3.0)
        assert louder.dtype == np.float32
        assert loudness(louder) == pytest.approx(SPEECH_LOUDNESS, abs=0.01)
    silence = np.zeros(1000, np.float32)
    assert to_speech_loudness(silence, 3.0) is silence


def test_a_quiet_voice_sample_is_heard_as_the_same_voice(
    random_generator: StreamingGenerator, speech: np.ndarray
) -> None:
    count = random_generator.config.model.voice_latents
    usual, quiet = (random_generator._voice(speech * gain, count) for gain in (1.0, 0.03))
    encode = random_generator.system.audio_codec.encode
    samples = torch.from_numpy(np.resize(speech * np.float32(0.03), count * SAMPLE_RATE // 25))
    untouched = encode(samples[None]).transpose(1, 2)
    assert (quiet - usual).abs().mean() < 0.1 * (untouched - usual).abs().mean()


@pytest.mark.slow
@pytest.mark.parametrize("error", ["OSError", "RuntimeError"])
def test_torchaudio_works_without_its_compiled_library(error: str) -> None:
    """As beside a CPU build of torch, and beside one of another CUDA."""
    code = (
        "import torch, numpy as np\n"
        f"def fail(*_): raise {error}('a missing library')\n"
        "torch.ops.load_library = fail\n"
        "from mutual_forcing import audio\n"
        "assert len(audio.resample(np.zeros(441, np.float32), 44_100)) == audio.SAMPLE_RATE // 100\n"
        "assert audio.mel_filters(40, 512).shape == (40, 257)\n"
        "assert -22 < audio.loudness(np.full(24_000, .1, np.float32) * (-1) ** np.arange(24_000))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
