"""STFT codec: log-mel L1 and multi-resolution STFT, then spectrogram discriminators.

The discriminators (UnivNet-style, on magnitude spectrograms, hinge loss with feature matching) join for
the last part of the run: without them the phases of the inverse-STFT head buzz.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mutual_forcing.codecs.stft_codec import SAMPLES_PER_LATENT, LogMel, StftCodec
from mutual_forcing.config import SAMPLE_RATE, SystemConfig

from ..data.dataset import Corpus
from ..stage_config import Recipe, Sources, Turns

RESOLUTIONS = ((512, 128), (1024, 256), (256, 64))
LATENT_NOISE = 0.1
KL_WEIGHT = 1e-3


def magnitude(audio: Tensor, window: int, hop: int) -> Tensor:
    """|STFT| of [B, N]: [B, window / 2 + 1, frames]."""
    taper = torch.hann_window(window, device=audio.device)
    spectrum = torch.stft(audio.float(), window, hop, window=taper, return_complex=True)
    return torch.sqrt(spectrum.real.square() + spectrum.imag.square() + 1e-9)


class SpectrogramDiscriminator(nn.Module):
    """Convolutions over one resolution's compressed spectrogram."""

    def __init__(self, window: int, hop: int, width: int = 16) -> None:
        super().__init__()
        self.window, self.hop = window, hop
        strides = [(1, 1), (2, 1), (2, 2), (2, 1)]
        widths = [1, width, width * 2, width * 2, width * 2]
        self.layers = nn.ModuleList(
            nn.Conv2d(i, o, (5, 3), stride=s, padding=(2, 1))
            for i, o, s in zip(widths[:-1], widths[1:], strides, strict=True)
        )
        self.out = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(self, audio: Tensor) -> list[Tensor]:
        """Feature maps of every layer, the score last."""
        hidden = magnitude(audio, self.window, self.hop).sqrt()[:, None]
        features = []
        for layer in self.layers:
            hidden = F.leaky_relu(layer(hidden), 0.1)
            features.append(hidden)
        return [*features, self.out(hidden)]


@dataclass(frozen=True)
class StftCodecConfig:
    """latents: length of a segment. adversarial_from: the step from which critics judge; None = never."""

    kind: ClassVar[str] = "audio_codec"
    latents: int = 32
    adversarial_from: int | None = None

    def build(self, sources: Sources, recipe: Recipe) -> StftCodecObjective:
        """See ObjectiveConfig."""
        return StftCodecObjective(
            sources.system_config, sources.corpus(), self, recipe.batch, recipe.seed
        )


