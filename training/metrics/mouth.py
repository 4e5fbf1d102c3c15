"""Do the lips say it? A small network reads mouth openness from pixels; sync compares it with phonemes.

Trained on the renderer's truth over training identities, with blur, noise, colour and crops, so that it
reads generated frames too: python -m training.metrics.mouth --run DIR. Its calibration on held-out
identities is in weights/mouth.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import trange

from mutual_forcing.pixels import to_signal

from ..data.dataset import Clip, Corpus

SIZE = 128
GRID = 16
WEIGHTS = Path(__file__).parent / "weights" / "mouth.safetensors"
MAX_LAG = 5
_CHANNELS = (3, 16, 32, 48, 64)


class MouthReader(nn.Module):
    """Frames [B, 3, 128, 128] within -1..1 to openness [B]: convolutions, then a search for the mouth."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number, (i, o) in enumerate(itertools.pairwise(_CHANNELS)):
            stride = 2 if number < 3 else 1
            layers += [nn.Conv2d(i, o, 3, stride, 1), nn.GroupNorm(8, o), nn.SiLU()]
        self.features = nn.Sequential(*layers)
        self.where = nn.Conv2d(_CHANNELS[-1], 1, 1)
        self.out = nn.Sequential(nn.Linear(_CHANNELS[-1], 64), nn.SiLU(), nn.Linear(64, 1))

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Openness [B] and log-probabilities of where the mouth is [B, 16 * 16]."""
        hidden = self.features(frames)
        place = self.where(hidden).flatten(1).log_softmax(-1)
        pooled = (hidden.flatten(2) * place.exp()[:, None]).sum(-1)
        return self.out(pooled)[:, 0], place


def _prepare(frames: np.ndarray) -> Tensor:
    """uint8 [T, S, S, 3] to [T, 3, 128, 128] within -1..1."""
    pixels = to_signal(torch.from_numpy(frames).permute(0, 3, 1, 2))
    return F.interpolate(pixels, (SIZE, SIZE), mode="area")


def load_reader(path: Path = WEIGHTS) -> MouthReader:
    """The trained reader."""
    reader = MouthReader()
    reader.load_state_dict(load_file(path))
    return reader.eval().requires_grad_(False)


@torch.no_grad()
def read_openness(reader: MouthReader, frames: np.ndarray) -> np.ndarray:
    """Openness float [T] of frames uint8 [T, S, S, 3]."""
    return torch.cat([reader(part)[0] for part in _prepare(frames).split(64)]).numpy()


@torch.no_grad()
def locate(reader: MouthReader, frames: np.ndarray) -> np.ndarray:
    """Centre of the mouth over frames uint8 [T, S, S, 3]: x, y in fractions of the picture, float [2]."""
    cells = (torch.arange(GRID) + 0.5) / GRID
    place = torch.cat([reader(part)[1] for part in _prepare(frames[::4]).split(64)])
    share = place.exp().unflatten(1, (GRID, GRID))
    centres = torch.stack([share.sum(1) @ cells, share.sum(2) @ cells], 1)
    return centres.median(0).values.numpy()


def sync(openness: np.ndarray, wanted: np.ndarray) -> tuple[float, int, float]:
    """Correlation at lag 0; the lag in frames (positive: lips late) of the best one; that one."""
    scores = {lag: _correlation(openness, wanted, lag) for lag in range(-MAX_LAG, MAX_LAG + 1)}
    best = max(scores, key=lambda lag: scores[lag])
    return scores[0], best, scores[best]


def _correlation(openness: np.ndarray, wanted: np.ndarray, lag: int) -> float:
    count = len(wanted) - abs(lag)
    first = openness[max(0, lag) :][:count]
    second = wanted[max(0, -lag) :][:count]
    if first.std() < 1e-6 or second.std() < 1e-6:
        return 0.0  # frozen lips follow nothing
    return float(np.corrcoef(first, second)[0, 1])


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
        pictures.append((_prepare(frames) * 127).to(torch.int8))
        values.append(torch.tensor(clip.row["mouth_openness"][::stride]))
        centres.append(torch.from_numpy(clip.mouth_boxes[::stride, :2]))
    return torch.cat(pictures), torch.cat(values), torch.cat(centres)


def train_reader(corpus: Corpus, steps: int, seed: int = 0) -> dict[str, float]:
    """Train on training identities, calibrate on held-out ones, write the weights."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    pictures, values, centres = _load(corpus.split("train"), 6)
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
    for clip in corpus.split("heldout")[:40]:
        read = read_openness(reader, clip.read_frames(0, clip.frames))
        truth = np.asarray(clip.row["mouth_openness"])
        errors.append(np.abs(read - truth).mean())
        correlations.append(_correlation(read, truth, 0))
        syncs.append(sync(read, np.asarray(clip.row["viseme_openness"]))[0])
    return {
        "heldout_mean_absolute_error": round(float(np.mean(errors)), 4),
        "heldout_correlation": round(float(np.mean(correlations)), 4),
        "heldout_sync_of_truth": round(float(np.mean(syncs)), 4),
    }


def main() -> None:
    """Command line."""
    import sys

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of training.reproduce")
    parser.add_argument("--steps", type=int, default=1500)
    options = parser.parse_args()
    record = train_reader(Corpus(options.run / "corpus"), options.steps)
    sys.stdout.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
