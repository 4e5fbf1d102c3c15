"""Go on with a checkpoint on a new corpus: python -m training.refine --checkpoint tiny --run runs/more.

A corpus of other sentences and identities is synthesised, the checkpoint's networks become finished stages
of the run, and its transformer learns on: sound alone, both branches; the mean of what it was and has become
goes through Mutual Forcing. The text encoder rests, so that the checkpoint's sound reader still fits; codecs
stay as they are. What comes out is a checkpoint like any other. Everything is resumable: run the same command
again after an interruption.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from mutual_forcing.checkpoint import load_checkpoint

from .command import run
from .data.synthesize import CorpusOptions, synthesize
from .export import export
from .import_checkpoint import import_checkpoint, write_stage
from .recipes import SCALES
from .stage_config import Recipe
from .stages import Workspace, pick_device

log = logging.getLogger(__name__)
BEGUN, SPEECH, JOINT, MEAN, LAST = "video_pretrain", "speech", "joint", "mean", "mutual_forcing"
"""The stage that the checkpoint's transformer becomes, and those that follow it."""


def refine(checkpoint: str | Path, workspace: Workspace, options: CorpusOptions, out: Path) -> None:
    """Train the checkpoint's transformer on, in `workspace`, and write the result to `out`.

    options: of the corpus. Raises ValueError for a checkpoint of another preset, and for a run that holds
    another's corpus or networks.
    """
    if not workspace.encoded("video"):
        synthesize(options, workspace.corpus_folder, os.cpu_count() or 1)
    import_checkpoint(checkpoint, workspace, BEGUN, again=True)
    for branch in ("audio", "video"):
        if not workspace.encoded(branch):
            workspace.encode(branch)
    for plan in plans(workspace):
        if MEAN in plan.init and not workspace.done(MEAN):
            average(workspace)
        workspace.follow(plan)
    export(workspace, out, LAST)


def plans(workspace: Workspace) -> list[Recipe]:
    """The stages in order: the preset's recipes, shorter, with the text encoder at rest.

    `speech` is audio_pretrain from where the checkpoint is: the sound of a step on both branches costs four
    times as much.
    """
    steps = SCALES[workspace.scale].refining
    speech = workspace.plan("audio_pretrain", steps[SPEECH])
    joint = workspace.plan(JOINT, steps[JOINT])
    return [
        _at_rest(replace(speech, name=SPEECH, stream=SPEECH, init=(BEGUN,))),
        _at_rest(replace(joint, init=(SPEECH,))),
        _at_rest(replace(workspace.plan(LAST, steps[LAST]), init=(MEAN,))),
    ]


def average(workspace: Workspace) -> None:
    """Write the mean of the weights that the run began with and those after JOINT as a finished stage.

    Held-out losses of the mean are below those of either (docs/decisions.md): as in model soups
    (arXiv 2203.05482), where both have learnt from other data.
    """
    old, new = (workspace.system(stage).model for stage in (BEGUN, JOINT))
    theirs = new.state_dict()
    mean = {name: (x + theirs[name]) / 2 for name, x in old.state_dict().items()}
    old.load_state_dict({name: x.to(theirs[name].dtype) for name, x in mean.items()})
    objective = {"kind": MEAN, "freeze_text": True}
    recipe = {"steps": 0, "batch": 0, "seed": 0, "objective": objective, "init": (BEGUN, JOINT)}
    write_stage(workspace, MEAN, old, {"recipe": recipe, "hours": 0.0, "metrics": {}})


def _at_rest(plan: Recipe) -> Recipe:
    objective: Any = plan.objective
    return replace(plan, objective=replace(objective, freeze_text=True))


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.refine",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--checkpoint", default="tiny", help="embedded name, folder or Hub id")
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--out", type=Path, help="the checkpoint; default: RUN/checkpoint")
    parser.add_argument("--hours", type=float, default=2.0, help="of the corpus")
    parser.add_argument("--seed", type=int, default=1, help="of the corpus: another than before")
    parser.add_argument("--japanese", type=float, default=0.35, help="share of identities")
    parser.add_argument("--device", help="cpu or cuda; default: cuda when present")
    given = parser.parse_args()

    def act() -> None:
        name = load_checkpoint(given.checkpoint).config.name
        scale = SCALES.get(name)
        if scale is None or not scale.refining:
            raise ValueError(f"There are no recipes for checkpoints of the preset {name}.")
        options = CorpusOptions(
            given.hours, given.seed, scale.size, 0.08, 3, given.japanese, scale.filmed
        )
        workspace = Workspace(given.run, name, pick_device(given.device))
        out = given.out or given.run / "checkpoint"
        refine(given.checkpoint, workspace, options, out)
        log.info("The checkpoint is in %s: python app.py --checkpoint %s", out, out)

    return run(act)


if __name__ == "__main__":
    sys.exit(main())
