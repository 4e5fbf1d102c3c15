"""Self-consistency: a long step must equal two short ones (ShortCut as interval splitting)."""

from __future__ import annotations

import torch

from mutual_forcing.flow import add_noise
from mutual_forcing.models.joint_model import JointModel
from mutual_forcing.types import AVLatents

from .draws import Draws
from .intervals import draw_intervals
from .losses import (
    Context,
    Modalities,
    Teacher,
    draw_noise,
    levels_of,
    mask_audio,
    mean_square,
    split_target,
    spread,
    velocity,
)


def self_consistency(
    model: JointModel,
    context: Context,
    teacher: Teacher,
    chunks: AVLatents,
    weights: Modalities,
    draws: Draws,
    audio_mask: torch.Tensor | None = None,
) -> Modalities:
    """Loss per branch of `model` on noised `chunks`; `teacher`'s target carries no gradient.

    Where audio is `audio_mask` (bool [B]) it stays clean, as it does when it drives a stream.
    """
    clean, held = chunks.modalities, None if audio_mask is None else draws.own(audio_mask)
    start, end = draw_intervals(chunks.shape[1], draws, model.config.sigma_shift)
    levels, intervals = (levels_of(clean, part, held) for part in (start, start - end))
    noise = draw_noise(clean, draws)
    x = {n: add_noise(clean[n], noise[n], spread(levels[n])) for n in clean}
    with torch.no_grad():
        target = split_target(teacher, x, start, (start + end) / 2, end, held)
    out = velocity(model, x, levels, intervals, context)
    return mean_square(out, target, mask_audio(weights, audio_mask), draws)
