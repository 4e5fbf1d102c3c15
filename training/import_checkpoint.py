"""Start a run from a checkpoint: python -m training.import_checkpoint --checkpoint tiny --run runs/mine.

The networks of the checkpoint are written as finished stages, so that `training.train` can go on from them
without training everything anew. Corpus and latents still have to be made; `training.compare --checkpoint`
does all of it. With --voice only what speaks is taken: a preset of other video then has its sound learnt.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mutual_forcing.checkpoint import load_checkpoint

from .atomic import written_whole
from .command import run
from .data.dataset import Corpus
from .stages import FROZEN, MODEL_STAGES, ORIGIN, READER, REFINED, Workspace
from .train_state import save_tensors

EARLIER = "earlier"
"""Key of a record: the stages that an imported transformer had been through, without what they measured."""
BEFORE, KEPT = "before", ("commit", "hours", "corpus", "portraits")
"""A record's key for what is kept of the record of the checkpoint that its run was imported from."""
TOLD = ("began_from", "learnt_from", "changed_on_the_way", EARLIER)
"""What a record tells besides its recipe and figures, mostly written by people."""
OBJECTIVE = ("objective", "options")
"""What a record calls the objective's configuration; "options" until 2026-11-28."""


def import_checkpoint(
    source: str | Path, workspace: Workspace, model_stage: str = "joint", again: bool = False
) -> None:
    """Write the checkpoint's networks into `workspace` as finished stages, the transformer as `model_stage`.

    Raises ValueError for a checkpoint of another preset, and if one of the stages exists already. With
    `again` a stage that was imported from the same checkpoint is left alone.
    """
    system = load_checkpoint(source)
    ours = workspace.system_config
    if system.sound_reader is None:
        ours = replace(ours, sound_reader=None)
    if system.config != ours:
        raise ValueError(f"{source} is no checkpoint of the preset {workspace.scale}.")
    assert system.folder is not None
    told = json.loads((system.folder / "record.json").read_text(encoding="utf-8"))
    # A network that was refined is both stages: else the later one would be trained again.
    parts = [(network, stage, stage) for network, stage in (*FROZEN.items(), *REFINED.items())]
    parts.append(("model", model_stage, told["model_stage"]))
    if system.sound_reader is not None:
        parts.append((READER, READER, READER))
    name = f"{source} ({system.digest}, {told['model_stage']})"
    missing = [part for part in parts if not (again and _imported_from(workspace, part[1]) == name)]
    for _, stage, _ in missing:
        if workspace.done(stage):
            raise ValueError(f"{workspace.root} already holds a finished stage {stage}.")
    for network, stage, origin in missing:
        if stage in REFINED.values() and origin not in told["stages"]:
            continue
        record = _record(told["stages"].get(origin, {}), name)
        if network == "model":
            record |= _earlier(told["stages"], origin)
        write_stage(workspace, stage, system.modules[network], record)
    _write_before(workspace, told)


VOICE = ("audio_codec", "duration")
"""Networks that only sound needs, and the stages that they come from."""


def import_voice(source: str | Path, workspace: Workspace) -> None:
    """Write what speaks in the checkpoint as finished stages: codec of sound, durations, and as
    audio_pretrain the transformer with its text encoder and audio branch, the video branch still untaught.

    Raises ValueError for a checkpoint whose sound is of another shape, and if one of the stages exists.
    """
    theirs, ours = load_checkpoint(source), workspace.system_config
    own, other = (
        {**asdict(config.model), "video": None, "window": 0, "sigma_shift": 0}
        for config in (ours, theirs.config)
    )
    same = own == other and all(
        getattr(ours, name) == getattr(theirs.config, name) for name in VOICE
    )
    if not same:
        raise ValueError(f"What speaks in {source} is of another shape than in {workspace.scale}.")
    assert theirs.folder is not None
    told = json.loads((theirs.folder / "record.json").read_text(encoding="utf-8"))
    # A codec that was refined is both stages.
    refined = {REFINED[n]: n for n in VOICE if n in REFINED and REFINED[n] in told["stages"]}
    stages = (*VOICE, *refined, "audio_pretrain")
    for stage in stages:
        if workspace.done(stage):
            raise ValueError(f"{workspace.root} already holds a finished stage {stage}.")
    model = workspace.system().model
    heard = {
        name: tensor
        for name, tensor in theirs.model.state_dict().items()
        if "branches.video." not in name
    }
    model.load_state_dict(heard, strict=False)
    networks = {name: theirs.modules[name] for name in VOICE} | {"audio_pretrain": model}
    networks |= {stage: theirs.modules[name] for stage, name in refined.items()}
    for stage, network in networks.items():
        origin = told["model_stage"] if stage == "audio_pretrain" else stage
        name = f"{source} ({theirs.digest}, {origin})"
        write_stage(workspace, stage, network, _record(told["stages"].get(origin, {}), name))


