"""Run one stage: python -m training.train RECIPE --run DIR [--preset tiny].

encode_video and encode_audio compute the corpus's latents between the stages that need them.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from .recipes import BASELINES, SCALES, STAGES
from .stages import Workspace, pick_device
from .trainer import Interrupted

ENCODINGS = ("encode_video", "encode_audio")


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.train", description=__doc__)
    parser.add_argument("recipe", choices=(*STAGES, *BASELINES, *ENCODINGS))
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--preset", choices=sorted(SCALES), default="tiny")
    parser.add_argument("--steps", type=int, help="train this many steps instead of the recipe's")
    parser.add_argument("--device", help="cpu or cuda; default: cuda when present")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        workspace = Workspace(options.run, options.preset, pick_device(options.device))
        if options.recipe in ENCODINGS:
            workspace.encode(options.recipe.removeprefix("encode_"))
        else:
            workspace.train(options.recipe, options.steps)
    except (Interrupted, ValueError) as stop:
        sys.stderr.write(f"{stop}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
