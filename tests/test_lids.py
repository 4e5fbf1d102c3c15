"""What a closed lid looks like in a stream: skin, whatever lies around the eye, and in drawings a line."""

from __future__ import annotations

import numpy as np
import portraits
import pytest
import torch
from test_drawn_faces import ALL, SKIN, drawing, mesh, middles
from torch import Tensor

from mutual_forcing import StreamingGenerator
from mutual_forcing.canvas import prepare
from mutual_forcing.codecs import detail, motion_codec
from mutual_forcing.codecs.face_mesh import CREASES, EYES, LID_RIMS, face_points, geometry, openings
from mutual_forcing.codecs.motion_codec import MotionCodec
from mutual_forcing.faces import FaceCrop
from mutual_forcing.motion import MOTION, UNITS
from mutual_forcing.pixels import to_pixels, to_signal

SIZE = 512


@pytest.fixture(scope="module")
def codec(served_generator: StreamingGenerator) -> MotionCodec:
    return served_generator.system.video_codec


def blinking(codec: MotionCodec, picture: np.ndarray) -> np.ndarray:
    """The picture uint8 [512, 512, 3] with its eyes closed."""
    return shown(codec, picture, eyeBlink=1.0)


def shown(codec: MotionCodec, picture: np.ndarray, **more: float) -> np.ndarray:
    """The picture uint8 [512, 512, 3] with so much added to its motion, else as it is."""
    signal = to_signal(torch.from_numpy(picture)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        reference = codec.encode_reference(signal)
        motion = codec.read_motion(reference.told[:, :, None])
        motion[..., : len(UNITS)] = 0
        for name, value in more.items():
            motion[..., MOTION.index(name)] += value
        canvas = prepare(picture, FaceCrop(SIZE // 2, SIZE // 2, SIZE), codec.square_size)
        latents = codec.encode_motion(motion).expand(-1, -1, 4)
        return codec.animate(latents, canvas, reference)[0][0]


def places(signal: Tensor) -> np.ndarray:
    """Where the face's points are, in pixels [468, 2]."""
    return (face_points(signal)[0][0].numpy() + 1) * SIZE / 2


def light(frame: np.ndarray, x: float, y: float) -> float:
    row, column = round(y), round(x)
    return float(frame[row - 2 : row + 3, column - 2 : column + 3].mean())


def test_a_lid_is_no_darker_for_the_shade_above_it(
    codec: MotionCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It unfolds from a narrow strip: with a hat's or a frame's shade there whole eyes became black."""
    square = portraits.square("blond-bob")
    points = places(square[None])
    picture = to_pixels(square).permute(1, 2, 0).numpy().copy()
    rows = np.arange(SIZE)[:, None]
    for creases, rims in zip(CREASES, LID_RIMS, strict=True):
        left, right = int(points[list(rims), 0].min()), int(points[list(rims), 0].max())
        order = np.argsort(points[list(rims), 0])
        rim, crease = (
            np.interp(np.arange(left, right), *points[list(line)][order].T)
            for line in (rims, creases)
        )
        shade = (rows < rim) & (rows > crease - 14)
        picture[:, left:right][shade] = picture[:, left:right][shade] * 0.15
    frames = {}
    for share in (detail.SKIN_OF_LIDS, 0.0):
        monkeypatch.setattr(detail, "SKIN_OF_LIDS", share)
        frames[share] = blinking(codec, picture)
    with_skin, without = frames.values()
    for upper, lower in EYES:
        middle = points[[upper[5], lower[5]]].mean(0)
        cheek = light(picture, middle[0], points[lower[5], 1] + 22)
        assert light(without, *middle) < 0.15 * cheek, "what the test is about"
        assert light(with_skin, *middle) > 0.25 * cheek


def test_a_lid_is_as_much_skin_as_it_says(
    codec: MotionCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over what is fetched and what is painted alike."""
    picture = to_pixels(portraits.square("blond-bob")).permute(1, 2, 0).numpy()
    frames = []
    for share in (0.0, 0.5, 1.0):
        monkeypatch.setattr(detail, "SKIN_OF_LIDS", share)
        frames.append(blinking(codec, picture).astype(float))
    none, half, whole = frames
    assert np.abs(whole - none).max() > 20
    assert np.abs(half - (none + whole) / 2).max() < 2


@pytest.mark.parametrize("tilt", [-0.12, 0.12])
@pytest.mark.parametrize("squashed", [1.0, 0.9])
def test_open_eyes_of_a_head_that_moves_have_no_lids(tilt: float, squashed: float) -> None:
    """As it tilts and nods: there dark lines lay above the eyes of drawings."""
    face = mesh()
    turn = torch.tensor([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]]).float()
    moved = (face @ turn) * torch.tensor([1.0, squashed]) + 0.05
    opened = openings(face, 128)
    assert geometry(face, opened, moved, ALL, nods=torch.zeros(1)).lids.max() < 0.01


def test_lids_show_skin_where_the_eye_was_open_alone() -> None:
    face = mesh()
    shut = face.clone()
    for upper, lower in EYES:
        shut[:, list(upper)] = shut[:, list(lower)]
    opened, rest = openings(face, 128), torch.zeros(1)
    as_it_is, closed = (geometry(face, opened, m, ALL, nods=rest) for m in (face, shut))
    eyes = opened[:, 1:] > 0.5
    assert as_it_is.lids.max() < 1e-3, "open eyes have none"
    assert closed.lids.amax(1, keepdim=True)[eyes].mean() > 0.5
    far = torch.nn.functional.max_pool2d(opened[:, 1:], 13, 1, 6) == 0
    assert closed.lids.amax(1, keepdim=True)[far].max() == 0
    training = geometry(face, opened, shut, ALL)
    assert training.lids.max() == 0 and training.under_eye.max() == 0
    assert geometry(face, opened, shut, torch.zeros(1), nods=rest).lids.max() == 0


def test_a_drawing_closes_its_eyes_to_a_line(
    codec: MotionCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They vanished, or what was left of an iris lay there in stripes."""
    monkeypatch.setattr(motion_codec, "face_points", lambda pictures: (mesh(), ALL))
    frame = blinking(codec, drawing(30))
    for x, y in middles():
        column = frame[round(y) - 26 : round(y) + 40, round(x) - 6 : round(x) + 7].astype(int)
        away = np.abs(column - SKIN).max(2).mean(1)
        line = int(away.argmax())
        assert away[:40].max() < 30, "skin where the eye was"
        assert line > 40 and column[line].mean() < 0.6 * np.mean(SKIN)


@pytest.mark.parametrize("turn", [{"yaw": -0.2}, {"pitch": 0.14}, {"roll": 0.1}])
def test_open_eyes_of_a_drawing_stay_whole_when_the_head_turns(
    codec: MotionCodec, monkeypatch: pytest.MonkeyPatch, turn: dict[str, float]
) -> None:
    """They fell to pieces, or were painted over."""
    monkeypatch.setattr(motion_codec, "face_points", lambda pictures: (mesh(), ALL))
    picture = drawing(30)

    def seen(frame: np.ndarray) -> tuple[int, int, int]:
        part = frame[100:300].astype(int)
        white, dark = (part.min(2) > 225).sum(), (part.max(2) < 60).sum()
        strange = np.min([np.abs(part - c).max(2) for c in (SKIN, (255,) * 3, (20,) * 3)], 0) > 60
        return int(white), int(dark), int(strange.sum())

    before, after = seen(picture), seen(shown(codec, picture, **turn))
    assert 0.75 < after[0] / before[0] < 1.2 and 0.7 < after[1] / before[1] < 1.3, (before, after)
    assert after[2] < 0.25 * before[0], "nothing else, but for soft edges"
