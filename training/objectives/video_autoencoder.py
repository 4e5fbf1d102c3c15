"""Video autoencoder: an encoder that reads motion off pictures, a decoder that moves pictures by it.

The corpus knows the motion and where 64 points of the body are. The encoder learns both by regression. The
decoder learns with the true motion, so that neither waits for the other, from pictures (L1, gradients, the
mouth again) and landmarks: a flow that is learnt from pictures alone squeezes the face to hedge, and a
decoder that is told what the encoder saw blurs what it cannot rely on (training/README.md, Decisions).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from mutual_forcing.config import SystemConfig
from mutual_forcing.models.video_autoencoder import (
    LATENT_CHANNELS,
    ReferenceFeatures,
    VideoAutoencoder,
)
from mutual_forcing.pixels import to_pixels, to_signal

from ..data.dataset import Clip, Corpus
from ..data.landmarks import LANDMARKS
from ..data.latents import join_batches
from ..data.pictures import random_picture

LATENT_NOISE = 0.1
"""Added to the latents that are decoded, which are standardised."""
LANDMARK_WEIGHT = 4.0
MOTION_WEIGHT = 0.5
POINT_WEIGHT = 2.0
STRETCH = 8
"""The frames of an item come from so many consecutive ones."""
HELDOUT_ITEMS = 12


@dataclass(frozen=True)
class VideoBatch:
    """frames [B, 3, F, S, S] and reference [B, 3, S, S] uint8; mouth bool [B, 1, F, S, S]; landmarks of
    the frames [B, F, 64, 2] and origins, those of the reference [B, 1, 64, 2], in -1..1; their motion
    [B, F, 28] and [B, 1, 28] (mutual_forcing.motion).

    Where not `known` (bool [B]) there is no face, and no truth of it.
    """

    frames: Tensor
    reference: Tensor
    mouth: Tensor
    landmarks: Tensor
    origins: Tensor
    motion: Tensor
    origin_motion: Tensor
    known: Tensor


class VideoAutoencoderObjective:
    """Animate references, mostly from other clips of the same person, to look like frames."""

    def __init__(
        self,
        system: SystemConfig,
        corpus: Corpus,
        batch: int,
        seed: int,
        frames: int = 3,
        unrelated: float = 0.06,
        mouth_weight: float = 0.5,
    ) -> None:
        self.size, self.corpus, self.count = system.video_autoencoder.size, corpus, batch
        self.seed, self.frames, self.unrelated = seed, frames, unrelated
        self.mouth_weight = mouth_weight
        self.model = VideoAutoencoder(system.video_autoencoder)
        mean, deviation = (torch.from_numpy(part) for part in corpus.motion_statistics)
        self.model.set_statistics(mean, deviation)
        self.model.to(memory_format=torch.channels_last)
        self.players: dict[str, nn.Module] = {"model": self.model}
        self.updates: dict[str, int] = {}
        self.clips = {"train": corpus.split("train"), "heldout": corpus.split("heldout")}

    def batch(self, step: int) -> VideoBatch:
        """Frames of random clips, and now and then an unrelated picture standing still."""
        rng = np.random.default_rng([self.seed, step])
        return self._draw(rng, "train", self.count)

    def _draw(self, rng: np.random.Generator, split: str, count: int) -> VideoBatch:
        return join_batches(
            [
                self._picture(rng)
                if split == "train" and rng.random() < self.unrelated
                else self._clip(rng, split)
                for _ in range(count)
            ]
        )

    def _picture(self, rng: np.random.Generator) -> VideoBatch:
        """One row that shows an unrelated picture standing still."""
        picture = random_picture(rng, self.size)
        count = self.frames
        return _row(
            frames=np.broadcast_to(picture, (count, *picture.shape)),
            reference=picture,
            mouth=np.zeros((count, self.size, self.size), bool),
            landmarks=np.zeros((count, LANDMARKS, 2), np.float32),
            origins=np.zeros((1, LANDMARKS, 2), np.float32),
            motion=np.zeros((count, LATENT_CHANNELS), np.float32),
            origin_motion=np.zeros((1, LATENT_CHANNELS), np.float32),
            known=False,
        )

    def _clip(self, rng: np.random.Generator, split: str) -> VideoBatch:
        """One row of a clip's frames, mostly with another clip's picture of the same person."""
        clips = self.clips[split]
        clip = clips[rng.integers(len(clips))]
        # Clips have a key frame at every sixteenth frame: little is read in vain.
        start = int(rng.integers(clip.frames // STRETCH)) * STRETCH
        chosen = np.sort(rng.choice(STRETCH, self.frames, replace=False))
        frames = clip.read_frames(start, int(chosen[-1]) + 1)[chosen]
        draw = rng.random()
        other = self.corpus.sibling(clip, rng) if draw < 0.75 else clip
        place = int(rng.integers(other.frames))
        if draw > 0.93 and split == "train":
            place = start + int(chosen[0])  # the reference itself: nothing moves
        motion, origin = clip.read_motion(), other.read_motion()
        return _row(
            frames=frames,
            reference=other.read_frames(place, 1)[0],
            mouth=mouth_mask(clip, start + chosen, self.size),
            landmarks=motion["landmarks"][start + chosen] * 2 - 1,
            origins=origin["landmarks"][place : place + 1] * 2 - 1,
            motion=motion["motion"][start + chosen],
            origin_motion=origin["motion"][place : place + 1],
            known=True,
        )

    def losses(
        self,
        player: str,
        batch: VideoBatch,
        ema: nn.Module,
        generator: torch.Generator,
        step: int,
    ) -> dict[str, Tensor]:
        """Reconstruction terms, landmarks and controls; see the module's docstring."""
        device = next(self.model.parameters()).device
        target, picture = repaint(
            to_signal(batch.frames.to(device)), to_signal(batch.reference.to(device)), generator
        )
        mouth, known = batch.mouth.to(device).float(), batch.known.to(device).float()
        truth, origin = (
            self.model.encode_motion(part.to(device))
            for part in (batch.motion, batch.origin_motion)
        )
        places = torch.cat([batch.landmarks, batch.origins], 1).to(device)
        seen, found = self.model.observe(torch.cat([target, picture[:, :, None]], 2))
        noise = torch.randn(truth.shape, generator=generator, device=device)
        features = self.model.reference_encoder(picture)
        reference = ReferenceFeatures(picture, features, origin[..., 0])
        made = self.model.animate(truth + LATENT_NOISE * noise, reference)
        error = (made.frames.float() - target).abs()
        values = {
            "l1": error.mean(),
            "painted": (made.painted.float() - target).abs().mean(),
            "mouth": (error * mouth).sum() / (3 * mouth.sum()).clamp_min(1),
            "gradient": _gradient_loss(made.frames.float(), target),
            "landmarks": landmark_error(
                made.places, batch.landmarks.to(device), batch.origins.to(device), known
            ),
            "points": point_error(found, places, known),
            "motion": motion_error(seen, torch.cat([truth, origin], 2), known),
        }
        values["loss"] = (
            values["l1"]
            + 0.3 * values["painted"]
            + self.mouth_weight * values["mouth"]
            + 0.5 * values["gradient"]
            + LANDMARK_WEIGHT * values["landmarks"]
            + POINT_WEIGHT * values["points"]
            + MOTION_WEIGHT * values["motion"]
        )
        return values

    def write_samples(self, ema: nn.Module, folder: Path, step: int) -> dict[str, float]:
        """A sheet of reference | truth | reconstruction on held-out identities, and PSNR; `told` is of the
        decoder alone, which is told the true motion.
        """
        split = "heldout" if self.clips["heldout"] else "train"
        device = next(ema.parameters()).device
        batch = self._draw(np.random.default_rng([self.seed, 2**31]), split, HELDOUT_ITEMS)
        target = to_signal(batch.frames.to(device))
        picture = to_signal(batch.reference.to(device))
        seen, found = ema.observe(target)
        truth, origin = (
            ema.encode_motion(part.to(device)) for part in (batch.motion, batch.origin_motion)
        )
        reference = ema.encode_reference(picture)
        output = ema.animate(seen, reference)
        told = ema.animate(truth, replace(reference, latent=origin[..., 0]))
        known, landmarks = batch.known.to(device).float(), batch.landmarks.to(device)
        still = picture[:, :, None].expand_as(target)
        mouth = batch.mouth.to(device)
        columns = [picture, *(x[:, :, i] for i in (0, -1) for x in (target, output.frames))]
        _write_sheet(columns, folder / f"{step:06d}.png")
        warped = landmark_error(told.places, landmarks, batch.origins.to(device), known)
        return {
            "heldout/psnr": psnr(output.frames, target),
            "heldout/psnr_mouth": psnr(output.frames, target, mouth),
            "heldout/psnr_told": psnr(told.frames, target),
            "heldout/psnr_mouth_told": psnr(told.frames, target, mouth),
            "heldout/psnr_of_reference": psnr(still, target),
            "heldout/psnr_mouth_of_reference": psnr(still, target, mouth),
            "heldout/warp_pixels": float(warped) * self.size / 2,
            "heldout/point_pixels": float(point_error(found, landmarks, known)) * self.size / 2,
            "heldout/motion": float(motion_error(seen, truth, known)),
        }

    def finish(self, ema: nn.Module) -> None:
        """Nothing to add: the latents' statistics are those of the corpus."""


