"""The motion codec: warps, the detail's square, and what it is taught with, against known answers."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import portraits
import pytest
import torch

from mutual_forcing.canvas import prepare
from mutual_forcing.codecs.detail import BLUR, BRIGHTEST, _mouth, skin_around
from mutual_forcing.codecs.face_mesh import LOWER_LIP, MOUTH, UNDER_NOSE, openings
from mutual_forcing.codecs.motion_codec import (
    Layers,
    MotionCodec,
    ReferenceFeatures,
)
from mutual_forcing.codecs.mouth_colors import DRAWN_SHADE, SHADE, TOOTH, plausible
from mutual_forcing.codecs.warping import (
    DETAIL_SIDE,
    DETAIL_X,
    DETAIL_Y,
    cut_detail,
    detail_places,
    detail_window,
    sample,
    to_detail,
    warp,
)
from mutual_forcing.config import MotionCodecConfig, preset
from mutual_forcing.motion import INSIDE, KINDS, MOTION, UNITS
from mutual_forcing.types import FaceCrop
from training.data.augment import random_turn, repaint, turn_picture, turn_points
from training.data.dataset import Corpus
from training.data.drawings import draw, sample_style
from training.data.head_model import load_head_model
from training.data.portraits import (
    BLINK,
    FACES,
    PortraitOptions,
    Portraits,
    make_portrait,
    make_portraits,
)
from training.data.tracked_points import (
    LANDMARKS,
    landmark_vertices,
    tracked_corners,
    tracked_count,
)
from training.objectives.video_codec import (
    MotionCodecObjective,
    attention,
    kind_loss,
    motion_error,
    picture_loss,
    point_error,
    point_losses,
    uncertain,
)

SMALL = MotionCodecConfig(
    size=64, encoder_widths=(16, 16), animator_widths=(16, 24), detail_width=8
)


def small() -> MotionCodec:
    torch.manual_seed(0)
    return MotionCodec(SMALL).eval().requires_grad_(False)


def test_colours_of_skin_leave_out_what_is_open() -> None:
    """Dark eyes and a red mouth do not darken the lids and lips that are painted over them."""
    near, opened = torch.full((1, 3, 64, 64), 0.5), torch.zeros(1, 2, 64, 64)
    opened[:, 0, 40:48, 20:44] = 1
    opened[:, 1, 8:14, 8:28] = 1
    dark = torch.nn.functional.max_pool2d(opened.amax(1, keepdim=True), 5, 1, 2) > 0
    skin = skin_around(torch.where(dark, -1.0, near), opened)
    assert skin.shape == (1, 3, 64 // BLUR, 64 // BLUR)
    assert torch.allclose(skin, torch.tensor(0.5), atol=1e-3)


def mouth_that_opens(model: MotionCodec) -> tuple[ReferenceFeatures, torch.Tensor]:
    """A real face whose lower lip the model moves down, and where its mouth is open then, bool [1, S, S]."""
    pixels = torch.nn.functional.interpolate(portraits.square("blond-bob")[None], 128, mode="area")
    reference = model.encode_reference(pixels)
    assert reference.has_mesh[0] == 1
    motion = model.animator.mesh_motion
    motion.out.bias.view(-1, 2)[[*LOWER_LIP, *MOUTH[1][1:-1]], 1] = 3.0
    pose = reference.told[:, len(UNITS) :]
    moved = motion(reference.mesh, torch.zeros(1, len(MOTION)), pose)
    inside = openings(moved, SMALL.size // 2)[:, 0]
    # A pixel between cells that differ is neither.
    sure = -torch.nn.functional.max_pool2d(-inside, 3, 1, 1) == 1
    assert sure.sum() > 10
    return reference, sure.repeat_interleave(2, 1).repeat_interleave(2, 2)


def test_an_open_mouth_never_shows_the_lips_of_a_closed_one() -> None:
    """Between lips a reference whose mouth is closed has nothing to show, whatever the weights."""
    model = small()
    torch.nn.init.constant_(model.animator.detail.to_pixels.bias.view(-1, 4)[3], 9.0)  # show it
    reference, inside = mouth_that_opens(model)
    mask = model.layers(torch.zeros(1, len(MOTION), 1), reference).detail_mask[:, 0]
    assert mask[inside].max() < 0.05 and mask[~inside].mean() > 0.8


def test_an_open_mouth_shows_the_teeth_that_the_picture_has() -> None:
    """However sure the weights are that something must be painted there."""
    model = small()
    torch.nn.init.constant_(model.animator.detail.to_pixels.bias.view(-1, 4)[3], -9.0)  # paint
    reference, inside = mouth_that_opens(model)
    toothy = replace(reference, teeth=torch.ones_like(reference.teeth))
    rest = torch.zeros(1, len(MOTION), 1)
    masks = [model.layers(rest, known).detail_mask[:, 0] for known in (reference, toothy)]
    assert masks[0][inside].max() < 0.05 and masks[1][inside].min() > 0.95
    outside = torch.nn.functional.max_pool2d(inside.float(), 13, 1, 6) == 0
    assert (masks[1] - masks[0])[outside].abs().max() < 0.05
    learning = model.animator(rest[..., 0], toothy).detail_mask[:, 0]
    assert learning[inside].max() < 0.05, "renderings are taught as they are"


def test_streams_take_shares_of_another_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's autocast leaves softmax in fp32, a CPU's does not."""
    model, softmax = small(), torch.Tensor.softmax
    reference, _ = mouth_that_opens(model)
    monkeypatch.setattr(torch.Tensor, "softmax", lambda x, dim: softmax(x.float(), dim))
    with torch.autocast("cpu", torch.bfloat16):
        layers = model.layers(torch.zeros(1, len(MOTION), 1), reference)
    assert layers.detail_painted.isfinite().all()


