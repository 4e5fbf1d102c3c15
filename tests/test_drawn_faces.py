"""Eyes of flat drawings: found where they are painted, left alone everywhere else."""

from __future__ import annotations

import functools

import cv2
import numpy as np
import portraits
import pytest
import torch
from torch import Tensor

from mutual_forcing.codecs.drawn_faces import DrawnFaces, _eyes, find_drawn_faces, is_flat
from mutual_forcing.codecs.face_mesh import EYES, MOUTH, face_points
from mutual_forcing.pixels import to_signal

SIZE = 512
SKIN, WHITE, DARK = (190, 125, 80), (255, 255, 255), (20, 20, 20)
ALL = torch.ones(1)


@functools.cache
def mesh() -> Tensor:
    """Where a human face has its points."""
    return face_points(portraits.square("blond-bob")[None])[0]


def middles() -> list[np.ndarray]:
    points = (mesh()[0].numpy() + 1) * SIZE / 2
    return [points[[*upper, *lower]].mean(0) for upper, lower in EYES]


def drawing(high: int, wide: int = 26, eyes: int = 2) -> np.ndarray:
    """A flat face with eyes of so many pixels from the middle to the rim, and brows above them."""
    picture = np.full((SIZE, SIZE, 3), SKIN, np.uint8)
    for x, y in [middle.round().astype(int).tolist() for middle in middles()][:eyes]:
        cv2.ellipse(picture, (x, y), (wide, high), 0, 0, 360, WHITE, -1, cv2.LINE_AA)
        cv2.circle(picture, (x, y + 4), 9, DARK, -1, cv2.LINE_AA)
        cv2.line(picture, (x - 30, y - high - 16), (x + 30, y - high - 16), DARK, 6)
    return picture


def found_in(picture: np.ndarray, known: Tensor = ALL) -> DrawnFaces:
    signal = to_signal(torch.from_numpy(picture)).permute(2, 0, 1)[None]
    return find_drawn_faces(signal, mesh(), known)


@pytest.mark.parametrize("high", [24, 36])
def test_large_eyes_are_found_from_rim_to_rim(high: int) -> None:
    found = found_in(drawing(high))
    assert found.flat[0] == 1
    assert ((found.skin[0] + 1) * 127.5).round().int().tolist() == list(SKIN)
    points = (found.places[0].numpy() + 1) * SIZE / 2
    for (upper, lower), (x, y) in zip(EYES, middles(), strict=True):
        top, bottom = points[upper[4], 1], points[lower[4], 1]
        assert y - high - 8 < top < y - high + 1 and y + high - 1 < bottom < y + high + 8
        assert points[upper[0], 0] < x - 26 and points[upper[-1], 0] > x + 26
        assert found.times[0, upper[4], 0] > 1.5
    nose = list(range(1, 6))
    assert torch.equal(found.places[0, nose], mesh()[0, nose]) and found.times[0, 1] == 1


def mouth_of(found: DrawnFaces) -> np.ndarray:
    points = (found.places[0].numpy() + 1) * SIZE / 2
    return points[[*MOUTH[0], *MOUTH[1]]]


def smiling(thick: int) -> tuple[np.ndarray, np.ndarray]:
    """A face whose mouth is a bow of so many pixels, and its middle."""
    picture, middle = drawing(30), mouth_of(DrawnFaces.none(mesh())).mean(0)
    across = np.linspace(-45, 45, 91)
    bow = np.stack([middle[0] + across, middle[1] + 18 - 28 * (across / 45) ** 2], 1)
    cv2.polylines(picture, [bow.round().astype(np.int32)], False, DARK, thick, cv2.LINE_AA)
    return picture, bow


def test_lips_meet_on_a_mouth_that_is_one_line() -> None:
    picture, bow = smiling(5)
    points = mouth_of(found_in(picture))
    wanted = np.interp(points[:, 0], bow[:, 0], bow[:, 1])
    assert np.abs(points[:, 1] - wanted).max() < 5
    assert points[0, 0] < bow[0, 0] + 5 and points[10, 0] > bow[-1, 0] - 5


def test_a_mouth_that_is_painted_or_goes_over_into_a_beard_stays_the_net_s() -> None:
    before = mouth_of(DrawnFaces.none(mesh()))
    assert np.allclose(mouth_of(found_in(smiling(40)[0])), before, atol=0.01)
    bearded = smiling(5)[0]
    bearded[round(before[:, 1].mean()) :] = DARK
    assert np.allclose(mouth_of(found_in(bearded)), before, atol=0.01)


