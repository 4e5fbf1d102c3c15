"""Pixel codec: whole frames to latents and back, learnt from films.

Stretches of a film behind one of its frames, as a stream's behind its picture. L1 and gradients at two
scales, the mouth counted as viewers count it: no critic, so pictures are a little soft. Latents are decoded
with noise, so that what the transformer misses of them does not show as something else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mutual_forcing.codecs.wan import WanCodec
from mutual_forcing.pixels import to_pixels, to_signal

from ..data.dataset import Clip, Corpus
from ..data.films import mouths_of, read_film
from ..stage_config import Recipe, Sources, Turns
from .video_codec import picture_loss, psnr

FRAMES = 8
"""Of a film behind the reference: two latents."""
LATENT_NOISE = 0.1
KL_WEIGHT = 1e-3
MOUTH_WEIGHT = 4.0
"""How much more than the rest the middle of the mouth counts."""
HELDOUT_ITEMS, STATISTICS_ITEMS = 8, 64


@dataclass(frozen=True)
class FilmBatch:
    """References [B, 3, H, W] and the frames [B, 3, FRAMES, H, W] behind them, uint8; of these the mouth's
    middle and size [B, FRAMES, 4] in fractions of the picture.
    """

    references: Tensor
    frames: Tensor
    mouth: Tensor

    def signals(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """References and frames within -1..1."""
        return to_signal(self.references.to(device)), to_signal(self.frames.to(device))


@dataclass(frozen=True)
class PixelCodecConfig:
    """The codec of the system, from nothing."""

    kind: ClassVar[str] = "pixel_codec"

    def build(self, sources: Sources, recipe: Recipe) -> PixelCodecObjective:
        """See ObjectiveConfig."""
        codec = WanCodec(sources.system_config.video_codec)
        return PixelCodecObjective(codec, sources.corpus(), recipe.batch, recipe.seed)


class PixelCodecObjective:
    """Show a film again."""

    splits = False

    def __init__(self, codec: WanCodec, corpus: Corpus, batch: int, seed: int) -> None:
        """Raises ValueError for a corpus without films to learn from."""
        self.model, self.count, self.seed = codec, batch, seed
        self.networks: dict[str, nn.Module] = {"model": codec}
        self.films = {
            name: [c for c in corpus.split(name) if c.filmed] for name in ("train", "development")
        }
        if not self.films["train"]:
            raise ValueError("The corpus has no films: make one with --filmed 1.")

    def batch(self, step: int) -> FilmBatch:
        """Stretches of random films."""
        return self._draw(np.random.default_rng([self.seed, step]), "train", self.count)

    def _draw(self, rng: np.random.Generator, split: str, count: int) -> FilmBatch:
        films = self.films[split] or self.films["train"]
        rows = [self._stretch(films[rng.integers(len(films))], rng) for _ in range(count)]
        return FilmBatch(*(torch.from_numpy(np.stack(part)) for part in zip(*rows, strict=True)))

    def _stretch(self, clip: Clip, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        """Half of them right behind their reference, as streams begin; the others anywhere in their clip."""
        start = int(rng.integers(clip.frames - FRAMES))
        frames = read_film(clip, self.model.film_size, start, FRAMES)
        before = start if rng.random() < 0.5 else int(rng.integers(clip.frames))
        reference = frames[0]
        if before != start:
            reference = read_film(clip, self.model.film_size, before, 1)[0]
        mouth = mouths_of(clip, self.model.film_size, start, FRAMES)
        if rng.random() < 0.5:
            frames, reference = frames[:, :, ::-1], reference[:, ::-1]
            mouth = mouth * [-1, 1, 1, 1] + [1, 0, 0, 0]
        pictures = np.moveaxis(reference, 2, 0), np.moveaxis(frames, 3, 0)
        return (*map(np.ascontiguousarray, pictures), mouth.astype(np.float32))

    def step(
        self, batch: FilmBatch, ema: nn.Module, generator: torch.Generator, step: int
    ) -> Turns:
        """Reconstruction, and latents that stay near a unit normal distribution."""
        device = next(self.model.parameters()).device
        reference, frames = batch.signals(device)
        before, latents = self.model.encode_both(frames, reference)
        noise = torch.randn(latents.shape, generator=generator, device=device)
        made, _ = self.model.decode(latents + LATENT_NOISE * noise, before)
        weight = attention(batch.mouth.to(device), self.model.film_size)
        loss = picture_loss(_flat(made).float(), _flat(frames), weight)
        kl = latents.float().square().mean() + before.latent.float().square().mean()
        yield "model", {"picture": loss, "kl": kl, "loss": loss + KL_WEIGHT * kl}

    @torch.no_grad()
    def write_samples(self, ema: Any, folder: Path, step: int) -> dict[str, float]:
        """A sheet of held-out stretches, true above made, and their PSNR beside that of the reference."""
        device = next(ema.parameters()).device
        rng = np.random.default_rng([self.seed, 2**31])
        batch = self._draw(rng, "development", HELDOUT_ITEMS)
        reference, frames = batch.signals(device)
        before, latents = ema.encode_both(frames, reference)
        made, _ = ema.decode(latents, before)
        still = reference[:, :, None].expand_as(frames)
        rows = [torch.cat([still[i, :, :1], x[i]], 1) for i in range(4) for x in (frames, made)]
        sheet = torch.cat([row.permute(0, 2, 1, 3).flatten(2) for row in rows], 1)
        pixels = to_pixels(sheet).permute(1, 2, 0).cpu().numpy()
        Image.fromarray(pixels).save(folder / f"{step:06d}.png")
        weight = attention(batch.mouth.to(device), self.model.film_size) - 1
        return {
            "heldout/psnr": psnr(_flat(made), _flat(frames)),
            "heldout/psnr_of_reference": psnr(_flat(still), _flat(frames)),
            "heldout/psnr_mouth": psnr(_flat(made), _flat(frames), weight),
            "heldout/deviation": float(latents.std()),
        }

    @torch.no_grad()
    def finish(self, ema: Any) -> None:
        """The statistics of latents, which the transformer sees standardised."""
        rng = np.random.default_rng([self.seed, 2**31 + 1])
        device, parts = next(ema.parameters()).device, []
        for _ in range(STATISTICS_ITEMS):
            batch = self._draw(rng, "train", 1)
            reference, frames = batch.signals(device)
            parts.append(ema.encode_both(frames, reference)[1].float())
        latents = torch.cat(parts).unflatten(1, (-1, ema.config.patch**2))
        ema.set_statistics(latents.mean((0, 2, 3, 4, 5)), latents.std((0, 2, 3, 4, 5)))


def attention(mouth: Tensor, size: tuple[int, int]) -> Tensor:
    """How much viewers look at each pixel of frames with mouths [B, F, 4]: [B F, 1, H, W], 1 and more."""
    middle, box = mouth.flatten(0, 1)[:, :2], mouth.flatten(0, 1)[:, 2:]
    spots = []
    for axis, count in enumerate(size):
        line = (torch.arange(count, device=mouth.device) + 0.5) / count
        reach = box[:, axis, None].clamp_min(0.08)
        spots.append(torch.exp(-0.5 * ((line - middle[:, axis, None]) / reach) ** 2))
    return (1 + MOUTH_WEIGHT * spots[1][:, :, None] * spots[0][:, None, :])[:, None]


def _flat(film: Tensor) -> Tensor:
    """[B, 3, F, H, W] to pictures [B F, 3, H, W]."""
    return film.transpose(1, 2).flatten(0, 1)
