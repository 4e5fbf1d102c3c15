"""The detail: eyes and mouth, in the middle half of the square, finer than the rest, and ruled by points.

Where the points of a face are near (face_mesh.py), they alone say where pixels come from, and what may be
seen between lips and lids. What the reference cannot show is painted: skin, an eye, or what a mouth has
inside.

Shape letters: B batch, S picture size, K code width, H pixels a side.
"""

from __future__ import annotations

from types import EllipsisType
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import MotionCodecConfig
from ..motion import INSIDE, KINDS
from .face_mesh import ABOUT, Geometry
from .motion_encoder import ResidualBlock
from .warping import (
    DETAIL_SIDE,
    FINE,
    axis,
    cut_detail,
    detail_window,
    enlarge_apart,
    matching,
    put_together,
    warp,
)

if TYPE_CHECKING:
    from .motion_codec import ReferenceFeatures

BRIGHTEST = 1.3
"""Most light on what is inside a mouth, where 1 shows its own colour."""
DECIDED, OPENED = 3, 2
"""By how much names of paint are sharper in streams than they were taught, and how much more an open mouth's
paint covers: of photographs the decoder knows less, and a mouth that is half open and half teeth is a blur.
"""
SLACK = 0.25
"""By how much open and shut may differ in a cell at a rim, where they are neither."""
BLUR = 8
"""Pixels of the square whose mean colour what is painted begins with."""
RIM = 3
"""How far lashes and lips reach beyond what is open, in pixels of the square."""
LESS_TEETH = 1.0
"""By how many nats teeth are less likely in streams: dim ones in a narrow gap look like shut lips."""
BRIDGE, SOFT = -0.2, 0.05
"""Where the upper half of a face ends in the detail's square, from -1 at its top to 1, and how softly."""
TEETH_LIGHT, FEW_CELLS = 1.5, 20
"""The logit of the light on a row of teeth that nobody has seen, and of how many cells of the reference's own
teeth on it is none.
"""
LIES, ABOVE, BELOW = 0.75, 0.45, 0.25
"""Where a tongue has most light, from an upper lip at 0 to a lower one at 1, and how far above and below that
it has none: where light reached the lip, mouths looked less open.
"""
NARROW, WIDE = 0.08, 0.17
"""Height of a mouth, of the detail's square, up to which a tongue is as dark as the hollow, and from which on
it has its light.
"""
SKIN_OF_LIDS = 0.55
"""How much of a closing lid is the colour of the skin around the eye, in streams."""
SHARP_LID, LASHES = 4.0, 0.2
"""How much less softly the lid of a drawing begins, and how light its edge is beside the skin."""
HOLLOW, TEETH, TONGUE = map(INSIDE.index, ("hollow", "teeth", "tongue"))
OUTSIDE, MOUTH_WIDTH = len(KINDS) - len(INSIDE), 24
FLOW_SCALE = 0.1
"""Unit of the predicted flow, in halves of the picture."""