def test_a_lone_eye_moves_nothing() -> None:
    found = found_in(drawing(30, eyes=1))
    assert found.flat[0] == 1 and torch.equal(found.places, mesh()) and (found.times == 1).all()


def test_an_eye_that_a_lash_joins_to_its_brow_is_found() -> None:
    picture = drawing(30)
    for x, y in [middle.round().astype(int).tolist() for middle in middles()]:
        cv2.line(picture, (x, y - 46), (x, y - 28), DARK, 2)
    found, without = found_in(picture), found_in(drawing(30))
    assert torch.equal(found.places, without.places) and found.times.max() > 1.5


def test_an_eye_that_is_not_found_is_as_large_as_the_other() -> None:
    """One that hangs on hair by a broad strand; but not one that hair or a patch hides."""
    picture, (left, _) = drawing(30), middles()
    x, y = left.round().astype(int).tolist()
    strand, hair = picture.copy(), picture.copy()
    strand[: y - 20, x - 6 : x + 6] = DARK
    hair[: y + 40, x - 40 : x + 40] = DARK
    found, usual = found_in(strand), found_in(picture)
    upper, lower = EYES[0]
    rims = [*upper[2:-2], *lower[2:-2]]
    assert (found.places - usual.places)[0, rims].abs().max() * SIZE / 2 < 6
    assert found.times[0, upper[4]].allclose(usual.times[0, upper[4]], rtol=0.1)
    assert torch.equal(found_in(hair).places, mesh())


@pytest.mark.parametrize("tilt", [-25, 0, 15])
def test_a_mirrored_eye_is_where_it_is_in_a_tilted_head(tilt: int) -> None:
    """Below the net's, as the one that is found."""
    along = np.array([np.cos(np.deg2rad(tilt)), np.sin(np.deg2rad(tilt))])
    down = np.array([-along[1], along[0]])
    nets = [np.array([256.0, 200.0]) + side * 50 * along for side in (-1, 1)]
    eyes = []
    for middle in nets:
        place = (middle + 6 * down).round().astype(int).tolist()
        eye = cv2.ellipse(np.zeros((SIZE, SIZE), np.uint8), place, (30, 12), tilt, 0, 360, 1, -1)
        eyes.append(eye > 0)
    whole = _eyes(eyes[0] | eyes[1], nets, 100.0)
    top = nets[0].round().astype(int)
    strand = eyes[0] | eyes[1]
    strand[: top[1], top[0] - 7 : top[0] + 8] = True
    mirrored = _eyes(strand, nets, 100.0)
    assert whole is not None and mirrored is not None
    assert (whole[0] & mirrored[0]).sum() > 0.75 * (whole[0] | mirrored[0]).sum()


def test_an_eye_that_goes_over_into_hair_or_glasses_moves_nothing() -> None:
    picture = drawing(30)
    picture[: int(middles()[0][1]), :] = np.where(
        (picture[: int(middles()[0][1])] == SKIN).all(2, keepdims=True),
        DARK,
        picture[: int(middles()[0][1])],
    )
    assert torch.equal(found_in(picture).places, mesh())


def test_a_painted_face_is_no_flat_one() -> None:
    shaded = drawing(30).astype(float) + np.random.default_rng(0).normal(0, 2, (SIZE, SIZE, 3))
    found = found_in(shaded.clip(0, 255).astype(np.uint8))
    assert found.flat[0] == 0 and torch.equal(found.places, mesh())
    points = (mesh()[0].numpy() + 1) * SIZE / 2
    assert is_flat(drawing(30), points)


@pytest.mark.parametrize("away", [(1.3, 0.0), (0.0, 1.6), (-1.5, -1.5)])
def test_points_beyond_the_picture_are_survived(away: tuple[float, float]) -> None:
    signal = to_signal(torch.from_numpy(drawing(30))).permute(2, 0, 1)[None]
    moved = mesh() + torch.tensor(away)
    assert torch.equal(find_drawn_faces(signal, moved, ALL).places, moved)
    one = torch.zeros_like(mesh())
    assert torch.equal(find_drawn_faces(signal, one, ALL).places, one)


def test_without_points_nothing_is_looked_for() -> None:
    found = find_drawn_faces(torch.ones(1, 3, SIZE, SIZE), torch.zeros(1, 468, 2), torch.zeros(1))
    assert found.flat[0] == 0 and found.places.abs().max() == 0
