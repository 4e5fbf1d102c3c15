"""Samples to look at and listen to while a stage trains: a sheet of frames and a WAV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import torch
from PIL import Image
from torch import Tensor

from mutual_forcing.checkpoint import System
from mutual_forcing.chunks import tokens_to_audio, tokens_to_video
from mutual_forcing.config import SAMPLE_RATE
from mutual_forcing.models.kv_cache import KVCache
from mutual_forcing.models.transformer import Conditions
from mutual_forcing.sampling import Sampler, remember_chunk, sample_chunk
from mutual_forcing.types import AVLatents, TextTokens

from .data.latents import LatentBatch, LatentDataset

CLIPS, CHUNKS = 3, 4
FRAME_STEP = 5


@torch.no_grad()
def continue_from_references(
    system: System, batch: LatentBatch, branches: tuple[str, ...], sampler: Sampler, seed: int = 0
) -> AVLatents:
    """Generate every chunk of `batch` from its text and references alone (unguided samplers)."""
    model = system.model
    conditions = batch.conditions(model, branches)
    generator = torch.Generator(batch.video.device).manual_seed(seed)
    cache, made = KVCache(model.config.window), []
    for k in range(batch.video.shape[1]):
        part = slice(k, k + 1)
        text = TextTokens(
            batch.text.ids[:, part],
            batch.text.start[:, part],
            batch.text.end[:, part],
            batch.text.caption,
        )
        here = Conditions(model.text_encoder(text), conditions.references)
        shapes = {n: p[:, part].shape for n, p in batch.clean(branches).parts.items()}
        device = batch.video.device
        noise = {n: torch.randn(s, generator=generator, device=device) for n, s in shapes.items()}
        chunk = sample_chunk(model, noise, here, cache, sampler)
        remember_chunk(model, chunk, here, cache, sampler)
        made.append(chunk.parts)
    return AVLatents.of({n: torch.cat([c[n] for c in made], 1) for n in branches})


def write_look(
    system: System,
    data: LatentDataset,
    branches: tuple[str, ...],
    folder: Path,
    step: int,
    sampler: Sampler | None = None,
) -> None:
    """Three held-out clips: truth above generated frames, and true then generated speech."""
    split = "heldout" if data.corpus.split("heldout") else "train"
    clips = [c for c in data.corpus.split(split) if c.chunks >= CHUNKS]
    rng = np.random.default_rng(0)
    rows, sounds = [], []
    device = next(system.model.parameters()).device
    for clip in clips[:: max(1, len(clips) // CLIPS)][:CLIPS]:
        batch = data.item(clip, 0, CHUNKS, rng).to(device)
        made = continue_from_references(
            system, batch, branches, sampler or Sampler(12, "multi", 1.0)
        )
        if made.video is not None:
            picture = data.corpus.sibling(clip, rng).read_frames(0, 1)[0]
            rows.append(_frames(system, batch.video, picture))
            rows.append(_frames(system, made.video, picture))
        if made.audio is not None:
            sounds += [_sound(system, batch.audio), _sound(system, made.audio)]
    if rows:
        Image.fromarray(np.concatenate(rows)).save(folder / f"{step:06d}.png")
    if sounds:
        soundfile.write(folder / f"{step:06d}.wav", np.concatenate(sounds), SAMPLE_RATE)


def _frames(system: System, tokens: Tensor, picture: np.ndarray) -> np.ndarray:
    """Decode and lay every few frames side by side after the reference: uint8 [S, n * S, 3]."""
    autoencoder = system.video_autoencoder
    pixels = torch.from_numpy(picture).to(tokens.device).permute(2, 0, 1)[None].float() / 127.5 - 1
    frames, _ = autoencoder.decode(tokens_to_video(tokens), autoencoder.encode_reference(pixels))
    laid = frames[0, :, ::FRAME_STEP].clamp(-1, 1).unbind(1)
    row = torch.cat([pixels[0], *laid], -1)
    return ((row + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()


def _sound(system: System, tokens: Tensor) -> np.ndarray:
    audio, _ = system.audio_autoencoder.decode(tokens_to_audio(tokens))
    return audio[0].clamp(-1, 1).cpu().numpy()