def test_a_warp_reads_where_the_flow_points() -> None:
    picture = torch.rand(1, 3, 16, 16)
    assert (warp(picture, torch.zeros(1, 2, 16, 16)) - picture).abs().max() < 1e-5
    right = torch.zeros(1, 2, 16, 16)
    right[:, 0] = 2 / 16 * 3  # three pixels of a picture that is two wide
    assert (warp(picture, right)[..., :-3] - picture[..., 3:]).abs().max() < 1e-5


def test_the_detail_is_cut_where_its_places_lie() -> None:
    picture = torch.rand(1, 3, 128, 128)
    cut = cut_detail(picture)
    assert cut.shape[-1] == 128 * DETAIL_SIDE
    assert (sample(picture, detail_places(cut)) - cut).abs().max() < 1e-4
    corner = detail_places(cut)[0, 0, 0]
    assert torch.allclose((corner + 1) / 2, torch.tensor([DETAIL_X, DETAIL_Y]), atol=1 / 128)
    window = detail_window(cut)[0, 0]
    assert window[32, 32] == 1 and window[0].max() < 0.02 and window[:, -1].max() < 0.02


def test_an_untrained_animator_moves_nothing() -> None:
    model = small()
    fine = torch.rand(1, 3, 128, 128) * 2 - 1
    layers = model.layers(torch.randn(1, len(MOTION), 4), model.encode_reference(fine))
    assert layers.flow.abs().max() == 0 and layers.detail_flow.abs().max() == 0
    fine = fine.expand(4, -1, -1, -1)
    pixels, ones = torch.nn.functional.avg_pool2d(fine, 2), torch.ones_like(layers.mask)
    bare = replace(layers, mask=ones, detail_mask=ones)
    assert (bare.frames(pixels) - pixels).abs().max() < 1e-5
    assert (bare.detail(fine) - cut_detail(fine)).abs().max() < 1e-4


def test_at_the_rim_the_detail_moves_as_the_rest_does() -> None:
    model = small()
    torch.nn.init.normal_(model.animator.levels[0].to_flow.weight, std=0.3)
    torch.nn.init.normal_(model.animator.detail.to_flow.weight, std=1.0)
    reference = model.encode_reference(torch.rand(1, 3, 128, 128) * 2 - 1)
    latents = torch.randn(1, len(MOTION))

    def apart(decided: bool) -> torch.Tensor:
        layers = model.animator(latents, reference, decided)
        rough = sample(layers.flow, detail_places(layers.detail_flow))
        return (rough - layers.detail_flow).abs()[0].amax(0)

    learning = apart(decided=False)
    assert learning[8:-8, 8:-8].max() > 20 * learning[0].max()
    streaming = apart(decided=True)
    assert torch.allclose(streaming[:9], learning[:9], rtol=0.05, atol=1e-4), "around the eyes"
    assert streaming[26:].max() < 1e-4 * learning.max(), "cheeks and beards of photographs melted"


