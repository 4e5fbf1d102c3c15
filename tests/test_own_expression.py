"""A film keeps the expression of its picture, and the teeth that it shows."""

from __future__ import annotations

import portraits
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mutual_forcing import StreamingGenerator
from mutual_forcing.canvas import prepare
from mutual_forcing.codecs.face_mesh import (
    EYES,
    LOWER_LIP,
    MOUTH,
    NOSE_ROOT,
    POINTS,
    between_lids,
    geometry,
    rounder,
    taller,
)
from mutual_forcing.codecs.motion_codec import MotionCodec
from mutual_forcing.codecs.mouth_colors import upper_teeth
from mutual_forcing.codecs.own_expression import OWN, add_own, own_expression, take_own
from mutual_forcing.motion import MOTION, POSE, UNITS
from mutual_forcing.pixels import to_pixels
from mutual_forcing.types import FaceCrop

SIZE = 48
SKIN, LIP, DARK, WHITE = (0.8, 0.6, 0.5), (0.7, 0.3, 0.3), (0.1, 0.03, 0.03), (0.9, 0.85, 0.8)


@pytest.fixture(scope="module")
def codec(served_generator: StreamingGenerator) -> MotionCodec:
    return served_generator.system.video_codec


def made_of(codec: MotionCodec, name: str, **units: float) -> Tensor:
    """A bundled character's picture [1, 3, 512, 512] with its face asked for this."""
    motion = torch.zeros(1, 1, len(MOTION))
    for unit, value in units.items():
        motion[..., MOTION.index(unit)] = value
    reference = codec.encode_reference(portraits.square(name)[None])
    return codec.decode(codec.encode_motion(motion), reference)[:, :, 0]


def test_what_a_face_does_by_itself_is_read_from_its_picture(codec: MotionCodec) -> None:
    with torch.inference_mode():
        pictures = [
            portraits.square("blond-bob")[None],
            made_of(codec, "blond-bob", mouthSmile=0.8),
            made_of(codec, "blond-bob", jawOpen=0.6),
        ]
        rest, smiling, open_mouthed = codec.encode_reference(torch.cat(pictures)).own
    smile = UNITS.index("mouthSmile")
    assert rest.max() < 0.2 and rest[smile] < 0.05
    assert smiling[smile] > 0.25
    assert not any(open_mouthed[UNITS.index(u)] for u in UNITS if u not in OWN), (
        "the jaw is speech's"
    )
    assert open_mouthed.max() < 0.2


def test_a_smile_is_told_from_all_else_by_the_points_alone(codec: MotionCodec) -> None:
    """Where a face at rest has them, moved by one unit. Brows and lids are mostly taken for its shape."""
    unit = "mouthSmile"
    reference = codec.encode_reference(portraits.square("blond-bob")[None])
    pose, mean, std = reference.told[0, -len(POSE) :], codec.latent_mean, codec.latent_std
    motion = torch.zeros(1, 1, len(MOTION))
    motion[..., MOTION.index(unit)] = 0.7
    latents = codec.encode_motion(motion)[..., 0]
    latents[:, -len(POSE) :] = pose
    moved = codec.animator.mesh_motion(reference.mesh, latents, pose[None])[0]
    own = own_expression(codec.animator.mesh_motion, moved, pose, mean, std)
    assert UNITS[int(own.argmax())] == unit and own.max() > 0.3, own


def test_whoever_smiles_smiles_on(codec: MotionCodec) -> None:
    """Asked for nothing, the face in the picture stays as it is; it was wiped before."""
    with torch.inference_mode():
        picture = made_of(codec, "grandfather", mouthSmile=0.8, cheekSquint=0.4)
        reference = codec.encode_reference(picture)
        rest = codec.encode_motion(torch.zeros(1, 1, len(MOTION)))
        motion = codec.read_motion(rest)[0]
        pose = reference.told[:, -len(POSE) :]

        def corners(motion: Tensor) -> Tensor:
            latents = codec.encode_motion(motion[None])[..., 0]
            latents[:, -len(POSE) :] = pose
            moved = codec.animator.mesh_motion(reference.mesh, latents, pose)
            return (moved - reference.mesh)[0, [61, 291]].norm(dim=1).mean()

        wiped, kept = corners(motion), corners(add_own(motion, reference.own[0]))
    assert kept < 0.5 * wiped, (kept, wiped)


