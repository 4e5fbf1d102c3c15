"""Spatial latents end to end: films to a codec, its latents to the transformer, whole frames out of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mutual_forcing import GenerationRequest, StreamingGenerator, config
from mutual_forcing.checkpoint import save_checkpoint
from mutual_forcing.codec_config import StackCodecConfig
from mutual_forcing.codecs.stack_codec import StackCodec
from mutual_forcing.config import (
    FPS,
    SAMPLE_RATE,
    BranchConfig,
    SystemConfig,
    TokenGrid,
    preset,
)
from mutual_forcing.metrics.drift import standing
from mutual_forcing.pixels import to_signal
from training import recipes
from training.data.dataset import Corpus
from training.data.films import read_film
from training.data.latents import Dropout
from training.data.precompute import film_encoder
from training.evaluation.judge import ENDS, Judge
from training.evaluation.suites import SUITES, build_systems, pool
from training.evaluation.systems import encode, reference_picture, truth
from training.export import export
from training.import_checkpoint import import_voice
from training.objectives.pixel_codec import PixelCodecObjective
from training.recipes import SCALES, recipe
from training.reproduce import reproduction_jobs
from training.stages import Workspace

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")
CODEC = StackCodecConfig(64, 64, latent_channels=8, widths=(8, 8, 16, 16))


def small_system() -> SystemConfig:
    """The grid of `pixels` under a transformer and over codecs as small as they get."""
    smoke = preset("smoke")
    video = BranchConfig(width=48, token_dim=8, grid=TokenGrid(4, 4, 4, 6.25))
    return replace(
        smoke, name="small_pixels", video_codec=CODEC, model=replace(smoke.model, video=video)
    )


@pytest.fixture(scope="module")
def codec() -> StackCodec:
    torch.manual_seed(0)
    return StackCodec(CODEC)


@pytest.fixture(scope="module", autouse=True)
def small_pixels():
    """A preset of these sizes, for this module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(config.PRESETS, "small_pixels", small_system)
        patch.setitem(recipes.SCALES, "small_pixels", replace(SCALES["smoke"], pixels=True))
        yield


