"""Encode a corpus once: latents of every clip, and of a few still pictures for reference.

One safetensors file per branch and 64 clips, half precision, keys "<clip>.video" [K, 16, C],
"<clip>.stills" [4, 1, C] and "<clip>.audio" [K, 16, C]; of audio also one with "silence" [1, 16, C], of
which streams begin. Resumable. Video latents of a motion codec are motion that the corpus
knows (mutual_forcing.motion), so the transformer can be trained before, or beside, the motion codec. Those of
a pixel codec are read off the films: [K, F P, C] with F latent frames of P tokens, stills [4, P, C], and
"<clip>.first" [P, C], the picture that the clip begins from.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from mutual_forcing.chunks import SAMPLES_PER_CHUNK, latents_to_tokens
from mutual_forcing.codecs.protocol import AudioCodec, PixelCodec
from mutual_forcing.config import TokenGrid
from mutual_forcing.motion import MOTION
from mutual_forcing.pixels import to_signal
from mutual_forcing.precision import mixed_precision

from ..atomic import written_whole
from .dataset import Clip, Corpus
from .films import read_film
from .free_motion import with_free

CLIPS_PER_FILE = 64
STILLS = 4
SILENCE = "silence"
ClipEncoder = Callable[[Clip], dict[str, Tensor]]


def video_encoder(mean: np.ndarray, deviation: np.ndarray, grid: TokenGrid) -> ClipEncoder:
    """A clip's motion as latents, standardised by [C] each, and four of its moments as stills: the corpus
    knows them.
    """

    free = len(mean) - len(MOTION)

    def encode(clip: Clip) -> dict[str, Tensor]:
        latents = torch.from_numpy((with_free(clip.read_motion(), free) - mean) / deviation)
        chosen = np.random.default_rng([7, clip.index]).integers(clip.frames, size=STILLS)
        return {
            "video": latents_to_tokens(latents.T[None], grid)[0],
            "stills": latents[chosen][:, None],
        }

    return encode


def film_encoder(model: PixelCodec, grid: TokenGrid, device: torch.device) -> ClipEncoder:
    """Encodes a clip's film behind its first frame, and frames by themselves as pictures; of a clip without a
    film nothing.
    """

    def signal(frames: np.ndarray) -> Tensor:
        return to_signal(torch.from_numpy(frames).to(device).permute(3, 0, 1, 2))

    def encode(clip: Clip) -> dict[str, Tensor]:
        if not clip.filmed:
            return {}
        film = signal(read_film(clip, model.film_size, 0, clip.frames))
        chosen = np.random.default_rng([7, clip.index]).integers(clip.frames, size=STILLS)
        pictures = film[:, [0, *chosen]].transpose(0, 1)
        tokens = model.encode_reference(pictures).tokens
        return {
            "video": latents_to_tokens(model.encode(film[None]), grid)[0],
            "first": tokens[0],
            "stills": tokens[1:],
        }

    return encode


def audio_encoder(model: AudioCodec, grid: TokenGrid, device: torch.device) -> ClipEncoder:
    """Encodes a clip's sound."""

    def encode(clip: Clip) -> dict[str, Tensor]:
        track = torch.from_numpy(clip.read_audio())[None].to(device)
        return {"audio": latents_to_tokens(model.encode(track), grid)[0]}

    return encode


@torch.no_grad()
def encode_silence(model: AudioCodec, grid: TokenGrid, device: torch.device) -> Tensor:
    """A chunk of silence as audio tokens [1, 1, N, C]."""
    nothing = torch.zeros(1, SAMPLES_PER_CHUNK, device=device)
    return latents_to_tokens(model.encode(nothing), grid)


def silence_path(folder: Path) -> Path:
    """Where a folder of latents keeps it."""
    return folder / f"audio-{SILENCE}.safetensors"


def write_silence(tokens: Tensor, folder: Path) -> None:
    """Keep the tokens of `encode_silence` beside the latents."""
    folder.mkdir(parents=True, exist_ok=True)
    with written_whole(silence_path(folder)) as partial:
        save_file({SILENCE: tokens[0].half().cpu().contiguous()}, partial)


@torch.no_grad()
def precompute(
    corpus: Corpus, branch: str, encode: ClipEncoder, out: Path, device: torch.device
) -> None:
    """Write the latents of every clip under `out`; files that exist are kept."""
    out.mkdir(parents=True, exist_ok=True)
    starts = range(0, len(corpus.clips), CLIPS_PER_FILE)
    for number, start in enumerate(tqdm(starts, desc=f"latents ({branch})", unit="file")):
        path = out / f"{branch}-{number:05d}.safetensors"
        if path.exists():
            continue
        with mixed_precision(device):
            tensors = {
                f"{clip.index}.{name}": tokens.half().cpu().contiguous()
                for clip in corpus.clips[start : start + CLIPS_PER_FILE]
                for name, tokens in encode(clip).items()
            }
        with written_whole(path) as partial:
            save_file(tensors, partial)
    (out / f"{branch}.done").touch()
