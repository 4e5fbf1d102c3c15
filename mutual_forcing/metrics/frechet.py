"""How far is what was made from what is real, as distributions? Frechet distances of small features.

Two sets of features: networks of fixed random weights (3D convolutions over 8 frames; convolutions over
0.32 s of spectrogram), which nobody can have trained towards, and the embeddings of metrics/sync.py. All have
64 numbers, standardised by the reference. The figures depend on these features and on the number of windows:
read them beside the truth's own distance (the floor); they are not comparable with published FVD or FAD.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mutual_forcing.pixels import to_signal

from .spectrum import MEL_PER_FRAME, log_mel

DIM = 64
STRIDE = 3
"""Frames from one window to the next."""
ENOUGH = 512
"""Windows from which on a distance is worth reading."""
_FRAMES, _COLUMNS, _SIZE = 8, 32, 64
RESAMPLES = 100


@torch.no_grad()
def video_features(frames: np.ndarray) -> np.ndarray:
    """float32 [W, 64] of windows of 8 frames of uint8 [T, S, S, 3], T >= 8."""
    pixels = to_signal(torch.from_numpy(frames).permute(0, 3, 1, 2))
    small = F.interpolate(pixels, (_SIZE, _SIZE), mode="area")
    parts = small.unfold(0, _FRAMES, STRIDE).permute(0, 1, 4, 2, 3)
    return torch.cat([_pooled(_video_network()(part)) for part in parts.split(16)]).numpy()


@torch.no_grad()
def audio_features(audio: np.ndarray) -> np.ndarray:
    """float32 [W, 64] of windows of 0.32 s of float mono 24 kHz."""
    mel = (log_mel(audio) + 5) / 2
    parts = mel.unfold(1, _COLUMNS, STRIDE * MEL_PER_FRAME).transpose(0, 1)[:, None]
    return _pooled(_audio_network()(parts)).numpy()


@dataclass(frozen=True)
class Reference:
    """What distances are measured from: the deviations [D] of its features, and of the Gaussian that fits
    them, in units of these, mean [D], covariance [D, D] and its root.
    """

    scale: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray
    root: np.ndarray

    @staticmethod
    def of(features: np.ndarray) -> Reference:
        """Raises ValueError below 2 windows."""
        _check(features)
        scale = features.std(0).clip(1e-6)
        scaled = np.asarray(features / scale, np.float64)
        covariance = np.cov(scaled, rowvar=False)
        values, vectors = np.linalg.eigh(covariance)
        root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
        return Reference(scale, scaled.mean(0), covariance, root)

    def distance(self, features: np.ndarray) -> float:
        """See `distance`."""
        _check(features)
        scaled = np.asarray(features / self.scale, np.float64)
        shift = ((scaled.mean(0) - self.mean) ** 2).sum()
        own = np.cov(scaled, rowvar=False)
        # The trace of the root of AB, from a symmetric matrix with the same eigenvalues.
        common = np.sqrt(np.linalg.eigvalsh(self.root @ own @ self.root).clip(0)).sum()
        spread = np.trace(own) + np.trace(self.covariance) - 2 * common
        return float((shift + spread).clip(0) / features.shape[1])


def distance(first: np.ndarray, second: np.ndarray) -> float:
    """Frechet distance of Gaussians fitted to features [W, D] and [V, D].

    In units of the second's standard deviations, squared, per feature. Raises ValueError below 2 windows.
    """
    return Reference.of(second).distance(first)


def interval(
    clips: Sequence[np.ndarray], reference: np.ndarray, seed: int = 0
) -> tuple[float, float, float]:
    """Distance of the windows of all clips ([W, D] each), and a 95 % interval over the choice of clips.

    A resample repeats clips, which alone adds to a Frechet distance; the interval is moved back
    so that its middle is the distance itself, and cut at 0.
    """
    real = Reference.of(reference)
    whole = real.distance(np.concatenate(clips))
    rng = np.random.default_rng(seed)
    draws = [
        real.distance(np.concatenate([clips[i] for i in rng.integers(len(clips), size=len(clips))]))
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(draws, [0.025, 0.975]) - np.mean(draws)
    return whole, max(0.0, whole + float(low)), whole + float(high)


def _check(features: np.ndarray) -> None:
    if len(features) < 2:
        raise ValueError("A Frechet distance needs two windows and more on each side.")


def _pooled(hidden: Tensor) -> Tensor:
    """Mean and deviation of every channel: [B, 32, ...] to [B, 64]."""
    flat = hidden.flatten(2)
    return torch.cat([flat.mean(-1), flat.std(-1)], 1)


@lru_cache(maxsize=1)
def _video_network() -> nn.Module:
    layers = [nn.Conv3d(3, 24, 3, (1, 2, 2), 1), nn.ReLU(), nn.Conv3d(24, 48, 3, 2, 1), nn.ReLU()]
    return _random(nn.Sequential(*layers, nn.Conv3d(48, DIM // 2, 3, 2, 1)))


@lru_cache(maxsize=1)
def _audio_network() -> nn.Module:
    layers = [nn.Conv2d(1, 24, 3, 1, 1), nn.ReLU(), nn.Conv2d(24, 48, 3, 2, 1), nn.ReLU()]
    return _random(nn.Sequential(*layers, nn.Conv2d(48, DIM // 2, 3, 2, 1)))


def _random(network: nn.Sequential) -> nn.Module:
    """The same weights everywhere: normal, of a fixed seed, keeping the variance."""
    generator = torch.Generator().manual_seed(2604)
    for weight in network.parameters():
        fan = weight[0].numel()
        drawn = torch.randn(weight.shape, generator=generator) * (2 / fan) ** 0.5
        weight.data.copy_(drawn if weight.ndim > 1 else torch.zeros_like(weight))
    return network.eval().requires_grad_(False)
