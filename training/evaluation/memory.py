"""Most memory that streaming takes in one mode, in a process that does nothing else:
python -m training.evaluation.memory CHECKPOINT STEPS prints GiB.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from mutual_forcing import GenerationRequest, StreamingGenerator
from mutual_forcing.chunks import CHUNK_SECONDS

from ..machine import peak_memory
from .systems import Setting, generate

CHUNKS = 10
"""The window is full after a few."""
SIZE = 512
"""Of the film, as the page has it by default."""


def peak_of(checkpoint: Path, asked: str) -> float:
    """GiB that a stream of CHUNKS chunks takes, with decoding, muxing and the weights.

    asked: as for Setting.parse.
    """
    command = [sys.executable, "-m", __name__, str(checkpoint), asked]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    """Stream and print the peak."""
    checkpoint, asked = sys.argv[1:]
    setting = Setting.parse(asked)
    generator = StreamingGenerator.from_pretrained(checkpoint, device="cpu")
    request = GenerationRequest(
        np.full((SIZE, SIZE, 3), 128, np.uint8),
        text="Memory does not grow with the length of a stream.",
        steps=setting.asked,
        seconds=CHUNKS * CHUNK_SECONDS,
    )
    generate(generator, request, setting)
    sys.stdout.write(f"{peak_memory(torch.device('cpu')) / 2**30:.3f}\n")


if __name__ == "__main__":
    main()
