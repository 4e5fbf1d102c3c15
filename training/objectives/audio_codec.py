"""Source-filter codec: WORLD's frames first, then sound itself.

A harmonic that is a little beside the true one is as wrong as one that is far away: spectra alone teach a
pitch only when it is nearly known, and noise that no two realisations share drowns what they say of
envelopes. So the codec learns to read and write the frames that WORLD hears, which are smooth and the same
every time; then the encoder rests and the decoder learns from spectra what WORLD's frames lose.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import soundfile
import torch
from torch import Tensor, nn

from mutual_forcing.audio import mel_filters
from mutual_forcing.codecs.source_filter_codec import (
    BINS,
    FRAME,
    HOP,
    SAMPLES_PER_LATENT,
    Frames,
    SourceFilterCodec,
)
from mutual_forcing.config import SAMPLE_RATE, SourceFilterConfig
from mutual_forcing.precision import mixed_precision

from ..data.dataset import Clip, Corpus
from ..data.world import frames_path
from ..stage_config import Recipe, Sources, Turns

RESOLUTIONS = ((2048, 512), (1024, 256), (512, 128), (256, 64), (128, 32))
LATENT_NOISE = 0.15
KL_WEIGHT = 0.03
PITCH_WEIGHT, FRAMES_WEIGHT, MEL_WEIGHT = 15.0, 0.3, 3.0
QUIETEST_VOICED, QUIETEST_UNVOICED = -9.0, -10.5
"""Gains below these are all the same to an ear."""
LOUD = -4.5
"""Below this gain of its loudest harmonic a pitch hardly counts: WORLD's is a guess there."""


@dataclass(frozen=True)
class SourceFilterCodecConfig:
    """latents: length of a segment. spectral_from: the step from which the encoder rests and the decoder
    learns from spectra.
    """

    kind: ClassVar[str] = "audio_codec"
    spectral_from: int
    latents: int = 32

    def build(self, sources: Sources, recipe: Recipe) -> SourceFilterCodecObjective:
        """See ObjectiveConfig."""
        codec = sources.system_config.audio_codec
        return SourceFilterCodecObjective(codec, sources.corpus(), self, recipe.batch, recipe.seed)


def magnitude(audio: Tensor, window: int, hop: int) -> Tensor:
    """|STFT| of [B, N]: [B, window / 2 + 1, frames]."""
    taper = torch.hann_window(window, device=audio.device)
    spectrum = torch.stft(audio.float(), window, hop, window=taper, return_complex=True)
    return torch.sqrt(spectrum.real.square() + spectrum.imag.square() + 1e-9)


def mel_distance(ours: Tensor, theirs: Tensor, filters: Tensor, window: int, hop: int) -> Tensor:
    """Mean L1 between the logarithms of mel spectra of [B, N]; filters as of audio.mel_filters."""
    filters = filters.to(ours.device)
    heard = [torch.log(filters @ magnitude(x, window, hop) + 1e-3) for x in (ours, theirs)]
    return (heard[0] - heard[1]).abs().mean()


@dataclass(frozen=True)
class SpeechBatch:
    """Sound [B, N]; and of WORLD's frames the pitch in hertz, interpolated where there is none, where there
    is one (bool), both [B, F], and the envelopes' logarithms [B, F, 2 K], voiced first.
    """

    audio: Tensor
    pitch: Tensor
    has_pitch: Tensor
    envelopes: Tensor


