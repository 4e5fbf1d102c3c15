"""Numbers of a latent without a name: what the named ones leave."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mutual_forcing.checkpoint import load_checkpoint
from mutual_forcing.codecs.motion_codec import MotionCodec
from mutual_forcing.config import preset
from mutual_forcing.motion import MOTION, POSE, UNITS
from mutual_forcing.types import Steering

pytest.importorskip("moderngl", reason="pip install -r training/requirements.txt")

from training.data.free_motion import MOST, free_units, principal, unnamed, with_free
from training.data.head_model import UNIT_NAMES
from training.data.renderer import Performance
from training.data.speech_motion import scale_sides, set_unit
from training.data.tracked_points import motion


def performance(units: np.ndarray) -> Performance:
    still = np.zeros((len(units), 3), np.float32)
    return Performance(units.astype(np.float32), still + 0.1, still, still[:, :2])


def test_what_has_a_name_needs_no_free_number() -> None:
    units = np.zeros((len(UNITS), len(UNIT_NAMES)))
    for row, name in zip(units, UNITS, strict=True):
        set_unit(row, name, 0.7)
    assert np.abs(units @ unnamed()).max() < 1e-9 and np.abs(units @ free_units()).max() < 1e-4
    for row, name in zip(units, UNITS, strict=True):
        scale_sides(row, name, 0.4)
    sided = [f"{name}Left" in UNIT_NAMES for name in UNITS]
    found = np.abs(units @ free_units()).max(1)
    assert (found[sided] > 0.02).all() and (found[~np.array(sided)] < 1e-4).all()


def test_latents_hold_units_then_free_numbers_then_the_pose() -> None:
    units = np.random.default_rng(0).random((5, len(UNIT_NAMES)))
    shown = performance(units)
    truth = {"motion": motion(shown), "units": shown.units}
    whole = with_free(truth, 3)
    assert whole.shape == (5, len(MOTION) + 3) and whole.dtype == np.float32
    assert np.array_equal(whole[:, : len(UNITS)], truth["motion"][:, : len(UNITS)])
    assert np.array_equal(whole[:, -len(POSE) :], truth["motion"][:, -len(POSE) :])
    assert np.abs(whole[:, len(UNITS) : -len(POSE)]).max() > 0.1
    assert np.array_equal(with_free(truth, 0), truth["motion"])
    del truth["units"]  # as corpora of before have it
    assert not with_free(truth, 3)[:, len(UNITS) : -len(POSE)].any()
    with pytest.raises(ValueError, match="8 free numbers"):
        with_free(truth, MOST + 1)


def test_components_are_those_of_what_is_shown() -> None:
    """Somebody whose jaw alone goes aside needs one number, of deviation 1."""
    units = np.zeros((50, len(UNIT_NAMES)))
    side = np.random.default_rng(1).normal(size=50)
    units[:, UNIT_NAMES.index("jawLeft")] = side.clip(0)
    units[:, UNIT_NAMES.index("jawRight")] = (-side).clip(0)
    numbers = units @ principal(units + 1e-9 * np.random.default_rng(2).random(units.shape))
    assert numbers[:, 0].std() == pytest.approx(1, abs=1e-3)
    assert abs(np.corrcoef(numbers[:, 0], side)[0, 1]) > 0.95


def test_the_pose_of_a_codec_with_free_numbers_is_still_the_pose() -> None:
    config = preset("smoke").video_codec
    assert config.free == 8 and config.channels == len(MOTION) + 8
    codec = MotionCodec(config)
    picture = torch.rand(1, 3, 2 * config.size, 2 * config.size) * 2 - 1
    reference = codec.encode_reference(picture)
    assert not reference.told[:, : -len(POSE)].any() and reference.latent.shape == (1, 36)
    steered = codec.steer(codec.begin(0), Steering(turn_right=1.0, smile=1.0))
    moved, _ = codec._steered(torch.zeros(1, 36, 50), steered)
    changed = {int(channel) for channel in moved[0].abs().amax(1).nonzero()}
    names = [*UNITS, *(f"free {n}" for n in range(8)), *POSE]
    assert {"mouthSmile", "yaw"} <= {names[channel] for channel in changed}
    assert not any(names[channel].startswith("free") for channel in changed)


def test_checkpoints_of_before_have_none() -> None:
    served = load_checkpoint("tiny")
    assert served.config.video_codec.free == 0
    assert served.video_codec.channels == served.config.model.video.token_dim == len(MOTION)
    assert replace(served.config.video_codec, free=2).channels == len(MOTION) + 2
