"""Do lips and sound belong together? A contrastive pair of networks, the second judge of sync.

In the manner of SyncNet (Chung and Zisserman 2016), but small and trained here on rendered heads, so that its
figures are comparable with no published LSE. One network sees 5 frames of the mouth, the other hears the same
0.2 s; training picks the right sound among others of the same clip, 3 frames away and more. It
never serves as a loss. python -m training.metrics.sync --corpus DIR trains it on the training identities and
writes the calibration on held-out ones to weights/sync.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm, trange

from mutual_forcing.config import FPS, SAMPLE_RATE

from ..data.dataset import Clip, Corpus
from .mouth import SIZE, MouthReader, load_reader, locate
from .spectrum import BINS, MEL_PER_FRAME, log_mel

WEIGHTS = Path(__file__).parent / "weights" / "sync.safetensors"
WINDOW = 5
"""Frames that a window holds."""
GAP = 3
"""Negatives are at least this many frames away: nearer ones look the same."""
MAX_LAG = 15
DIM = 64
_CROP, _MARGIN = 48, 4
_WINDOWS = 8
"""Windows of one clip that are told apart at once."""


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
            self.look(torch.zeros(1, WINDOW, _CROP, _CROP))
            self.listen(torch.zeros(1, BINS, WINDOW * MEL_PER_FRAME))

    def look(self, windows: Tensor) -> Tensor:
        """Of the mouth."""
        return F.normalize(self.see(windows), dim=-1)

    def listen(self, windows: Tensor) -> Tensor:
        """Of the sound."""
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
    mouths = _steady(_crops(frames, locate(reader, frames), _CROP))
    if len(mouths) < WINDOW or len(audio) < len(mouths) * SAMPLE_RATE // FPS:
        raise ValueError("Sync needs 5 frames and more, and sound as long as they are.")
    starts = torch.arange(len(mouths) - WINDOW + 1)
    seen = torch.cat([pair.look(_mouth_windows(mouths, part)) for part in starts.split(256)])
    return seen, _heard(pair, audio, len(seen))


@torch.no_grad()
def _heard(pair: SyncPair, audio: np.ndarray, count: int) -> Tensor:
    mel = _scaled(log_mel(audio))
    parts = torch.arange(count).split(256)
    return torch.cat([pair.listen(_sound_windows(mel, part)) for part in parts])


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


def _crops(frames: np.ndarray, centre: np.ndarray, side: int) -> Tensor:
    """Grey squares float [T, side, side] within 0..1 about `centre` (x, y in fractions of 128 px)."""
    grey = torch.from_numpy(frames).float().mean(-1)[:, None] / 255
    grey = F.interpolate(grey, (SIZE, SIZE), mode="area")[:, 0]
    left, top = (int(np.clip(round(c * SIZE) - side // 2, 0, SIZE - side)) for c in centre)
    return grey[:, top : top + side, left : left + side]


def _steady(mouths: Tensor) -> Tensor:
    """What moves: crops without their mean over the clip, so that a look alone says nothing."""
    return (mouths - mouths.mean(-3, keepdim=True)) * 8


def _scaled(mel: Tensor) -> Tensor:
    return (mel + 5) / 2


def _mouth_windows(mouths: Tensor, starts: Tensor) -> Tensor:
    return mouths[starts[:, None] + torch.arange(WINDOW)]


def _sound_windows(mel: Tensor, starts: Tensor) -> Tensor:
    columns = starts[:, None] * MEL_PER_FRAME + torch.arange(WINDOW * MEL_PER_FRAME)
    return mel[:, columns].transpose(0, 1)


Example = tuple[Tensor, Tensor]
"""Grey crops uint8 [T, 56, 56] and scaled spectrum [40, 4 T] of one clip."""


def _read(clip: Clip) -> Example:
    centre = clip.mouth_boxes[:, :2].mean(0)
    crops = _crops(clip.read_frames(0, clip.frames), centre, _CROP + 2 * _MARGIN)
    return (crops * 255).round().to(torch.uint8), _scaled(log_mel(clip.read_audio()))


def _draw(example: Example, rng: np.random.Generator) -> Example:
    """Eight windows of one clip, GAP frames apart or more, blurred and moved about at random."""
    crops, mel = example
    down, right = rng.integers(0, 2 * _MARGIN + 1, 2)
    mouths = crops[:, down : down + _CROP, right : right + _CROP].float()[:, None] / 255
    size = int(rng.integers(12, _CROP + 1))
    if rng.random() < 0.7:
        small = F.interpolate(mouths, (size, size), mode="area")
        mouths = F.interpolate(small, (_CROP, _CROP), mode="bilinear")
    mouths = _steady(mouths[:, 0]) * float(rng.uniform(0.4, 1.4))
    room = len(crops) - WINDOW + 1 - GAP * (_WINDOWS - 1)
    starts = torch.from_numpy(np.sort(rng.integers(room, size=_WINDOWS))) + GAP * torch.arange(
        _WINDOWS
    )
    noise = 0.1 * torch.randn(_WINDOWS, WINDOW, _CROP, _CROP)
    louder = float(rng.normal(0, 0.2))
    return _mouth_windows(mouths, starts) + noise, _sound_windows(mel + louder, starts)


def train_pair(corpus: Corpus, steps: int, seed: int = 0, most: int = 640) -> dict[str, object]:
    """Train on `most` clips of training identities, calibrate on held-out ones, write weights and record."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    clips = [c for c in corpus.split("train") if c.frames >= WINDOW + GAP * (_WINDOWS + 1)]
    clips, batch = clips[:most], 10
    examples = [_read(clip) for clip in tqdm(clips, desc="reading clips", mininterval=5)]
    pair = SyncPair()
    optimizer = torch.optim.AdamW(pair.parameters(), lr=1.5e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    own = torch.arange(_WINDOWS).repeat(batch)
    for _ in (bar := trange(steps, desc="sync pair", mininterval=5)):
        drawn = [_draw(examples[pick], rng) for pick in rng.integers(len(examples), size=batch)]
        seen, heard = (torch.cat([d[side] for d in drawn]) for side in (0, 1))
        seen = pair.look(seen).unflatten(0, (batch, _WINDOWS))
        heard = pair.listen(heard).unflatten(0, (batch, _WINDOWS))
        logits = seen @ heard.transpose(1, 2) * pair.scale.exp().clamp(max=50)
        loss = F.cross_entropy(logits.flatten(0, 1), own)
        loss = (loss + F.cross_entropy(logits.transpose(1, 2).flatten(0, 1), own)) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    WEIGHTS.parent.mkdir(exist_ok=True)
    save_file(pair.state_dict(), WEIGHTS)
    record = {"steps": steps, "seed": seed, "clips": len(clips), **calibrate(load_pair(), corpus)}
    WEIGHTS.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return record


def calibrate(pair: SyncPair, corpus: Corpus) -> dict[str, object]:
    """On held-out identities: what the truth scores when its sound comes 0 to 10 frames too late.

    found: how often the best lag is that shift (one frame off counts). shuffled: the sound of another clip.
    """
    reader, clips = load_reader(), corpus.split("heldout")[::3]  # one of each identity
    sounds = [clip.read_audio() for clip in clips]
    seen = [
        embed(pair, reader, clip.read_frames(0, clip.frames), sound)[0]
        for clip, sound in zip(tqdm(clips, desc="calibrating", mininterval=5), sounds, strict=True)
    ]
    table: dict[str, object] = {"heldout_clips": len(clips)}
    for shift in (0, 2, 5, 10):
        moved = [np.roll(sound, shift * SAMPLE_RATE // FPS) for sound in sounds]
        table[f"shift_{shift}"] = _described(pair, seen, moved, -shift)
    others = [np.resize(sounds[i - 1], len(sound)) for i, sound in enumerate(sounds)]
    table["shuffled"] = _described(pair, seen, others, 0)
    return table


def _described(
    pair: SyncPair, seen: list[Tensor], sounds: list[np.ndarray], lag: int
) -> dict[str, float]:
    scores = [
        score(eyes, _heard(pair, sound, len(eyes)))
        for eyes, sound in zip(seen, sounds, strict=True)
    ]
    return {
        "margin": round(float(np.mean([s.margin for s in scores])), 4),
        "confidence": round(float(np.mean([s.confidence for s in scores])), 4),
        "found": round(float(np.mean([abs(s.lag - lag) <= 1 for s in scores])), 3),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.metrics.sync", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--clips", type=int, default=640, help="training clips to use at most")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    record = train_pair(Corpus(options.corpus), options.steps, options.seed, options.clips)
    sys.stdout.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