class SourceFilterCodecObjective:
    """See the configuration."""

    splits = False

    def __init__(
        self,
        codec: SourceFilterConfig,
        corpus: Corpus,
        config: SourceFilterCodecConfig,
        batch: int,
        seed: int,
    ) -> None:
        """Clips that were not analysed are left out; raises ValueError if nothing to train on is left."""
        self.config, self.corpus, self.count, self.seed = config, corpus, batch, seed
        self.model = SourceFilterCodec(codec)
        self.networks: dict[str, nn.Module] = {"model": self.model}
        self.clips = {
            name: [clip for clip in corpus.split(name) if frames_path(clip).exists()]
            for name in ("train", "development")
        }
        if not self.clips["train"]:
            raise ValueError("No clip was analysed: run python -m training.data.world first.")
        mel_density = 1 / (700 + torch.arange(BINS) * SAMPLE_RATE / FRAME)
        self._importance = 0.2 + 0.8 * mel_density / mel_density.mean()
        self._mel = mel_filters(100, 1024)

    def batch(self, step: int) -> SpeechBatch:
        """Random segments with a random gain."""
        rng = np.random.default_rng([self.seed, step])
        clips = self.clips["train"]
        chosen = [clips[rng.integers(len(clips))] for _ in range(self.count)]
        return _stack([self._segment(clip, rng) for clip in chosen])

    def _segment(self, clip: Clip, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        sound, known = self.corpus.sound(clip), np.load(frames_path(clip), mmap_mode="r")
        samples = self.config.latents * SAMPLES_PER_LATENT
        start = int(rng.integers(0, max(1, (len(sound) - samples) // HOP + 1)))
        return segment(sound, known, start, samples, float(rng.uniform(0.5, 1.4)))

    def step(
        self, batch: SpeechBatch, ema: nn.Module, generator: torch.Generator, step: int
    ) -> Turns:
        """Frames, then the spectra of what the decoder makes of its frames."""
        spectral = step >= self.config.spectral_from
        device = next(self.model.parameters()).device
        audio = batch.audio.to(device)
        with torch.set_grad_enabled(not spectral), mixed_precision(device):
            latents = self.model.encoder(audio).float()
        noise = torch.randn(latents.shape, generator=generator, device=device) * LATENT_NOISE
        with mixed_precision(device):
            frames, _ = self.model.decoder.predict(latents + noise)
        values = self.frame_losses(frames, batch)
        known = PITCH_WEIGHT * values["pitch"] + values["voiced"] + values["unvoiced"]
        if not spectral:
            values["kl"] = latents.square().mean()
            yield "model", {**values, "loss": known + KL_WEIGHT * values["kl"]}
            return
        # Through its phase a pitch would follow every ripple of the spectra: they tell it nothing.
        frames = replace(frames, pitch=frames.pitch.detach())
        begin = int(torch.randint(1000, (1,), generator=generator, device=device))
        output, *_ = self.model.decoder.synthesize(frames, None, start=begin)
        values |= self.spectral_losses(output, audio)
        loss = MEL_WEIGHT * values["mel"] + values["stft"] + FRAMES_WEIGHT * known
        yield "model", {**values, "loss": loss}

    def frame_losses(self, frames: Frames, batch: SpeechBatch) -> dict[str, Tensor]:
        """How far frames are from WORLD's, in logarithms; the ear's low frequencies count more."""
        device = frames.pitch.device
        importance = self._importance.to(device)
        voiced, unvoiced = batch.envelopes.to(device).split(BINS, -1)
        loud = torch.sigmoid(2 * (voiced[..., : BINS // 4].amax(-1) - LOUD))
        weight = loud * batch.has_pitch.to(device)
        off = (frames.pitch.log() - batch.pitch.to(device).log()).abs()

        def distance(ours: Tensor, theirs: Tensor, quietest: float) -> Tensor:
            difference = ours.clamp_min(quietest) - theirs.clamp_min(quietest)
            return (difference.abs() * importance).mean()

        return {
            "pitch": (off * weight).sum() / weight.sum().clamp_min(1),
            "voiced": distance(frames.voiced, voiced, QUIETEST_VOICED),
            "unvoiced": distance(frames.unvoiced, unvoiced, QUIETEST_UNVOICED),
        }

    def spectral_losses(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Distances of log-mel spectra, and of magnitudes in five resolutions."""
        stft = target.new_zeros(())
        for window, hop in RESOLUTIONS:
            ours, truth = magnitude(output, window, hop), magnitude(target, window, hop)
            quiet = 1e-3 * math.sqrt(window / 1024)
            convergence = (ours - truth).norm() / truth.norm().clamp_min(1e-3)
            logs = (torch.log(ours + quiet) - torch.log(truth + quiet)).abs().mean()
            stft = stft + (convergence + logs) / len(RESOLUTIONS)
        return {"mel": mel_distance(output, target, self._mel, 1024, 256), "stft": stft}

    def write_samples(self, ema: nn.Module, folder: Path, step: int) -> dict[str, float]:
        """Six held-out clips, truth then reconstruction, as WAV; and their distances."""
        clips = (self.clips["development"] or self.clips["train"])[:6]
        device, found, sounds = next(ema.parameters()).device, [], []
        for clip in clips:
            sound = clip.read_audio()
            known = np.load(frames_path(clip))
            batch = _stack([segment(sound, known, 0, len(sound), 1.0)])
            latents = ema.encoder(batch.audio.to(device))
            frames, _ = ema.decoder.predict(latents)
            output, *_ = ema.decoder.synthesize(frames, None)
            values = self.frame_losses(frames, batch)
            values |= self.spectral_losses(output, batch.audio.to(device))
            found.append({name: float(value) for name, value in values.items()})
            sounds += [sound, output[0].cpu().numpy()]
        soundfile.write(folder / f"{step:06d}.wav", np.concatenate(sounds), SAMPLE_RATE)
        return {f"heldout/{n}": float(np.mean([f[n] for f in found])) for n in found[0]}

    def finish(self, ema: nn.Module) -> None:
        """Measure the latents' statistics over training segments."""
        device = next(ema.parameters()).device
        with torch.no_grad():
            raw = [ema.encoder(self.batch(10**9 + k).audio.to(device)) for k in range(16)]
        flat = torch.cat(raw).transpose(0, 1).flatten(1)
        ema.set_statistics(flat.mean(1), flat.std(1))


def segment(
    sound: np.ndarray, known: np.ndarray, start: int, samples: int, gain: float
) -> tuple[np.ndarray, ...]:
    """Sound and frames from frame `start` on, as a row of SpeechBatch; silence after their end."""
    part = sound[start * HOP : start * HOP + samples].astype(np.float32) * gain
    frames = np.asarray(known[start : start + samples // HOP], np.float32)
    missing = samples // HOP - len(frames)
    frames = np.pad(frames, ((0, missing), (0, 0)), constant_values=-20.0)
    pitch = frames[:, 0].clip(0)
    has_pitch = pitch > 0
    place = np.flatnonzero(has_pitch)
    pitch = np.interp(np.arange(len(pitch)), place, pitch[place]) if len(place) else pitch + 150
    part = np.pad(part, (0, samples - len(part)))
    return part, pitch.astype(np.float32), has_pitch, frames[:, 1:] + np.float32(math.log(gain))


def _stack(rows: list[tuple[np.ndarray, ...]]) -> SpeechBatch:
    return SpeechBatch(*(torch.from_numpy(np.stack(parts)) for parts in zip(*rows, strict=True)))
