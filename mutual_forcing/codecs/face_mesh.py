"""What 468 points of a face tell the decoder: where pixels come from, and where mouth and eyes are open.

The points are found in the reference picture (landmarks.py); a small network that never sees a pixel says
where a latent moves them. On a photograph, which looks like no rendering, they say better than the picture
where the lips meet. Between points the way is a mean of theirs; those of an upper lip or lid do not count
below the line on which it meets the lower one, nor the reverse.

Coordinates run from -1 to 1 across the picture, x to the right, y down; those of `Geometry` across the
detail's square (warping.py). Shape letters: B batch, C latent channels, H cells a side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..faces import EYES_AT, MOUTH_BELOW_EYES, SIDE_IN_UNITS
from ..landmarks import Landmarks, find_landmarks
from ..motion import POSE
from ..pixels import to_pixels
from .warping import DETAIL_SIDE, axis, enlarge, smooth, to_detail, warp

POINTS = 468
"""Points of MediaPipe's face mesh, the irises left out."""
MOUTH = (
    (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308),
    (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308),
)
"""The inner rim of the upper and of the lower lip, from the picture's left to its right."""
EYES = (
    (
        (33, 246, 161, 160, 159, 158, 157, 173, 133),
        (33, 7, 163, 144, 145, 153, 154, 155, 133),
    ),
    (
        (362, 398, 384, 385, 386, 387, 388, 466, 263),
        (362, 382, 381, 380, 374, 373, 390, 249, 263),
    ),
)
"""The rims of the upper and the lower lid, of the eye on the picture's left and of the other."""
UPPER_LIP = (
    *(185, 40, 39, 37, 0, 267, 269, 270, 409),
    *(184, 74, 73, 72, 11, 302, 303, 304, 408),
    *(183, 42, 41, 38, 12, 268, 271, 272, 407),
)
"""The rest of it without the corners, row by row from the outer rim."""
LOWER_LIP = (
    *(146, 91, 181, 84, 17, 314, 405, 321, 375),
    *(77, 90, 180, 85, 16, 315, 404, 320, 307),
    *(96, 89, 179, 86, 15, 316, 403, 319, 325),
)
CREASES = (247, 30, 29, 27, 28, 56, 190), (467, 260, 259, 257, 258, 286, 414)
"""Right above the rims of the upper lids, from outside to inside."""
ABOVE = (*(167, 165, 92, 164, 393, 391, 322), *CREASES[0], *CREASES[1])
"""Skin right above the lips and the eyes."""
BELOW = (
    *(18, 83, 182, 106, 43, 313, 406, 335, 273),
    *(25, 110, 24, 23, 22, 26, 112, 255, 339, 254, 253, 252, 256, 341),
    *(228, 229, 230, 231, 232, 448, 449, 450, 451, 452),
)
"""Skin right below the lips and the eyes."""
NOSE_TIP, NOSE_ROOT = 1, 168
UPPER_MIDDLE = 13
UNDER_NOSE = 2, 97, 326
"""What moves as the upper teeth do, with the head, and in streams up with a lip that is raised."""
SHOWN_AT_REST, ROW = 0.12, 0.85
"""How far upper teeth reach below the middle of an upper lip at rest, in distances of the eyes' inner corners
(about 4 mm), and from the middle towards the corners of the mouth.
"""
GAZE, TURN = 0.272, 0.197
"""How far an iris moves for a radian, in distances of the eyes, and how far back for one of the head's, since
who looks at the camera goes on to: measured on 150 portraits (R2 0.98).
"""
_GAZES, _TURNS = (
    [POSE.index(name) for name in names] for names in (("gazeX", "gazeY"), ("yaw", "pitch"))
)
UPPER, LOWER = (
    (*lip, *MOUTH[i][1:-1], *EYES[0][i][1:-1], *EYES[1][i][1:-1], *skin)
    for i, (lip, skin) in enumerate(((UPPER_LIP, ABOVE), (LOWER_LIP, BELOW)))
)
"""What lies above the line on which lips or lids meet, and what lies below it."""
LID_RIMS = (246, 161, 160, 159, 158, 157, 173), (466, 388, 387, 386, 385, 384, 398)
"""The rims of the upper lids in the order of CREASES."""
BETWEEN, BEYOND, EDGE = (0.25, 0.5, 0.75, 1.0), (1.0, 2.0), 0.025
"""Where between creases and the edges of upper lids more points are made up, since a lid unfolds there; how
many edges beyond the rims; and how wide an edge is, in halves of the detail's square: it has the lashes and
keeps its width.
"""
ORDER = (*(p for p in range(POINTS) if p not in (*UPPER, *LOWER)), *LOWER, *UPPER)
LOOKS, WIDTH = 40, 256
SHAPE_SCALE, WAY_SCALE = 10.0, 0.1
"""Of points around the usual ones, and of where they go, in halves of the picture: about 1 in these."""
LID_OVER = 0.06
"""How far a closed upper lid lies over the lower one, so that no white is left between them: the ways change
from the one's to the other's within two cells, and sweep over the reference's open eye there. They change
where half of it is added between the lids, above the upper one's edge, whose lashes are dark.
"""
EYE_HEIGHT = 0.08
"""Of an open eye about, over the middle of its rim, in halves of the detail's square."""
CLOSING, MIDDLE = 0.6, slice(1, 6)
"""What is left of an eye's opening when its lid begins to close from corner to corner, and the points of a
rim that tell it: as renderings have it, those beside the corners hardly move.
"""
REACH = 0.045
"""How far a point's way counts, in halves of the detail's square."""
SHARP = 0.006
"""How softly one side goes over into the other: less than half a cell."""
FEW = 0.1
"""Of points around a cell where their ways count half."""
LID_EDGE, UNDER_EYE = 0.02, 0.08
"""How wide the edge of a closing lid is, which has the lashes; and how far below the lower lid there is skin
without lid or lash, in halves of the detail's square.
"""
COVERED, SHUT = 2.4, (0.75, 0.45)
"""How a lid covers what is less open than it was; and how much of an eye's opening is left where it is seen
to do so, and where wholly.
"""
NEAR = 0.1
"""Distances to a rim beyond which they are all alike, in halves of the detail's square."""
ABOUT = 12
"""Channels of Geometry.about."""


