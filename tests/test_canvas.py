"""From the animated square to the film's picture: geometry with known answers, and no seam."""

import cv2
import numpy as np
import pytest
import torch

from mutual_forcing.canvas import LONGEST, Canvas, film_size, prepare
from mutual_forcing.codecs.motion_codec import Layers
from mutual_forcing.codecs.warping import DETAIL_SIDE, DETAIL_X, DETAIL_Y
from mutual_forcing.types import FaceCrop

S = 64


def still_layers(count: int = 1) -> Layers:
    """Layers that move nothing and paint nothing."""
    zeros, ones = torch.zeros, torch.ones
    return Layers(
        zeros(count, 2, S // 4, S // 4),
        zeros(count, 3, S, S),
        ones(count, 1, S, S),
        zeros(count, 2, S // 2, S // 2),
        zeros(count, 3, S, S),
        ones(count, 1, S, S),
        zeros(count, 5, S, S),
    )


def shifted(x: float, y: float) -> Layers:
    layers = still_layers()
    for flow in (layers.flow, layers.detail_flow):
        flow[:, 0], flow[:, 1] = x, y
    return layers


def photograph(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    noise = rng.normal(128, 90, (height, width, 3)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 3).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("shape", "framing", "size", "wanted"),
    [
        ((1080, 1920, 3), "whole", 1080, (1920, 1080)),
        ((1080, 1920, 3), "whole", 512, (910, 512)),
        ((1920, 1080, 3), "whole", 512, (512, 910)),
        ((400, 300, 3), "whole", 512, (300, 400)),  # never enlarged,
        ((64, 48, 3), "whole", 512, (256, 342)),  # but to 256
        ((500, 8000, 3), "whole", 512, (1920, 120)),
        ((1080, 1920, 3), "face", 512, (512, 512)),
        ((1080, 1920, 3), "face", 1080, (600, 600)),
        ((300, 300, 3), "face", 512, (600, 600)),
    ],
)
def test_films_have_even_sides_and_the_picture_s_aspect(shape, framing, size, wanted) -> None:
    side = 600.0
    width, height = film_size(shape, FaceCrop(150, 150, side), framing, size)
    if framing == "face" and size < side:
        wanted = (size, size)
    assert (width, height) == wanted
    assert width % 2 == height % 2 == 0 and max(width, height) <= LONGEST


@pytest.mark.parametrize("framing", ["whole", "face"])
@pytest.mark.parametrize("angle", [0.0, 0.5])
def test_what_does_not_move_is_the_upload(framing, angle) -> None:
    picture = photograph(300, 400)
    canvas = prepare(picture, FaceCrop(210, 140, 200, angle), 2 * S, framing, 300)
    frame = canvas.compose(still_layers())[0]
    assert np.array_equal(frame, canvas.reference_frame)
    if framing == "whole":
        assert np.array_equal(frame, picture), "at its own size every pixel is the upload's"


def test_a_flow_fetches_from_where_it_points_whatever_the_turn() -> None:
    picture = photograph(300, 400)
    for angle in (0.0, 0.6, np.pi / 2):
        crop = FaceCrop(200, 150, 160, angle)
        canvas = prepare(picture, crop, 2 * S, "whole", 300)
        frame = canvas.compose(shifted(0.1, 0.05))[0]
        way = np.array([0.1, 0.05]) * 80
        cos, sin = np.cos(angle), np.sin(angle)
        x, y = cos * way[0] - sin * way[1], sin * way[0] + cos * way[1]
        moved = cv2.warpAffine(picture, np.float64([[1, 0, -x], [0, 1, -y]]), (400, 300))
        middle = (slice(130, 170), slice(180, 220))
        error = np.abs(frame[middle].astype(int) - moved[middle]).mean()
        assert error < 3, (angle, error)
        still = np.abs(canvas.reference_frame[middle].astype(int) - moved[middle]).mean()
        assert still > 3 * error, "the test could not fail"


def test_nothing_shows_where_the_square_ends() -> None:
    picture = photograph(400, 500)
    crop = FaceCrop(250, 200, 220, 0.2)
    canvas = prepare(picture, crop, 2 * S, "whole", 400)
    layers = shifted(0.15, -0.1)
    layers.mask[:] = 0.3  # and half of it is painted over
    layers.painted[:] = 1.0
    frame = canvas.compose(layers)[0].astype(int)
    outside = np.ones((400, 500), bool)
    outside[canvas.part] = False
    assert np.array_equal(frame[outside], picture[outside])
    change = np.abs(frame - picture).max(-1)
    assert change.max() > 100
    # Across the square's border: no jump that the picture itself does not have.
    part = np.abs(_within(crop, frame.shape)).max(-1)
    rim = (part > 0.99) & (part < 1)
    assert rim.any() and change[rim].max() <= 6
    assert change[part >= 1].max() <= 1  # ways are looked up for every other pixel


@pytest.mark.parametrize(("angle", "tall"), [(0.0, 1.0), (0.4, 1.0), (0.3, 0.6)])
def test_the_detail_moves_its_own_square_alone(angle, tall) -> None:
    picture = photograph(400, 500)
    crop = FaceCrop(250, 200, 300, angle, tall)
    layers = still_layers()
    layers.detail_flow[:] = 0.1
    canvas = prepare(picture, crop, 2 * S, "whole", 400)
    change = np.abs(canvas.compose(layers)[0].astype(int) - picture).max(-1)
    x, y = np.moveaxis((_within(crop, picture.shape) + 1) / 2, -1, 0)
    inside = [(DETAIL_X, x), (DETAIL_Y, y)]
    near = np.all([(v > low) & (v < low + DETAIL_SIDE) for low, v in inside], 0)
    far = np.any([(v < low - 0.02) | (v > low + DETAIL_SIDE + 0.02) for low, v in inside], 0)
    assert change[near].mean() > 10 and change[far].max() == 0


def _within(crop: FaceCrop, shape) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    x, y = x - crop.x, y - crop.y
    cos, sin = np.cos(crop.angle), np.sin(crop.angle)
    return np.stack([cos * x + sin * y, (cos * y - sin * x) / crop.tall], -1) / (crop.side / 2)


def test_the_decoder_sees_the_face_upright() -> None:
    picture = np.zeros((300, 300, 3), np.uint8)
    turned = FaceCrop(150, 150, 200, 0.4)
    line = np.linspace(-60, 60, 200)
    x, y = 150 + np.cos(0.4) * line, 150 + np.sin(0.4) * line
    picture[y.astype(int), x.astype(int)] = 255
    seen = prepare(picture, turned, 128).square[..., 0]
    rows = np.flatnonzero(seen.max(1) > 60)
    assert rows.max() - rows.min() <= 4, "a line along the angle becomes level"
    assert abs(rows.mean() - 63.5) < 2


def test_frames_of_one_chunk_do_not_depend_on_each_other() -> None:
    canvas = prepare(photograph(128, 128), FaceCrop(64, 64, 120), 2 * S)
    layers = still_layers(3)
    layers.flow[1] = 0.1
    layers.detail_flow[1] = 0.1
    together = canvas.compose(layers)
    for index in range(3):
        parts = (getattr(layers, name)[index : index + 1] for name in layers.__dataclass_fields__)
        assert np.array_equal(canvas.compose(Layers(*parts))[0], together[index])


@pytest.mark.parametrize("framing", ["whole", "face"])
def test_a_square_outside_the_picture_is_refused(framing) -> None:
    with pytest.raises(ValueError, match="outside the picture"):
        prepare(photograph(64, 64), FaceCrop(500, 500, 50), 2 * S, framing)


def test_a_face_that_is_nothing_in_the_film_is_refused() -> None:
    with pytest.raises(ValueError, match="too small in a film of this size"):
        prepare(photograph(2048, 2048), FaceCrop(1024, 1024, 16, 0.3), 2 * S, "whole", 128)


def test_a_square_may_reach_beyond_the_border() -> None:
    canvas = prepare(photograph(64, 64), FaceCrop(5, 5, 60), 2 * S)
    assert isinstance(canvas, Canvas) and canvas.compose(shifted(0.2, 0.2)).shape == (
        1,
        256,
        256,
        3,
    )
