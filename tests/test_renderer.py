"""The synthetic heads: determinism, ground truth that follows the picture, clear errors."""

import dataclasses
import json

import numpy as np
import pytest

from training.data.appearance import STYLES, describe, sample_appearance
from training.data.head_model import UNIT_NAMES, load_head_model
from training.data.renderer import Performance, Renderer

SIZE = 64


@pytest.fixture(scope="module")
def renderer():
    moderngl = pytest.importorskip("moderngl")
    try:
        moderngl.create_standalone_context(backend="egl").release()
    except Exception as error:
        pytest.skip(f"no EGL on this machine: {error}")
    renderer = Renderer(SIZE)
    yield renderer
    renderer.close()


def performance(frames=3, **units):
    values = np.zeros((frames, len(UNIT_NAMES)), np.float32)
    for name, curve in units.items():
        values[:, UNIT_NAMES.index(name)] = curve
    zeros = np.zeros((frames, 3), np.float32)
    return Performance(values, zeros, zeros, np.zeros((frames, 2), np.float32))


def test_same_arguments_give_the_same_picture(renderer):
    appearances = [sample_appearance(np.random.default_rng(seed)) for seed in (1, 2)]
    first = renderer.render(appearances[0], performance())
    renderer.render(appearances[1], performance())
    again = renderer.render(appearances[0], performance())
    assert np.array_equal(first.frames, again.frames)
    assert np.array_equal(first.mouth_box, again.mouth_box)


def test_renderers_of_one_process_keep_apart(renderer):
    """Each draws in its own OpenGL context, however small the other's buffers, and when it is gone."""
    appearance = sample_appearance(np.random.default_rng(4), "natural")
    alone = renderer.render(appearance, performance(), track=True)
    other = Renderer(SIZE // 2, samples=1)
    small = other.render(appearance, performance(), track=True)
    for _ in range(2):
        between = renderer.render(appearance, performance(jawOpen=np.ones(3)), track=True)
        assert not np.array_equal(between.frames, alone.frames)
        assert np.array_equal(other.render(appearance, performance(), True).frames, small.frames)
    other.close()
    other.close()
    with pytest.raises(ValueError, match="closed"):
        other.render(appearance, performance())
    after = renderer.render(appearance, performance(), track=True)
    for name in ("frames", "kinds", "in_view"):
        assert np.array_equal(getattr(after, name), getattr(alone, name))


@pytest.mark.parametrize("style", STYLES)
def test_shapes_openness_and_mouth_box(renderer, style):
    appearance = sample_appearance(np.random.default_rng(5), style)
    jaw = np.array([0, 0.25, 0.5, 1.0])
    result = renderer.render(appearance, performance(4, jawOpen=jaw))
    assert result.frames.shape == (4, SIZE, SIZE, 3)
    assert result.frames.dtype == np.uint8
    assert result.mouth_openness[0] == 0
    assert np.all(np.diff(result.mouth_openness) > 0.1)
    assert 0.8 < result.mouth_openness[-1] <= 1.5
    centre, extent = result.mouth_box[:, :2], result.mouth_box[:, 2:]
    assert np.all(centre - extent / 2 > 0)
    assert np.all(centre + extent / 2 < 1)


def test_the_picture_changes_inside_the_mouth_box(renderer):
    appearance = sample_appearance(np.random.default_rng(7), "natural")
    result = renderer.render(appearance, performance(2, jawOpen=np.array([0, 0.8])))
    change = np.abs(result.frames[1].astype(float) - result.frames[0]).sum(-1)
    x, y, w, h = result.mouth_box[1] * SIZE
    rows = slice(int(y - h / 2), int(y + h / 2) + 1)
    columns = slice(int(x - w / 2), int(x + w / 2) + 1)
    assert change[rows, columns].mean() > 5 * change.mean()


def test_shoulders_stay_while_the_head_turns(renderer):
    appearance = sample_appearance(np.random.default_rng(8), "natural")
    # A view that surely ends on the shoulders, with no long hair over them.
    view = {"frame_height": 6.3, "frame_center": (0.0, -0.9), "hair_style": "short"}
    appearance = dataclasses.replace(appearance, **view)
    still = performance(1)
    turned = dataclasses.replace(still, rotation=np.float32([[0.3, 0.1, 0.0]]))
    change = np.abs(
        renderer.render(appearance, turned).frames[0].astype(float)
        - renderer.render(appearance, still).frames
    )[0].mean((1, 2))
    assert change[: SIZE // 2].mean() > 5 * change[-4:].mean()


@pytest.mark.parametrize("seed", range(6))
def test_the_mouth_is_wide_enough_to_learn_from(renderer, seed):
    result = renderer.render(sample_appearance(np.random.default_rng(seed)), performance(1))
    lips_width = result.mouth_box[0, 2] / 1.3 * 128
    assert lips_width > 14


def test_looks_are_json_and_reproducible():
    appearances = [sample_appearance(np.random.default_rng(3)) for _ in range(2)]
    assert appearances[0] == appearances[1]
    assert (
        json.loads(json.dumps(dataclasses.asdict(appearances[0])))["style"] == appearances[0].style
    )
    assert describe(appearances[0]).split()[0] in ("a", "an")


def test_a_third_of_the_looks_is_drawn():
    rng = np.random.default_rng(0)
    styles = [sample_appearance(rng).style for _ in range(300)]
    assert 0.25 < np.mean([style != "natural" for style in styles]) < 0.42


def test_clear_errors(renderer):
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="Unknown style"):
        sample_appearance(rng, "oil")
    with pytest.raises(ValueError, match="Unknown style"):
        renderer.render(dataclasses.replace(sample_appearance(rng), style="oil"), performance())
    with pytest.raises(ValueError, match="rotation"):
        dataclasses.replace(performance(), rotation=np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match="size"):
        Renderer(4)
    with pytest.raises(ValueError, match="coefficients"):
        load_head_model().identity((1.0,), (), ())
