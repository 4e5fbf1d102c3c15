"""The colours of what is seen in an open mouth (motion.INSIDE), of which closed lips tell little."""

from __future__ import annotations

import torch
from torch import Tensor

INSIDE_COLORS = ((0.1, 0.03, 0.03), (0.8, 0.76, 0.7), (0.45, 0.18, 0.18))
"""Colours within 0..1 that motion.INSIDE begins with."""
SHADE = 0.35
"""Most brightness of a tongue, where teeth have 1: an open mouth is dark before it is red."""
COLORFUL = 0.1
"""Mean distance of a picture's channels, within -1..1, from which on it counts as coloured."""


def plausible(inside: Tensor, picture: Tensor) -> Tensor:
    """Colours of a mouth [B, 3, 3] within 0..1, as bright as they are, half-way to the colours that mouths
    have; grey where the picture [B, 3, H, H] is, and a tongue in the shade of the teeth.

    On photographs what the reference encoder finds is about right in brightness, and sometimes blue.
    """
    grey = inside.mean(2, keepdim=True)
    hollow, teeth, tongue = grey.unbind(1)
    grey = torch.stack([hollow, teeth, torch.minimum(tongue, SHADE * teeth)], 1)
    usual = torch.tensor(INSIDE_COLORS, device=inside.device, dtype=inside.dtype)
    found = inside * grey / inside.mean(2, keepdim=True).clamp_min(1e-3)
    color = (found + grey * usual / usual.mean(1, keepdim=True)) / 2
    colorful = (picture.amax(1) - picture.amin(1)).mean((1, 2)) / COLORFUL
    share = colorful.clamp(0, 1)[:, None, None].to(color.dtype)
    return torch.lerp(grey.expand_as(color), color, share).clamp(0, 1)
