"""Streams of the served checkpoint are what they were: latents and sound are kept in golden.safetensors.

What the transformer, sampling, caches and the audio codec make must not change when code is put in order. The
picture's latent is given, so that a newly trained decoder changes nothing here. A change that is meant:
PYTHONPATH=. python tests/test_golden.py writes the file anew.
"""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mutual_forcing import GenerationRequest, StreamingGenerator
from mutual_forcing.config import SAMPLE_RATE
from mutual_forcing.types import FaceCrop

GOLDEN = Path(__file__).with_name("golden.safetensors")
KEPT = 16
"""Every so many-th sample of sound is kept."""
TOLERANCE = 2e-3
"""Other processors add in another order; on the machine that wrote the file the difference is 0."""


def streams() -> dict[str, torch.Tensor]:
    """Latents [C, T] and sound [N] of text and driven streams, Few and Multi, continued and steered."""
    generator = StreamingGenerator.from_pretrained("tiny", device="cpu")
    codec, latents = generator.system.video_codec, []
    picture_latent = torch.linspace(-1, 1, codec.channels)[None]
    encode = codec.encode_reference

    def animate(part, canvas, reference, state):
        part, state = codec.mend_blinks(part, state)
        latents.append(part[0].float())
        return np.zeros((part.shape[2], 16, 16, 3), np.uint8), state

    codec.encode_reference = lambda picture: replace(encode(picture), latent=picture_latent)
    codec.animate = animate
    rng, time = np.random.default_rng(1), np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    tone = 0.2 * np.sin(2 * np.pi * 150 * time) * (np.sin(2 * np.pi * 2 * time) > 0)
    sound = (tone + 0.01 * rng.normal(size=time.shape)).astype(np.float32)
    picture = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    found: dict[str, torch.Tensor] = {}

    def begin(seed: int = 3, **options):
        crop = FaceCrop(150, 150, 260)
        return generator.start(GenerationRequest(picture, crop=crop, seed=seed, **options))

    def keep(name: str, chunks) -> None:
        latents.clear()
        audio = np.concatenate([chunk.audio for chunk in chunks])
        found[f"{name}.video"] = torch.cat(latents, 1).contiguous()
        found[f"{name}.audio"] = torch.from_numpy(audio[::KEPT].copy())

    state = begin(text="Hello there, we may go home.", steps=4, voice=sound)
    keep("text, 4 steps", generator.stream(state=state))
    generator.extend(state, "And more.")
    keep("continued", generator.stream(state=state))
    requests = {
        "text, 1 step": {"text": "Hello there.", "steps": 1},
        "text, 12 guided steps": {"text": "Hello there.", "steps": 12},
        "text, 12 steps": {"text": "Hello.", "steps": 12, "guidance_scale": 1.0},
        "driven, 4 steps": {"audio": sound, "steps": 4},
        "driven, 10 guided steps": {"audio": sound[: 5 * SAMPLE_RATE // 4], "steps": 10},
    }
    for name, options in requests.items():
        keep(name, generator.stream(state=begin(**options)))
    state = begin(seed=5, text="Hello there, we may go home now.", steps=4)
    running = generator.stream(state=state)
    keep("before it is steered", itertools.islice(running, 1))
    running.close()
    generator.steer(state, steps=10)
    keep("steered", generator.stream(state=state))
    return found


@pytest.mark.slow
def test_streams_of_the_served_checkpoint_are_what_they_were() -> None:
    golden, found = load_file(GOLDEN), streams()
    assert golden.keys() == found.keys()
    for name, kept in golden.items():
        assert kept.shape == found[name].shape, name
        assert (kept - found[name]).abs().max() < TOLERANCE, name
        assert kept.std() > 0.01, "silence and stillness would prove nothing"


if __name__ == "__main__":
    save_file(streams(), GOLDEN)