def face_points(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Where the points of the faces are in squares [B, 3, H, H] within -1..1, cut as faces.crop_of does: [B,
    468, 2] in -1..1, and 1 for those squares in which they are found (the others' are 0), [B].
    """
    size = pictures.shape[-1]
    apart = size / (2 * SIDE_IN_UNITS)
    eyes = (size / 2 - apart, EYES_AT * size), (size / 2 + apart, EYES_AT * size)
    mouth = size / 2, EYES_AT * size + MOUTH_BELOW_EYES * 2 * apart
    mesh = torch.zeros(len(pictures), POINTS, 2)
    has_mesh = torch.zeros(len(pictures))
    for row, square in enumerate(to_pixels(pictures).permute(0, 2, 3, 1).cpu().numpy()):
        found = find_landmarks(square, eyes, mouth)
        if found is not None:
            mesh[row] = placed(found, size)
            has_mesh[row] = 1
    return mesh.to(pictures.device), has_mesh.to(pictures.device)


def placed(found: Landmarks, size: int) -> Tensor:
    """The points [468, 2] in -1..1 of a face that is found in a square of `size` pixels a side."""
    return torch.from_numpy(found.points[:POINTS] * (2 / size) - 1)


class MeshMotion(nn.Module):
    """Where a latent moves the points of a face."""

    usual: Tensor

    def __init__(self, latent_channels: int) -> None:
        super().__init__()
        self.register_buffer("usual", torch.zeros(POINTS, 2))
        self.look = nn.Linear(2 * POINTS, LOOKS)
        self.enter = nn.Linear(LOOKS + latent_channels + len(POSE), WIDTH)
        self.hidden = nn.Linear(WIDTH, WIDTH)
        self.out = nn.Linear(WIDTH, 2 * POINTS)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, mesh: Tensor, latents: Tensor, pose: Tensor) -> Tensor:
        """Where points are then, [B, 468, 2], that are at mesh [B, 468, 2] in a picture of this pose [B, 8].

        latents [B, C], standardised as the pose is, which is their end (motion.MOTION).
        """
        shape = self.look((SHAPE_SCALE * (mesh - self.usual)).flatten(1))
        turned = latents[:, -len(POSE) :] - pose
        hidden = F.silu(self.enter(torch.cat([shape, latents, turned], 1)))
        hidden = hidden + F.silu(self.hidden(hidden))
        return mesh + WAY_SCALE * self.out(hidden).unflatten(1, (POINTS, 2)).float()


@dataclass(frozen=True)
class Geometry:
    """What the points say of the detail's square.

    flow [B, 2, H, H]: how far away in the reference, in halves of the picture, in a mouth as its upper teeth
    move and in an eye as the iris does; sure [B, 1, H, H]: 0..1, how near points are (in open mouths and eyes
    of streams 1); about [B, 12, H, H]: of the mouth and of the eyes how far below the upper and above the
    lower rim, how far from the middle to a corner, and whether inside; what of mouth and eyes the flow
    fetches from inside; which side of the line between upper and lower counts; how near points are; inside
    [B, 2, H, H]: 0..1, where mouth and eyes are open; shown [B, 2, H, H]: where the flow finds the
    reference's open; and in streams alone, teeth [B, 1, H, H]: where upper teeth are that lips at rest nearly
    hide, lids [B, 3, H, H]: where they cover what the reference has open, where they do above their edges,
    and where these are, and under_eye [B, 2, H, H]: how far away the skin below that eye is. All 0 where
    there are no points.
    """

    flow: Tensor
    sure: Tensor
    about: Tensor
    inside: Tensor
    shown: Tensor
    teeth: Tensor
    lids: Tensor
    under_eye: Tensor


def openings(mesh: Tensor, size: int) -> Tensor:
    """What points at mesh [B, 468, 2] tell of a picture alone: where mouth and eyes are open, 0..1, [B, 2,
    size, size] of the detail's square.
    """
    mesh = to_detail(mesh.float())
    return torch.cat([inside for *_, inside in _openings(mesh, axis(size, mesh.device))], 1)


def geometry(
    mesh: Tensor,
    opened: Tensor,
    moved: Tensor,
    known: Tensor,
    looks: Tensor | None = None,
    nods: Tensor | None = None,
) -> Geometry:
    """Of points that are at mesh [B, 468, 2] in the reference and at moved in the frame, where they are known
    (0 or 1, [B]); opened [B, 2, H, H]: the reference's `openings`; looks [B, 2]: how far irises move between
    the corners of the eyes, to the right and down in distances of the eyes (`iris_ways`); nods [B], in
    streams: how far the upper lip goes down beside the nose by the head's turn alone (`nods_of`). There
    teeth are where people have them, which is not so in every rendering.
    """
    size = opened.shape[-1]
    mesh = to_detail(mesh.float())
    moved = _meeting(mesh, to_detail(moved.float()))
    line = axis(size, mesh.device)
    upper, lower = _ways(mesh, moved, size)
    rims = _openings(moved, line)
    of_mouth = torch.sigmoid((line - moved[:, NOSE_TIP, 1:]) / 0.05)[:, None, :, None]
    side = [
        torch.sigmoid((above - below - over) / SHARP)
        for (above, below, _, _), over in zip(rims, (0.0, LID_OVER / 2), strict=True)
    ]
    below_line = torch.lerp(side[1], side[0], of_mouth)
    ways = torch.lerp(upper, lower, below_line)
    near = ways[:, 2:]
    known = known.to(near)[:, None, None, None]
    near_points = sure = known * near / (near + FEW)
    inside = known * torch.cat([inside for *_, inside in rims], 1)
    # Between lips and lids that part no skin is stretched: what is there moves with the head.
    back = mesh - moved
    teeth = back[:, list(UNDER_NOSE)].mean(1)
    row = torch.zeros_like(inside[:, :1])
    lids, under_eye = torch.zeros_like(row.expand(-1, 3, -1, -1)), torch.zeros_like(inside)
    if nods is not None:
        # A lip that is raised would leave a gap above what the reference shows of them.
        raised = back[:, UPPER_MIDDLE, 1] - teeth[:, 1] + nods / DETAIL_SIDE
        teeth = torch.stack([teeth[:, 0], teeth[:, 1] + raised.clamp_min(0)], 1)
        row = known * _row_of_teeth(mesh, raised, rims[0])
        lids, under_eye = (known * p for p in _lids(mesh, moved, opened, rims[1], line))
        # No points are in the middle of a mouth or of a large eye, whose ways are known all the same.
        sure = torch.maximum(sure, inside.amax(1, keepdim=True))
    flow = ways[:, :2] / (near + 1e-4)
    flow = torch.lerp(flow, teeth[..., None, None], rims[0][3])
    flow = torch.lerp(flow, _ways_of_eyes(mesh, moved, looks, line), rims[1][3])
    about = [
        part.expand(-1, 1, size, size)
        for above, below, across, inside in rims
        for part in ((above / NEAR).clamp(-1, 1), (below / NEAR).clamp(-1, 1), across, inside)
    ]
    shown = warp(opened.float(), flow)
    about = known * torch.cat([*about, shown, below_line, near_points], 1)
    flow = known * flow * DETAIL_SIDE
    return Geometry(flow, sure, about, inside, known * shown, row, lids, under_eye)


def _row_of_teeth(
    mesh: Tensor, raised: Tensor, mouth: tuple[Tensor, Tensor, Tensor, Tensor]
) -> Tensor:
    """Where upper teeth are in an open mouth (see _openings), 0..1, [B, 1, H, H]: below a lip at rest a
    little of them, and more as it is raised [B]; they hang as a bow and end before the corners.
    """
    above, _, across, inside = mouth
    apart = (mesh[:, EYES[1][0][0]] - mesh[:, EYES[0][0][-1]]).norm(dim=1)
    length = (raised + SHOWN_AT_REST * apart).clamp_min(0)[:, None, None, None]
    row = ((length * (1 - across**2 / 2) - above) * (above.shape[-1] / 2) + 0.5).clamp(0, 1)
    return row * ((ROW - across.abs()) * 4).clamp(0, 1) * inside


def _lids(
    mesh: Tensor,
    moved: Tensor,
    opened: Tensor,
    eyes: tuple[Tensor, Tensor, Tensor, Tensor],
    line: Tensor,
) -> tuple[Tensor, Tensor]:
    """Where lids cover what is open in the reference (opened [B, 2, H, H]; eyes: see _openings), where they
    do above their edges, and where these are, 0..1, [B, 3, H, H]; and the ways from there to the skin below
    the eye, [B, 2, H, H].
    """
    above, below, _, inside = eyes
    # Half as fine: a lid has no border with the skin above it.
    before, now = (F.avg_pool2d(part, 4, 2, 1) for part in (opened[:, 1:].float(), inside))
    way = _ways_of_eyes(mesh, moved, None, line).expand(-1, -1, len(line), -1)
    covered = (COVERED * enlarge(warp(before, way[..., ::2, ::2]) - now, 2)).clamp(0, 1)
    # The corners' way is not that of a rim in a head that nods or tilts: open eyes have no lids.
    left, right = (_shut(mesh, moved, rims) for rims in EYES)
    on_left = line < moved[:, NOSE_ROOT, :1]
    covered = covered * torch.where(on_left, left, right)[:, None, None]
    lid = covered * (-above / LID_EDGE - 1).clamp(0, 1)
    # The edge is seen where the lid's ends, and no lower than where it meets the other.
    lashes = covered * (1 - (torch.minimum(-above, below) / LID_EDGE - 1).abs()).clamp(0, 1)
    lids = torch.cat([covered, lid, lashes], 1)
    return lids, torch.cat([way[:, :1], way[:, 1:] + below + UNDER_EYE], 1)


def _shut(mesh: Tensor, moved: Tensor, eye: tuple[tuple[int, ...], tuple[int, ...]]) -> Tensor:
    """How much an eye is shut, 0..1 between those of SHUT, [B, 1]."""
    *_, left = _gaps(mesh, moved, eye)
    return ((SHUT[0] - left) / (SHUT[0] - SHUT[1])).clamp(0, 1)


def _gaps(
    mesh: Tensor, moved: Tensor, eye: tuple[tuple[int, ...], tuple[int, ...]]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """How far apart an eye's rims are between its corners in the reference and in the frame, both [B, 7]; how
    high it is in the reference, and how much of that is left, both [B, 1].
    """
    upper, lower = (list(rim[1:-1]) for rim in eye)
    wide, gap = ((p[:, lower, 1] - p[:, upper, 1]) for p in (mesh, moved))
    height, rest = (p[:, MIDDLE].mean(1, keepdim=True) for p in (wide, gap))
    return wide, gap, height, rest / height.clamp_min(1e-3)


def taller(ways: Tensor, times: Tensor, places: Tensor) -> Tensor:
    """Ways [B, 468, 2] of points at these places [B, 468, 2] whose eyes are so many times as high (times [B,
    468, 1]): what lids do beside the corners of their eye, which move with the head, is so many times as far.
    """
    left, right = (ways[:, [upper[0], upper[-1]], 1:].mean(1, keepdim=True) for upper, _ in EYES)
    corners = torch.where(places[..., :1] < places[:, [NOSE_ROOT], :1], left, right)
    # As they are where they are no higher, bit by bit.
    down = ways[..., 1:] + (times - 1) * (ways[..., 1:] - corners)
    return torch.cat([ways[..., :1], down], 2)


def rounder(mesh: Tensor, moved: Tensor) -> Tensor:
    """Points moved [B, 468, 2] from mesh whose lower lip opens as a bow: that of renderings, of which the
    motion is learnt, hangs between the corners like a cloth by its middle.
    """
    wide, gaps = zip(*(_across_mouth(points) for points in (mesh, moved)), strict=True)
    # What the picture's own mouth lacks of a bow stays as it is.
    gaps = [gap.clamp_min(0) for gap in gaps]
    lacks = [gap[:, [4]] * (1 - x * x) - gap for x, gap in zip(wide, gaps, strict=True)]
    lower = (lacks[1] - lacks[0].clamp_min(0)).clamp_min(0)
    points = moved.clone()
    points[:, [*MOUTH[1][1:-1], *LOWER_LIP], 1] += lower.repeat(1, 1 + len(LOWER_LIP) // 9)
    return points


def _across_mouth(points: Tensor) -> tuple[Tensor, Tensor]:
    """Where the columns of the inner rims are between the corners, -1..1, and how far they are open there,
    both [B, 9].
    """
    upper, lower = (points[:, list(rim[1:-1])] for rim in MOUTH)
    left, right = points[:, [MOUTH[0][0], MOUTH[0][-1]], 0].split(1, 1)
    across = ((lower[..., 0] - left) * 2 / (right - left).clamp_min(1e-3) - 1).clamp(-1, 1)
    return across, lower[..., 1] - upper[..., 1]


def nods_of(turned: Tensor, rest: Tensor) -> Tensor:
    """How much further down than the nose an upper lip is, [B] in halves of the picture, of points turned
    [B, 468, 2] with the head than of the same at rest: that much no lip has moved.
    """
    down = (turned - rest)[..., 1]
    return down[:, UPPER_MIDDLE] - down[:, list(UNDER_NOSE)].mean(1)


def iris_ways(turned: Tensor) -> Tensor:
    """How far irises move between the eyes' corners, to the right and down in distances of the eyes, [B,
    2]; turned [B, 8]: what of the pose is new (motion.POSE), in radians.
    """
    gaze, head = (turned[:, which] for which in (_GAZES, _TURNS))
    return GAZE * gaze * gaze.new_tensor([1.0, -1.0]) - TURN * head


def between_lids(looks: Tensor, mesh: Tensor) -> Tensor:
    """How irises move [B, 2] in a face whose points are at mesh [B, 468, 2]: up and down by half of what its
    eyes are open at most, since narrow ones would show nothing but white.
    """
    upper, lower = (mesh[:, [eye[i][4] for eye in EYES], 1].mean(1) for i in (0, 1))
    left, right = (mesh[:, [rim[0], rim[-1]]].mean(1) for rim, _ in EYES)
    most = (lower - upper).clamp_min(0) / 2 / (right - left).norm(dim=1).clamp_min(1e-3)
    across, down = looks.unbind(1)
    return torch.stack([across, torch.minimum(down.abs(), most) * down.sign()], 1)


def _ways_of_eyes(mesh: Tensor, moved: Tensor, looks: Tensor | None, line: Tensor) -> Tensor:
    """Ways back of the iris on a cell's side of the nose, [B, 2, 1, H]."""
    corners = [[upper[0], upper[-1]] for upper, _ in EYES]
    left, right = ((mesh - moved)[:, ends].mean(1) for ends in corners)
    apart = mesh[:, corners[1]].mean(1) - mesh[:, corners[0]].mean(1)
    if looks is not None:
        back = looks * apart.norm(dim=1, keepdim=True)
        left, right = left - back, right - back
    on_left = (line < moved[:, NOSE_ROOT, :1])[:, None]
    return torch.where(on_left, left[..., None], right[..., None])[:, :, None]


def _meeting(mesh: Tensor, moved: Tensor) -> Tensor:
    """Points moved [B, 468, 2] from mesh, with rims that do not pass each other: lips meet half-way, and lids
    close from corner to corner until they lie over the lower ones.
    """
    points = moved.clone()
    for eye in EYES:
        wide, gap, height, rest = _gaps(mesh, moved, eye)
        closed = smooth(1 - rest.clamp(0, CLOSING) / CLOSING)
        alike = torch.minimum(gap, rest * wide.clamp_min(0))
        # A narrow eye's lid has less to hide.
        over = LID_OVER * (height / EYE_HEIGHT).clamp(0, 1)
        gap = torch.lerp(gap, alike, closed) - over * closed
        upper, lower = (list(rim[1:-1]) for rim in eye)
        points[:, upper, 1] = moved[:, lower, 1] - torch.maximum(gap, -over)
    upper, lower = (list(rim[1:-1]) for rim in MOUTH)
    passed = (points[:, upper, 1] - points[:, lower, 1]).clamp_min(0)
    points[:, upper, 1] -= passed / 2
    points[:, lower, 1] += passed / 2
    return points


def _with_lids(points: Tensor) -> Tensor:
    """Points [B, 468, 2] in ORDER, and more of the upper lids' at the end: between creases and rims, and
    beyond these, where the mean of ways would else lag behind, and fetch the eye.
    """
    creases, rims = (points[:, [*eyes[0], *eyes[1]]] for eyes in (CREASES, LID_RIMS))
    high = (creases - rims).norm(dim=2, keepdim=True).clamp_min(1e-3)
    edges = torch.lerp(rims, creases, (EDGE / high).clamp_max(0.5))
    order = torch.tensor(ORDER, device=points.device)
    between = (torch.lerp(creases, edges, t) for t in BETWEEN)
    beyond = (torch.lerp(rims, edges, -t) for t in BEYOND)
    return torch.cat([points[:, order], *between, *beyond], 1)


def _ways(mesh: Tensor, moved: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The points' ways back, added up around every cell, and how many points are there, [B, 3, H, H]: without
    lower lips and lids, and without upper ones.
    """
    mesh, moved = (_with_lids(points) for points in (mesh, moved))
    # The ways are smooth but for the lines between lips and lids, which are drawn later: half as fine.
    line = axis(size // 2, mesh.device)
    across, down = (torch.exp(-0.5 * ((line - moved[..., i : i + 1]) / REACH) ** 2) for i in (0, 1))
    ways = torch.cat([mesh - moved, torch.ones_like(mesh[..., :1])], 2)
    weighted = (ways[..., None] * down[:, :, None]).flatten(2)
    sides = POINTS - len(UPPER) - len(LOWER), len(LOWER), ways.shape[1] - POINTS + len(UPPER)
    rest, lower, upper = (
        torch.bmm(w.transpose(1, 2), a).float().unflatten(1, (3, -1))
        for w, a in zip(weighted.split(sides, 1), across.split(sides, 1), strict=True)
    )
    return enlarge(rest + upper, 2), enlarge(rest + lower, 2)


def _openings(points: Tensor, line: Tensor) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Of the mouth, and of the eye on a cell's side of the nose: how far every cell lies below the upper rim
    and above the lower one, how far it is across (-1.5..1.5, 1 the corner) and how much it is inside, each
    [B, 1, H or 1, H].
    """
    mouth, left, right = ([_rim(points, rim, line) for rim in part] for part in (MOUTH, *EYES))
    on_left = line < points[:, NOSE_ROOT, :1]
    corners = [points[:, [part[0][0], part[0][-1]], 0] for part in (MOUTH, *EYES)]
    eyes = [torch.where(on_left, a, b) for a, b in zip(left, right, strict=True)]
    ends = [corners[0][:, i, None].expand_as(eyes[0]) for i in (0, 1)]
    eye_ends = [
        torch.where(on_left, corners[1][:, i, None], corners[2][:, i, None]) for i in (0, 1)
    ]
    found = []
    for (upper, lower), (start, end) in ((mouth, ends), (eyes, eye_ends)):
        above = line[:, None] - upper[:, None]
        below = lower[:, None] - line[:, None]
        half = ((end - start) / 2).clamp_min(1e-3)
        across = ((line - (start + end) / 2) / half).clamp(-1.5, 1.5)[:, None]
        inside = (torch.minimum(above, below) * (len(line) / 2)).clamp(0, 1)
        inside = inside * ((1 - across.abs()) * 8).clamp(0, 1)
        found.append((above[:, None], below[:, None], across[:, None], inside[:, None]))
    return found


def _rim(points: Tensor, rim: tuple[int, ...], line: Tensor) -> Tensor:
    """How far down a rim lies in every column, [B, H]: straight from point to point, level beyond."""
    x, y = points[:, list(rim)].unbind(2)
    wide = x.diff(dim=1).clamp_min(1e-3)
    passed = (line - x[:, :-1, None]).clamp_min(0).minimum(wide[..., None])
    return y[:, :1] + (passed * (y.diff(dim=1) / wide)[..., None]).sum(1)