class MouthInside(nn.Module):
    """What an open mouth has inside, hollow, teeth or tongue, and how much light is there: lips and motion
    tell it alone, since a network that sees the picture finds grey in every photograph.
    """

    def __init__(self, code_width: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(ABOUT + 2, MOUTH_WIDTH, 1)
        self.code = nn.Linear(code_width, MOUTH_WIDTH)
        self.hidden = nn.Conv2d(MOUTH_WIDTH, MOUTH_WIDTH, 1)
        self.leave = nn.Conv2d(MOUTH_WIDTH, (1 + len(INSIDE)) * FINE**2, 1)

    def forward(self, about: Tensor, code: Tensor) -> Tensor:
        """about [B, 14, N cells], code [B, K] to the light's logit and one of each of INSIDE, for the pixels
        of a cell beside each other: [B, 4 * FINE**2, N].
        """
        hidden = F.silu(_mixed(self.enter, about) + self.code(code)[..., None])
        hidden = F.silu(_mixed(self.hidden, hidden))
        return _mixed(self.leave, hidden)


class Detail(nn.Module):
    """Eyes and mouth, finer: the reference's own detail is moved roughly and looked at, and what is seen says
    where exactly everything lies, and what must be painted.
    """

    def __init__(self, width_in: int, config: MotionCodecConfig) -> None:
        super().__init__()
        width = config.detail_width
        self.enter = nn.Conv2d(width_in, width * 16, 1)
        self.about = nn.Conv2d(ABOUT + 2, width, 1)
        self.blocks = nn.ModuleList(ResidualBlock(width, config.code_width) for _ in range(3))
        self.to_flow = nn.Conv2d(width, 2, 3, padding=1)
        # Of a pixel: a colour, and how much it is the reference's, or painted, and then not inside a mouth.
        self.to_pixels = nn.Conv2d(width, (3 + 1 + OUTSIDE) * FINE**2, 3, padding=1)
        self.about_pixels = nn.Conv2d(ABOUT + 2, (1 + OUTSIDE) * FINE**2, 1, bias=False)
        self.mouth = MouthInside(config.code_width)
        for layer in (self.about, self.to_flow, self.about_pixels):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(
        self,
        hidden: Tensor,
        flow: Tensor,
        reference: ReferenceFeatures,
        seen: Geometry,
        code: Tensor,
        decided: bool,
        shake: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """hidden [B, W, S/4, S/4], flow [B, 2, S/4, S/4], seen of S/2 cells a side, code [B, K] to the
        detail's part of Layers. shake: see Animator.
        """
        hidden = self.enter(cut_detail(hidden))
        rough = cut_detail(flow, margin=1)
        rough = F.interpolate(rough, scale_factor=4, mode="bilinear", align_corners=False)
        rough = rough[..., 4:-4, 4:-4]
        if shake is not None:
            hidden = hidden * (shake == 0).flatten(1).all(1)[:, None, None, None]
            shake = F.interpolate(shake, size=rough.shape[-2:], mode="bilinear")
            rough = rough + shake * seen.sure
        # The rest's flow at the rim, so that nothing shows where the detail ends; the points' near them.
        window = detail_window(rough)
        missed = (seen.flow - rough) * seen.sure
        rough = rough + window * missed
        about = torch.cat([seen.about, missed / FLOW_SCALE], 1)
        about = about.to(hidden.dtype).flatten(2)
        hidden = F.pixel_shuffle(hidden, 4)
        hidden = hidden + matching(_mixed(self.about, about).view(hidden.shape), hidden)
        hidden = hidden + matching(warp(reference.detail, rough / DETAIL_SIDE), hidden)
        for block in self.blocks:
            hidden = block(hidden, code)
        hidden = F.silu(hidden)
        # Where points are near they alone say: what the picture adds is right for renderings only. In streams
        # it melted the cheeks and beards of photographs, and lids close a little further by it; in drawings
        # it tears brows and eyes to pieces.
        adds, drawn = window * (1 - seen.sure), reference.flat[:, None, None, None]
        if decided:
            adds = adds * _upper_half(rough) * (1 - drawn)
        flow = rough + FLOW_SCALE * adds * self.to_flow(hidden)
        # Between lips and lids the reference has to show what it has between its own, elsewhere what not.
        apart = ((seen.inside - seen.shown).abs() - SLACK).clamp_min(0) / (1 - SLACK)
        alike = (1 - apart).prod(1, keepdim=True)
        # A reference that shows its teeth has them where they are; of others a row is painted in streams.
        hidden_teeth = seen.teeth * (reference.teeth.sum((2, 3), keepdim=True) < FEW_CELLS)
        rules = [alike, seen.inside[:, :1], hidden_teeth]
        if decided:
            # What streams keep of the reference: skin that points are near, below the eyes, where paint is a
            # dark smear beside mouths that open far in a turned head; open eyes; and all of a drawing.
            kept = torch.maximum(1 - _upper_half(rough), seen.inside[:, 1:]).maximum(drawn)
            rules.append(alike * seen.sure * kept)
        rules = enlarge_apart(torch.cat(rules, 1))
        inside = self.mouth(about, code).unflatten(2, flow.shape[2:])
        skin = warp(reference.skin, flow / DETAIL_SIDE)
        lids = _lids(seen, skin, reference) if decided else None
        return flow, *self._paint(hidden, about, flow, rules, inside, skin, lids, reference)

    def _paint(
        self,
        hidden: Tensor,
        about: Tensor,
        flow: Tensor,
        rules: Tensor,
        inside: Tensor,
        skin: Tensor,
        lids: tuple[Tensor, Tensor] | None,
        reference: ReferenceFeatures,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """What is painted, where the reference shows instead, and in training the paint's names (see Layers).

        hidden [B, W, S/2, S/2], about [B, 14, cells], flow [B, 2, S/2, S/2]; rules [B, 3 or 4, 4, S/2, S/2]:
        of a cell's pixels, how much the reference may be seen, how much a mouth's inside, how much of that
        teeth that it does not show, and in streams how much the reference must be seen elsewhere; inside
        [B, 16, S/2, S/2]: see MouthInside; skin [B, 4, S/2, S/2]: see ReferenceFeatures; lids: see _lids, in
        streams alone.
        """
        # The four pixels of a cell stay beside each other until there are only four numbers of each left; and
        # plane by plane: parts of channels that lie side by side take three times as long.
        pixels = self.to_pixels(hidden).contiguous().unflatten(1, (-1, FINE**2))
        color, logits = pixels.split((3, 1 + OUTSIDE), 1)
        # Where lips and lids are says what a pixel is, however the picture looks.
        logits = logits + _mixed(self.about_pixels, about).view_as(logits)
        light, inside = (
            inside.to(logits.dtype).unflatten(1, (-1, FINE**2)).split((1, len(INSIDE)), 1)
        )
        may_show, opened, hidden_teeth, *kept = rules.to(logits.dtype).split(1, 1)
        shows, outside = logits.split((1, OUTSIDE), 1)
        names = torch.cat([outside, inside], 1)
        mask = torch.sigmoid(shows - names.logsumexp(1, keepdim=True)) * may_show
        # All but a mouth's inside is painted much as the skin is around there, whatever face it has.
        skin, alone = skin[:, :, None].split((3, 1), 1)
        painted, named = color * (1 - alone) + skin, None
        if lids is None:
            # What lies between lips is inside a mouth, however much it looks like a beard, and nothing else.
            within = inside.softmax(1) * opened
            painted = painted - (painted + 1) * opened + _lit(within, light, reference.inside)
            kinds = torch.cat([outside.softmax(1) * (1 - opened), within], 1)
            named = put_together(kinds)
        else:
            learnt, mask = mask, mask + (1 - mask) * kept[0]
            if area := _where(opened):
                own_teeth = warp(reference.teeth, flow / DETAIL_SIDE)[:, :, None]
                given = painted, learnt, kept[0], inside, light, opened, hidden_teeth, own_teeth
                painted[area], mask[area] = _mouth(
                    *[part[area] for part in given],
                    colors=reference.inside,
                    flat=reference.flat,
                    side=flow.shape[-1],
                )
            if area := _where(lids[1]):
                # The lid lies over both: what is painted has to be so much of it that the rest is as it was.
                color, lid = (part[area].to(painted.dtype) for part in lids)
                mask[area] -= mask[area] * lid.to(mask.dtype)
                share = lid / (1 - mask[area].to(lid.dtype)).clamp_min(1e-3)
                painted[area] = torch.lerp(painted[area], color, share)
        return put_together(painted), put_together(mask.to(painted.dtype)), named


def _where(share: Tensor) -> tuple[EllipsisType, slice, slice] | None:
    """The rows and columns between which a share [B, 1, P, H, H] is more than 0, None where it is nowhere:
    mouths and eyes are small, and the rest of the square need not be asked about them.
    """
    there = (share > 0).flatten(0, 2).any(0)
    if not there.any():
        return None
    rows, columns = (there.any(side).nonzero() for side in (1, 0))
    return ..., slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _mouth(
    painted: Tensor,
    mask: Tensor,
    kept: Tensor,
    inside: Tensor,
    light: Tensor,
    opened: Tensor,
    hidden_teeth: Tensor,
    own_teeth: Tensor,
    colors: Tensor,
    flat: Tensor,
    side: int,
) -> tuple[Tensor, Tensor]:
    """Paint and mask of a stream where its mouth is open: see Detail._paint."""
    less = inside.new_tensor([LESS_TEETH * (name == "teeth") for name in INSIDE])
    inside = DECIDED * (inside - less[:, None, None, None])
    # CUDA's autocast gives shares in fp32.
    within = inside.softmax(1).to(inside) * (opened - opened * hidden_teeth)
    # Names call nearly all of a wide mouth tongue: how deep it lies, lips tell. Those of drawings are dark.
    dark = (1 - _tongue_light(opened, side)) * (1 - flat.float()[:, None, None, None, None])
    deep = within[:, TONGUE] * dark.to(within.dtype)[:, 0]
    within[:, TONGUE] -= deep
    within[:, HOLLOW] += deep
    within[:, TEETH] += (opened * hidden_teeth)[:, 0]
    light = light + hidden_teeth * (TEETH_LIGHT - light)
    painted = painted - (painted + 1) * opened + _lit(within, light, colors)
    mask = mask * (1 - opened * (1 - mask.pow(OPENED)))
    mask = mask + (1 - mask) * kept * (1 - opened)
    # Teeth that the reference shows are its own, however far the mouth opens below them.
    return painted, mask + (1 - mask) * (own_teeth * opened).to(mask.dtype)


def _tongue_light(opened: Tensor, side: int) -> Tensor:
    """How much of a tongue is in the light, of a mouth that is open where `opened` [B, 1, 4, H, W] is more
    than 0, cells of a square of `side`: [B, 1, 1, H, W]. In a wide one it comes out of the dark below the
    upper lip, and goes back behind the lower one.
    """
    cells = opened.float().mean(2, keepdim=True)
    high = cells.sum(3, keepdim=True)
    apart = cells.cumsum(3) / high.clamp_min(1) - LIES
    wide = ((high.amax(4, keepdim=True) / side - NARROW) / (WIDE - NARROW)).clamp(0, 1)
    return wide * (1 - (apart / torch.where(apart < 0, ABOVE, BELOW)).square()).clamp_min(0)


def _lit(within: Tensor, light: Tensor, colors: Tensor) -> Tensor:
    """Colours [B, 3, 4, H, H] of shares [B, 3, 4, H, H] of what has colors [B, 3, 3], in a light's logit."""
    color = torch.bmm(colors.transpose(1, 2), within.flatten(2)).view_as(within)
    return 2 * BRIGHTEST * torch.sigmoid(light) * color


def _lids(seen: Geometry, skin: Tensor, reference: ReferenceFeatures) -> tuple[Tensor, Tensor]:
    """The colour of closed lids, [B, 3, 1 or 4, H, H], and how much of it they have, [B, 1, 1, H, H]. skin
    [B, 4, H, H]: what lies where they are fetched from.

    A lid unfolds from what little of it is seen: shade, the white of the eye, a rim of glasses. Its colour is
    half that and half the skin's below the eye. Lids of drawings are skin alone, with a line for lashes.
    """
    covered, lid, lashes = seen.lids.to(skin.dtype).split(1, 1)
    below = warp(reference.skin, seen.under_eye)
    skin = skin + (below - skin) * (covered / 2)
    color, lid = skin[:, :3, None], SKIN_OF_LIDS * lid
    # Most pictures have many colours, and nothing to be drawn in a stream's every frame.
    if reference.flat.any():
        alone = skin[:, 3:]
        lid = lid + alone * ((SHARP_LID * covered).clamp_max(1) - lid)
        line = enlarge_apart(alone * lashes)
        color = color - (color + 1) * (1 - LASHES) * line
    return color, lid[:, :, None]


def _upper_half(like: Tensor) -> Tensor:
    """1 where the detail's square has eyes, 0 where it has nose and mouth, as tall as [B, W, H, H]: [1, 1, H,
    1].
    """
    return torch.sigmoid((BRIDGE - axis(like.shape[-1], like.device)) / SOFT)[None, None, :, None]


def skin_around(near: Tensor, opened: Tensor) -> Tensor:
    """Mean colours of the detail's square [B, 3, H, H] by cells of BLUR pixels, without what is open in it
    (opened [B, 2, H, H]) and its lashes and lips: where that is a cell, its neighbours' colours.
    """
    skin = 1 - F.max_pool2d(opened.amax(1, keepdim=True), 2 * RIM + 1, 1, RIM)
    total = F.avg_pool2d(torch.cat([near * skin, skin], 1).float(), BLUR)
    # Cells without skin take what the nearest ones have; whoever has all counts a hundred times more.
    for reach in (3, 5):
        total = total + 0.01 * F.avg_pool2d(total, reach, 1, reach // 2, count_include_pad=False)
    # Where no neighbour has any, it is the square's.
    total = total + 1e-6 * F.pad(
        near.float().mean((2, 3), keepdim=True), (0, 0, 0, 0, 0, 1), value=1.0
    )
    return (total[:, :3] / total[:, 3:]).to(near.dtype)


def _mixed(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """A 1 x 1 convolution of [B, W, N], channel by channel contiguous: added to what is, it takes a third."""
    mixed = layer.weight.flatten(1).to(x.dtype) @ x
    return mixed if layer.bias is None else mixed + layer.bias[:, None].to(x.dtype)
