"""Video autoencoder: L1, gradients at two scales, change over time, and the mouth counted again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from mutual_forcing.config import SystemConfig
from mutual_forcing.models.video_autoencoder import VideoAutoencoder
from mutual_forcing.pixels import to_pixels, to_signal

from ..data.dataset import Clip, Corpus
from ..data.pictures import panned_clip

LATENT_NOISE = 0.1
KL_WEIGHT = 1e-4


@dataclass(frozen=True)
class VideoBatch:
    """frames [B, 3, F, S, S] and reference [B, 3, S, S] uint8; mouth bool [B, 1, F, S, S]."""

    frames: Tensor
    reference: Tensor
    mouth: Tensor


class VideoAutoencoderObjective:
    """Reconstruct short segments; the reference comes from far away in time or a sibling clip."""

    def __init__(
        self,
        system: SystemConfig,
        corpus: Corpus,
        batch: int,
        seed: int,
        frames: int = 8,
        unrelated: float = 0.12,
        mouth_weight: float = 0.5,
    ) -> None:
        self.size, self.corpus, self.count = system.video_autoencoder.size, corpus, batch
        self.seed, self.frames, self.unrelated = seed, frames, unrelated
        self.mouth_weight = mouth_weight
        self.model = VideoAutoencoder(system.video_autoencoder)
        self.model.to(memory_format=torch.channels_last)
        self.players: dict[str, nn.Module] = {"model": self.model}
        self.updates: dict[str, int] = {}
        self.clips = {"train": corpus.split("train"), "heldout": corpus.split("heldout")}

    def batch(self, step: int) -> VideoBatch:
        """Segments from random clips, and now and then an unrelated picture.

        Every other batch shows the surroundings of four times as many mouths, at half the length:
        backgrounds and neighbouring frames teach little, but whole pictures and the decoder's state
        need the other batches.
        """
        rng = np.random.default_rng([self.seed, step])
        if step % 2:
            return self._draw(rng, "train", self.count * 4, self.frames // 2, close=True)
        return self._draw(rng, "train", self.count, self.frames)

    def _draw(
        self, rng: np.random.Generator, split: str, count: int, length: int, close: bool = False
    ) -> VideoBatch:
        items = []
        for _ in range(count):
            if split == "train" and rng.random() < self.unrelated:
                frames, reference = panned_clip(rng, self.size, length)
                mouth = np.zeros((length, self.size, self.size), bool)
            else:
                frames, reference, mouth = self._segment(rng, split, length)
            if close:
                rows, columns = _around_mouth(rng, mouth)
                frames, mouth = frames[:, rows, columns], mouth[:, rows, columns]
                reference = reference[rows, columns]
            items.append((frames, reference, mouth))
        frames, references, mouths = (np.stack(part) for part in zip(*items, strict=True))
        return VideoBatch(
            torch.from_numpy(frames).permute(0, 4, 1, 2, 3),
            torch.from_numpy(references).permute(0, 3, 1, 2),
            torch.from_numpy(mouths)[:, None],
        )

    def _segment(
        self, rng: np.random.Generator, split: str, length: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        clips = self.clips[split]
        clip = clips[rng.integers(len(clips))]
        start = int(rng.integers(0, (clip.frames - length) // 4 + 1)) * 4
        frames = clip.read_frames(start, length)
        other = self.corpus.sibling(clip, rng) if rng.random() < 0.7 else clip
        reference = other.read_frames(int(rng.integers(other.frames)), 1)[0]
        return frames, reference, mouth_mask(clip, start, length, self.size)

    def losses(
        self,
        player: str,
        batch: VideoBatch,
        ema: nn.Module,
        generator: torch.Generator,
        step: int,
    ) -> dict[str, Tensor]:
        """Reconstruction terms; see the module's docstring."""
        device = next(self.model.parameters()).device
        target = to_signal(batch.frames.to(device))
        reference = self.model.encode_reference(to_signal(batch.reference.to(device)))
        latents = self.model.encode(target)
        noise = torch.randn(latents.shape, generator=generator, device=device)
        output, painted, _ = self.model.decode_layers(latents + LATENT_NOISE * noise, reference)
        error = (output.float() - target).abs()
        mouth = batch.mouth.to(device).float()
        values = {
            "l1": error.mean(),
            # Without it the reference's pixels get through everywhere and the latents stay empty.
            "painted": (painted.float() - target).abs().mean(),
            "mouth": (error * mouth).sum() / (3 * mouth.sum()).clamp_min(1),
            "gradient": _gradient_loss(output.float(), target),
            "change": (output.float().diff(dim=2) - target.diff(dim=2)).abs().mean(),
            "kl": latents.float().square().mean(),
        }
        values["loss"] = (
            values["l1"]
            + 0.5 * values["painted"]
            + self.mouth_weight * values["mouth"]
            + 0.5 * values["gradient"]
            + 0.5 * values["change"]
            + KL_WEIGHT * values["kl"]
        )
        return values

    def write_samples(self, ema: nn.Module, folder: Path, step: int) -> dict[str, float]:
        """A sheet of reference | truth | reconstruction on held-out identities, and PSNR."""
        split = "heldout" if self.clips["heldout"] else "train"
        device = next(ema.parameters()).device
        batch = self._draw(np.random.default_rng([self.seed, 2**31]), split, 12, self.frames)
        target = to_signal(batch.frames.to(device))
        reference_pixels = to_signal(batch.reference.to(device))
        output, _ = ema.decode(ema.encode(target), ema.encode_reference(reference_pixels))
        still = reference_pixels[:, :, None].expand_as(target)
        mouth = batch.mouth.to(device)
        _write_sheet(
            [
                reference_pixels,
                target[:, :, 0],
                output[:, :, 0],
                target[:, :, -1],
                output[:, :, -1],
            ],
            folder / f"{step:06d}.png",
        )
        return {
            "heldout/psnr": psnr(output, target),
            "heldout/psnr_mouth": psnr(output, target, mouth),
            "heldout/psnr_mouth_of_reference": psnr(still, target, mouth),
        }

    def finish(self, ema: nn.Module) -> None:
        """Measure the latents' statistics over training segments."""
        rng = np.random.default_rng([self.seed, 2**31 + 1])
        device = next(ema.parameters()).device
        with torch.no_grad():
            parts = [
                ema.encode(to_signal(self._draw(rng, "train", 8, self.frames).frames.to(device)))
                for _ in range(24)
            ]
        latents = torch.cat(parts).transpose(0, 1).flatten(1)
        ema.set_statistics(latents.mean(1), latents.std(1))


