"""Where a run keeps its things, and how a stage is put together from earlier ones."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from mutual_forcing.checkpoint import System
from mutual_forcing.codecs.registry import public_weights
from mutual_forcing.config import SystemConfig, preset

from .data.dataset import Corpus
from .data.latents import LatentDataset
from .data.portraits import Portraits
from .data.precompute import (
    audio_encoder,
    encode_silence,
    film_encoder,
    precompute,
    silence_path,
    video_encoder,
    write_silence,
)
from .distributed import Strategy
from .recipes import BUILDERS, OWN_CLIPS, SCALES, STAGES, recipe
from .stage_config import Recipe
from .train_state import load_tensors
from .trainer import Trainer

if TYPE_CHECKING:
    from mutual_forcing.codecs.protocol import PixelCodec

log = logging.getLogger(__name__)
MODEL_STAGES = ("audio_pretrain", "video_pretrain", "joint", "mutual_forcing")
FROZEN = {
    "video_codec": "video_codec",
    "audio_codec": "audio_codec",
    "duration": "duration",
}
"""The stages that networks besides the transformer come from."""
REFINED = {"video_codec": "video_detail", "audio_codec": "audio_detail"}
"""Stages that go on with one of them."""
ORIGIN = "adopted"
"""Key of a stage's record under which it tells the checkpoint that it was imported from. Records of earlier
runs have this word.
"""
READER = "sound_reader"
"""The stage and the network that says what the text encoder of a finished model says."""
SYSTEM = "system.json"
"""Of a run whose system is not quite its preset: where public weights lie, every machine has elsewhere."""


def pick_device(name: str | None = None) -> torch.device:
    """CUDA when present, else the CPU."""
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


class Workspace:
    """One run's folder: corpus/, latents/ and stages/<name>/."""

    def __init__(self, root: Path, scale: str, device: torch.device | None = None) -> None:
        """Raises ValueError for a run of another preset that says so."""
        self.root, self.scale = root, scale
        self.device = device or pick_device()
        told = root / SYSTEM
        self.system_config = preset(scale)
        if told.exists():
            self.system_config = SystemConfig.from_dict(json.loads(told.read_text("utf-8")))
            if self.system_config.name != scale:
                raise ValueError(f"{root} is a run of --preset {self.system_config.name}.")

    @property
    def corpus_folder(self) -> Path:
        """The corpus, synthesised or of one's own clips."""
        return self.root / "corpus"

    @property
    def portraits_folder(self) -> Path:
        """Pictures for the motion codec."""
        return self.root / "portraits"

    def stage_folder(self, name: str) -> Path:
        """State, weights, logs and samples of one stage."""
        return self.root / "stages" / name

    def done(self, name: str) -> bool:
        """Whether the stage has exported its weights."""
        return (self.stage_folder(name) / "weights.safetensors").exists()

    def has(self, name: str) -> bool:
        """Whether the network of a stage is there to be used: trained, or a codec with public weights."""
        return public_weights(getattr(self.system_config, name, None)) or self.done(name)

    def record(self, name: str) -> dict[str, Any]:
        """The record a finished stage left."""
        return json.loads((self.stage_folder(name) / "record.json").read_text(encoding="utf-8"))

    def system(self, model_stage: str | None = None) -> System:
        """Networks with the weights of every finished stage; the model from `model_stage` if given. The sound
        reader is there if it was trained, and for that model.
        """
        config = self.system_config
        if not self.reads(model_stage):
            config = replace(config, sound_reader=None)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            system = System.build(config, empty_model=model_stage is not None)
        if system.sound_reader is not None:
            self._load(system.sound_reader, READER)
        for module_name, stage in FROZEN.items():
            if self.done(stage):
                refined = REFINED.get(module_name, stage)
                newest = refined if self.done(refined) else stage
                self._load(system.modules[module_name], newest)
        if model_stage is not None:
            self._load(system.model, model_stage)
        for module in system.modules.values():
            module.eval().requires_grad_(False)
        return system.to(self.device)

    def reads(self, model_stage: str | None) -> bool:
        """Whether there is a sound reader that learnt from the text encoder of a stage (which is an earlier
        stage's where it rested), or for None any.
        """
        if model_stage is None or not self.done(READER):
            return self.done(READER)
        stage = model_stage
        while self.done(stage) and (earlier := _read_like(self.record(stage)["recipe"])):
            stage = earlier
        origin = self.record(READER).get(ORIGIN)
        if origin is None:
            return stage in recipe(READER, self.scale).init
        return self.done(stage) and self.record(stage).get(ORIGIN) == origin

    def complete(self, name: str) -> bool:
        """Whether nothing of a stage is left to train: an imported sound reader ends with its model."""
        if name != READER:
            return self.done(name)
        return self.reads(recipe(READER, self.scale).init[-1])

    def _check_done(self, stage: str) -> None:
        if not self.done(stage):
            raise ValueError(f"Stage {stage} has not finished in {self.root}; train it first.")

    def _load(self, module: torch.nn.Module, stage: str) -> None:
        self._check_done(stage)
        tensors, _ = load_tensors(self.stage_folder(stage) / "weights.safetensors")
        # Pages of the file, which all processes of a machine share until they write to them.
        empty = next(module.parameters()).is_meta
        module.load_state_dict(tensors, assign=empty)

    @property
    def latents_folder(self) -> Path:
        """The encoded corpus."""
        return self.root / "latents"

    def encoded(self, branch: str) -> bool:
        """Whether all latents of a branch are there."""
        done = (self.latents_folder / f"{branch}.done").exists()
        return done and (branch != "audio" or silence_path(self.latents_folder).exists())

    def encode(self, branch: str) -> None:
        """Latents of the corpus's "video", whose motion it knows (of a pixel codec the films), or "audio", by
        its autoencoder. Raises ValueError where the codec that is needed is not trained.
        """
        corpus, grids = self.corpus(), self.system_config.model.grids
        if branch == "video" and SCALES[self.scale].pixels:
            if not self.has("video_codec"):
                self._check_done("video_codec")
            codec = cast("PixelCodec", self.system().video_codec)
            encoder = film_encoder(codec, grids["video"], self.device)
        elif branch == "video":
            encoder = video_encoder(*self._motion_statistics(corpus), grids["video"])
        elif self.has("audio_codec"):
            codec = self.system().audio_codec
            encoder = audio_encoder(codec, grids["audio"], self.device)
            silence = encode_silence(codec, grids["audio"], self.device)
            write_silence(silence, self.latents_folder)
        else:
            raise ValueError("Train audio_codec before encoding with it.")
        precompute(corpus, branch, encoder, self.latents_folder, self.device)

    def _motion_statistics(self, corpus: Corpus) -> tuple[np.ndarray, np.ndarray]:
        """Those of the motion codec, which may be from another corpus, else of this one."""
        if not self.done("video_codec"):
            return corpus.motion_statistics(self.system_config.video_codec.free)
        autoencoder = self.system().video_codec
        return autoencoder.latent_mean.cpu().numpy(), autoencoder.latent_std.cpu().numpy()

    def plan(self, name: str, steps: int | None = None, seed: int | None = None) -> Recipe:
        """The recipe of a stage; with other `steps`, all its schedules are as long as they.

        Raises ValueError for an unknown stage, and for less than one step.
        """
        plan = recipe(name, self.scale)
        if steps is not None:
            if steps < 1:
                raise ValueError("A stage needs at least one step.")
            scale = SCALES[self.scale]
            own = name if name in STAGES else "mutual_forcing"  # whose steps the baselines take
            plan = BUILDERS[name](replace(scale, steps={**scale.steps, own: steps}))
        return plan if seed is None else replace(plan, seed=seed)

    def train(
        self,
        name: str,
        steps: int | None = None,
        seed: int | None = None,
        strategy: Strategy | None = None,
    ) -> None:
        """Run or resume a stage, as the recipe has it or for other steps or another seed; a finished one is
        left alone. strategy: of this process, on the workspace's device; by default it is alone.
        """
        self.follow(self.plan(name, steps, seed), strategy)

    def follow(self, plan: Recipe, strategy: Strategy | None = None) -> None:
        """Run or resume the stage of a recipe; as `train`."""
        if self.complete(plan.name):
            log.info("%s is done", plan.name)
            return
        for earlier in plan.init:
            self._check_done(earlier)
        torch.manual_seed(plan.seed)
        objective = plan.objective.build(self, plan)
        Trainer(plan, objective, self.stage_folder(plan.name), self.device, strategy).run()

    def corpus(self) -> Corpus:
        """The corpus."""
        return Corpus(self.corpus_folder)

    def portraits(self) -> Portraits:
        """Pictures for the motion codec."""
        return Portraits(self.portraits_folder)

    def latents(self, system: System, branches: tuple[str, ...]) -> LatentDataset:
        """The encoded corpus, for the transformer of `system`."""
        model = system.model
        return LatentDataset(
            self.corpus(), self.latents_folder, model.config, branches, model.tokens
        )


def _read_like(plan: dict[str, Any]) -> str | None:
    """Of a stage that was trained by a recipe: the one whose text encoder it left alone, if it did."""
    rested = plan.get("objective", {}).get("freeze_text")
    return plan["init"][-1] if rested and plan.get("init") else None


def latest_model_stage(workspace: Workspace) -> str:
    """The last finished stage of the transformer; raises ValueError if there is none."""
    names = (*(name for name in STAGES if name in MODEL_STAGES), OWN_CLIPS)
    finished = [name for name in names if workspace.done(name)]
    if not finished:
        raise ValueError(f"No stage of the transformer has finished in {workspace.root}.")
    return finished[-1]
