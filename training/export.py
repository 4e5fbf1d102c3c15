"""Write the served checkpoint of a run: weights, config, training record and model card."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from mutual_forcing.checkpoint import save_checkpoint

from .recipes import STAGES
from .stages import Workspace, latest_model_stage

CARD = """---
license: apache-2.0
tags: [audio-video-generation, talking-head, flow-matching, streaming]
---
# Mutual Forcing `{name}`

An autoregressive audio-video flow-matching model with two modes in one set of weights (arXiv
2604.25819), {size} px at 25 fps with 16 kHz speech. Trained from nothing on synthetic talking heads by
`python -m training.reproduce --preset {name}`; the exact record is in `record.json`.

It has seen rendered and drawn heads and {voices} synthetic English voices, nothing else: photographs of
people, other languages, singing and bodies are outside what it knows. Do not use it to make real people
appear to say what they did not say. Everything it makes is AI-generated.
"""


def training_record(workspace: Workspace, model_stage: str) -> dict[str, Any]:
    """Commit, seed, steps, hours and final metrics of every stage that the checkpoint holds."""
    stages = {name: workspace.record(name) for name in STAGES if workspace.done(name)}
    return {
        "preset": workspace.scale,
        "model_stage": model_stage,
        "commit": _commit(),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {workspace.device}",
        "hours": round(sum(record["hours"] for record in stages.values()), 2),
        "stages": {
            name: {
                "steps": record["recipe"]["steps"],
                "batch": record["recipe"]["batch"],
                "seed": record["recipe"]["seed"],
                "hours": record["hours"],
                "metrics": record["metrics"],
            }
            for name, record in stages.items()
        },
    }


def export(workspace: Workspace, out: Path, model_stage: str | None = None) -> None:
    """Write the checkpoint of the newest (or the named) stage of the transformer to `out`."""
    from .data.voices import VOICES

    stage = model_stage or latest_model_stage(workspace)
    system = workspace.system(stage)
    save_checkpoint(system, out, training_record(workspace, stage))
    card = CARD.format(
        name=workspace.scale, size=system.config.video_autoencoder.size, voices=len(VOICES)
    )
    (out / "README.md").write_text(card, encoding="utf-8")


def _commit() -> str:
    """The commit this was trained from, or "unknown" outside a repository."""
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"
