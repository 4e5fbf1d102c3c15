"""Run one stage: python -m training.train RECIPE --run DIR [--preset tiny].

encode_video and encode_audio compute the corpus's latents between the stages that need them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .command import run
from .recipes import BASELINES, SCALES, STAGES
from .stages import Workspace, pick_device

ENCODINGS = ("encode_video", "encode_audio")


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.train", description=__doc__)
    parser.add_argument("recipe", choices=(*STAGES, *BASELINES, *ENCODINGS))
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--preset", choices=sorted(SCALES), default="tiny")
    parser.add_argument("--steps", type=int, help="train this many steps instead of the recipe's")
    parser.add_argument("--seed", type=int, help="of weights and batches; default: the recipe's")
    parser.add_argument("--device", help="cpu or cuda; default: cuda when present")
    options = parser.parse_args()
    return run(lambda: train(options))


def train(options: argparse.Namespace) -> None:
    """Run the stage or the encoding that the command line names."""
    workspace = Workspace(options.run, options.preset, pick_device(options.device))
    if options.recipe in ENCODINGS:
        workspace.encode(options.recipe.removeprefix("encode_"))
    else:
        workspace.train(options.recipe, options.steps, options.seed)


if __name__ == "__main__":
    sys.exit(main())