def shifted_layers(flow: torch.Tensor, mask: float) -> Layers:
    small_flow, large = flow.expand(2, 2, 16, 16), torch.zeros(2, 3, 64, 64)
    shown = torch.full((2, 1, 64, 64), mask)
    kinds = torch.full((2, len(KINDS), 64, 64), 1 / len(KINDS))
    return Layers(small_flow, large, shown, flow.expand(2, 2, 32, 32), large, shown, kinds)


def test_ways_of_points_count_in_halves_of_the_picture_and_only_what_is_seen() -> None:
    origins = torch.rand(2, 50, 2) * 0.4 - 0.2
    shift = torch.tensor([0.2, -0.1])
    tracked = torch.stack([origins + shift, origins], 1)
    seen = torch.ones(2, 2, 50, dtype=torch.bool)
    true, still = (scale * -shift.view(1, 2, 1, 1) for scale in (1, 0))
    exact = point_losses(shifted_layers(true, 1.0), tracked, seen)
    assert max(exact[name] for name in ("flow", "detail_flow", "kept")) < 1e-4
    for name in ("flow", "detail_flow"):
        assert point_losses(shifted_layers(still, 1.0), tracked, seen)[name] == pytest.approx(
            0.15, abs=1e-3
        )
        unseen = seen.clone()
        unseen[:, 0] = False
        assert point_losses(shifted_layers(still, 1.0), tracked, unseen)[name] == 0
        assert point_losses(shifted_layers(still, 1.0), tracked + 5, seen)[name] == 0


def test_what_the_reference_shows_is_kept_and_what_it_hides_is_painted() -> None:
    tracked = (torch.rand(2, 50, 2) * 0.4 - 0.2)[:, None].expand(-1, 2, -1, -1)
    seen = torch.ones(2, 2, 50, dtype=torch.bool)
    hidden = seen.clone()
    hidden[:, 1] = False
    none = torch.zeros(1, 2, 1, 1)
    painted, kept = shifted_layers(none, 0.05), shifted_layers(none, 0.95)
    assert (
        point_losses(kept, tracked, seen)["kept"]
        < 0.2
        < point_losses(painted, tracked, seen)["kept"]
    )
    assert point_losses(kept, tracked, seen)["opened"] == 0
    assert point_losses(painted, tracked, hidden)["kept"] == 0
    assert point_losses(painted, tracked, hidden)["opened"] < 0.2
    assert point_losses(kept, tracked, hidden)["opened"] > 2


def test_what_the_detail_shows_must_be_of_the_right_kind() -> None:
    teeth = torch.zeros(2, 2, 128, 128, dtype=torch.uint8)
    teeth[:, 0, 60:80, 50:80] = KINDS.index("teeth")  # in the frame, not in the reference
    layers, weight = shifted_layers(torch.zeros(1, 2, 1, 1), 0.0), torch.ones(2, 1, 64, 64)
    named = torch.nn.functional.one_hot(cut_detail(teeth[:, 0]).long(), len(KINDS))
    right = replace(layers, detail_kinds=named.movedim(3, 1).float())
    assert kind_loss(right, teeth, weight) < 1e-5
    assert kind_loss(layers, teeth, weight) == pytest.approx(np.log(len(KINDS)), abs=0.01)
    shown = replace(right, detail_mask=torch.ones_like(right.detail_mask))
    assert kind_loss(shown, teeth, weight) > 0.5, "the reference shows no teeth"
    teeth[:, 1] = teeth[:, 0]
    assert kind_loss(shown, teeth, weight) < 0.1, "now it does"


def test_a_mouth_s_inside_is_painted_in_its_own_colours_alone() -> None:
    model = small()
    head = model.animator.detail.mouth.leave
    torch.nn.init.normal_(head.weight, std=6.0)
    torch.nn.init.constant_(head.bias[-4:], 90.0)  # tongue, whatever else
    reference, inside = mouth_that_opens(model)
    layers = model.animator(torch.zeros(1, len(MOTION)), reference)
    assert layers.detail_kinds.sum(1).sub(1).abs().max() < 1e-5
    tongue = layers.detail_kinds[:, KINDS.index("tongue")] > 0.9999
    assert tongue[inside].all() and tongue.float().mean() < 0.2
    color = reference.inside[0, INSIDE.index("tongue")]
    light = (layers.detail_painted.movedim(1, 3)[inside] + 1) / 2 / color
    assert (light.amax(1) - light.amin(1)).max() < 0.01 and light.std() > 0.02


