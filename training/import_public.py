"""Start a run from public weights: python -m training.import_public --preset wan_5b --run DIR.

The video branch takes Wan's; the audio branch, of the same shape, begins from nothing, and the coupling of
both closed. Codecs and text encoder are used as they are and never trained. Where the weights lie is written
into the run (system.json), so that every later command finds them.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from mutual_forcing.checkpoint import System
from mutual_forcing.codec_config import OobleckConfig, PublicWeights, WanCodecConfig
from mutual_forcing.codecs.public_weights import find_folder
from mutual_forcing.config import SystemConfig, WanConfig
from mutual_forcing.models.wan_transformer import WanAVTransformer
from mutual_forcing.wan_weights import load_branch

from .command import run
from .import_checkpoint import write_stage
from .recipes import PUBLIC, SCALES
from .stages import ORIGIN, SYSTEM, Workspace


def import_public(workspace: Workspace, wan: str | None = None, audio: str | None = None) -> None:
    """Write the model that training begins from as the finished stage `public`.

    wan, audio: folders or Hub repositories to take instead of the preset's. Raises ValueError for a preset
    that takes no public weights, for a run that has begun, and where weights cannot be found or do not fit.
    """
    if workspace.done(PUBLIC):
        raise ValueError(f"{workspace.root} has begun from public weights already.")
    config = with_sources(workspace.system_config, wan, audio)
    system = System.build(config)
    assert isinstance(system.model, WanAVTransformer)
    source = replace(_wan_source(config), subfolder="transformer")
    load_branch(system.model, "video", find_folder(source))
    workspace.root.mkdir(parents=True, exist_ok=True)
    told = json.dumps(config.to_dict(), indent=1) + "\n"
    (workspace.root / SYSTEM).write_text(told, encoding="utf-8")
    record = {
        "recipe": {"steps": 0, "batch": 0, "seed": 0},
        "hours": 0.0,
        "metrics": {},
        ORIGIN: source.source,
    }
    write_stage(workspace, PUBLIC, system.model, record)


def with_sources(config: SystemConfig, wan: str | None, audio: str | None) -> SystemConfig:
    """The system with weights from elsewhere; folders are named by their whole path."""
    source = _wan_source(config)
    sound, film = config.audio_codec, config.video_codec
    assert isinstance(film, WanCodecConfig) and isinstance(config.model, WanConfig)
    if not isinstance(sound, OobleckConfig) or sound.weights is None:
        raise ValueError(f"The preset {config.name} takes no public weights of sound.")
    source = _elsewhere(source, wan)
    return replace(
        config,
        video_codec=replace(film, weights=replace(source, subfolder="vae")),
        audio_codec=replace(sound, weights=_elsewhere(sound.weights, audio)),
        model=replace(config.model, text=source),
    )


def _wan_source(config: SystemConfig) -> PublicWeights:
    if not isinstance(config.model, WanConfig) or config.model.text is None:
        raise ValueError(f"The preset {config.name} does not begin from public weights.")
    return config.model.text


def _elsewhere(weights: PublicWeights, place: str | None) -> PublicWeights:
    place = place or weights.source
    folder = Path(place)
    if folder.is_dir():
        return replace(weights, source=str(folder.resolve()), revision="")
    return replace(weights, source=place)


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.import_public", description=__doc__)
    public = [name for name, scale in SCALES.items() if scale.public]
    parser.add_argument("--preset", choices=public, default="wan_5b")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--wan", help="folder or Hub repository, laid out as diffusers does")
    parser.add_argument("--audio", help="the same of the sound's autoencoder, in a subfolder vae")
    options = parser.parse_args()
    workspace = Workspace(options.run, options.preset, torch.device("cpu"))
    return run(lambda: import_public(workspace, options.wan, options.audio))


if __name__ == "__main__":
    sys.exit(main())
