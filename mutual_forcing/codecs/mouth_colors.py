"""What is seen in an open mouth: the colours of motion.INSIDE, of which closed lips tell little, and what
teeth a reference shows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

INSIDE_COLORS = ((0.1, 0.03, 0.03), (0.8, 0.76, 0.7), (0.45, 0.18, 0.18))
"""Colours within 0..1 that motion.INSIDE begins with."""
SHADE, DRAWN_SHADE = 0.45, 0.35
"""Brightness of a tongue, where teeth have 1; and at most, of a drawing's."""
COLORFUL = 0.1
"""Mean distance of a picture's channels, within -1..1, from which on it counts as coloured."""
TOOTH, LIGHTEST = 1.25, 0.9
"""How light teeth are at least, where the skin is 1 (those of seven photographs 1.25 to 1.9); and at most, in
all.
"""
LIGHT, GREY_LIGHT, DARKEST = 0.7, 1.1, 0.2
"""How light the front teeth of a reference are at least, where the skin is 1, in a picture with colours and
in one without; and in all.
"""
RED, SHADED_RED, AROUND = 0.4, 0.5, 8
"""How red they are at most, and others in the shade; and how many cells of the detail's square beside them
there are others.
"""


def plausible(inside: Tensor, picture: Tensor, skin: Tensor, drawn: Tensor) -> Tensor:
    """Colours of a mouth [B, 3, 3] within 0..1, as bright as they are, half-way to the colours that mouths
    have; teeth are as pale as teeth are, and light beside the skin [B, 3, h, w]; a tongue is as red as
    tongues are, and lies in the shade of the teeth; all is grey where the picture [B, 3, H, H] is. drawn [B]:
    1 for drawings, whose mouths are dark.

    On photographs what the reference encoder finds is about right in brightness, and sometimes blue; teeth it
    finds as red as the skin, and a tongue as dark as the hollow, so that a wide mouth was a black hole.
    """
    grey = inside.mean(2, keepdim=True)
    hollow, teeth, tongue = grey.unbind(1)
    _, usual_light = _red_and_light(skin.float())
    least = (TOOTH * usual_light.mean((2, 3))).clamp_max(LIGHTEST)
    teeth = torch.maximum(teeth, least.to(teeth))
    dark = torch.minimum(tongue, DRAWN_SHADE * teeth)
    tongue = torch.lerp(SHADE * teeth, dark, drawn[:, None].to(dark))
    grey = torch.stack([hollow, teeth, tongue], 1)
    usual = torch.tensor(INSIDE_COLORS, device=inside.device, dtype=inside.dtype)
    found = inside * grey / inside.mean(2, keepdim=True).clamp_min(1e-3)
    pale = grey * usual / usual.mean(1, keepdim=True)
    color = (found + pale) / 2
    color[:, 1] = pale[:, 1]
    color[:, 2] = torch.lerp(pale[:, 2], color[:, 2], drawn[:, None].to(color))
    share = _colorful(picture)[:, None, None].to(color.dtype)
    return torch.lerp(grey.expand_as(color), color, share).clamp(0, 1)


def upper_teeth(near: Tensor, opened: Tensor, skin: Tensor) -> Tensor:
    """Where a reference shows its upper teeth, with the gums above them: 0..1, [B, 1, H, H].

    near [B, 3, H, H] within -1..1: the detail's square; opened [B, 1, H, H]: where its mouth is open; skin
    [B, 3, h, w]: the colours of the skin there. Teeth are light beside the skin, and less red than lips and
    tongue; the upper ones end where in their column something else begins.
    """
    red, light = _red_and_light(near.float())
    _, usual = _red_and_light(skin.float())
    within = opened > 0.5
    # Without colours, light alone tells teeth from a tongue.
    grey = 1 - _colorful(near)[:, None, None, None]
    least = (LIGHT + (GREY_LIGHT - LIGHT) * grey) * usual.mean((2, 3), keepdim=True)
    seen = (light > least.clamp_min(DARKEST)) & (red < RED) & within
    # Beside the front ones they are in the shade of the cheeks.
    front = (light * seen).sum((2, 3), keepdim=True) / seen.sum((2, 3), keepdim=True).clamp_min(1)
    shade = torch.maximum(front / 2, least * grey)
    seen = (light > shade) & (red < SHADED_RED) & within & (front > 0)
    below = (within.float().cumsum(2) - 0.5).clamp_min(0)
    high = within.float().sum(2, keepdim=True)
    begun = _ever(seen & (below < high / 2))
    ended = _ever(begun & within & ~seen)
    # What separates two teeth is dark, and so are those beside them: these end where their neighbours do.
    has = begun.any(2, keepdim=True).float()
    reach = torch.arange(-AROUND, AROUND + 1, device=near.device) / (AROUND / 2)
    reach = torch.exp(-0.5 * reach**2)[None, None, None]
    lengths = has * (within & ~ended).float().sum(2, keepdim=True)
    found = F.conv2d(torch.cat([lengths, has]), reach / reach.sum(), padding=(0, AROUND))
    lengths, share = found.chunk(2)
    length = lengths / share.clamp_min(1e-3) * (share * 4).clamp(0, 1)
    return ((length - below + 0.5).clamp(0, 1) * opened.float()).to(near.dtype)


def _colorful(picture: Tensor) -> Tensor:
    """How much a picture [B, 3, H, W] within -1..1 has colours, 0..1, [B]."""
    return ((picture.amax(1) - picture.amin(1)).mean((1, 2)) / COLORFUL).clamp(0, 1)


def _red_and_light(picture: Tensor) -> tuple[Tensor, Tensor]:
    """How much redder than grey the colours of [B, 3, H, W] within -1..1 are, 0..1, and how light."""
    red, green, blue = ((picture + 1) / 2).split(1, 1)
    light = 0.299 * red + 0.587 * green + 0.114 * blue
    return (red - (green + blue) / 2) / light.clamp_min(0.05), light


def _ever(flags: Tensor) -> Tensor:
    """Whether it has been so from the top down to here."""
    return flags.cumsum(2) > 0