def test_a_grey_picture_has_a_grey_mouth_and_none_is_blue() -> None:
    found = torch.tensor([[[0.1, 0.1, 0.2], [0.5, 0.6, 0.8], [0.1, 0.1, 0.2]]]).expand(2, 3, 3)
    pictures = torch.zeros(2, 3, 8, 8)
    pictures[1, 0] = 0.5
    skin = torch.full((2, 3, 2, 2), -0.2)  # 0.4 of 0..1: teeth that are found are light beside it
    none = torch.zeros(2)
    grey, colored = plausible(found, pictures, skin, none)
    light = found[0].mean(1)
    light[2] = SHADE * light[1]  # a tongue lies in the shade, however dark it is found
    assert torch.allclose(grey, light[:, None].expand(3, 3))
    assert torch.allclose(colored.mean(1), light)
    blue = found[0, :, 2] - found[0, :, 0]
    assert (colored[:, 2] - colored[:, 0] < 0.6 * blue).all()
    assert colored[2, 0] > 2 * colored[2, 1], "and a tongue is red"
    drawn = plausible(found, pictures, skin, none + 1)[:, 2].mean(1)
    assert torch.allclose(drawn, found[:, 2].mean(1)), "in drawings as dark as it is found"
    bright = found.clone()
    bright[:, 2] = 0.6
    drawn = plausible(bright, pictures, skin, none + 1)[:, 2].mean(1)
    assert torch.allclose(drawn, DRAWN_SHADE * found[:, 1].mean(1)), "but in the shade"
    teeth = plausible(found, pictures, torch.full((2, 3, 2, 2), 0.4), none)[1, 1]
    assert torch.isclose(teeth.mean(), torch.tensor(0.7 * TOOTH), atol=0.01), "beside lighter skin"
    assert teeth[0] - teeth[2] < 0.2 * teeth.mean(), "and pale, however red they are found"


def test_streams_are_more_decided_than_training() -> None:
    model = small()
    detail = model.animator.detail
    torch.nn.init.zeros_(detail.to_pixels.weight)
    torch.nn.init.zeros_(detail.to_pixels.bias)
    torch.nn.init.zeros_(detail.mouth.leave.weight)
    detail.mouth.leave.bias.data[:] = 0
    detail.mouth.leave.bias.data[4:8] = 2.0  # rather the hollow
    reference, inside = mouth_that_opens(model)
    latents = torch.zeros(1, len(MOTION))
    taught, decided = (model.animator(latents, reference, decided=d) for d in (False, True))
    colour = reference.inside[0, INSIDE.index("hollow")] * 2 * 0.65 - 1
    apart = [
        (layers.detail_painted.movedim(1, 3)[inside] - colour).abs().mean()
        for layers in (taught, decided)
    ]
    assert apart[1] < 0.2 * apart[0], "the hollow's colour, and hardly another"
    skin = taught.detail_kinds[:, -len(INSIDE) :].sum(1) == 0
    assert skin.float().mean() > 0.8
    one, other = (layers.detail_painted.movedim(1, 3)[skin] for layers in (taught, decided))
    assert (one - other).abs().max() < 1e-3, "skin is painted as it was taught"
    one, other = (layers.detail_mask[:, 0][skin] for layers in (taught, decided))
    assert (other - one).min() > -1e-3, "and kept no less"


