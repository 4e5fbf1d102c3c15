"""Do the lips say it? A small network reads mouth openness from pixels; sync compares it with phonemes.

Trained on the renderer's truth over training identities, with blur, noise, colour and crops, so that it
reads generated frames too (training.evaluation.mouth_reader). Its calibration on held-out identities is in
weights/mouth.json.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from mutual_forcing.pixels import to_signal

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


def prepare(frames: np.ndarray) -> Tensor:
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
    return torch.cat([reader(part)[0] for part in prepare(frames).split(64)]).numpy()


@torch.no_grad()
def locate(reader: MouthReader, frames: np.ndarray) -> np.ndarray:
    """Centre of the mouth over frames uint8 [T, S, S, 3]: x, y in fractions of the picture, float [2]."""
    cells = (torch.arange(GRID) + 0.5) / GRID
    place = torch.cat([reader(part)[1] for part in prepare(frames[::4]).split(64)])
    share = place.exp().unflatten(1, (GRID, GRID))
    centres = torch.stack([share.sum(1) @ cells, share.sum(2) @ cells], 1)
    return centres.median(0).values.numpy()


def sync(openness: np.ndarray, wanted: np.ndarray) -> tuple[float, int, float]:
    """Correlation at lag 0; the lag in frames (positive: lips late) of the best one; that one."""
    scores = {lag: correlation(openness, wanted, lag) for lag in range(-MAX_LAG, MAX_LAG + 1)}
    best = max(scores, key=lambda lag: scores[lag])
    return scores[0], best, scores[best]


def correlation(openness: np.ndarray, wanted: np.ndarray, lag: int) -> float:
    """Of openness and what is wanted [T], the lips `lag` frames late; 0 for lips that do not move."""
    count = len(wanted) - abs(lag)
    first = openness[max(0, lag) :][:count]
    second = wanted[max(0, -lag) :][:count]
    if first.std() < 1e-6 or second.std() < 1e-6:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])
