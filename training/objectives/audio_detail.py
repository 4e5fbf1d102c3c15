"""Detail of sound: the codec's decoder goes on against critics, from the sound of any corpus.

Losses teach a decoder the middle of all that a latent could mean: envelopes that are too flat between
formants, and a voice that sounds veiled. Critics of spectrograms tell what is too smooth to be speech (as in
MelGAN, arXiv 1910.06711, and UnivNet, arXiv 2106.07889). They are small, see less than 6 kHz, where all of
the veil is (docs/decisions.md), and begin with a decoder that speaks: an hour on a CPU is enough.

The encoder rests, and so do the latents: a transformer that speaks in them needs nothing new.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mutual_forcing.audio import excerpt, mel_filters
from mutual_forcing.codecs.source_filter_codec import (
    SAMPLES_PER_LATENT,
    SourceFilterCodec,
    SourceFilterDecoder,
)
from mutual_forcing.config import SAMPLE_RATE
from mutual_forcing.precision import mixed_precision

from ..data.dataset import Clip, Corpus
from ..distributed import copied
from ..stage_config import Recipe, Sources, Turns
from .audio_codec import mel_distance

CRITICS = (
    (1024, 240, (2, 2, 2), (1, 1, 2)),
    (512, 120, (2, 2, 1), (1, 2, 1)),
    (256, 60, (2, 1, 1), (2, 2, 1)),
)
"""Window and hop of each, and the strides of its layers in frequency and in time."""
HIGHEST = 6000
"""Hertz that critics see."""
WIDTH = 24
MELS = ((2048, 512, 120), (1024, 256, 80), (512, 128, 40), (256, 64, 20))
"""Window, hop and bands of the spectra that stay near the truth's."""
MEL_WEIGHT, CRITIC_WEIGHT, FEATURE_WEIGHT, PITCH_WEIGHT = 10.0, 1.0, 1.0, 30.0
LATENT_NOISE = 0.1
HELDOUT_CLIPS = 6
SHARPNESS, SHARP_BINS = 0.05, 25
"""How much further from their mean over so many bins (1.25 kHz) voiced envelopes end up."""


@dataclass(frozen=True)
class AudioDetailConfig:
    """critics_first: steps in which critics alone learn. latents: length of a segment."""

    kind: ClassVar[str] = "audio_detail"
    critics_first: int
    latents: int = 24

    def build(self, sources: Sources, recipe: Recipe) -> AudioDetailObjective:
        """See ObjectiveConfig. The codec is the finished stage's. Raises ValueError for another kind."""
        codec = sources.system().audio_codec
        if not isinstance(codec, SourceFilterCodec):
            raise ValueError("The audio codec of this preset has no such stage.")
        return AudioDetailObjective(codec, sources.corpus(), self, recipe.batch, recipe.seed)


