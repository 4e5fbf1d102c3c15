"""What the video autoencoder is taught with: warps, landmarks and motion with known answers."""

import numpy as np
import pytest
import torch

from mutual_forcing.config import VideoAutoencoderConfig
from mutual_forcing.models.video_autoencoder import VideoAutoencoder, still_places, warp
from mutual_forcing.motion import MOTION, UNITS
from training.data.dataset import Corpus
from training.data.landmarks import LANDMARKS, landmark_vertices
from training.objectives.video_autoencoder import (
    VideoAutoencoderObjective,
    landmark_error,
    motion_error,
    point_error,
    repaint,
)


def test_a_warp_reads_where_the_flow_points() -> None:
    picture = torch.rand(1, 3, 16, 16)
    assert (warp(picture, torch.zeros(1, 2, 16, 16)) - picture).abs().max() < 1e-5
    right = torch.zeros(1, 2, 16, 16)
    right[:, 0] = 2 / 16 * 3  # three pixels of a picture that is two wide
    assert (warp(picture, right)[..., :-3] - picture[..., 3:]).abs().max() < 1e-5


def test_an_untrained_animator_shows_the_reference_through_its_mask() -> None:
    torch.manual_seed(0)
    config = VideoAutoencoderConfig(size=64, encoder_widths=(16, 16), animator_widths=(16, 24))
    model = VideoAutoencoder(config).eval().requires_grad_(False)
    picture = torch.rand(1, 3, 64, 64) * 2 - 1
    made = model.animate(torch.randn(1, len(MOTION), 4), model.encode_reference(picture))
    still = still_places(torch.zeros(1, 1, 32, 32))
    assert torch.equal(made.places, still.expand(1, 4, -1, -1, -1))
    share = (made.frames - made.painted) / (picture[:, :, None] - made.painted)
    assert 0 < share.median() < 1


def test_landmark_error_is_zero_for_the_true_flow_and_counts_in_halves_of_the_picture() -> None:
    origins = torch.rand(2, 1, LANDMARKS, 2) - 0.5
    shift = torch.tensor([0.2, -0.1])
    landmarks = (origins + shift).expand(2, 3, -1, -1)
    places = still_places(torch.zeros(1, 1, 64, 64)) - shift
    places = places.expand(2, 3, -1, -1, -1)
    known = torch.ones(2)
    assert landmark_error(places, landmarks, origins, known) < 1e-4
    still = still_places(torch.zeros(1, 1, 64, 64)).expand(2, 3, -1, -1, -1)
    assert landmark_error(still, landmarks, origins, known) == pytest.approx(0.15, abs=1e-3)
    assert landmark_error(still, landmarks, origins, torch.zeros(2)) == 0
    outside = landmarks + 5
    assert landmark_error(still, outside, origins, known) == 0, "what is not seen does not count"


def test_motion_and_point_errors_ignore_what_is_no_face() -> None:
    truth, seen = torch.zeros(2, len(MOTION), 3), torch.stack([torch.zeros(len(MOTION), 3)] * 2)
    seen[1] = 1
    assert motion_error(seen, truth, torch.tensor([1.0, 0.0])) == 0
    assert motion_error(seen, truth, torch.tensor([0.0, 1.0])) == 1
    places = torch.rand(2, 3, LANDMARKS, 2) - 0.5
    assert point_error(places + 0.1, places, torch.ones(2)) == pytest.approx(0.1, abs=1e-6)
    assert point_error(places + 0.1, places, torch.zeros(2)) == 0


def test_motion_comes_back_from_its_latents() -> None:
    config = VideoAutoencoderConfig(size=64, encoder_widths=(16, 16), animator_widths=(16, 24))
    model = VideoAutoencoder(config)
    model.set_statistics(torch.randn(len(MOTION)), torch.rand(len(MOTION)) + 0.5)
    motion = torch.randn(2, 5, len(MOTION))
    latents = model.encode_motion(motion)
    assert latents.shape == (2, len(MOTION), 5)
    assert (model.read_motion(latents) - motion).abs().max() < 1e-5


def test_repainting_treats_clip_and_reference_alike() -> None:
    picture = torch.rand(6, 3, 8, 8) * 2 - 1
    frames = picture[:, :, None].expand(-1, -1, 2, -1, -1)
    changed, reference = repaint(frames, picture, torch.Generator().manual_seed(0))
    assert torch.equal(changed[:, :, 0], reference) and torch.equal(changed[:, :, 1], reference)
    assert not torch.equal(reference, picture)


def test_the_corpus_tells_landmarks_that_move_with_the_lips(corpus_folder) -> None:
    assert len(set(landmark_vertices().tolist())) == LANDMARKS
    clip = Corpus(corpus_folder).clips[0]
    motion = clip.read_motion()
    assert motion["motion"].shape == (clip.frames, len(MOTION))
    units = motion["motion"][:, : len(UNITS)]
    assert units.min() >= 0 and units.max() <= 1
    lips = motion["landmarks"][:, -2:]  # the middles of the upper and the lower lip
    boxes = clip.mouth_boxes
    assert (np.abs(lips - boxes[:, None, :2]) < boxes[:, None, 2:] / 2 + 0.01).all()
    gap = lips[:, 1, 1] - lips[:, 0, 1]
    openness = np.asarray(clip.row["mouth_openness"])
    assert np.corrcoef(gap, openness)[0, 1] > 0.9


def test_batches_depend_on_the_step_alone(corpus_folder) -> None:
    from mutual_forcing.config import preset

    objective = VideoAutoencoderObjective(preset("smoke"), Corpus(corpus_folder), 3, 0)
    first, again, other = (objective.batch(step) for step in (4, 4, 5))
    assert torch.equal(first.frames, again.frames) and torch.equal(first.origins, again.origins)
    assert not torch.equal(first.frames, other.frames)
