"""A tiny system of Wan's shape: streamed, saved and loaded, and taught by the method's own steps."""

from __future__ import annotations

import copy
import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_wan_text import write_text_folder
from tiny_codecs import OOBLECK, WAN
from tiny_training import NoiseClips

from mutual_forcing import GenerationRequest, StreamingGenerator
from mutual_forcing.checkpoint import System, load_checkpoint, save_checkpoint
from mutual_forcing.codec_config import PublicWeights
from mutual_forcing.config import BranchConfig, SystemConfig, TokenGrid, WanConfig, preset
from mutual_forcing.models.joint_model import JointModel
from mutual_forcing.models.wan_transformer import WanAVTransformer
from mutual_forcing.sampling import Sampler
from mutual_forcing.shared_model import SharedModel
from training.data.latents import LatentBatch, join_batches
from training.objectives.base import ClipConfig
from training.objectives.bidirectional import BidirectionalConfig, BidirectionalObjective
from training.objectives.draws import Draws
from training.objectives.mutual_forcing import (
    DMDConfig,
    MutualForcingConfig,
    MutualForcingObjective,
)
from training.objectives.rollout import continue_clip
from training.objectives.teacher_forcing import (
    ConsistencyConfig,
    TeacherForcingConfig,
    TeacherForcingObjective,
)

pytestmark = pytest.mark.slow

TEXT_DIM, TEXT_TOKENS, CHUNKS = 16, 96, 4


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory) -> Path:
    return write_text_folder(tmp_path_factory.mktemp("pipeline"), TEXT_DIM)


def system_config(text_folder: Path) -> SystemConfig:
    """The smallest model of Wan's shape over the tiny codecs."""
    patch, channels = WAN.patch, WAN.latent_channels
    grid = TokenGrid(4, WAN.height // 32, WAN.width // 32, 6.25)
    model = WanConfig(
        video=BranchConfig(width=64, token_dim=channels * patch**2, grid=grid),
        audio=BranchConfig(width=64, token_dim=8, grid=TokenGrid(14, rate=21.875)),
        layers=2,
        heads=2,
        head_dim=32,
        window=2,
        voice_latents=5,
        ffn_width=96,
        text_dim=TEXT_DIM,
        text_tokens=TEXT_TOKENS,
        frequencies=32,
        text=PublicWeights(str(text_folder)),
        sigma_shift=3.0,
    )
    codecs = {"video_codec": WAN, "audio_codec": OOBLECK}
    return replace(preset("smoke"), name="wan_smoke", model=model, sound_reader=None, **codecs)


@pytest.fixture(scope="module")
def system(text_folder) -> System:
    torch.manual_seed(0)
    made = System.build(system_config(text_folder))
    assert isinstance(made.model, WanAVTransformer)
    for parameter in made.model.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape)
    for module in made.modules.values():
        module.eval().requires_grad_(False)
    return made


@pytest.fixture(scope="module")
def generator(system) -> StreamingGenerator:
    return StreamingGenerator(system, torch.device("cpu"))


def films(chunks) -> np.ndarray:
    return np.concatenate([chunk.frames for chunk in chunks])


@pytest.mark.parametrize(("steps", "scale"), [(2, None), (9, 2.0)])
def test_a_stream_stopped_and_continued_is_one_that_never_stopped(
    generator, picture, steps, scale
) -> None:
    """Few mode, and guided Multi mode with two rows, longer than the window."""
    request = GenerationRequest(
        picture, text="Hello there, all.", steps=steps, guidance_scale=scale, seconds=0.64 * 5
    )
    whole = films(generator.stream(request))
    state = generator.start(request)
    parts = [films(itertools.islice(generator.stream(state=state), 2))]
    parts.append(films(generator.stream(state=state)))
    assert whole.shape == (80, 64, 96, 3) and whole.std() > 1
    assert np.array_equal(np.concatenate(parts), whole)


def test_words_and_a_turn_to_guidance_change_the_film(generator, picture) -> None:
    def film(text: str, turn: bool = False) -> np.ndarray:
        state = generator.start(GenerationRequest(picture, text=text, steps=2, seconds=2.0))
        first = films(itertools.islice(generator.stream(state=state), 1))
        if turn:
            generator.steer(state, steps=9)
        return np.concatenate([first, films(generator.stream(state=state))])

    plain = film("Hello there, all.")
    assert (film("Goodbye to her.") != plain).any()
    turned = film("Hello there, all.", turn=True)
    assert np.array_equal(turned[:16], plain[:16]) and (turned[16:] != plain[16:]).any()


def test_a_checkpoint_brings_the_same_film(system, generator, picture, tmp_path) -> None:
    save_checkpoint(system, tmp_path, {}, half=False)
    loaded = load_checkpoint(tmp_path)
    assert loaded.config == system.config
    assert not any("umt5" in key or "encoder.block" in key for key in loaded.model.state_dict())
    request = GenerationRequest(picture, text="Hello there.", steps=1, seconds=1.0)
    again = StreamingGenerator(loaded, torch.device("cpu"))
    assert np.array_equal(films(again.stream(request)), films(generator.stream(request)))


