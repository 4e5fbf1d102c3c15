"""Write a checkpoint of a run: weights, config, training record and model card.

`training.reproduce` ends with it; python -m training.export --run DIR --stage joint --out CHECKPOINT writes
the model as it was after an earlier stage, or after another method.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from mutual_forcing.checkpoint import PRETRAINED, save_checkpoint
from mutual_forcing.model_card import model_card

from .command import run
from .import_checkpoint import BEFORE, EARLIER, OBJECTIVE, TOLD, before
from .recipes import SCALES
from .stages import FROZEN, ORIGIN, READER, REFINED, Workspace, latest_model_stage


def training_record(workspace: Workspace, model_stage: str) -> dict[str, Any]:
    """Commit, corpus, and recipe, hours and final metrics of every stage that the checkpoint holds.

    corpus: its options and statistics; portraits: how many people, seed and size; None where the run has
    none. before: the same of the checkpoint that the run was imported from.
    """
    stages = {name: workspace.record(name) for name in held_stages(workspace, model_stage)}
    return {
        "preset": workspace.scale,
        "model_stage": model_stage,
        "commit": commit(),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {workspace.device}",
        "hours": round(sum(map(_hours, stages.values())), 2),
        "corpus": _corpus(workspace),
        "portraits": _portraits(workspace),
        "stages": {name: _stage(record) for name, record in stages.items()},
        **({BEFORE: earlier} if (earlier := before(workspace)) else {}),
    }


def held_stages(workspace: Workspace, model_stage: str) -> list[str]:
    """The finished stages whose training is in a checkpoint, in order, but not those of other methods."""
    line = _line(model_stage, workspace)
    networks = (stage for n, first in FROZEN.items() for stage in (first, REFINED.get(n, first)))
    reader = [READER] if workspace.reads(model_stage) else []
    every = dict.fromkeys([*networks, *line, *reader])
    return [name for name in every if workspace.done(name)]


def _line(stage: str, workspace: Workspace) -> list[str]:
    """A finished stage after all that it began from, as far as this run trained them."""
    began = workspace.record(stage)["recipe"].get("init", ()) if workspace.done(stage) else ()
    return [name for earlier in began for name in _line(earlier, workspace)] + [stage]


def _hours(record: dict[str, Any]) -> float:
    """Of a stage, and of those that its transformer had been through before it was imported."""
    return record.get("hours", 0.0) + sum(map(_hours, record.get(EARLIER, {}).values()))


def _stage(record: dict[str, Any]) -> dict[str, Any]:
    kept = {name: record["recipe"][name] for name in ("steps", "batch", "seed")}
    kept |= {name: record["recipe"][name] for name in OBJECTIVE if name in record["recipe"]}
    kept |= {name: record[name] for name in ("hours", "metrics")}
    return kept | {name: record[name] for name in (ORIGIN, *TOLD) if name in record}


def _corpus(workspace: Workspace) -> dict[str, Any] | None:
    path = workspace.corpus_folder / "corpus.json"
    if not path.exists():
        return None
    told = json.loads(path.read_text(encoding="utf-8"))
    kind = {"kind": told["kind"]} if "kind" in told else {}
    return kind | {name: told.get(name) for name in ("options", "statistics")}


def _portraits(workspace: Workspace) -> dict[str, Any] | None:
    path = workspace.portraits_folder / "portraits.json"
    if not path.exists():
        return None
    people = len(list(workspace.portraits_folder.glob("*.safetensors")))
    return {"identities": people, **json.loads(path.read_text(encoding="utf-8"))}


def export(workspace: Workspace, out: Path, model_stage: str | None = None) -> None:
    """Write the checkpoint of the newest (or the named) stage of the transformer to `out`.

    Raises ValueError if a network of it is not trained.
    """
    stage = model_stage or latest_model_stage(workspace)
    missing = [name for name in FROZEN.values() if not workspace.has(name)]
    if missing:
        raise ValueError(f"Not finished in {workspace.root}: {', '.join(missing)}.")
    system = workspace.system(stage)
    record = training_record(workspace, stage)
    save_checkpoint(system, out, record)
    source = out.name if out.parent.resolve() == PRETRAINED.resolve() else str(out)
    (out / "README.md").write_text(model_card(system, record, source), encoding="utf-8")


def commit() -> str:
    """The commit that this is, or "unknown" outside a repository."""
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--preset", choices=sorted(SCALES), default="tiny")
    parser.add_argument("--stage", help="stage of the transformer; default: the newest")
    options = parser.parse_args()

    def act() -> None:
        workspace = Workspace(options.run, options.preset, torch.device("cpu"))
        export(workspace, options.out, options.stage)

    return run(act)


if __name__ == "__main__":
    sys.exit(main())
