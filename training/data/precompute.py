"""Encode a corpus once: latents of every clip, and of a few still pictures for reference.

One safetensors file per branch and 64 clips, half precision, keys "<clip>.video" [K, 16, C],
"<clip>.stills" [4, 1, C] and "<clip>.audio" [K, 16, C]. Resumable. The branches are apart, so that the
audio branch can be trained before the video autoencoder is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from mutual_forcing.chunks import latents_to_tokens
from mutual_forcing.models.audio_autoencoder import AudioAutoencoder
from mutual_forcing.models.video_autoencoder import VideoAutoencoder
from mutual_forcing.pixels import to_signal

from ..machine import mixed_precision
from .dataset import Clip, Corpus

CLIPS_PER_FILE = 64
STILLS = 4
ClipEncoder = Callable[[Clip], dict[str, Tensor]]


def video_encoder(model: VideoAutoencoder, device: torch.device) -> ClipEncoder:
    """Latents of a clip's true motion, and four of its frames as the encoder sees them, as stills.

    The corpus knows the motion exactly; a picture that a stream starts from has to be looked at.
    """

    def encode(clip: Clip) -> dict[str, Tensor]:
        controls = torch.from_numpy(clip.read_motion()["controls"])[None].to(device)
        chosen = np.random.default_rng([7, clip.index]).integers(clip.frames, size=STILLS)
        stills = np.concatenate([clip.read_frames(int(place), 1) for place in chosen])
        pictures = to_signal(torch.from_numpy(stills).permute(0, 3, 1, 2)).to(device)
        return {
            "video": latents_to_tokens(model.encode_controls(controls))[0],
            "stills": model.encode_still(pictures)[:, None],
        }

    return encode


def audio_encoder(model: AudioAutoencoder, device: torch.device) -> ClipEncoder:
    """Encodes a clip's sound."""

    def encode(clip: Clip) -> dict[str, Tensor]:
        track = torch.from_numpy(clip.read_audio())[None].to(device)
        return {"audio": latents_to_tokens(model.encode(track))[0]}

    return encode


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
        partial = path.with_suffix(".partial")
        save_file(tensors, partial)
        partial.replace(path)
    (out / f"{branch}.done").touch()