def batch_of(model: JointModel, rows: int, chunks: int) -> LatentBatch:
    """Clips of noise whose text is read as the model reads it."""
    from test_wan_text import WORDS, spoken

    config = model.config
    torch.manual_seed(3)
    one = LatentBatch(
        torch.randn(1, chunks, config.video.grid.tokens, config.video.token_dim),
        torch.randn(1, chunks, config.audio.grid.tokens, config.audio.token_dim),
        model.tokens(spoken(WORDS), "a young woman", 0, chunks),
        torch.randn(1, config.video.grid.frame_tokens, config.video.token_dim),
        torch.randn(1, config.voice_latents, config.audio.token_dim),
        *(torch.tensor([True]) for _ in range(3)),
    )
    return join_batches([one] * rows)


class SpokenClips(NoiseClips):
    """The same with words that the tokenizer here knows, and few rows."""

    def batch(self, rng, split, size, chunks, dropout) -> LatentBatch:
        return batch_of(self.model, min(size, 4), chunks)


OBJECTIVES = {
    "teacher_forcing": (
        TeacherForcingObjective,
        TeacherForcingConfig(
            ClipConfig(lengths=(CHUNKS,)),
            audio_driven=0.5,
            freeze_text=True,
            consistency=ConsistencyConfig(0, share=0.5),
        ),
    ),
    "mutual_forcing": (
        MutualForcingObjective,
        MutualForcingConfig(ClipConfig(lengths=(CHUNKS,)), dmd=DMDConfig(fake_updates=1)),
    ),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_method_teaches_it(system, name: str) -> None:
    """One step of a stage: every loss is finite, and all that is not frozen gets a gradient."""
    kind, config = OBJECTIVES[name]
    own = replace(system, model=copy.deepcopy(system.model))
    objective = kind(own, SpokenClips(own.model), config, 4, 0)
    ema = copy.deepcopy(objective.model).requires_grad_(False)
    assert ema.text is own.model.text, "nobody copies the text encoder"
    turns = objective.step(objective.batch(0), ema, torch.Generator().manual_seed(0), 0)
    for network, losses in turns:
        assert all(torch.as_tensor(value).isfinite() for value in losses.values())
        losses["loss"].backward()
        without = {
            key
            for key, p in objective.networks[network].named_parameters()
            if p.grad is None or not p.grad.any()
        }
        # Every batch here has all of its references, and the fake score is asked for no interval.
        allowed = ("null_reference", "delta_embedder") if network == "fake" else ("null_reference",)
        assert not {key for key in without if not any(part in key for part in allowed)}, network


def test_the_bidirectional_teacher_sees_both_ways(system) -> None:
    own = replace(system, model=copy.deepcopy(system.model))
    clips = ClipConfig(lengths=(CHUNKS,))
    objective = BidirectionalObjective(own, SpokenClips(own.model), clips, 2, 0)
    assert BidirectionalConfig(clips).clips == clips
    ((_, losses),) = objective.step(
        objective.batch(0), own.model, torch.Generator().manual_seed(0), 0
    )
    losses["loss"].backward()
    assert losses["loss"].isfinite()


def test_the_rollout_is_what_is_served(system) -> None:
    """Training's rollout after real chunks ends in the same latents whether it is cut in two or not."""
    model, batch = system.model, batch_of(system.model, 2, CHUNKS)
    clean = batch.clean(("video", "audio")).modalities
    sampler = Sampler(2, "few")

    def made(first: int, length: int) -> list[dict[str, torch.Tensor]]:
        draws = Draws(torch.Generator().manual_seed(0), 2)
        return continue_clip(model, batch, clean, first, length, sampler, draws)

    two, one = made(1, 2), made(1, 1)
    for name, value in one[0].items():
        assert torch.equal(two[0][name], value)
        assert (two[1][name] - value).abs().max() > 0.1


def test_mixed_precision_teaches_too(system) -> None:
    own = replace(system, model=copy.deepcopy(system.model).requires_grad_(True))
    batch = batch_of(own.model, 1, 2)
    objective = TeacherForcingObjective(
        own, SpokenClips(own.model), TeacherForcingConfig(ClipConfig(lengths=(2,))), 1, 0
    )

    def losses() -> dict[str, torch.Tensor]:
        draws = Draws(torch.Generator().manual_seed(0), 1)
        weights = batch.weights(objective.branches)
        return objective.teacher_forcing(own.model, batch, draws, weights)

    with torch.autocast("cpu", torch.bfloat16):
        half = losses()
    sum(half.values()).backward()
    full = losses()
    for name, value in full.items():
        assert half[name].item() == pytest.approx(value.item(), rel=0.02)
    assert all(p.grad is None or p.grad.isfinite().all() for p in own.model.parameters())


def test_threads_share_a_model_whose_streams_share_no_pass(generator, picture) -> None:
    """One after the other; what waits for its sound at the end comes too."""
    request = GenerationRequest(picture, text="Hello there.", steps=2, seconds=0.64 * 3)
    whole = list(generator.stream(request))
    model = SharedModel(generator)
    try:
        state, made = model.start(request), []
        made += model.some(state)
        with ThreadPoolExecutor(2) as pool:
            other = pool.submit(lambda: list(model.stream(model.start(request))))
            made += model.stream(state)
            both = [made, other.result()]
        for chunks in both:
            assert [chunk.index for chunk in chunks] == [0, 1, 2]
            assert np.array_equal(films(chunks), films(whole))
        left = model.start(request)
        left.abandoned = lambda: True
        assert model.some(left) == []
    finally:
        model.close()
