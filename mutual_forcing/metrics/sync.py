"""Do lips and sound belong together? A contrastive pair of networks, the second judge of sync.

In the manner of SyncNet (Chung and Zisserman 2016), but small and trained here on rendered heads, so that its
figures are comparable with no published LSE. One network sees 5 frames of the mouth, the other hears the same
0.2 s; training picks the right sound among others of the same clip, 3 frames away and more. It never serves
as a loss. It was trained on the training identities (training.evaluation.sync_pair); its calibration on
held-out ones is in weights/sync.json.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from mutual_forcing.config import FPS, SAMPLE_RATE

from .mouth import SIZE, MouthReader, locate
from .spectrum import BINS, MEL_PER_FRAME, log_mel

WEIGHTS = Path(__file__).parent / "weights" / "sync.safetensors"
WINDOW = 5
"""Frames that a window holds."""
GAP = 3
"""Negatives are at least this many frames away: nearer ones look the same."""
MAX_LAG = 15
DIM = 64
CROP = 48
"""Pixels on each side of the crop around the mouth."""


class SyncPair(nn.Module):
    """Mouth windows [B, 5, 48, 48] and sound windows [B, 40, 20] to unit vectors [B, 64]."""

    def __init__(self) -> None:
        super().__init__()
        self.see = nn.Sequential(
            *_layers((WINDOW, 32, 48, 64, 96)), nn.Flatten(), nn.LazyLinear(DIM)
        )
        self.hear = nn.Sequential(*_layers((1, 32, 48, 64)), nn.Flatten(), nn.LazyLinear(DIM))
        self.scale = nn.Parameter(torch.tensor(2.5))
        with torch.no_grad():
            self.embed_mouth(torch.zeros(1, WINDOW, CROP, CROP))
            self.embed_audio(torch.zeros(1, BINS, WINDOW * MEL_PER_FRAME))

    def embed_mouth(self, windows: Tensor) -> Tensor:
        """Unit vectors [B, 64] of mouth windows [B, 5, 48, 48]."""
        return F.normalize(self.see(windows), dim=-1)

    def embed_audio(self, windows: Tensor) -> Tensor:
        """Unit vectors [B, 64] of sound windows [B, 40, 20]."""
        return F.normalize(self.hear(windows[:, None]), dim=-1)


def _layers(channels: tuple[int, ...]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for i, o in itertools.pairwise(channels):
        layers += [nn.Conv2d(i, o, 3, 2, 1), nn.GroupNorm(8, o), nn.SiLU()]
    return layers


@dataclass(frozen=True)
class SyncScore:
    """margin: similarity at lag 0 above the median of all lags (0: no relation, at most 2).

    lag: frames of the best one, positive when the lips are late. confidence: margin there.
    """

    margin: float
    lag: int
    confidence: float


def load_pair(path: Path = WEIGHTS) -> SyncPair:
    """The trained pair."""
    pair = SyncPair()
    pair.load_state_dict(load_file(path))
    return pair.eval().requires_grad_(False)


@torch.no_grad()
def embed(
    pair: SyncPair, reader: MouthReader, frames: np.ndarray, audio: np.ndarray
) -> tuple[Tensor, Tensor]:
    """Every window of frames uint8 [T, S, S, 3] and its sound: unit vectors [T - 4, 64], twice.

    Raises ValueError for less than 5 frames or unequal lengths.
    """
    mouths = steady(crops(frames, locate(reader, frames), CROP))
    if len(mouths) < WINDOW or len(audio) < len(mouths) * SAMPLE_RATE // FPS:
        raise ValueError("Sync needs 5 frames and more, and sound as long as they are.")
    starts = torch.arange(len(mouths) - WINDOW + 1)
    seen = torch.cat([pair.embed_mouth(mouth_windows(mouths, part)) for part in starts.split(256)])
    return seen, embed_sound(pair, audio, len(seen))


@torch.no_grad()
def embed_sound(pair: SyncPair, audio: np.ndarray, count: int) -> Tensor:
    """The first `count` windows of the sound: unit vectors [count, 64]."""
    mel = scaled(log_mel(audio))
    parts = torch.arange(count).split(256)
    return torch.cat([pair.embed_audio(sound_windows(mel, part)) for part in parts])


def score(seen: Tensor, heard: Tensor, max_lag: int = MAX_LAG) -> SyncScore:
    """What the embedded windows [T, 64] of one clip say. Frozen lips have margin 0.

    Raises ValueError for a clip of less than 2 `max_lag` windows.
    """
    if len(seen) < 2 * max_lag:
        raise ValueError(f"Sync needs {2 * max_lag} windows and more.")
    lags = range(-max_lag, max_lag + 1)
    values = np.array([_similarity(seen, heard, lag) for lag in lags])
    margins = values - np.median(values)
    if float(seen.std(0).max()) < 1e-5:
        return SyncScore(0.0, 0, 0.0)
    best = int(margins.argmax())
    return SyncScore(float(margins[max_lag]), lags[best], float(margins[best]))


def _similarity(seen: Tensor, heard: Tensor, lag: int) -> float:
    count = len(seen) - abs(lag)
    pair = seen[max(0, lag) :][:count] * heard[max(0, -lag) :][:count]
    return float(pair.sum(-1).mean())


def crops(frames: np.ndarray, centre: np.ndarray, side: int) -> Tensor:
    """Grey squares float [T, side, side] within 0..1 about `centre` (x, y in fractions of 128 px)."""
    grey = torch.from_numpy(frames).float().mean(-1)[:, None] / 255
    grey = F.interpolate(grey, (SIZE, SIZE), mode="area")[:, 0]
    left, top = (int(np.clip(round(c * SIZE) - side // 2, 0, SIZE - side)) for c in centre)
    return grey[:, top : top + side, left : left + side]


def steady(mouths: Tensor) -> Tensor:
    """Crops without their mean over the clip: only motion is left, and the appearance alone says nothing."""
    return (mouths - mouths.mean(-3, keepdim=True)) * 8


def scaled(mel: Tensor) -> Tensor:
    """A log-mel spectrum about -1..1."""
    return (mel + 5) / 2


def mouth_windows(mouths: Tensor, starts: Tensor) -> Tensor:
    """Windows [B, 5, side, side] of crops [T, side, side] that begin at starts [B]."""
    return mouths[starts[:, None] + torch.arange(WINDOW)]


def sound_windows(mel: Tensor, starts: Tensor) -> Tensor:
    """Windows [B, 40, 20] of a spectrum [40, 4 T] that begin at frames starts [B]."""
    columns = starts[:, None] * MEL_PER_FRAME + torch.arange(WINDOW * MEL_PER_FRAME)
    return mel[:, columns].transpose(0, 1)