def test_a_film_shows_it_and_what_is_read_of_a_film_has_it_not(codec: MotionCodec) -> None:
    smile = MOTION.index("mouthSmile")
    with torch.inference_mode():
        picture = made_of(codec, "blond-bob", mouthSmile=0.9, cheekSquint=0.4)
        reference = codec.encode_reference(picture)
        own = reference.own[0, smile]
        still = F.avg_pool2d(picture, 2)[:, :, None].expand(-1, -1, 4, -1, -1)
        read = codec.read_motion(codec.encode(still))[0, :, smile]
        assert own > 0.25 and read.max() < own

        frame = to_pixels(picture[0]).permute(1, 2, 0).numpy()
        canvas = prepare(frame, FaceCrop(256, 256, 512), codec.square_size)
        rest = codec.encode_motion(torch.zeros(1, 4, len(MOTION)))
        shown, bare = (codec.animate(rest, canvas, r)[0] for r in (reference, reference.at_rest()))
        told = codec.animate(
            codec.encode_motion(add_own(torch.zeros(4, len(MOTION)), reference.own[0])[None]),
            canvas,
            reference.at_rest(),
        )[0]
        assert (shown != bare).mean() > 0.05 and (shown == told).all()
        with pytest.raises(ValueError, match="one stream, not to 2"):
            codec.animate(rest.expand(2, -1, -1), canvas, reference)


def test_an_own_expression_is_taken_again() -> None:
    torch.manual_seed(0)
    motion = torch.rand(40, len(MOTION)) * 1.6 - 0.3
    own = torch.rand(len(UNITS)) * 0.8
    shown = add_own(motion, own)
    assert torch.allclose(take_own(shown, own), motion, atol=1e-5)
    assert torch.equal(add_own(motion, torch.zeros(len(UNITS))), motion)
    whole = motion[:, : len(UNITS)] >= 1
    assert torch.equal(shown[:, : len(UNITS)][whole], motion[:, : len(UNITS)][whole])


def mouth(*bands: tuple[int, tuple[float, float, float]]) -> tuple[Tensor, Tensor]:
    """A square of skin, and where it is open: bands of so many rows from row 20 on, 24 columns wide."""
    picture = torch.tensor(SKIN)[:, None, None].repeat(1, SIZE, SIZE)
    opened, row = torch.zeros(1, 1, SIZE, SIZE), 20
    for rows, color in bands:
        picture[:, row : row + rows, 12:36] = torch.tensor(color)[:, None, None]
        opened[..., row : row + rows, 12:36] = 1
        row += rows
    return picture[None] * 2 - 1, opened


def teeth_of(picture: Tensor, opened: Tensor) -> Tensor:
    skin = (torch.tensor(SKIN) * 2 - 1)[None, :, None, None].expand(1, 3, 4, 4)
    return upper_teeth(picture, opened, skin)[0, 0]


def test_upper_teeth_end_where_the_hollow_begins() -> None:
    picture, opened = mouth((2, DARK), (4, WHITE), (5, DARK), (3, WHITE))
    found = teeth_of(picture, opened)
    assert found[22:26, 16:32].min() > 0.9, "the upper ones"
    assert found[20:22, 16:32].min() > 0.9, "and what is above them"
    assert found[27:].max() == 0, "lower ones move with the jaw"
    assert found[:20].max() == 0 and found[:, :12].max() == 0
    grey = picture.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    assert (teeth_of(grey, opened) - found)[22:26, 16:32].abs().max() < 0.1, "also without colours"
    picture[..., 20:26, 24] = -1  # a gap between two of them
    assert (teeth_of(picture, opened) - found).abs().max() < 0.2


def test_what_is_red_or_dark_or_below_is_no_upper_tooth() -> None:
    for bands in (((8, LIP),), ((8, DARK),), ((8, DARK), (4, WHITE)), ()):
        picture, opened = mouth(*bands)
        assert teeth_of(picture, opened).max() == 0, bands
    picture, opened = mouth((8, LIP))
    assert teeth_of(picture.mean(1, keepdim=True).expand(-1, 3, -1, -1), opened).max() == 0, "grey"