def mouth_mask(clip: Clip, start: int, count: int, size: int) -> np.ndarray:
    """bool [count, size, size]: inside the mouth's box."""
    boxes = clip.mouth_boxes[start : start + count, :, None, None]
    grid = (np.arange(size) + 0.5) / size
    inside_x = np.abs(grid[None, None] - boxes[:, 0]) < boxes[:, 2] / 2
    inside_y = np.abs(grid[None, :, None] - boxes[:, 1]) < boxes[:, 3] / 2
    return inside_x & inside_y


def _around_mouth(rng: np.random.Generator, mouth: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of half the picture's size near the mouth; anywhere if there is none."""
    size = mouth.shape[-1]
    half = size // 2
    seen = np.argwhere(mouth.any(0))
    centre = seen.mean(0) if len(seen) else rng.uniform(0, size, 2)
    corner = centre - half / 2 + rng.uniform(-half / 4, half / 4, 2)
    top, left = corner.round().astype(int).clip(0, size - half)
    return slice(top, top + half), slice(left, left + half)


def psnr(output: Tensor, target: Tensor, mask: Tensor | None = None) -> float:
    """Peak signal-to-noise ratio in dB of signals within -1..1, optionally within a mask."""
    error = (output.float().clamp(-1, 1) - target).square()
    mean = error.mean() if mask is None else (error * mask).sum() / (3 * mask.sum()).clamp_min(1)
    return float(10 * torch.log10(4 / mean))


def _gradient_loss(output: Tensor, target: Tensor) -> Tensor:
    error = (output - target).transpose(1, 2).flatten(0, 1)
    total = error.new_zeros(())
    for _ in range(2):
        total = total + error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        error = F.avg_pool2d(error, 2)
    return total / 2


def _write_sheet(columns: list[Tensor], path: Path) -> None:
    """One row per clip, one column per entry: PNG."""
    sheet = torch.cat(columns, -1)
    rows = torch.cat(list(sheet), 1)
    half = rows.shape[1] // 2
    rows = torch.cat([rows[:, :half], rows[:, half : 2 * half]], 2)
    Image.fromarray(to_pixels(rows).permute(1, 2, 0).cpu().numpy()).save(path)
