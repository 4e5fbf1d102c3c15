"""The source-filter codec learns: WORLD's frames first, then spectra, with a resting encoder."""

import json

import numpy as np
import pytest
import soundfile
import torch

pytest.importorskip("pyworld", reason="pip install -r training/requirements.txt")

from mutual_forcing.codecs.source_filter_codec import BINS, HOP, Frames, SourceFilterCodec
from mutual_forcing.config import SAMPLE_RATE, SourceFilterConfig
from training.data import world
from training.data.dataset import Corpus
from training.objectives.audio_codec import (
    SourceFilterCodecConfig,
    SourceFilterCodecObjective,
    segment,
)
from training.objectives.audio_detail import AudioDetailConfig, AudioDetailObjective

SMALL = SourceFilterConfig(encoder_width=32, decoder_width=32, latent_channels=8)


def vowel(pitch: float, seconds: float) -> np.ndarray:
    """A buzz through two formants, with breath."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    harmonics = np.arange(1, int(8000 / pitch))
    near = [np.exp(-(((harmonics * pitch - f) / 250) ** 2)) for f in (600, 1400)]
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, len(harmonics))
    angle = 2 * np.pi * pitch * harmonics * time[:, None] + phases
    sound = (np.cos(angle) * (near[0] + near[1] + 0.02)).sum(1)
    sound = 0.08 * sound / sound.std() + np.random.default_rng(1).normal(0, 0.002, len(time))
    return sound.astype(np.float32)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    folder = tmp_path_factory.mktemp("vowels")
    rows = []
    for index, pitch in enumerate((110.0, 150.0, 220.0)):
        soundfile.write(folder / f"{index}.flac", vowel(pitch, 1.92), SAMPLE_RATE)
        split = "development" if index == 2 else "train"
        rows.append({"index": index, "path": f"{index}.flac", "split": split, "frames": 48})
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    for clip in Corpus(folder).clips:
        world.write_frames(clip)
    return Corpus(folder)


@pytest.mark.parametrize("pitch", [90.0, 150.0, 220.0])
def test_the_frames_are_the_sound(pitch: float) -> None:
    """WORLD's frames, through the codec's sources, sound as they did: pitch, loudness, colour."""
    sound = vowel(pitch, 1.0)
    frames = torch.from_numpy(world.analyse(sound).astype(np.float32))[None, 20:-20]
    voiced, unvoiced = frames[..., 1:].split(BINS, -1)
    assert (frames[..., 0] / pitch - 1).abs().max() < 0.01
    decoder = SourceFilterCodec(SMALL).decoder
    made, *_ = decoder.synthesize(Frames(frames[..., 0], voiced, unvoiced), None)
    made, sound = made[0, 2000:].numpy(), sound[20 * HOP + 2000 :]
    assert abs(20 * np.log10(made.std() / sound.std())) < 1
    ours, theirs = (np.abs(np.fft.rfft(x[:16000] * np.hanning(16000))) for x in (made, sound))
    assert abs(np.argmax(ours) - np.argmax(theirs)) <= 2
    bands = [np.log10([p.sum() for p in np.split(s[:6000] ** 2, 12)]) for s in (ours, theirs)]
    assert np.abs(bands[0] - bands[1])[:3].max() < 0.3, "within 3 dB where there is sound"


def test_a_segment_beyond_the_end_is_silent() -> None:
    sound = vowel(150.0, 0.5)
    part, pitch, has_pitch, envelopes = segment(sound, world.analyse(sound), 50, 12000, 0.5)
    assert len(part) == 12000 and len(pitch) == len(has_pitch) == len(envelopes) == 100
    assert not part[6000:].any() and not has_pitch[51:].any() and (pitch > 50).all()
    assert part[:6000].std() == pytest.approx(0.04, rel=0.1)


@pytest.mark.slow
def test_frames_are_learned_and_then_the_encoder_rests(corpus: Corpus) -> None:
    torch.manual_seed(0)
    config = SourceFilterCodecConfig(spectral_from=60, latents=16)
    objective = SourceFilterCodecObjective(SMALL, corpus, config, batch=4, seed=0)
    optimizer = torch.optim.Adam(objective.model.parameters(), 3e-3)
    losses, encoders, decoders = [], [], []
    for step in range(64):
        generator = torch.Generator().manual_seed(step)
        for name, values in objective.step(objective.batch(step), objective.model, generator, step):
            assert name == "model"
            optimizer.zero_grad()
            values["loss"].backward()
            optimizer.step()
            losses.append({k: float(v.detach()) for k, v in values.items()})
        encoders.append(objective.model.encoder.out.weight.detach().clone())
        decoders.append(objective.model.decoder.out.weight.detach().clone())
    assert losses[59]["voiced"] < 0.6 * losses[0]["voiced"] and "mel" not in losses[59]
    assert losses[59]["pitch"] < losses[0]["pitch"]
    assert torch.equal(encoders[60], encoders[63]) and not torch.equal(encoders[58], encoders[59])
    assert not torch.equal(decoders[60], decoders[63]) and losses[63]["mel"] > 0
    objective.finish(objective.model)
    latents = objective.model.encode(objective.batch(0).audio).detach()
    assert latents.mean().abs() < 0.3 and abs(float(latents.std()) - 1) < 0.3


@pytest.mark.slow
def test_samples_are_written(corpus: Corpus, tmp_path) -> None:
    config = SourceFilterCodecConfig(spectral_from=2)
    objective = SourceFilterCodecObjective(SMALL, corpus, config, batch=1, seed=0)
    with torch.no_grad():
        found = objective.write_samples(objective.model, tmp_path, 5)
    assert set(found) >= {"heldout/pitch", "heldout/mel"} and all(v > 0 for v in found.values())
    sound, rate = soundfile.read(tmp_path / "000005.wav")
    assert rate == SAMPLE_RATE and len(sound) == 2 * 48 * 960


@pytest.mark.slow
def test_a_corpus_that_was_not_analysed_is_refused(corpus: Corpus, tmp_path) -> None:
    soundfile.write(tmp_path / "0.flac", vowel(150.0, 0.64), SAMPLE_RATE)
    row = {"index": 0, "path": "0.flac", "split": "train", "frames": 16}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(row) + "\n")
    config = SourceFilterCodecConfig(spectral_from=2)
    with pytest.raises(ValueError, match=r"training\.data\.world first"):
        SourceFilterCodecObjective(SMALL, Corpus(tmp_path), config, batch=1, seed=0)


@pytest.mark.slow
def test_the_decoder_goes_on_against_critics_and_latents_rest(corpus: Corpus, tmp_path) -> None:
    """Critics learn alone, to tell noise of an untaught decoder from vowels; then the decoder follows."""
    torch.manual_seed(0)
    codec = SourceFilterCodec(SMALL)
    config = AudioDetailConfig(critics_first=25, latents=8)
    objective = AudioDetailObjective(codec, corpus, config, batch=2, seed=0)
    before = {name: value.clone() for name, value in codec.state_dict().items()}
    latents = codec.encode(objective.batch(0)).detach()
    rates = {"critics": 2e-3, "model": 1e-3}
    optimizers = {
        name: torch.optim.Adam([p for p in network.parameters() if p.requires_grad], rates[name])
        for name, network in objective.networks.items()
    }
    told, distances = [], []
    for step in range(60):
        generator = torch.Generator().manual_seed(step)
        for name, values in objective.step(objective.batch(step), codec, generator, step):
            optimizers[name].zero_grad()
            values["loss"].backward()
            optimizers[name].step()
            if name == "critics":
                told.append(float(values["told"].detach()))
            else:
                distances.append(float(values["mel"].detach()))
        if step == 24:
            same = [torch.equal(value, before[name]) for name, value in codec.state_dict().items()]
            assert all(same) and not distances, "critics learn alone"
    assert min(told[20:25]) < 0.8 * told[0]
    assert np.mean(distances[-5:]) < 0.9 * np.mean(distances[:5])
    assert torch.equal(codec.encode(objective.batch(0)), latents)
    with torch.no_grad():
        found = objective.write_samples(codec, tmp_path, 60)
    assert set(found) == {"heldout/mel", "heldout/pitch", "heldout/told"}
    assert found["heldout/pitch"] > 0 and (tmp_path / "000060.wav").exists()
    learnt = {name: value.clone() for name, value in codec.state_dict().items()}
    objective.finish(codec)
    name = "decoder.input.weight"
    mean = (learnt[name] + before[name]) / 2
    assert torch.allclose(codec.state_dict()[name], mean, atol=1e-6)
    assert torch.equal(codec.encode(objective.batch(0)), latents)


def test_sharper_envelopes_are_further_from_their_mean() -> None:
    """In the decoder's own weights, and nothing else of its frames changes."""
    torch.manual_seed(0)
    decoder = SourceFilterCodec(SMALL).decoder
    latents = torch.randn(2, 8, 6)
    with torch.no_grad():
        before, _ = decoder.predict(latents)
        decoder.sharpen(0.4, 25)
        after, _ = decoder.predict(latents)
    padded = torch.nn.functional.pad(before.voiced, (12, 12), mode="replicate")
    mean = padded.unfold(-1, 25, 1).mean(-1)
    expected = before.voiced + 0.4 * (before.voiced - mean)
    assert torch.allclose(after.voiced, expected, atol=1e-4)
    assert torch.equal(after.pitch, before.pitch) and torch.equal(after.unvoiced, before.unvoiced)