class SpectrumCritic(nn.Module):
    """Sound [B, N] to what it looks like: a score of each place of its spectrogram, high for speech, and what
    every layer saw.
    """

    window: Tensor

    def __init__(
        self, window: int, hop: int, over_frequency: tuple[int, ...], over_time: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.hop, self.bins = hop, window * HIGHEST // SAMPLE_RATE
        self.register_buffer("window", torch.hann_window(window), persistent=False)
        layers = [nn.Conv2d(2, WIDTH, (5, 7), padding=(2, 3))]
        for strides in zip(over_time, over_frequency, strict=True):
            before = layers[-1].out_channels
            layers.append(nn.Conv2d(before, 2 * WIDTH, (3, 5), stride=strides, padding=(1, 2)))
        layers.append(nn.Conv2d(2 * WIDTH, 2 * WIDTH, 3, padding=1))
        self.layers = nn.ModuleList(layers)
        self.score = nn.Conv2d(2 * WIDTH, 1, 3, padding=1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, audio: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Scores [B, 1, frames, bins], and the features of each layer."""
        size = len(self.window)
        spectrum = torch.stft(
            audio.float(), size, self.hop, window=self.window, return_complex=True
        )[:, : self.bins]
        power = spectrum.real.square() + spectrum.imag.square()
        # About a unit deviation for speech; below 1e-3 nobody hears.
        seen = torch.log(torch.sqrt(power + 1e-9) / size**0.5 + 1e-3) / 2 + 1.5
        seen = seen.transpose(1, 2)[:, None]
        # A convolution does not know where it is, and formants are not the same everywhere.
        pitch = torch.linspace(-1, 1, self.bins, device=audio.device).expand_as(seen)
        hidden = torch.cat([seen, pitch], 1).contiguous(memory_format=torch.channels_last)
        features = []
        for layer in self.layers:
            hidden = F.leaky_relu(layer(hidden), 0.2)
            features.append(hidden)
        return self.score(hidden).float(), features


Seen = list[tuple[Tensor, list[Tensor]]]
"""Scores and features of every critic."""


class AudioDetailObjective:
    """See the configuration."""

    splits = False

    def __init__(
        self,
        codec: SourceFilterCodec,
        corpus: Corpus,
        config: AudioDetailConfig,
        batch: int,
        seed: int,
    ) -> None:
        self.config, self.corpus, self.count, self.seed = config, corpus, batch, seed
        self.model = codec
        self.taught = cast("SourceFilterDecoder", copied(codec.decoder))
        self.taught.requires_grad_(False).eval()
        codec.encoder.requires_grad_(False)
        codec.decoder.requires_grad_(True)
        self.critics = nn.ModuleList(SpectrumCritic(*sizes) for sizes in CRITICS)
        self.networks: dict[str, nn.Module] = {"model": codec, "critics": self.critics}
        self.clips = {name: corpus.split(name) for name in ("train", "development")}
        self._mels = [mel_filters(bands, window) for window, _, bands in MELS]

    def batch(self, step: int) -> Tensor:
        """Random segments [B, N] with a random gain."""
        rng = np.random.default_rng([self.seed, step])
        clips = self.clips["train"]
        chosen = [clips[rng.integers(len(clips))] for _ in range(self.count)]
        return torch.from_numpy(np.stack([self._segment(clip, rng) for clip in chosen]))

    def _segment(self, clip: Clip, rng: np.random.Generator) -> np.ndarray:
        sound, length = self.corpus.sound(clip), self.config.latents * SAMPLES_PER_LATENT
        start = int(rng.integers(max(1, len(sound) - length + 1)))
        return excerpt(sound, start, length).astype(np.float32) * np.float32(rng.uniform(0.5, 1.4))

    def step(self, batch: Tensor, ema: nn.Module, generator: torch.Generator, step: int) -> Turns:
        """Critics learn to tell made sound from true; then the decoder to be taken for true."""
        device = next(self.model.parameters()).device
        audio, decoder = batch.to(device), self.model.decoder
        learns = step >= self.config.critics_first
        with torch.no_grad(), mixed_precision(device):
            latents = self.model.encoder(audio).float()
            noise = torch.randn(latents.shape, generator=generator, device=device)
            share = torch.rand(len(latents), 1, 1, generator=generator, device=device)
            latents = latents + LATENT_NOISE * share * noise
            before, _ = self.taught.predict(latents)
        with torch.set_grad_enabled(learns), mixed_precision(device):
            frames, _ = decoder.predict(latents)
        off = (frames.pitch.log() - before.pitch.log()).abs().mean()
        # Through its phase a pitch would follow every ripple of the spectra: they tell it nothing.
        begin = int(torch.randint(1000, (1,), generator=generator, device=device))
        heard = replace(frames, pitch=before.pitch)
        made, *_ = decoder.synthesize(heard, None, start=begin)

        true = self._seen(audio)
        told = _hinge(true, self._seen(made.detach()))
        yield "critics", {"told": told.mean(), "loss": told.sum()}
        if not learns:
            return
        self.critics.requires_grad_(False)
        false = self._seen(made)
        self.critics.requires_grad_(True)
        values = {
            "mel": self._mel_distance(made, audio),
            "critics": torch.stack([-scores.mean() for scores, _ in false]).mean(),
            "features": _feature_distance(true, false),
            "pitch": off,
        }
        weights = (MEL_WEIGHT, CRITIC_WEIGHT, FEATURE_WEIGHT, PITCH_WEIGHT)
        loss = (torch.stack([*values.values()]) * made.new_tensor(weights)).sum()
        yield "model", {**values, "loss": loss}

    def _seen(self, audio: Tensor) -> Seen:
        """Scores and features of every critic."""
        with mixed_precision(audio.device):
            return [critic(audio) for critic in self.critics]

    def _mel_distance(self, made: Tensor, true: Tensor) -> Tensor:
        """Between logarithms of mel spectra, the mean over their resolutions."""
        distances = [
            mel_distance(made, true, filters, window, hop)
            for (window, hop, _), filters in zip(MELS, self._mels, strict=True)
        ]
        return torch.stack(distances).mean()

    def write_samples(self, ema: Any, folder: Path, step: int) -> dict[str, float]:
        """Six held-out clips, truth then reconstruction, as WAV; how far their spectra are apart, how far the
        pitch is from the one before, and how well critics tell them apart (2: not at all; 0: always).
        """
        clips = (self.clips["development"] or self.clips["train"])[:HELDOUT_CLIPS]
        device, found, sounds = next(ema.parameters()).device, [], []
        for clip in clips:
            sound = clip.read_audio()
            audio = torch.from_numpy(sound)[None].to(device)
            latents = ema.encoder(audio)
            frames, _ = ema.decoder.predict(latents)
            made, *_ = ema.decoder.synthesize(frames, None)
            before, _ = self.taught.predict(latents)
            told = _hinge(self._seen(audio), self._seen(made)).mean()
            distance = self._mel_distance(made, audio)
            off = (frames.pitch.log() - before.pitch.log()).abs().mean()
            found.append([float(distance), float(off), float(told)])
            sounds += [sound, made[0].cpu().numpy()]
        soundfile.write(folder / f"{step:06d}.wav", np.concatenate(sounds), SAMPLE_RATE)
        names = ("heldout/mel", "heldout/pitch", "heldout/told")
        return dict(zip(names, np.mean(found, 0).tolist(), strict=True))

    @torch.no_grad()
    def finish(self, ema: Any) -> None:
        """Make the decoder the mean of what it was and has become, its voiced envelopes a little sharper.

        Critics go on asking for breath and roughness after the veil is gone: the mean is better than either
        (docs/decisions.md). Latents, and with them their statistics, are as they were.
        """
        before = self.taught.state_dict()
        for name, value in ema.decoder.state_dict().items():
            value.lerp_(before[name].to(value.device), 0.5)
        ema.decoder.sharpen(SHARPNESS, SHARP_BINS)


def _hinge(true: Seen, false: Seen) -> Tensor:
    """What each critic loses: 0 where it tells them apart, 2 where it cannot."""
    pairs = zip(true, false, strict=True)
    return torch.stack([F.relu(1 - x[0]).mean() + F.relu(1 + y[0]).mean() for x, y in pairs])


def _feature_distance(true: Seen, false: Seen) -> Tensor:
    """Mean L1 of what the critics' layers saw, each relative to how much it sees."""
    layers = [
        (x.detach().float(), y.float())
        for (_, ours), (_, theirs) in zip(true, false, strict=True)
        for x, y in zip(ours, theirs, strict=True)
    ]
    return torch.stack([(x - y).abs().mean() / (x.abs().mean() + 1e-3) for x, y in layers]).mean()
