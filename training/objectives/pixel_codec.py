"""Pixel codec: whole frames to latents and back, learnt from films.

L1 and gradients at two scales, the mouth counted as viewers count it: no critic, so pictures are a little
soft. Latents are decoded with noise, so that what the transformer misses does not show as something else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mutual_forcing.codec_config import STACK_FRAMES
from mutual_forcing.codecs.stack_codec import StackCodec
from mutual_forcing.pixels import to_pixels, to_signal

from ..data.dataset import Clip, Corpus
from ..data.films import mouths_of, read_film
from ..stage_config import Recipe, Sources, Turns
from .video_codec import picture_loss, psnr

STILL_SHARE = 0.25
"""Of a batch stands still, as references do."""
LATENT_NOISE = 0.1
KL_WEIGHT = 1e-3
MOUTH_WEIGHT = 4.0
"""How much more than the rest the middle of the mouth counts."""
HELDOUT_ITEMS, STATISTICS_ITEMS = 32, 256


@dataclass(frozen=True)
class FilmBatch:
    """Frames uint8 [B, 3, 4, H, W], and the mouth's middle and size in each [B, 4, 4] in fractions of the
    picture.
    """

    frames: Tensor
    mouth: Tensor


@dataclass(frozen=True)
class PixelCodecConfig:
    """The codec of the system, from nothing."""

    kind: ClassVar[str] = "pixel_codec"

    def build(self, sources: Sources, recipe: Recipe) -> PixelCodecObjective:
        """See ObjectiveConfig."""
        codec = StackCodec(sources.system_config.video_codec)
        return PixelCodecObjective(codec, sources.corpus(), recipe.batch, recipe.seed)


class PixelCodecObjective:
    """Show a film again."""

    splits = False

    def __init__(self, codec: StackCodec, corpus: Corpus, batch: int, seed: int) -> None:
        """Raises ValueError for a corpus without films to learn from."""
        self.model, self.count, self.seed = codec, batch, seed
        self.networks: dict[str, nn.Module] = {"model": codec}
        self.films = {
            name: [c for c in corpus.split(name) if c.filmed] for name in ("train", "development")
        }
        if not self.films["train"]:
            raise ValueError("The corpus has no films: make one with --filmed 1.")

    def batch(self, step: int) -> FilmBatch:
        """Stretches of random films, mirrored or not."""
        rng = np.random.default_rng([self.seed, step])
        batch = self._stretches(self._choose(rng, "train", self.count), rng)
        mirrored = torch.from_numpy(rng.random(self.count) < 0.5)
        batch.frames[mirrored] = batch.frames[mirrored].flip(-1)
        batch.mouth[mirrored, :, 0] = 1 - batch.mouth[mirrored, :, 0]
        return batch

    def _choose(self, rng: np.random.Generator, split: str, count: int) -> list[Clip]:
        films = self.films[split] or self.films["train"]
        return [films[rng.integers(len(films))] for _ in range(count)]

    def _stretches(self, clips: list[Clip], rng: np.random.Generator) -> FilmBatch:
        """Four frames from anywhere in each, some of them one frame that stands still."""
        size, frames, mouth = self.model.film_size, [], []
        for clip in clips:
            start = int(rng.integers(clip.frames - STACK_FRAMES + 1))
            which = [0] * STACK_FRAMES if rng.random() < STILL_SHARE else [*range(STACK_FRAMES)]
            film = read_film(clip, size, start, STACK_FRAMES)[which]
            frames.append(np.moveaxis(film, 3, 0))
            mouth.append(mouths_of(clip, size, start, STACK_FRAMES)[which].astype(np.float32))
        return FilmBatch(torch.from_numpy(np.stack(frames)), torch.from_numpy(np.stack(mouth)))

    def step(
        self, batch: FilmBatch, ema: nn.Module, generator: torch.Generator, step: int
    ) -> Turns:
        """Reconstruction, and latents that stay near a unit normal distribution."""
        frames = to_signal(batch.frames.to(next(self.model.parameters()).device))
        latents = self.model.encode(frames)
        noise = torch.randn(latents.shape, generator=generator, device=latents.device)
        made, _ = self.model.decode(latents + LATENT_NOISE * noise)
        weight = attention(batch.mouth.to(frames.device), self.model.film_size)
        loss = picture_loss(_flat(made).float(), _flat(frames), weight)
        kl = latents.float().square().mean()
        yield "model", {"picture": loss, "kl": kl, "loss": loss + KL_WEIGHT * kl}

    @torch.no_grad()
    def write_samples(self, ema: Any, folder: Path, step: int) -> dict[str, float]:
        """A sheet of held-out stretches, true above made, and their PSNR beside that of the clip's first
        frame, which is a film without any motion.
        """
        device = next(ema.parameters()).device
        rng = np.random.default_rng([self.seed, 2**31])
        clips = self._choose(rng, "development", HELDOUT_ITEMS)
        batch = self._stretches(clips, rng)
        stills = np.stack([read_film(clip, self.model.film_size, 0, 1) for clip in clips])
        frames = to_signal(batch.frames.to(device))
        first = to_signal(torch.from_numpy(stills).to(device).permute(0, 4, 1, 2, 3))
        latents = ema.encode(frames)
        made = ema.decode(latents)[0].clamp(-1, 1)
        rows = [torch.cat([first[i], x[i]], 1) for i in range(8) for x in (frames, made)]
        sheet = torch.cat([row.permute(0, 2, 1, 3).flatten(2) for row in rows], 1)
        pixels = to_pixels(sheet).permute(1, 2, 0).cpu().numpy()
        Image.fromarray(pixels).save(folder / f"{step:06d}.png")
        weight = attention(batch.mouth.to(device), self.model.film_size) - 1
        return {
            "heldout/psnr": psnr(_flat(made), _flat(frames)),
            "heldout/psnr_of_first": psnr(_flat(first.expand_as(frames)), _flat(frames)),
            "heldout/psnr_mouth": psnr(_flat(made), _flat(frames), weight),
            "heldout/deviation": float(latents.std()),
        }

    @torch.no_grad()
    def finish(self, ema: Any) -> None:
        """The statistics of latents, which the transformer sees standardised."""
        rng = np.random.default_rng([self.seed, 2**31 + 1])
        device = next(ema.parameters()).device
        batch = self._stretches(self._choose(rng, "train", STATISTICS_ITEMS), rng)
        latents = ema.encode(to_signal(batch.frames.to(device))).float()
        ema.set_statistics(latents.mean((0, 2, 3, 4)), latents.std((0, 2, 3, 4)))


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