def test_a_tongue_of_a_wide_mouth_comes_out_of_the_dark_between_the_lips() -> None:
    """In streams: names that know nothing of photographs call all of a wide mouth tongue."""
    colors = torch.tensor([[0.1, 0.1, 0.1], [0.8, 0.8, 0.8], [0.5, 0.2, 0.2]])

    def red(high: int, flat: float, *others: torch.Tensor) -> torch.Tensor:
        """Of a mouth of all tongue, so many of 128 cells high, from its upper lip down to its lower one."""
        opened = torch.zeros(1, 1, 4, 40, 9)
        opened[..., 5 : 5 + high, 2:7] = 1
        opened = torch.cat([opened, *others])
        rows = len(opened)
        inside = torch.zeros(rows, 3, 4, 40, 9)
        inside[:, INSIDE.index("tongue")] = 90.0
        none, light = torch.zeros_like(opened), torch.full_like(opened, -math.log(BRIGHTEST - 1))
        painted, mask = _mouth(
            none.repeat(1, 3, 1, 1, 1), none, none, inside, light, opened, none, none,
            colors=colors.repeat(rows, 1, 1), flat=torch.tensor([flat, 0.0])[:rows], side=128,
        )  # fmt: skip
        assert not mask.any()
        return (painted[0, 0, 0, 5 : 5 + high, 4] + 1) / 2

    wide = red(30, 0)
    most = int(wide.argmax())
    assert wide[0] < 0.11 and 0.48 < wide[most] < 0.5001 and wide[-1] < 0.11
    assert wide.diff()[:most].min() >= 0 > wide.diff()[most:].max() and 15 < most < 25
    assert red(9, 0).max() < 0.11, "in a gap it would look like lips"
    assert red(30, 1).min() > 0.49, "those of drawings are as dark as they are found"
    assert torch.equal(red(30, 0, torch.ones(1, 1, 4, 40, 9)), wide), "whatever the other rows show"


def test_skin_below_the_eyes_is_kept_however_much_the_weights_would_paint() -> None:
    """Beside a mouth that opened far in a turned head paint was a dark smear. All of a drawing is kept."""
    model = small()
    torch.nn.init.constant_(model.animator.detail.to_pixels.bias.view(-1, 4)[3], -9.0)  # paint
    reference, inside = mouth_that_opens(model)
    latents = torch.zeros(1, len(MOTION))
    drawing = replace(reference, flat=torch.ones(1))
    taught, photograph, drawn = (
        model.animator(latents, which, decided=d).detail_mask[0, 0]
        for which, d in ((reference, False), (reference, True), (drawing, True))
    )
    places = (to_detail(reference.mesh)[0, list(UNDER_NOSE)] + 1) / 2 * len(taught)
    column, row = places.mean(0).round().int().tolist()
    brow = row - 2 * len(taught) // 5
    assert taught[row, column] < 0.05 < 0.8 < min(photograph[row, column], drawn[row, column])
    assert photograph[brow, column] < 0.05 < 0.5 < drawn[brow, column]
    assert photograph[inside[0]].max() < 0.1, "not in the mouth"


def test_motion_and_point_errors_ignore_what_is_no_face() -> None:
    truth, seen = torch.zeros(2, len(MOTION), 3), torch.stack([torch.zeros(len(MOTION), 3)] * 2)
    seen[1] = 1
    assert motion_error(seen, truth, torch.tensor([1.0, 0.0])) == 0
    assert motion_error(seen, truth, torch.tensor([0.0, 1.0])) == 1
    places = torch.rand(2, 3, LANDMARKS, 2) - 0.5
    assert point_error(places + 0.1, places, torch.ones(2)) == pytest.approx(0.1, abs=1e-6)
    assert point_error(places + 0.1, places, torch.zeros(2)) == 0


def test_motion_comes_back_from_its_latents() -> None:
    model = MotionCodec(SMALL)
    model.set_statistics(torch.randn(len(MOTION)), torch.rand(len(MOTION)) + 0.5)
    motion = torch.randn(2, 5, len(MOTION))
    latents = model.encode_motion(motion)
    assert latents.shape == (2, len(MOTION), 5)
    assert (model.read_motion(latents) - motion).abs().max() < 1e-5


def test_repainting_treats_frame_and_reference_alike() -> None:
    picture = torch.rand(6, 3, 16, 16) * 2 - 1
    audio_mask = picture.clone()
    generator = torch.Generator().manual_seed(0)
    changed, reference = repaint([picture, picture], (1, 1), generator)
    assert torch.equal(changed, reference)
    assert not torch.equal(reference, picture) and torch.equal(picture, audio_mask)


def test_viewers_look_at_eyes_and_mouth() -> None:
    eyes = torch.tensor([[[-0.2, -0.1], [0.2, -0.1]]]).repeat(2, 1, 1)
    mouth = torch.tensor([[0.0, 0.4, 0.4, 0.3]]).repeat(2, 1)
    weight = attention(eyes, mouth, 100, torch.tensor([1.0, 0.0]))
    assert weight[0, 0, 45, 60] > 10 and weight[0, 0, 70, 50] > 5  # rows are y
    assert weight[0, 0, 5, 5] < 1.01 and torch.equal(weight[1], torch.ones(1, 100, 100))