def _row(
    *, frames: np.ndarray, reference: np.ndarray, mouth: np.ndarray, **others: Any
) -> VideoBatch:
    """A batch of one from frames [F, S, S, 3], reference [S, S, 3], mouth [F, S, S] and what VideoBatch
    names, without its B.
    """
    arrays = {
        "frames": np.moveaxis(frames, 3, 0),
        "reference": np.moveaxis(reference, 2, 0),
        "mouth": mouth[None],
        **others,
    }
    return VideoBatch(
        **{name: torch.from_numpy(np.array(part)[None]) for name, part in arrays.items()}
    )


def repaint(frames: Tensor, picture: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Other colours for a clip [B, 3, F, S, S] and its reference [B, 3, S, S]: more looks than the corpus
    has, so that the animator learns to move whatever it is given.
    """

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=frames.device)

    count = len(frames)
    gain, bias = 0.7 + 0.5 * draw(count, 3, 1, 1), 0.4 * draw(count, 3, 1, 1) - 0.2
    plain = draw(count, 1, 1, 1) < 0.4
    gain, bias = torch.where(plain, 1.0, gain), torch.where(plain, 0.0, bias)
    order = torch.randperm(3, generator=generator, device=frames.device)
    if draw(1).item() < 0.8:
        order = torch.arange(3, device=frames.device)

    def change(x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
        return (x[:, order] * gain + bias).clamp(-1, 1)

    return change(frames, gain[:, :, None], bias[:, :, None]), change(picture, gain, bias)


def landmark_error(places: Tensor, landmarks: Tensor, origins: Tensor, known: Tensor) -> Tensor:
    """How far from its place in the reference every landmark is fetched, in halves of the picture.

    places [B, F, H, H, 2], landmarks [B, F, 64, 2], origins [B, 1, 64, 2], known [B]. What lies outside
    either picture does not count.
    """
    flow = places.float().flatten(0, 1).movedim(3, 1)
    spots = landmarks.float().flatten(0, 1)[:, None]
    found = F.grid_sample(flow, spots, padding_mode="border", align_corners=False)
    found = found[:, :, 0].transpose(1, 2).unflatten(0, landmarks.shape[:2])
    inside = (landmarks.abs().amax(3) < 1) & (origins.abs().amax(3) < 1)
    weight = inside.float() * known[:, None, None]
    distance = (found - origins).abs().mean(3)
    return (distance * weight).sum() / weight.sum().clamp_min(1)


def point_error(found: Tensor, places: Tensor, known: Tensor) -> Tensor:
    """Mean distance per axis of points [B, F, 64, 2] from their places, in halves of the picture."""
    inside = (places.abs().amax(3) < 1).float() * known[:, None, None]
    distance = (found.float() - places).abs().mean(3)
    return (distance * inside).sum() / inside.sum().clamp_min(1)


def motion_error(seen: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Mean squared distance of standardised latents [B, C, F]: 1 would be knowing nothing."""
    distance = (seen.float() - truth.float()).square().mean((1, 2))
    return (distance * known).sum() / known.sum().clamp_min(1)


def mouth_mask(clip: Clip, frames: np.ndarray, size: int) -> np.ndarray:
    """bool [len(frames), size, size]: inside the mouth's box."""
    boxes = clip.mouth_boxes[frames][:, :, None, None]
    grid = (np.arange(size) + 0.5) / size
    inside_x = np.abs(grid[None, None] - boxes[:, 0]) < boxes[:, 2] / 2
    inside_y = np.abs(grid[None, :, None] - boxes[:, 1]) < boxes[:, 3] / 2
    return inside_x & inside_y


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
