"""What a face is asked for: eased in, held, let go, and nothing where nothing is asked."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import portraits
import pytest
import torch

from mutual_forcing import GenerationRequest, StreamingGenerator
from mutual_forcing.codecs.face_mesh import (
    EYES,
    GAZE,
    face_points,
    geometry,
    iris_ways,
    openings,
)
from mutual_forcing.codecs.steering import CONTROLS, SteeringState
from mutual_forcing.motion import MOTION, POSE, UNITS
from mutual_forcing.types import Steering
from training.data.mesh_matches import mesh_of
from training.data.portraits import Portraits, is_drawn
from training.data.tracked_points import EYE_POINTS

SECOND = 25


def motion(frames: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.02, (frames, len(MOTION)))


def test_every_control_is_known_to_the_codec() -> None:
    assert [field.name for field in fields(Steering)] == list(CONTROLS)
    for control in CONTROLS.values():
        assert set(control.way) <= set(MOTION)


def test_nothing_asked_changes_nothing_bit_by_bit() -> None:
    given = motion(16)
    steered, state = SteeringState().apply(given)
    assert steered is given and state == SteeringState()


@pytest.mark.parametrize("name", list(CONTROLS))
def test_a_control_is_eased_in_held_and_let_go(name: str) -> None:
    given, unit = motion(2 * SECOND), MOTION.index(next(iter(CONTROLS[name].way)))
    wanted = next(iter(CONTROLS[name].way.values()))
    steered, state = SteeringState().steer(Steering(**{name: 1.0})).apply(given)
    way = (steered - given)[:, unit]
    steps = np.diff(way)
    assert abs(way[0]) < 0.4 * abs(wanted), "not at once"
    assert np.abs(steps).max() < 0.6 * abs(wanted) and np.abs(way[-5:] - wanted).max() < 0.1
    rest, state = state.steer(Steering()).apply(given)
    assert np.abs((rest - given)[0, unit]) > 0.5 * abs(wanted)
    assert (
        np.abs((rest - given)[-1]).max() < 0.01
        and np.abs(state.apply(given)[0] - given).max() < 0.01
    )


def test_below_zero_is_the_other_way() -> None:
    given = motion(SECOND)
    for name, unit in (("turn_right", "yaw"), ("smile", "mouthFrown"), ("brows_up", "browDown")):
        steered, _ = SteeringState().steer(Steering(**{name: -1.0})).apply(given)
        change = (steered - given)[-1, MOTION.index(unit)]
        assert abs(change) > 0.1 and (unit != "yaw" or change < 0)


def test_chunk_by_chunk_is_the_whole() -> None:
    given, state = motion(48), SteeringState().steer(Steering(turn_right=0.7, smile=-0.4))
    whole, _ = state.apply(given)
    parts = []
    for part in np.split(given, 3):
        steered, state = state.apply(part)
        parts.append(steered)
    assert np.array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize(
    "asked", [{"smile": 1.1}, {"eyes_shut": -0.1}, {"look_up": float("nan")}, {"nod_up": "up"}]
)
def test_what_no_face_can_do_gets_one_sentence(asked: dict) -> None:
    (name,) = asked
    with pytest.raises(ValueError, match=f"{name} must be a number from"):
        Steering(**asked)


def test_a_stream_is_steered_from_the_next_chunk_on(random_generator: StreamingGenerator) -> None:
    picture = (portraits.square("blond-bob").permute(1, 2, 0).numpy() * 127.5 + 127.5).astype(
        "uint8"
    )
    request = GenerationRequest(picture, "Hello, how are you?", steps=1, size=256)
    plain, steered = random_generator.start(request), random_generator.start(request)
    first = [next(random_generator.stream(state=state)) for state in (plain, steered)]
    assert np.array_equal(first[0].frames, first[1].frames)
    random_generator.steer(steered, steering=Steering(turn_right=1))
    second = [next(random_generator.stream(state=state)) for state in (plain, steered)]
    assert np.array_equal(second[0].audio, second[1].audio), "the model does not see it"
    assert not np.array_equal(second[0].frames, second[1].frames)
    assert steered.request.steering == Steering(turn_right=1)


def test_an_iris_moves_where_the_gaze_goes() -> None:
    """To the right and up by a quarter of an eye; lids and cheeks stay."""
    mesh, has_mesh = face_points(portraits.square("blond-bob")[None])
    opened = openings(mesh, 128)
    turned = torch.zeros(1, len(POSE))
    turned[0, [POSE.index("gazeX"), POSE.index("gazeY")]] = torch.tensor([0.2, 0.1])
    still, looks = (
        geometry(mesh, opened, mesh, has_mesh, iris_ways(pose)) for pose in (0 * turned, turned)
    )
    inside = still.inside[0, 1] == 1
    assert inside.sum() > 20 and still.flow.abs().max() < 1e-5
    ways = looks.flow[0][:, inside]
    assert (ways[0] < -0.01).all() and (ways[1] > 0.005).all(), "what is fetched lies the other way"
    corners = [mesh[0, [upper[0], upper[-1]]].mean(0) for upper, _ in EYES]
    apart = float((corners[1] - corners[0]).norm())
    assert ways[0].mean() == pytest.approx(-0.2 * GAZE * apart, rel=0.05)
    assert looks.flow[0][:, still.inside[0, 1] == 0].abs().max() < 1e-5


@pytest.mark.slow
def test_irises_are_where_the_renderer_has_them(portraits_folder) -> None:
    """Gaze and turn of the head together tell where they are between the corners of the eyes."""
    people, told, true = Portraits(portraits_folder), [], []
    for number in (n for n in people.numbers if not is_drawn(n)):
        truth = people.truth(number)
        mesh, irises = mesh_of(truth.tracked), truth.tracked[:, [-2 * EYE_POINTS, -EYE_POINTS]]
        corners = np.stack([mesh[:, [u[0], u[-1]]].mean(1) for u, _ in EYES], 1)
        apart = np.linalg.norm(corners[:, 1] - corners[:, 0], axis=1)[:, None]
        ways = ((irises - corners) / apart[..., None]).mean(1)
        pose = torch.from_numpy(truth.motion[:, len(UNITS) :])
        told.append(iris_ways(pose - pose.mean(0)).numpy())
        true.append(ways - ways.mean(0))
    told, true = np.concatenate(told), np.concatenate(true)
    assert len(true) >= 16
    missed = np.square(true - told).sum(0) / np.square(true).sum(0)
    assert (missed < 0.1).all(), "of the gaze alone it was a third"