def test_what_is_looked_at_counts_more() -> None:
    target = torch.zeros(1, 3, 32, 32)
    wrong = target.clone()
    wrong[..., 8:12, 8:12] = 1
    weight = torch.ones(1, 1, 32, 32)
    plain = picture_loss(wrong, target, weight)
    weight[..., 6:14, 6:14] = 5
    assert picture_loss(wrong, target, weight) > 4 * plain
    assert picture_loss(target, target, weight) == 0


def test_of_the_reference_little_is_certain() -> None:
    truth, seen = torch.ones(4000, len(MOTION)), -torch.ones(4000, len(MOTION))
    told = uncertain(truth, seen, torch.Generator().manual_seed(0))
    untold = (told[:, : len(UNITS)] == 0).all(1).float().mean()
    assert 0.67 < untold < 0.73
    assert 0.015 < (told[:, 0] > 0.3).float().mean() < 0.045
    assert 0.24 < (told[:, 0] < -0.3).float().mean() < 0.3


def test_a_stranger_s_face_is_not_told_but_its_pose_is() -> None:
    model = small()
    model.set_statistics(torch.full((len(MOTION),), 0.3), torch.full((len(MOTION),), 0.5))
    fine = torch.rand(1, 3, 128, 128) * 2 - 1
    reference = model.encode_reference(fine)
    assert not reference.told[:, : len(UNITS)].any()
    told = model.read_motion(reference.told[:, :, None])[0, 0]
    gaze, head = told[len(UNITS) : len(UNITS) + 2], slice(len(UNITS) + 2, None)
    assert gaze.abs().max() < 1e-6, "it looks at the camera"
    assert torch.equal(reference.told[:, head], reference.latent[:, head])
    assert reference.latent[:, : len(UNITS)].any()
    motion = model.read_motion(reference.latent[:, :, None])[0, 0]
    assert abs(float(motion[BLINK])) < 1e-6, "its eyes are open"


def test_of_the_pose_the_truth_is_told() -> None:
    truth, seen = torch.ones(400, len(MOTION)), -torch.ones(400, len(MOTION))
    told = uncertain(truth, seen, torch.Generator().manual_seed(0))
    assert (told[:, len(UNITS) :] - 1).abs().max() < 0.4


def test_pictures_and_points_are_turned_alike() -> None:
    rng = np.random.default_rng(1)
    picture = np.zeros((128, 128, 3), np.uint8)
    picture[40:44, 80:84] = 255
    place = np.array([[(82) / 128, (42) / 128]])
    for _ in range(5):
        turn = random_turn(rng)
        seen = turn_picture(picture, turn, 128)[..., 0].astype(float)
        y, x = np.mgrid[:128, :128] + 0.5
        middle = np.array([(x * seen).sum(), (y * seen).sum()]) / seen.sum() / 64 - 1
        assert np.abs(middle - turn_points(place, turn)[0]).max() < 0.01


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


def test_tracked_points_are_where_the_pictures_show_them(portraits_folder) -> None:
    people = Portraits(portraits_folder)
    rendered, drawn = people.truth(0), people.truth(1)
    for truth in (rendered, drawn):
        assert truth.tracked.shape == (FACES, tracked_count(), 2)
        assert truth.in_view.any(1).all()
        assert truth.in_view.shape == truth.tracked.shape[:2]
        shown = truth.tracked[truth.in_view]
        assert shown.min() >= 0 and shown.max() <= 1, "what is outside is not seen"
    teeth = rendered.tracked.shape[1]
    model = load_head_model()
    inside = np.isin(model.part[tracked_corners()[:, 0]], (2, 3))
    jaw = rendered.motion[:, MOTION.index("jawOpen")]
    visible = rendered.in_view[:, : len(inside)][:, inside].mean(1)
    assert visible[jaw > 0.4].mean() > 3 * visible[jaw < 0.05].mean(), "lips hide the teeth"
    assert len(tracked_corners()) < teeth
    gaze = rendered.in_view[:, len(inside) :].mean(1)
    lids = rendered.motion[:, BLINK]
    # One person's gaze, 46 points, some of them hidden by the ball itself.
    assert gaze[lids < 0.1].mean() > gaze[lids > 0.9].mean() + 0.1, "lids hide where eyes look"


