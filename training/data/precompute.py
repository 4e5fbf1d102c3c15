"""Encode a corpus once: latents of every clip, and of a few still pictures for reference.

One safetensors file per 64 clips under the output folder, keys "<index>.video" [K, 64, 4 C],
"<index>.audio" [K, 16, C] and "<index>.stills" [4, 16, 4 C], half precision. Resumable.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from mutual_forcing.chunks import (
    FRAMES_PER_CHUNK,
    audio_to_tokens,
    still_to_tokens,
    video_to_tokens,
)
from mutual_forcing.models.audio_autoencoder import AudioAutoencoder
from mutual_forcing.models.video_autoencoder import VideoAutoencoder

from .dataset import Clip, Corpus

CLIPS_PER_FILE = 64
STILLS = 4


@torch.no_grad()
def encode_clip(
    clip: Clip, video: VideoAutoencoder, audio: AudioAutoencoder, device: torch.device
) -> dict[str, Tensor]:
    """Latent tokens of one clip; see the module's docstring for the keys."""
    frames = torch.from_numpy(clip.read_frames(0, clip.frames))
    signal = (frames.permute(3, 0, 1, 2)[None].float() / 127.5 - 1).to(device)
    parts = [video.encode(part) for part in signal.split(FRAMES_PER_CHUNK, 2)]
    track = torch.from_numpy(clip.read_audio())[None].to(device)
    chosen = np.random.default_rng([7, clip.index]).integers(clip.frames, size=STILLS)
    stills = video.encode_still(signal[0, :, chosen].transpose(0, 1))
    tokens = {
        "video": video_to_tokens(torch.cat(parts, 2))[0],
        "audio": audio_to_tokens(audio.encode(track))[0],
        "stills": still_to_tokens(stills),
    }
    return {f"{clip.index}.{name}": t.half().cpu().contiguous() for name, t in tokens.items()}


def precompute(
    corpus: Corpus,
    video: VideoAutoencoder,
    audio: AudioAutoencoder,
    out: Path,
    device: torch.device,
) -> None:
    """Write the latents of every clip under `out`; files that exist are kept."""
    out.mkdir(parents=True, exist_ok=True)
    groups = [
        corpus.clips[k : k + CLIPS_PER_FILE] for k in range(0, len(corpus.clips), CLIPS_PER_FILE)
    ]
    for number, clips in enumerate(tqdm(groups, desc="precompute", unit="file")):
        path = out / f"{number:05d}.safetensors"
        if path.exists():
            continue
        tensors: dict[str, Tensor] = {}
        for clip in clips:
            tensors |= encode_clip(clip, video, audio, device)
        partial = path.with_suffix(".partial")
        save_file(tensors, partial)
        partial.replace(path)


def main() -> None:
    """Command line; `training.reproduce` calls `precompute` directly."""
    from ..stages import Workspace

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of training.reproduce")
    parser.add_argument("--preset", default="tiny")
    options = parser.parse_args()
    Workspace(options.run, options.preset).precompute()


if __name__ == "__main__":
    main()
