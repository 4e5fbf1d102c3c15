"""Train the judge of lips and sound: python -m training.evaluation.sync_pair --corpus DIR."""

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
from tqdm import tqdm, trange

from mutual_forcing.config import FPS, SAMPLE_RATE
from mutual_forcing.metrics.mouth import load_reader
from mutual_forcing.metrics.spectrum import log_mel
from mutual_forcing.metrics.sync import (
    CROP,
    GAP,
    WEIGHTS,
    WINDOW,
    SyncPair,
    crops,
    embed,
    embed_sound,
    load_pair,
    mouth_windows,
    scaled,
    score,
    sound_windows,
    steady,
)

from ..data.dataset import Clip, Corpus

_MARGIN = 4
"""Pixels by which the crops of training are moved about at most."""
_WINDOWS = 8
"""Windows of one clip that are told apart at once."""
Example = tuple[Tensor, Tensor]
"""Grey crops uint8 [T, 56, 56] and scaled spectrum [40, 4 T] of one clip."""


def _read(clip: Clip) -> Example:
    centre = clip.mouth_boxes[:, :2].mean(0)
    wide = crops(clip.read_frames(0, clip.frames), centre, CROP + 2 * _MARGIN)
    return (wide * 255).round().to(torch.uint8), scaled(log_mel(clip.read_audio()))


def _draw(example: Example, rng: np.random.Generator) -> Example:
    """Eight windows of one clip, GAP frames apart or more, blurred and moved about at random."""
    wide, mel = example
    down, right = rng.integers(0, 2 * _MARGIN + 1, 2)
    mouths = wide[:, down : down + CROP, right : right + CROP].float()[:, None] / 255
    size = int(rng.integers(12, CROP + 1))
    if rng.random() < 0.7:
        small = F.interpolate(mouths, (size, size), mode="area")
        mouths = F.interpolate(small, (CROP, CROP), mode="bilinear")
    mouths = steady(mouths[:, 0]) * float(rng.uniform(0.4, 1.4))
    room = len(wide) - WINDOW + 1 - GAP * (_WINDOWS - 1)
    starts = torch.from_numpy(np.sort(rng.integers(room, size=_WINDOWS))) + GAP * torch.arange(
        _WINDOWS
    )
    noise = 0.1 * torch.randn(_WINDOWS, WINDOW, CROP, CROP)
    louder = float(rng.normal(0, 0.2))
    return mouth_windows(mouths, starts) + noise, sound_windows(mel + louder, starts)


def train_pair(corpus: Corpus, steps: int, seed: int = 0, most: int = 640) -> dict[str, object]:
    """Train on `most` clips of training identities, calibrate on held-out ones, write weights and record."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    clips = [c for c in corpus.films("train") if c.frames >= WINDOW + GAP * (_WINDOWS + 1)]
    clips, batch = clips[:most], 10
    examples = [_read(clip) for clip in tqdm(clips, desc="reading clips", mininterval=5)]
    pair = SyncPair()
    optimizer = torch.optim.AdamW(pair.parameters(), lr=1.5e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    own = torch.arange(_WINDOWS).repeat(batch)
    for _ in (bar := trange(steps, desc="sync pair", mininterval=5)):
        drawn = [_draw(examples[pick], rng) for pick in rng.integers(len(examples), size=batch)]
        seen, heard = (torch.cat([d[side] for d in drawn]) for side in (0, 1))
        seen = pair.embed_mouth(seen).unflatten(0, (batch, _WINDOWS))
        heard = pair.embed_audio(heard).unflatten(0, (batch, _WINDOWS))
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
    reader, clips = load_reader(), corpus.films("development")[::3]  # one of each identity
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
        score(eyes, embed_sound(pair, sound, len(eyes)))
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
        prog="python -m training.evaluation.sync_pair", description=__doc__.splitlines()[0]
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
