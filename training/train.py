"""Run one stage: python -m training.train RECIPE --run DIR [--preset tiny].

encode_video and encode_audio compute the corpus's latents between the stages that need them. A stage of the
transformer runs on many devices: torchrun --nproc-per-node 8 -m -- training.train RECIPE --run DIR.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from .command import run
from .distributed import Strategy, joined
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
    parser.add_argument(
        "--accumulate",
        type=int,
        default=1,
        help="micro batches of a step, one after the other: less memory, the same result",
    )
    parser.add_argument(
        "--checkpoint-activations",
        action="store_true",
        help="compute activations again for the gradient: less memory, more time",
    )
    parser.add_argument(
        "--precision", choices=("bf16", "fp32"), help="default: bf16 where it is fast"
    )
    parser.add_argument(
        "--flex-attention",
        action="store_true",
        help="attend to whole clips in one kernel that copies no past (CUDA; compiles at first)",
    )
    parser.add_argument(
        "--sequence-parallel",
        type=int,
        default=1,
        metavar="N",
        help="N processes share the chunks of each clip: for clips that one has no room for (Wan's shape)",
    )
    options = parser.parse_args()
    return run(lambda: train(options))


def train(options: argparse.Namespace) -> None:
    """Run the stage or the encoding that the command line names."""
    with joined(pick_device(options.device)) as strategy:
        train_in(options, strategy)


def train_in(options: argparse.Namespace, strategy: Strategy) -> None:
    """The same as one of the processes of `strategy`."""
    workspace = Workspace(options.run, options.preset, strategy.device)
    if options.recipe not in ENCODINGS:
        strategy = replace(
            strategy,
            accumulate=options.accumulate,
            checkpoint_activations=options.checkpoint_activations,
            bfloat16=None if options.precision is None else options.precision == "bf16",
            flex=options.flex_attention,
            sequence=options.sequence_parallel,
        )
        workspace.train(options.recipe, options.steps, options.seed, strategy)
    elif strategy.ranks > 1:
        raise ValueError(f"{options.recipe} is done by one process: call it without torchrun.")
    else:
        workspace.encode(options.recipe.removeprefix("encode_"))


if __name__ == "__main__":
    sys.exit(main())
