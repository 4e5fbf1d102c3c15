"""The stages of each preset: functions that return recipes. Steps are what the numbers need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from .objectives.losses import GUIDANCE
from .stage_config import OptimizerConfig, Recipe

STAGES = (
    "video_codec",
    "audio_codec",
    "duration",
    "audio_pretrain",
    "video_pretrain",
    "joint",
    "mutual_forcing",
)
"""What `reproduce` runs, in order."""

BASELINES = (
    "teacher_forcing",
    "diffusion_forcing",
    "shortcut_tf",
    "dmd_tf",
    "bidirectional",
    "self_forcing",
    "mutual_forcing_sc",
    "mutual_forcing_dmd",
)
"""What `compare` runs besides mutual_forcing: all from the joint model, on the same data, at one budget."""


@dataclass(frozen=True)
class Scale:
    """What differs between presets: corpus, steps and batch sizes. Fewer for the smoke test.

    size: pixels on each side of the corpus's films. portraits: people drawn for the motion codec, at
    portrait_size pixels, twice what its encoder sees. lengths: clips of so many chunks in the last stage,
    its batch counted in the shortest. guidance: by branch, for Few mode to learn in the last stage.
    """

    hours: float
    size: int
    portraits: int
    portrait_size: int
    steps: dict[str, int]
    batch: dict[str, int]
    lengths: tuple[int, ...] = (5,)
    fake_updates: int = 2
    guidance: dict[str, float] = field(default_factory=lambda: dict(GUIDANCE))


SCALES = {
    "tiny": Scale(
        hours=2.0,
        size=128,
        portraits=1500,
        portrait_size=512,
        steps={
            "video_codec": 8000,
            "audio_codec": 1400,
            "duration": 600,
            "audio_pretrain": 800,
            "video_pretrain": 600,
            "joint": 300,
            "mutual_forcing": 320,
        },
        batch={
            "video_codec": 12,
            "audio_codec": 16,
            "duration": 32,
            "audio_pretrain": 32,
            "video_pretrain": 16,
            "joint": 12,
            "mutual_forcing": 10,
        },
        lengths=(5, 6),
        fake_updates=1,
        # Few mode then holds 0.6 of it (guidance_distillation.py): in sound as much as Multi mode's 2.
        guidance={"video": 2.0, "audio": 3.0},
    ),
    "small": Scale(
        hours=4.0,
        size=256,
        portraits=6000,
        portrait_size=1024,
        steps={
            "video_codec": 12_000,
            "audio_codec": 12_000,
            "duration": 3000,
            "audio_pretrain": 10_000,
            "video_pretrain": 8000,
            "joint": 12_000,
            "mutual_forcing": 3000,
        },
        batch={
            "video_codec": 24,
            "audio_codec": 64,
            "duration": 64,
            "audio_pretrain": 64,
            "video_pretrain": 48,
            "joint": 48,
            "mutual_forcing": 32,
        },
    ),
    "smoke": Scale(
        hours=0.02,
        size=128,
        portraits=4,
        portrait_size=128,
        steps=dict.fromkeys(STAGES, 2),
        batch=dict.fromkeys(STAGES, 2),
    ),
}


PAST = {"lengths": (5,), "history_noise": 0.02}
"""Of the stages with video: one chunk is mostly the still that streams begin with."""


def _video_codec(scale: Scale) -> Recipe:
    return _recipe(scale, "video_codec", OptimizerConfig(lr=7e-4, final_lr=5e-5, clip=1.0))


def _audio_codec(scale: Scale) -> Recipe:
    steps = scale.steps["audio_codec"]
    # The critics make a step ten times slower on a CPU, where they are not worth it.
    adversarial = {"adversarial_from": steps // 2} if scale.size > 128 else {}
    return _recipe(
        scale,
        "audio_codec",
        OptimizerConfig(lr=1e-3, final_lr=1e-4, clip=1.0, betas=(0.8, 0.95)),
        options=adversarial,
    )


def _duration(scale: Scale) -> Recipe:
    return _recipe(scale, "duration", OptimizerConfig(lr=1e-3, final_lr=1e-5))


def _audio_pretrain(scale: Scale) -> Recipe:
    return _recipe(
        scale,
        "audio_pretrain",
        OptimizerConfig(lr=1e-3, final_lr=3e-4),
        objective="teacher_forcing",
        options={"branches": ("audio",), "lengths": (4,)},
    )


def _video_pretrain(scale: Scale) -> Recipe:
    return _recipe(
        scale,
        "video_pretrain",
        OptimizerConfig(lr=1e-3, final_lr=3e-4),
        objective="teacher_forcing",
        options={"branches": ("video",), "freeze_text": True, **PAST},
        init=("audio_pretrain",),
    )


def _joint(scale: Scale) -> Recipe:
    steps = scale.steps["joint"]
    return _recipe(
        scale,
        "joint",
        OptimizerConfig(lr=6e-4, final_lr=1e-4),
        objective="teacher_forcing",
        options={"audio_driven": 0.2, "consistency_from": steps * 2 // 5, **PAST},
        init=("video_pretrain",),
    )


FINE_TUNING = OptimizerConfig(lr=1e-4, final_lr=5e-5, warmup=50)


def _fine_tuning(
    name: str,
    objective: str,
    init: tuple[str, ...] = ("joint",),
    **options: Any,
) -> Callable[[Scale], Recipe]:
    """A recipe of the last stage: the same optimiser, steps and clips for every method."""

    def build(scale: Scale) -> Recipe:
        steps = scale.steps["mutual_forcing"]
        forcing = {
            "fake_updates": scale.fake_updates,
            "guidance": scale.guidance,
        }
        extra = {
            "mutual_forcing": {**forcing, "ramp": steps // 2},
            "self_forcing": forcing,
        }.get(objective, {})
        arguments = {"lengths": scale.lengths, **extra, **options}
        return _recipe(
            scale, name, FINE_TUNING, objective=objective, options=arguments, init=init, ema=0.99,
            like="mutual_forcing",
        )  # fmt: skip

    return build


BUILDERS: dict[str, Callable[[Scale], Recipe]] = {
    "video_codec": _video_codec,
    "audio_codec": _audio_codec,
    "duration": _duration,
    "audio_pretrain": _audio_pretrain,
    "video_pretrain": _video_pretrain,
    "joint": _joint,
    "mutual_forcing": _fine_tuning("mutual_forcing", "mutual_forcing"),
    "mutual_forcing_sc": _fine_tuning("mutual_forcing_sc", "mutual_forcing", dmd=0.0),
    "mutual_forcing_dmd": _fine_tuning("mutual_forcing_dmd", "mutual_forcing", consistency=0.0),
    "teacher_forcing": _fine_tuning("teacher_forcing", "teacher_forcing"),
    "diffusion_forcing": _fine_tuning("diffusion_forcing", "diffusion_forcing"),
    "shortcut_tf": _fine_tuning("shortcut_tf", "mutual_forcing", own_history=False, dmd=0.0),
    "dmd_tf": _fine_tuning("dmd_tf", "mutual_forcing", own_history=False, consistency=0.0),
    "bidirectional": _fine_tuning("bidirectional", "bidirectional"),
    "self_forcing": _fine_tuning("self_forcing", "self_forcing", ("bidirectional", "joint")),
}


def _recipe(
    scale: Scale,
    name: str,
    optimizer: OptimizerConfig,
    objective: str | None = None,
    options: dict | None = None,
    init: tuple[str, ...] = (),
    ema: float | None = None,
    like: str | None = None,
) -> Recipe:
    """`like` names the stage whose steps and batch are used, if not its own."""
    # Average over the last twentieth of a stage: a longer memory would still hold its beginning.
    steps = scale.steps[like or name]
    optimizer = replace(optimizer, warmup=min(optimizer.warmup, steps // 8))
    ema = ema or min(0.999, max(0.9, 1 - 20 / steps))
    return Recipe(
        name=name,
        objective=objective or name,
        steps=steps,
        batch=scale.batch[like or name],
        optimizer=optimizer,
        ema=ema,
        # Not more often than every twentieth step: files, samples and monitors cost time.
        save_every=min(200, max(20, steps // 10)),
        sample_every=min(500, max(20, steps // 3)),
        init=init,
        options=options or {},
        stream=like or name,
    )


def recipe(name: str, scale: str) -> Recipe:
    """The recipe of a stage at a preset's scale; raises ValueError for unknown names."""
    if name not in BUILDERS:
        raise ValueError(f"Unknown recipe {name!r}; choose one of {', '.join(BUILDERS)}.")
    if scale not in SCALES:
        raise ValueError(f"Unknown scale {scale!r}; choose one of {', '.join(SCALES)}.")
    return BUILDERS[name](SCALES[scale])
