"""Train the judge of mouth openness: python -m training.evaluation.mouth_reader --run DIR."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from tqdm import trange

from mutual_forcing.metrics.mouth import (
    GRID,
    SIZE,
    WEIGHTS,
    MouthReader,
    correlation,
    load_reader,
    prepare,
    read_openness,
    sync,
)

from ..data.dataset import Clip, Corpus


def _augment(frames: Tensor, rng: np.random.Generator) -> Tensor:
    """Blur, contrast, colour, noise and a random crop, one draw per batch or per frame."""
    count = len(frames)
    draw = torch.from_numpy(rng.random((4, count, 1, 1, 1))).float()
    size = int(rng.integers(40, SIZE + 1))
    soft = F.interpolate(
        F.interpolate(frames, (size, size), mode="area"), (SIZE, SIZE), mode="bilinear"
    )
    frames = torch.where(draw[0] < 0.6, soft, frames)
    tint = torch.from_numpy(rng.normal(0, 0.1, (count, 3, 1, 1))).float()
    frames = frames * (0.7 + 0.6 * draw[1]) + tint
    frames = frames + torch.from_numpy(rng.normal(0, 0.05, frames.shape)).float() * draw[2]
    return frames


def _shift(frames: Tensor, centres: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Roll the pictures, and the cells [B] of the 16 x 16 grid that hold the mouths' centres [B, 2]."""
    down, right = (int(v) for v in rng.integers(-12, 13, 2))
    moved = (centres + torch.tensor([right, down]) / SIZE).remainder(1)
    cells = (moved * GRID).long().clamp(0, GRID - 1)
    return torch.roll(frames, (down, right), (2, 3)), cells[:, 1] * GRID + cells[:, 0]


def _load(clips: list[Clip], stride: int) -> tuple[Tensor, Tensor, Tensor]:
    pictures, values, centres = [], [], []
    for clip in clips:
        frames = clip.read_frames(0, clip.frames)[::stride]
        pictures.append((prepare(frames) * 127).to(torch.int8))
        values.append(torch.tensor(clip.row["mouth_openness"][::stride]))
        centres.append(torch.from_numpy(clip.mouth_boxes[::stride, :2]))
    return torch.cat(pictures), torch.cat(values), torch.cat(centres)


def train_reader(corpus: Corpus, steps: int, seed: int = 0) -> dict[str, float]:
    """Train on training identities, calibrate on held-out ones, write the weights."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    pictures, values, centres = _load(corpus.films("train"), 6)
    reader = MouthReader()
    optimizer = torch.optim.AdamW(reader.parameters(), lr=1.5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in trange(steps, desc="mouth reader"):
        rows = torch.from_numpy(rng.integers(len(pictures), size=32))
        frames = _augment(pictures[rows].float() / 127, rng)
        frames, cells = _shift(frames, centres[rows], rng)
        openness, place = reader(frames)
        # Being told where the mouth is makes the search converge in minutes.
        loss = (openness - values[rows]).abs().mean() + 0.1 * F.nll_loss(place, cells)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    WEIGHTS.parent.mkdir(exist_ok=True)
    save_file(reader.state_dict(), WEIGHTS)
    record = {"steps": steps, "seed": seed, **calibrate(load_reader(), corpus)}
    WEIGHTS.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return record


def calibrate(reader: MouthReader, corpus: Corpus) -> dict[str, float]:
    """On held-out identities: error, correlation per clip, and sync of the truth against phonemes."""
    errors, correlations, syncs = [], [], []
    for clip in corpus.films("development")[:40]:
        read = read_openness(reader, clip.read_frames(0, clip.frames))
        truth = np.asarray(clip.row["mouth_openness"])
        errors.append(np.abs(read - truth).mean())
        correlations.append(correlation(read, truth, 0))
        syncs.append(sync(read, np.asarray(clip.row["viseme_openness"]))[0])
    return {
        "heldout_mean_absolute_error": round(float(np.mean(errors)), 4),
        "heldout_correlation": round(float(np.mean(correlations)), 4),
        "heldout_sync_of_truth": round(float(np.mean(syncs)), 4),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluation.mouth_reader", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--run", type=Path, required=True, help="folder of training.reproduce")
    parser.add_argument("--steps", type=int, default=1500)
    options = parser.parse_args()
    record = train_reader(Corpus(options.run / "corpus"), options.steps)
    sys.stdout.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