class StftCodecObjective:
    """Reconstruct segments of speech."""

    def __init__(
        self, system: SystemConfig, corpus: Corpus, config: StftCodecConfig, batch: int, seed: int
    ) -> None:
        self.config, self.corpus, self.count, self.seed = config, corpus, batch, seed
        self.samples = config.latents * SAMPLES_PER_LATENT
        self.model = StftCodec(system.audio_codec)
        self.critics = nn.ModuleList(SpectrogramDiscriminator(w, h) for w, h in RESOLUTIONS)
        self.mel = LogMel(system.audio_codec.mel_bins)
        self.networks: dict[str, nn.Module] = {"model": self.model, "critic": self.critics}
        self.clips = {name: corpus.split(name) for name in ("train", "development")}
        self._tracks: dict[int, np.ndarray] = {}

    def batch(self, step: int) -> Tensor:
        """Random segments [B, N], with a random gain."""
        rng = np.random.default_rng([self.seed, step])
        return torch.from_numpy(np.stack([self._segment(rng) for _ in range(self.count)]))

    def _segment(self, rng: np.random.Generator) -> np.ndarray:
        clips = self.clips["train"]
        clip = clips[rng.integers(len(clips))]
        if clip.index not in self._tracks:
            # Half precision in memory: hours of speech fit beside the model.
            self._tracks[clip.index] = clip.read_audio().astype(np.float16)
        track = self._tracks[clip.index].astype(np.float32)
        start = int(rng.integers(0, max(1, len(track) - self.samples)))
        part = track[start : start + self.samples] * float(rng.uniform(0.6, 1.3))
        return np.pad(part, (0, self.samples - len(part)))

    def step(self, batch: Tensor, ema: nn.Module, generator: torch.Generator, step: int) -> Turns:
        """The codec's turn, then the critics' on what it made."""
        start = self.config.adversarial_from
        adversarial = start is not None and step >= start
        target = batch.to(next(self.model.parameters()).device)
        latents = self.model.encode(target)
        noise = torch.randn(latents.shape, generator=generator, device=target.device)
        output, _ = self.model.decode(latents + LATENT_NOISE * noise)
        values = self._reconstruction(output, target)
        values["kl"] = latents.square().mean()
        values["loss"] = 15 * values["mel"] + values["stft"] + KL_WEIGHT * values["kl"]
        if adversarial:
            values |= self._adversarial(output, target)
            values["loss"] = values["loss"] + values["fool"] + 2 * values["features"]
        yield "model", values
        if adversarial:
            yield "critic", self._critic_losses(target, output.detach())

    def _reconstruction(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        mel = self.mel.to(target.device)
        stft = target.new_zeros(())
        for window, hop in RESOLUTIONS:
            ours, truth = magnitude(output, window, hop), magnitude(target, window, hop)
            convergence = (ours - truth).norm() / truth.norm().clamp_min(1e-3)
            logs = (torch.log(ours + 1e-3) - torch.log(truth + 1e-3)).abs().mean()
            stft = stft + convergence + logs
        return {"mel": (mel(output) - mel(target)).abs().mean(), "stft": stft / len(RESOLUTIONS)}

    def _adversarial(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        fool, features = output.new_zeros(()), output.new_zeros(())
        self.critics.requires_grad_(False)
        for critic in self.critics:
            fake, real = critic(output), critic(target)
            fool = fool - fake[-1].mean()
            for ours, truth in zip(fake[:-1], real[:-1], strict=True):
                features = features + (ours - truth.detach()).abs().mean()
        self.critics.requires_grad_(True)
        return {"fool": fool / len(self.critics), "features": features / len(self.critics)}

    def _critic_losses(self, target: Tensor, output: Tensor) -> dict[str, Tensor]:
        loss = target.new_zeros(())
        for critic in self.critics:
            loss = (
                loss + F.relu(1 - critic(target)[-1]).mean() + F.relu(1 + critic(output)[-1]).mean()
            )
        return {"loss": loss / len(self.critics)}

    def write_samples(self, ema: nn.Module, folder: Path, step: int) -> dict[str, float]:
        """Six held-out clips, truth then reconstruction, as WAV; and their mel distance."""
        clips = (self.clips["development"] or self.clips["train"])[:24]
        device = next(ema.parameters()).device
        mel, distances, parts = self.mel.to(device), [], []
        for number, clip in enumerate(clips):
            target = torch.from_numpy(clip.read_audio()).to(device)[None]
            output, _ = ema.decode(ema.encode(target))
            distances.append(float((mel(output) - mel(target)).abs().mean()))
            if number < 6:
                parts += [target[0].cpu(), output[0].cpu()]
        soundfile.write(folder / f"{step:06d}.wav", torch.cat(parts).numpy(), SAMPLE_RATE)
        return {"heldout/mel_distance": sum(distances) / len(distances)}

    def finish(self, ema: nn.Module) -> None:
        """Measure the latents' statistics over training segments."""
        device = next(ema.parameters()).device
        with torch.no_grad():
            latents = torch.cat([ema.encode(self.batch(10**9 + k).to(device)) for k in range(16)])
        flat = latents.transpose(0, 1).flatten(1)
        ema.set_statistics(flat.mean(1), flat.std(1))