def write_stage(
    workspace: Workspace, stage: str, network: nn.Module, record: dict[str, Any]
) -> None:
    """Write a network as a finished stage of a run."""
    folder = workspace.stage_folder(stage)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "record.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
    save_tensors(network.state_dict(), folder / "weights.safetensors", record)


def _imported_from(workspace: Workspace, stage: str) -> str | None:
    """The checkpoint that a finished stage was imported from, if it was."""
    return workspace.record(stage).get(ORIGIN) if workspace.done(stage) else None


def _record(stage: dict[str, Any], source: str) -> dict[str, Any]:
    recipe = {name: stage.get(name, 0) for name in ("steps", "batch", "seed")}
    recipe |= {name: stage[name] for name in OBJECTIVE if name in stage}
    return {
        "recipe": recipe,
        "hours": stage.get("hours", 0.0),
        "metrics": stage.get("metrics", {}),
        ORIGIN: source,
        **{name: stage[name] for name in TOLD if name in stage},
    }


def before(workspace: Workspace) -> dict[str, Any]:
    """Corpus, portraits, hours and commit of the checkpoint that a run was imported from; empty if none."""
    path = workspace.root / f"{BEFORE}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _write_before(workspace: Workspace, told: dict[str, Any]) -> None:
    kept = {name: told[name] for name in (*KEPT, BEFORE) if told.get(name) is not None}
    # Which voices speak in how many clips is half of a record.
    if statistics := kept.get("corpus", {}).get("statistics"):
        few = {name: value for name, value in statistics.items() if name != "voices"}
        kept["corpus"] = {**kept["corpus"], "statistics": few}
    with written_whole(workspace.root / f"{BEFORE}.json") as partial:
        partial.write_text(json.dumps(kept, indent=1), encoding="utf-8")


def _earlier(stages: dict[str, Any], last: str) -> dict[str, Any]:
    others = {*FROZEN.values(), *REFINED.values(), READER, last}
    kept = ("steps", "batch", "seed", "hours", ORIGIN, *TOLD)
    line = {
        name: {key: stage[key] for key in kept if key in stage}
        for name, stage in stages.items()
        if name not in others
    }
    line = {**stages.get(last, {}).get(EARLIER, {}), **line}
    return {EARLIER: line} if line else {}


def take_corpus(workspace: Workspace, corpus: Path) -> None:
    """Let the run's corpus be this one. Raises ValueError if it has another already, or this is none."""
    Corpus(corpus)
    mine = workspace.corpus_folder
    if mine.exists() and mine.resolve() != corpus.resolve():
        raise ValueError(
            f"{workspace.root} has a corpus already: leave --corpus out, or use a new --run."
        )
    if not mine.exists():
        mine.parent.mkdir(parents=True, exist_ok=True)
        mine.symlink_to(corpus.resolve())


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.import_checkpoint", description=__doc__
    )
    parser.add_argument("--checkpoint", default="tiny", help="embedded name, folder or Hub id")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--stage", choices=MODEL_STAGES, default="joint", help="what the model is")
    parser.add_argument("--voice", action="store_true", help="take only what speaks")
    options = parser.parse_args()
    workspace = Workspace(options.run, options.preset, torch.device("cpu"))
    if options.voice:
        return run(lambda: import_voice(options.checkpoint, workspace))
    return run(lambda: import_checkpoint(options.checkpoint, workspace, options.stage))


if __name__ == "__main__":
    sys.exit(main())
