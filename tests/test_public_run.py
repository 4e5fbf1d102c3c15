"""From public weights to a film, as a researcher would: the README's section "At scale", in one process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mutual_forcing import GenerationRequest, StreamingGenerator
from mutual_forcing.config import preset
from mutual_forcing.models.wan_transformer import WanAVTransformer
from mutual_forcing.wan_weights import branch_state
from training.export import export
from training.import_public import import_public
from training.random_public import write_public, write_transformer
from training.recipes import PUBLIC, recipe
from training.reproduce import reproduction_jobs
from training.stages import Workspace

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("public")
    write_public(folder)
    return folder


def begun(root: Path, public: Path) -> Workspace:
    import_public(Workspace(root, "wan_smoke", CPU), str(public / "wan"), str(public / "audio"))
    return Workspace(root, "wan_smoke", CPU)


def test_the_video_branch_is_the_public_one_and_codecs_are_found_again(
    public: Path, tmp_path: Path
) -> None:
    run = begun(tmp_path, public)
    model = run.system(PUBLIC).model
    assert isinstance(model, WanAVTransformer)
    torch.manual_seed(5)
    other = write_transformer(model.config, tmp_path / "other")
    ours = branch_state(model, "video", added=False)
    assert ours.keys() == other.state_dict().keys() and len(ours) > 30
    import_public(
        Workspace(tmp_path / "again", "wan_smoke", CPU), str(public / "wan"), str(public / "audio")
    )
    again = Workspace(tmp_path / "again", "wan_smoke", CPU).system(PUBLIC).model
    assert all(torch.equal(x, branch_state(again, "video")[n]) for n, x in ours.items())
    assert not torch.equal(ours["proj_out.weight"], other.state_dict()["proj_out.weight"])
    with pytest.raises(ValueError, match="has begun from public weights already"):
        begun(tmp_path, public)


def test_wrong_places_and_presets_are_told(public: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No weights at"):
        import_public(Workspace(tmp_path / "a", "wan_smoke", CPU), "nowhere", str(public / "audio"))
    with pytest.raises(ValueError, match="tiny does not begin from public weights"):
        import_public(Workspace(tmp_path / "b", "tiny", CPU))
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()
    for stage in ("video_codec", "audio_codec", "video_pretrain"):
        with pytest.raises(ValueError, match="no such stage"):
            recipe(stage, "wan_5b")
    with pytest.raises(ValueError, match=r"training\.import_public"):
        reproduction_jobs(Workspace(tmp_path / "c", "wan_smoke", CPU), 0, tmp_path)


@pytest.mark.parametrize("name", ["wan_5b", "paper_14b_704x1280", "wan_smoke"])
def test_stages_of_the_large_presets_follow_on_from_the_public_one(name: str) -> None:
    line, stage = [], "mutual_forcing"
    while stage != PUBLIC:
        line.append(stage)
        (stage,) = recipe(stage, name).init
    assert line == ["mutual_forcing", "joint", "audio_pretrain"]
    assert preset(name).model.text is not None


def test_public_weights_are_trained_on_films_and_stream(
    public: Path, corpus_folder: Path, tmp_path: Path
) -> None:
    run = begun(tmp_path / "run", public)
    (run.root / "corpus").symlink_to(corpus_folder)
    for stage in ("duration", "audio_pretrain", "joint"):
        if stage == "audio_pretrain":
            run.encode("audio")
            run.encode("video")
        run.train(stage)
    start, end = (run.system(stage).model.state_dict() for stage in (PUBLIC, "joint"))
    moved = [name for name in start if not torch.equal(start[name], end[name])]
    assert any("branches.video" in n for n in moved) and any("branches.audio" in n for n in moved)

    export(run, tmp_path / "checkpoint")
    generator = StreamingGenerator.from_pretrained(tmp_path / "checkpoint", device="cpu")
    picture = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    request = GenerationRequest(picture, text="Hello there.", steps=2, seconds=1.28)
    chunks = list(generator.stream(request))
    assert [chunk.frames.shape for chunk in chunks] == [(16, 64, 96, 3)] * 2