def test_tall_eyes_of_a_drawing_nod_with_the_head() -> None:
    places = torch.zeros(1, POINTS, 2)
    right = [*EYES[1][0], *EYES[1][1]]
    left = [*EYES[0][0], *EYES[0][1]]
    places[:, left, 0], places[:, right, 0] = -0.2, 0.2
    times = torch.ones(1, POINTS, 1)
    times[:, [*left, *right]] = 2.0
    nod = torch.zeros(1, POINTS, 2)
    nod[..., 1] = 0.1
    assert places[0, NOSE_ROOT, 0] == 0
    assert torch.equal(taller(nod, times, places), nod), "as it was, every point went twice as far"
    lid = EYES[0][0][4]
    closing = nod.clone()
    closing[:, lid, 1] += 0.05
    assert torch.isclose(taller(closing, times, places)[0, lid, 1], torch.tensor(0.2))


def test_a_lower_lip_opens_as_a_bow() -> None:
    closed = torch.zeros(1, POINTS, 2)
    columns = torch.linspace(-0.2, 0.2, 11)
    for rim in MOUTH:
        closed[:, list(rim), 0] = columns
    hanging = closed.clone()
    lower = list(MOUTH[1])
    hanging[:, lower, 1] = 0.1 * (1 - columns.abs() / 0.2)
    opened = rounder(closed, hanging)
    bow = 0.1 * (1 - (columns / 0.2) ** 2)
    assert torch.allclose(opened[0, lower, 1], bow, atol=1e-6)
    row = list(LOWER_LIP[:9])
    assert torch.allclose(opened[0, row, 1], (bow - hanging[0, lower, 1])[1:-1], atol=1e-6)
    assert torch.equal(rounder(hanging, hanging), hanging), "the picture's own mouth"
    wider = closed.clone()
    wider[:, lower, 1] = 0.1 * (1 - (columns / 0.2).abs() ** 4)
    assert torch.equal(rounder(wider, closed), closed), "lips that shut stay shut"
    assert torch.equal(rounder(closed, closed), closed)
    untouched = [p for p in range(POINTS) if p not in (*MOUTH[1], *LOWER_LIP)]
    assert torch.equal(opened[:, untouched], hanging[:, untouched])


def test_a_raised_lip_bares_teeth_that_the_picture_hides() -> None:
    """A row of them under the middle of the lip, of an open mouth alone."""
    shut = torch.zeros(1, POINTS, 2)
    shut[:, [EYES[0][0][-1], EYES[1][0][0]], 0] = torch.tensor([-0.2, 0.2])
    for rim in MOUTH:
        shut[:, list(rim), 0] = torch.linspace(-0.2, 0.2, 11)
        shut[:, list(rim), 1] = 0.2
    opened = torch.zeros(1, 2, SIZE * 2, SIZE * 2)

    def row(up: float, down: float) -> Tensor:
        moved = shut.clone()
        moved[:, list(MOUTH[0][1:-1]), 1] -= up
        moved[:, list(MOUTH[1][1:-1]), 1] += down
        return geometry(shut, opened, moved, torch.ones(1), nods=torch.zeros(1)).teeth[0, 0]

    assert row(0.0, 0.0).max() == 0
    at_rest, bared, pressed = (row(up, 0.2).sum(0) for up in (0.0, 0.06, -0.06))
    middle = at_rest[SIZE - 4 : SIZE + 4].mean()
    assert 0 < middle < bared[SIZE - 4 : SIZE + 4].mean() and pressed.max() == 0
    found = row(0.06, 0.2)
    assert found[:, 30].max() == 0 < found[:, 36].max(), "not in the corners"


def test_irises_of_narrow_eyes_are_not_lost_under_their_lids() -> None:
    mesh = torch.zeros(2, POINTS, 2)
    for side, (upper, lower) in zip((-0.2, 0.2), EYES, strict=True):
        mesh[:, [*upper, *lower], 0] = side
        mesh[:, list(lower), 1] = torch.tensor([0.16, 0.02])[:, None]  # open, and narrow
    looks = torch.tensor([[0.3, -0.1], [0.3, -0.1]])
    wide, narrow = between_lids(looks, mesh)
    assert torch.equal(wide, looks[0])
    assert torch.allclose(narrow, torch.tensor([0.3, -0.025])), (
        "half of 0.02, where eyes are 0.4 apart"
    )