@pytest.fixture(scope="module")
def trained(
    corpus_folder: Path,
    random_generator: StreamingGenerator,
    small_pixels: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Workspace:
    """A run of all stages, two steps each, over the corpus's films; the sound is a checkpoint's."""
    root = tmp_path_factory.mktemp("pixels")
    save_checkpoint(random_generator.system, root / "smoke", {"model_stage": "joint", "stages": {}})
    (root / "corpus").symlink_to(corpus_folder)
    run = Workspace(root, "small_pixels", CPU)
    import_voice(root / "smoke", run)
    with pytest.raises(ValueError, match="video_codec has not finished"):
        run.encode("video")
    run.train("video_codec")
    for branch in ("video", "audio"):
        run.encode(branch)
    for name in ("video_pretrain", "joint", "mutual_forcing"):
        run.train(name)
    return run


def test_a_film_is_cut_to_the_codecs_aspect_and_size(corpus_folder: Path) -> None:
    clip = Corpus(corpus_folder).films("train")[0]
    whole = clip.read_frames(3, 2)
    assert np.array_equal(read_film(clip, (128, 128), 3, 2), whole)
    wide = read_film(clip, (64, 32), 3, 2)
    assert wide.shape == (2, 32, 64, 3)
    area = whole[:, 32:96].reshape(2, 32, 2, 64, 2, 3).mean((2, 4))
    assert np.abs(wide - area).max() <= 1


def test_a_codec_learns_to_show_films_again_and_knows_its_latents(
    codec: StackCodec, corpus_folder: Path, tmp_path: Path
) -> None:
    objective = PixelCodecObjective(codec, Corpus(corpus_folder), batch=4, seed=0)
    batch = objective.batch(3)
    assert batch.frames.shape == (4, 3, 4, 64, 64) and batch.frames.dtype == torch.uint8
    assert torch.equal(batch.frames, objective.batch(3).frames), "a function of the step"
    optimizer = torch.optim.Adam(codec.parameters(), 3e-3)
    losses = []
    for step in range(12):
        (turn,) = objective.step(batch, codec, torch.Generator().manual_seed(step), step)
        optimizer.zero_grad()
        turn[1]["loss"].backward()
        optimizer.step()
        losses.append(turn[1]["picture"].item())
    assert losses[-1] < 0.7 * losses[0], losses
    assert not codec.has_statistics
    objective.finish(codec)
    assert codec.has_statistics
    figures = objective.write_samples(codec, tmp_path, 7)
    assert (tmp_path / "000007.png").exists() and figures["heldout/psnr"] > 8


def test_latents_of_films_have_places_and_begin_as_streams_do(trained: Workspace) -> None:
    data = trained.latents(trained.system(), ("video", "audio"))
    clip = data.corpus.films("train")[0]
    made = data.tensors[f"{clip.index}.video"]
    assert made.shape == (clip.chunks, 64, 8)
    assert data.tensors[f"{clip.index}.stills"].shape == (4, 16, 8)
    item = data.item(clip, -1, 2, np.random.default_rng(0))
    first = data.tensors[f"{clip.index}.first"].float()
    assert torch.equal(item.video[0, 0], first.repeat(4, 1)), "the picture, standing still"
    assert torch.equal(item.video[0, 1], made[0].float()) and item.picture.shape == (1, 16, 8)
    # The picture is what a stream would give of the same frame.
    generator = StreamingGenerator(trained.system(), CPU)
    frame = read_film(clip, (64, 64), 0, 1)[0]
    with torch.no_grad():
        canvas = generator.canvas(GenerationRequest(frame, text="-"))
        tokens = generator.system.video_codec.encode_reference(canvas.reference(CPU)).tokens
    # Encoded in bf16 where the CPU has it, and kept in half precision.
    assert (tokens[0] - first).abs().max() < 0.1


def test_clips_without_films_are_left_out(trained: Workspace) -> None:
    data = trained.latents(trained.system(), ("video", "audio"))
    clips = data.corpus.split("train")
    del data.tensors[f"{clips[0].index}.video"]
    rng, dropout = np.random.default_rng(0), Dropout()
    longest = max(clip.chunks for clip in clips[1:])
    assert data.batch(rng, "train", 2, min(2, longest), dropout).video.shape[2] == 64
    for clip in clips[1:]:
        del data.tensors[f"{clip.index}.video"]
    with pytest.raises(ValueError, match="no train clip"):
        data.batch(rng, "train", 2, 1, dropout)
    bare = replace(clips[0], row={k: v for k, v in clips[0].row.items() if k != "mouth_box"})
    codec = trained.system().video_codec
    assert film_encoder(codec, trained.system_config.model.video.grid, CPU)(bare) == {}


def test_whole_frames_come_out_of_what_was_trained(trained: Workspace, tmp_path: Path) -> None:
    export(trained, tmp_path / "checkpoint")
    generator = StreamingGenerator.from_pretrained(tmp_path / "checkpoint", device="cpu")
    picture = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    request = GenerationRequest(picture, text="Hello there.", steps=2, seconds=1.28)
    chunks = list(generator.stream(request))
    assert [chunk.frames.shape for chunk in chunks] == [(16, 64, 64, 3)] * 2
    assert np.concatenate([chunk.audio for chunk in chunks]).shape == (30720,)
    samples = trained.stage_folder("mutual_forcing") / "samples"
    assert list(samples.glob("*.png")), "films to look at"


def test_whole_frames_are_measured_as_animated_faces_are(
    trained: Workspace, corpus_folder: Path
) -> None:
    corpus = Corpus(corpus_folder)
    generator = StreamingGenerator(trained.system(), CPU)
    judge = Judge(corpus)
    suite = replace(SUITES["rows"], clips=1)
    names = [system.name for system in build_systems(suite, judge, {"": generator}, 0)]
    assert "autoencoders" in names and "true motion" not in names, "nobody's motion makes a frame"
    clip = pool(judge)[0]
    # 14 latents, and two frames that are none.
    sample = truth(clip)
    sample = replace(
        sample, frames=sample.frames[:58], audio=sample.audio[: 58 * SAMPLE_RATE // FPS]
    )
    latents = encode(generator, sample)
    shown = torch.from_numpy(read_film(clip, (64, 64), 0, 56)).permute(3, 0, 1, 2)
    with torch.no_grad():
        expected = generator.system.video_codec.encode(to_signal(shown[None]))[0].numpy()
    assert latents[0].shape == (8, 14, 4, 4) and latents[1].shape[1] == 58
    assert np.abs(latents[0] - expected).mean() < 0.02, (
        "reduced by a cubic curve, not by areas alone"
    )
    said, visemes = clip.transcript.words, np.asarray(clip.row["viseme_openness"])
    picture = reference_picture(corpus, clip)[None]
    parts = judge.windows(sample, said, visemes[:58], picture, latents, opening=1.16)
    for name, part in zip(ENDS, (latents[0][:, :7], latents[0][:, 7:]), strict=True):
        assert parts[name]["channels"]["video"] == standing(part), (
            "a half of the film is one of its latents"
        )


def test_the_voice_of_a_checkpoint_is_taken_without_its_pictures(
    trained: Workspace, random_generator: StreamingGenerator
) -> None:
    theirs = random_generator.system.model.state_dict()
    ours = trained.system("audio_pretrain").model.state_dict()
    heard = [name for name in theirs if "branches.video." not in name]
    assert len(heard) > 40 and all(torch.equal(ours[n], theirs[n].half().float()) for n in heard)
    assert ours["branches.video.embed.weight"].shape != theirs["branches.video.embed.weight"].shape
    with pytest.raises(ValueError, match="already holds a finished stage audio_codec"):
        import_voice(trained.root / "smoke", trained)
    with pytest.raises(ValueError, match="of another shape than in base"):
        import_voice(trained.root / "smoke", Workspace(trained.root / "other", "base", CPU))


def test_the_preset_learns_its_codec_from_films_and_needs_no_portraits(tmp_path: Path) -> None:
    jobs = {
        job.name: job for job in reproduction_jobs(Workspace(tmp_path, "pixels", CPU), 0, tmp_path)
    }
    assert not {"portraits", "video_detail"} & set(jobs)
    assert jobs["encode_video"].after == ("video_codec",)
    assert {name for job in jobs.values() for name in job.after} <= set(jobs)
    assert recipe("video_codec", "pixels").objective.kind == "pixel_codec"
    with pytest.raises(ValueError, match="no such stage"):
        recipe("video_detail", "pixels")
