"""What a film of fixed size shows of a picture of any."""

import math

import numpy as np
import pytest
import torch

from mutual_forcing.picture_window import cut_window
from mutual_forcing.types import FaceCrop


def ramp(height: int, width: int) -> np.ndarray:
    """Red grows to the right, green downwards, both in whole steps of the picture's size."""
    x = np.linspace(0, 255, width)[None].repeat(height, 0)
    y = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    return np.stack([x, y, np.full_like(x, 7)], -1).round().astype(np.uint8)


def test_a_picture_of_the_film_s_size_is_shown_as_it_is() -> None:
    picture = ramp(64, 96)
    window = cut_window(picture, (96, 64))
    assert np.array_equal(window.reference_frame, picture)
    assert window.size == (96, 64) and window.nbytes == picture.nbytes
    reference = window.reference(torch.device("cpu"))
    assert reference.shape == (1, 3, 64, 96) and -1 <= reference.min() <= reference.max() <= 1


@pytest.mark.parametrize("scale", [2, 3, 10])
def test_a_large_picture_is_reduced_by_areas(scale) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    large = noise.repeat(scale, 0).repeat(scale, 1)
    assert np.abs(cut_window(large, (96, 64)).reference_frame.astype(int) - noise).max() <= 1


def test_a_small_picture_is_enlarged_where_it_lies() -> None:
    frame = cut_window(ramp(16, 24), (96, 64)).reference_frame.astype(int)
    expected = np.clip(((np.arange(96) + 0.5) / 4 - 0.5) / 23, 0, 1) * 255
    assert np.abs(frame[32, :, 0] - expected).max() < 6


def test_the_window_lies_within_the_picture_near_the_face() -> None:
    wide = ramp(100, 400)
    middle = cut_window(wide, (96, 64)).reference_frame
    assert middle[..., 0].min() >= 80 and middle[..., 0].max() <= 175
    left = cut_window(wide, (96, 64), FaceCrop(10, 50, 40)).reference_frame
    assert left[..., 0].min() <= 1 and left[0, 0, 1] <= 2 and left[-1, 0, 1] >= 253


def test_a_film_of_the_face_alone_is_upright_and_goes_on_beyond_the_picture() -> None:
    picture = ramp(200, 300)
    turned = FaceCrop(150, 100, 64, angle=math.pi / 2)
    frame = cut_window(picture, (96, 64), turned, "face").reference_frame.astype(int)
    assert np.abs(np.diff(frame[:, 40, 0])).max() <= 2 and frame[0, 40, 0] > frame[-1, 40, 0]
    assert frame[32, 0, 1] < frame[32, -1, 1], (
        "to the right of a head that lies on its side is down"
    )
    beyond = cut_window(picture, (96, 64), FaceCrop(0, 0, 64), "face").reference_frame
    assert not beyond[:30, :46, :2].any()
    with pytest.raises(ValueError, match="needs the place of the face"):
        cut_window(picture, (96, 64), None, "face")
