"""Samples of a stage in training, for a person to judge: a sheet of frames and a WAV file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import torch
from PIL import Image
from torch import Tensor

from mutual_forcing.canvas import prepare
from mutual_forcing.checkpoint import System
from mutual_forcing.chunks import tokens_to_latents
from mutual_forcing.codecs.motion_codec import ReferenceFeatures
from mutual_forcing.codecs.protocol import FaceCodec, FilmLayout, decode_whole
from mutual_forcing.config import SAMPLE_RATE
from mutual_forcing.models.joint_model import StreamCache
from mutual_forcing.picture_window import cut_window
from mutual_forcing.sampling import Sampler, prefill_static
from mutual_forcing.types import AVLatents, FaceCrop

from .data.dataset import Clip
from .data.latents import LatentBatch, LatentDataset
from .data.precompute import encode_silence
from .objectives.draws import Draws
from .objectives.monitors import Excerpt, figures, raise_alarms
from .objectives.rollout import chunk_conditions, continue_clip

CHUNKS = 4
FRAME_STEP = 5
QUICK = 1
"""Of zlib's levels: a sheet is some hundred kilobytes either way, and the usual 6 takes a second for it."""


def continue_from_references(
    system: System, batch: LatentBatch, branches: tuple[str, ...], sampler: Sampler, seed: int = 0
) -> AVLatents:
    """Generate every chunk of `batch` from its text and references alone. The sampler must be unguided."""
    cache = _reference_cache(system, batch, branches, sampler)
    generator = torch.Generator(batch.video.device).manual_seed(seed)
    clean = batch.clean(branches)
    rows, chunks = clean.shape
    draws = Draws(generator, rows)
    made = continue_clip(
        system.model, batch, clean.modalities, 0, chunks, sampler, draws, cache=cache
    )
    return AVLatents.of({n: torch.cat([c[n] for c in made], 1) for n in branches})


@torch.no_grad()
def _reference_cache(
    system: System, batch: LatentBatch, branches: tuple[str, ...], sampler: Sampler
) -> StreamCache:
    """The cache of a stream before its first chunk: the reference picture, unmoved, in silence."""
    model, quiet = system.model, batch.without_text()
    conditions = chunk_conditions(quiet.conditions(model, branches), model, quiet.text, 0)
    silent = encode_silence(system.audio_codec, model.config.audio.grid, batch.picture.device)
    cache = model.new_cache()
    prefill_static(model, batch.picture, silent, branches, conditions, cache, sampler)
    return cache


def write_samples_sheet(
    system: System,
    data: LatentDataset,
    branches: tuple[str, ...],
    folder: Path,
    step: int,
    sampler: Sampler,
    count: int,
) -> dict[str, float]:
    """Write so many held-out clips: the true above the generated frames, if there are films; the true before
    the generated speech.

    Returns the monitors' figures and logs their alarms.
    """
    split = "development" if data.corpus.split("development") else "train"
    shown = data.corpus.films(split) if "video" in branches else []
    clips = [c for c in shown or data.corpus.split(split) if c.chunks >= CHUNKS]
    rng = np.random.default_rng(0)
    real, made, references, spread = [], [], [], []
    device = next(system.model.parameters()).device
    for clip in clips[:: max(1, len(clips) // count)][:count]:
        batch = data.item(clip, 0, CHUNKS, rng).to(device)
        ours, others = (
            continue_from_references(system, batch, branches, sampler, seed) for seed in (0, 1)
        )
        spread.append(_difference(ours, others))
        canvas = _canvas(system, data.corpus.sibling(clip, rng)) if shown else None
        references.append(canvas.reference_frame if canvas else None)
        real.append(_clip_sample(system, batch.clean(branches), canvas))
        made.append(_clip_sample(system, ours, canvas))
    _write_sheet(references, real, made, folder / f"{step:06d}.png")
    _write_sound(real, made, folder / f"{step:06d}.wav")
    values = {**figures(made, real), "diversity": float(np.mean(spread))}
    raise_alarms(values, step)
    return values


def _canvas(system: System, clip: Clip) -> FilmLayout:
    """The first picture of a film; the corpus frames heads much as faces.py does."""
    picture = clip.read_frames(0, 1)[0]
    side = len(picture)
    if not isinstance(system.video_codec, FaceCodec):
        return cut_window(picture, system.video_codec.film_size)
    return prepare(picture, FaceCrop(side / 2, side / 2, side), system.video_codec.square_size)


def _difference(ours: AVLatents, others: AVLatents) -> float:
    """RMS difference of standardised latents over that of independent ones."""
    squares = ours.zip(others, lambda a, b: (a - b).square().mean()).modalities.values()
    return float(sum(squares) / len(squares) / 2) ** 0.5


def _clip_sample(system: System, latents: AVLatents, canvas: FilmLayout | None) -> Excerpt:
    # The motion codec may still be learning beside this stage (training.reproduce).
    seen = canvas is not None and latents.video is not None and system.video_codec.has_statistics
    frames = _frames(system, latents.video, canvas) if seen else None
    sound = None if latents.audio is None else _sound(system, latents.audio)
    poses = None if latents.video is None else latents.video[0].flatten(0, 1).float().cpu().numpy()
    return Excerpt(frames, sound, poses)


def _write_sheet(
    references: list[np.ndarray | None], real: list[Excerpt], made: list[Excerpt], path: Path
) -> None:
    """Reference, then every few frames; the truth above what was generated."""
    if made[0].frames is None:
        return
    rows = [
        np.concatenate([reference, *sample.frames[::FRAME_STEP]], 1)
        for reference, *pair in zip(references, real, made, strict=True)
        for sample in pair
    ]
    Image.fromarray(np.concatenate(rows)).save(path, compress_level=QUICK)


def _write_sound(real: list[Excerpt], made: list[Excerpt], path: Path) -> None:
    if made[0].audio is None:
        return
    sounds = [m.audio for pair in zip(real, made, strict=True) for m in pair]
    soundfile.write(path, np.concatenate(sounds), SAMPLE_RATE)


def _frames(system: System, tokens: Tensor, canvas: FilmLayout) -> np.ndarray:
    """Decode: uint8 [T, S, S, 3]."""
    codec = system.video_codec
    reference = codec.encode_reference(canvas.reference(tokens.device))
    if isinstance(reference, ReferenceFeatures):
        # The corpus's motion says all that a face does.
        reference = reference.at_rest()
    latents = tokens_to_latents(tokens, system.config.model.video.grid)
    return codec.animate(latents, canvas, reference)[0]


def _sound(system: System, tokens: Tensor) -> np.ndarray:
    latents = tokens_to_latents(tokens, system.config.model.audio.grid)
    audio = decode_whole(system.audio_codec, latents)
    return audio[0].float().clamp(-1, 1).cpu().numpy()