def test_every_pixel_of_a_mouth_has_its_name(portraits_folder) -> None:
    people = Portraits(portraits_folder)
    jaw = MOTION.index("jawOpen")
    for number in people.numbers:  # rendered and drawn
        truth = people.truth(number)
        kinds = np.stack([people.kinds(number, face) for face in range(FACES)])
        assert kinds.shape == (FACES, 128, 128) and kinds.max() < len(KINDS)
        eyes = (kinds == KINDS.index("eye")).sum((1, 2))
        lids = truth.motion[:, BLINK]
        assert eyes[lids < 0.1].mean() > 5 * eyes[lids > 0.95].mean() + 10, "lids hide the eyes"
        opened = int(truth.motion[:, jaw].argmax())
        y, x = np.nonzero(kinds[opened] >= KINDS.index("hollow"))
        assert len(x) > 20, "an open mouth has an inside"
        middle, size = truth.mouth[opened, :2] * 128, truth.mouth[opened, 2:] * 128
        assert (np.abs(np.stack([x, y], 1) - middle) < size / 2 + 2).all()
        picture = people.picture(number, opened).astype(float).sum(2)
        hollow = kinds[opened] == KINDS.index("hollow")
        assert picture[hollow].mean() < picture[kinds[opened] == 0].mean()


def test_a_drawing_moves_as_it_is_told_and_its_points_follow() -> None:
    style = sample_style(np.random.default_rng(3))
    style = replace(style, glasses=False, mouth="stroke", beard="none", eye="almond")
    rest = np.zeros((1, len(MOTION)), np.float32)

    def moved(**units: float):
        row = rest.copy()
        for name, value in units.items():
            row[0, MOTION.index(name)] = value
        return draw(style, row, 128)

    still, opened, closed = draw(style, rest, 128), moved(jawOpen=0.8), moved(eyeBlink=1.0)
    assert np.array_equal(still.pictures, draw(style, rest, 128).pictures)
    assert opened.mouth[0, 3] > still.mouth[0, 3] + 0.03
    assert closed.in_view.sum() < still.in_view.sum(), "lids hide the iris"
    right = moved(x=0.5)
    both = still.in_view[0] & right.in_view[0]
    shift = (right.tracked - still.tracked)[0, both]
    head = shift[:, 0] > 1e-4  # the shoulders stay
    assert head.mean() > 0.5 and np.ptp(shift[head, 0]) < 1e-4
    assert np.allclose(shift[head, 0], 0.5 / style.frame[0], atol=1e-4)


def test_portraits_hold_closed_lids_open_mouths_and_their_truth(portraits_folder) -> None:
    people = Portraits(portraits_folder)
    truths = [people.truth(number) for number in people.numbers]
    motion = np.concatenate([truth.motion for truth in truths])
    assert 0.05 < (motion[:, BLINK] > 0.7).mean() < 0.6
    assert (motion[:, MOTION.index("jawOpen")] > 0.4).any()
    for number, truth in zip(people.numbers, truths, strict=True):
        picture = people.picture(number, 0)
        assert picture.shape == (128, 128, 3) and picture.std() > 10
        assert (
            truth.motion.shape == (FACES, len(MOTION)) and truth.tracked.shape[1] == tracked_count()
        )
        gap = truth.eyes[:, 1] - truth.eyes[:, 0]
        assert (gap[:, 0] > 0.1).all(), "the left eye is on the left"
        assert (truth.mouth[:, 1] > truth.eyes[:, :, 1].mean(1)).all()


def test_portraits_are_the_same_again_and_refuse_a_foreign_folder(
    portraits_folder, tmp_path
) -> None:
    options = PortraitOptions(identities=3, seed=5, size=128)
    make_portrait(options, 1, tmp_path)
    name = "000001.safetensors"
    assert (tmp_path / name).read_bytes() == (portraits_folder / name).read_bytes()
    with pytest.raises(ValueError, match="other portraits"):
        make_portraits(replace(options, seed=6), portraits_folder, 1)
    with pytest.raises(ValueError, match="No portraits"):
        Portraits(tmp_path / "none")
    make_portrait(options, 1, tmp_path)
    (tmp_path / "portraits.json").write_text('{"seed": 5, "size": 128}')
    with pytest.raises(ValueError, match="earlier form"):
        Portraits(tmp_path)
    with pytest.raises(ValueError, match="at least one person"):
        PortraitOptions(0)


