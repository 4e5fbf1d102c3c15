"""Fine-tune a checkpoint on clips of one's own: python -m training.finetune --corpus OUT --run DIR.

`training.data.clips IN OUT` made the corpus. The checkpoint's networks become finished stages of the run, the
clips are encoded, the transformer goes on with them, and what comes out is a checkpoint like any other; its
codecs stay as they are. Everything is resumable: run the same command again after an interruption.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mutual_forcing.checkpoint import load_checkpoint

from .atomic import written_whole
from .command import run
from .data.dataset import Clip, Corpus
from .data.latents import Dropout
from .export import export
from .import_checkpoint import import_checkpoint, take_corpus
from .objectives.base import VALIDATION_CLIPS
from .objectives.draws import Draws
from .objectives.teacher_forcing import TeacherForcingConfig, TeacherForcingObjective
from .recipes import OWN_CLIPS, SCALES
from .stage_config import Recipe
from .stages import Workspace, pick_device

log = logging.getLogger(__name__)
LENGTHS = (4, 5, 6, 9, 12)
"""Clips of so many chunks are learnt from, as far as the corpus has them."""
COMMON = 0.25
"""Share of the training clips that must be as long as one of these."""
BATCHES = 6
"""Batches over which a held-out loss is averaged: noise levels are drawn."""


def finetune(
    checkpoint: str | Path,
    corpus: Path,
    workspace: Workspace,
    out: Path,
    steps: int | None = None,
    seed: int | None = None,
) -> dict[str, Any]:
    """Fine-tune a checkpoint in `workspace` and write the result to `out`.

    Returns the flow losses of every split of the corpus before and after, kept in RUN/finetune.json.
    Raises ValueError for a checkpoint of another preset, a corpus without training clips, and one that is no
    longer what this run began with.
    """
    clips = Corpus(corpus)
    if not clips.split("train"):
        raise ValueError(f"{corpus} has no clips to learn from.")
    take_corpus(workspace, corpus)
    kept = _Figures(workspace.root / "finetune.json", _digest(corpus))
    import_checkpoint(checkpoint, workspace, again=True)
    for branch in ("audio", "video"):
        if not workspace.encoded(branch):
            workspace.encode(branch)
    plan = plan_for(workspace, clips, steps, seed)
    if "before" not in kept.values:
        kept.add("before", heldout_losses(workspace, "joint", plan))
    workspace.follow(plan)
    if "after" not in kept.values:
        kept.add("after", heldout_losses(workspace, OWN_CLIPS, plan))
    export(workspace, out, OWN_CLIPS)
    return kept.values


def plan_for(
    workspace: Workspace, corpus: Corpus, steps: int | None = None, seed: int | None = None
) -> Recipe:
    """The recipe of the stage, with the lengths of clips that the corpus has."""
    plan = workspace.plan(OWN_CLIPS, steps, seed)
    assert isinstance(plan.objective, TeacherForcingConfig)
    clips = replace(plan.objective.clips, lengths=lengths_of(corpus.split("train")))
    return replace(plan, objective=replace(plan.objective, clips=clips))


def lengths_of(clips: Sequence[Clip]) -> tuple[int, ...]:
    """The LENGTHS that enough of the clips have, the shortest always. Raises ValueError if none has that."""
    enough = [n for n in LENGTHS if np.mean([clip.chunks >= n for clip in clips]) >= COMMON]
    if not any(clip.chunks >= LENGTHS[0] for clip in clips):
        raise ValueError(f"No clip of the corpus lasts {LENGTHS[0]} chunks.")
    return tuple(enough) or LENGTHS[:1]


@torch.no_grad()
def heldout_losses(workspace: Workspace, stage: str, plan: Recipe) -> dict[str, dict[str, float]]:
    """Flow losses of the transformer of a stage by split and branch, with the same clips and noise for every
    stage. A split without clips is left out.
    """
    config = plan.objective
    assert isinstance(config, TeacherForcingConfig)
    system = workspace.system(stage)
    data = workspace.latents(system, config.clips.branches)
    objective = TeacherForcingObjective(system, data, config, VALIDATION_CLIPS, plan.seed)
    system.model.requires_grad_(False)
    all_conditions = Dropout(0, 0, 0, 0, 0, 0, beginning=0.5)
    found: dict[str, dict[str, float]] = {}
    for split in ("train", "development", "test"):
        if not any(clip.chunks >= LENGTHS[0] for clip in data.corpus.split(split)):
            continue
        rng = np.random.default_rng(17)
        generator = torch.Generator(workspace.device).manual_seed(17)
        losses = []
        for _ in range(BATCHES):
            batch = data.batch(rng, split, VALIDATION_CLIPS, LENGTHS[0], all_conditions)
            draws = Draws(generator, len(batch.has_voice))
            losses.append(objective.validate(system.model, batch.to(workspace.device), draws))
        names = losses[0]
        found[split] = {
            n: round(float(np.mean([loss[n].item() for loss in losses])), 4) for n in names
        }
    return found


class _Figures:
    """What is kept of a run beside its stages. Raises ValueError if its corpus is no longer the same."""

    def __init__(self, path: Path, corpus: str) -> None:
        self._path = path
        told = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"corpus": corpus}
        if told["corpus"] != corpus:
            raise ValueError(
                f"The corpus has changed since {path.parent} encoded it: use a new folder for --run."
            )
        self.values: dict[str, Any] = told
        self._write()

    def add(self, name: str, value: Any) -> None:
        """Keep a value."""
        self.values[name] = value
        self._write()

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(self._path) as partial:
            partial.write_text(json.dumps(self.values, indent=1) + "\n", encoding="utf-8")


def _digest(corpus: Path) -> str:
    return hashlib.sha256((corpus / "manifest.jsonl").read_bytes()).hexdigest()[:16]


def table(figures: dict[str, Any]) -> str:
    """The losses before and after as lines of text."""
    lines = ["flow loss          before    after"]
    for split, losses in figures["before"].items():
        for name, before in losses.items():
            lines.append(
                f"{split + ' ' + name:<17}{before:>8.3f}{figures['after'][split][name]:>9.3f}"
            )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.finetune",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--checkpoint", default="tiny", help="embedded name, folder or Hub id")
    parser.add_argument("--corpus", type=Path, required=True, help="what training.data.clips made")
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--out", type=Path, help="the checkpoint; default: RUN/checkpoint")
    parser.add_argument("--steps", type=int, help="of the transformer; default: the recipe's")
    parser.add_argument("--seed", type=int, help="of batches and noise; default: the recipe's")
    parser.add_argument("--device", help="cpu or cuda; default: cuda when present")
    given = parser.parse_args()

    def act() -> None:
        scale = load_checkpoint(given.checkpoint).config.name
        if scale not in SCALES:
            raise ValueError(f"There are no recipes for checkpoints of the preset {scale}.")
        workspace = Workspace(given.run, scale, pick_device(given.device))
        out = given.out or given.run / "checkpoint"
        figures = finetune(given.checkpoint, given.corpus, workspace, out, given.steps, given.seed)
        sys.stdout.write(table(figures))
        log.info("The checkpoint is in %s: python app.py --checkpoint %s", out, out)

    return run(act)


if __name__ == "__main__":
    sys.exit(main())