def test_batches_depend_on_the_step_alone(portraits_folder) -> None:
    people = Portraits(portraits_folder)
    objective = MotionCodecObjective(MotionCodec(preset("smoke").video_codec), people, 3, 0)
    first, again, other = (objective.batch(step) for step in (4, 4, 5))
    assert torch.equal(first.frames, again.frames) and torch.equal(first.tracked, again.tracked)
    assert not torch.equal(first.frames, other.frames)


def test_what_was_drawn_before_changes_no_batch(portraits_folder) -> None:
    """Meshes are looked for once and kept: a run that was resumed has none."""

    def objective() -> MotionCodecObjective:
        return MotionCodecObjective(
            MotionCodec(preset("smoke").video_codec), Portraits(portraits_folder), 2, 0
        )

    fresh, used = objective(), objective()
    for step in range(3):
        used.batch(step)
    for one, other in zip(vars(fresh.batch(3)).values(), vars(used.batch(3)).values(), strict=True):
        assert torch.equal(one, other)


def test_the_points_network_learns_in_half_precision_and_from_rendered_faces_alone(
    portraits_folder,
) -> None:
    people = Portraits(portraits_folder)
    torch.manual_seed(0)
    objective = MotionCodecObjective(
        MotionCodec(preset("smoke").video_codec), people, 2, 0, unrelated=0
    )
    batch = objective.batch(0)
    layer = objective.model.animator.mesh_motion.out
    for rendered in (True, False):
        row = replace(batch, rendered=torch.full_like(batch.rendered, rendered))
        with torch.autocast("cpu", torch.bfloat16):
            ((_, values),) = objective.step(row, objective.model, torch.Generator(), 0)
        objective.model.zero_grad()
        values["loss"].backward()
        assert bool(layer.weight.grad.any()) is rendered


def test_the_animator_learns_one_pair(portraits_folder) -> None:
    people = Portraits(portraits_folder)
    torch.manual_seed(0)
    objective = MotionCodecObjective(
        MotionCodec(preset("smoke").video_codec), people, 2, 0, unrelated=0
    )
    batch, losses = objective.batch(0), []
    optimiser = torch.optim.AdamW(objective.model.parameters(), lr=3e-3)
    for _ in range(40):
        generator = torch.Generator().manual_seed(0)
        ((_, values),) = objective.step(batch, objective.model, generator, 0)
        optimiser.zero_grad()
        values["loss"].backward()
        optimiser.step()
        losses.append(float(values["loss"].detach()))
    assert losses[-1] < 0.7 * losses[0]
    assert isinstance(objective.model.layers(torch.zeros(1, objective.model.channels, 1),
        objective.model.encode_reference(torch.zeros(1, 3, 128, 128))), Layers)  # fmt: skip


def test_edges_go_on_without_padding_by_border() -> None:
    """Which Apple's GPUs do not have."""
    generator = torch.Generator().manual_seed(0)
    picture = torch.randn(2, 3, 24, 40, generator=generator, requires_grad=True)
    places = 1.5 * torch.randn(2, 9, 7, 2, generator=generator)
    expected = torch.nn.functional.grid_sample(
        picture, places, padding_mode="border", align_corners=False
    )
    assert (sample(picture, places) - expected).abs().max() < 1e-4
    assert torch.equal(sample(picture.bfloat16(), places).isnan().any(), torch.tensor(False))


def test_frames_do_not_depend_on_the_number_of_threads(random_generator) -> None:
    """They are made a few at a time, by as many workers as there are threads."""
    codec = random_generator.system.video_codec
    picture = np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8)
    canvas = prepare(picture, FaceCrop(64, 64, 100), codec.square_size)
    reference = codec.encode_reference(canvas.reference(torch.device("cpu")))
    latents = torch.randn(1, codec.channels, 16, generator=torch.Generator().manual_seed(0))
    before, films = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            with torch.inference_mode():
                films.append(codec.animate(latents, canvas, reference)[0].astype(int))
            with ThreadPoolExecutor(1) as other:
                found = other.submit(torch.get_num_threads).result()
            assert torch.get_num_threads() == found == threads, "nobody else is slowed"
    finally:
        torch.set_num_threads(before)
    assert all(np.abs(film - films[0]).max() <= 1 for film in films) and films[0].std() > 1
