"""Every stage runs on a real corpus, and resuming is exact."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from mutual_forcing import GenerationRequest, StreamingGenerator
from mutual_forcing.checkpoint import System
from mutual_forcing.chunks import CHUNK_SECONDS, FRAMES_PER_CHUNK, SAMPLES_PER_CHUNK
from mutual_forcing.config import SAMPLE_RATE
from mutual_forcing.sampling import Sampler
from mutual_forcing.streaming import BRANCHES
from training.command import Interrupted
from training.data.dataset import Corpus
from training.data.latents import Dropout, LatentDataset
from training.data.precompute import encode_silence
from training.recipes import BASELINES, STAGES, recipe
from training.samples import CHUNKS, FRAME_STEP, write_samples_sheet
from training.stages import Workspace
from training.train_state import load_tensors
from training.trainer import Trainer

CPU = torch.device("cpu")


def test_stages_leave_records_metrics_and_samples(trained: Workspace) -> None:
    for name in STAGES:
        folder = trained.stage_folder(name)
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert any(row.get("loss", 0) > 0 for row in rows), name
        assert trained.record(name)["recipe"]["steps"] == 2
        assert list((folder / "tensorboard").iterdir())
    assert list((trained.stage_folder("joint") / "samples").glob("*.png"))
    assert list((trained.stage_folder("joint") / "samples").glob("*.wav"))


def test_the_transformer_does_not_wait_for_the_video_codec(
    trained: Workspace, tmp_path: Path
) -> None:
    """As in training.reproduce, where both learn beside each other: only the pictures are missing."""
    (tmp_path / "stages").mkdir()
    for name in ("corpus", "latents", "stages/audio_codec", "stages/audio_pretrain"):
        (tmp_path / name).symlink_to(trained.root / name)
    alone = Workspace(tmp_path, "smoke", CPU)
    alone.train("video_pretrain")
    alone.train("joint")
    (samples,) = alone.stage_folder("joint").glob("samples/*")
    assert samples.suffix == ".wav", "an untrained decoder has nothing to show"
    figures = alone.record("joint")["metrics"]
    assert {"heldout/flow_video", "heldout/loudness", "heldout/motion"} <= set(figures)
    assert "heldout/saturation" not in figures
    ours, theirs = (w.system("video_pretrain").model.state_dict() for w in (alone, trained))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours), "the weights are the same"


def test_samples_show_the_truth_above_what_is_made(trained: Workspace, tmp_path: Path) -> None:
    """A row of frames for each of both, of every clip; and the sound of all one after the other."""
    system = trained.system("joint")
    data = trained.latents(system, BRANCHES)
    sampler, names = Sampler(1, "multi", 1.0), ("000007.png", "000007.wav")
    values = write_samples_sheet(system, data, BRANCHES, tmp_path, 7, sampler, count=2)
    assert values["diversity"] > 0 and sorted(p.name for p in tmp_path.iterdir()) == [*names]
    sheet = np.asarray(Image.open(tmp_path / names[0]))
    side = len(sheet) // 4
    frames = 1 + math.ceil(CHUNKS * FRAMES_PER_CHUNK / FRAME_STEP)
    assert sheet.shape == (4 * side, frames * side, 3)
    rows = sheet.reshape(2, 2, side, *sheet.shape[1:])
    assert (rows[:, 0, :, :side] == rows[:, 1, :, :side]).all(), "both begin with the reference"
    assert (rows[0] != rows[1]).any() and (rows[:, 0] != rows[:, 1]).any()
    sound, rate = soundfile.read(tmp_path / names[1])
    assert rate == SAMPLE_RATE and len(sound) == 4 * CHUNKS * SAMPLES_PER_CHUNK


def test_the_detail_learns_alone(workspace: Workspace) -> None:
    """Eyes and mouth go on from the whole codec, and what is served then is theirs."""
    before, after = (
        load_tensors(workspace.stage_folder(name) / "weights.safetensors")[0]
        for name in ("video_codec", "video_detail")
    )
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert "animator.detail.mouth.leave.bias" in changed
    parts = (
        "animator.detail.",
        *(f"reference_encoder.{p}." for p in ("detail", "colors", "inside")),
    )
    assert all(name.startswith(parts) for name in changed), changed
    served = workspace.system().video_codec.state_dict()
    assert all(torch.equal(served[name], value) for name, value in after.items())


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_take_a_step(trained: Workspace, tmp_path: Path, name: str) -> None:
    """Every method of the comparison learns from the joint model, and says what it did."""
    if name == "self_forcing":
        trained.train("bidirectional")
    plan = replace(recipe(name, "smoke"), steps=1, sample_every=100)
    torch.manual_seed(0)
    trainer = Trainer(plan, plan.objective.build(trained, plan), tmp_path, CPU)
    before = {k: v.clone() for k, v in trainer.objective.model.state_dict().items()}
    trainer.run()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [row for row in rows if "loss" in row][-1]
    assert all(math.isfinite(value) for value in losses.values()), losses
    moved = [k for k, v in trainer.objective.model.state_dict().items() if not v.equal(before[k])]
    assert any("blocks" in key for key in moved)
    figures = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))["metrics"]
    learns_both = plan.objective.kind == "mutual_forcing"
    for figure in ("distilled_audio", "leaked_audio"):
        assert (f"heldout/{figure}" in figures) == learns_both, "only where Multi mode teaches Few"


def test_a_clip_may_begin_as_streams_do(workspace: Workspace) -> None:
    """A static picture in silence, before anything is said, which is looked back on and not learned."""
    data = LatentDataset(
        Corpus(workspace.corpus_folder),
        workspace.latents_folder,
        workspace.system_config.model,
        BRANCHES,
    )
    clip = data.corpus.split("train")[0]
    real = data.item(clip, 0, 2, np.random.default_rng(0))
    begun = data.item(clip, -1, 3, np.random.default_rng(0))
    assert bool(real.has_motion) and not bool(begun.has_motion)
    assert all(torch.equal(latent, real.video[0, 0, 0]) for latent in begun.video[0, 0])
    system = workspace.system()
    silence = encode_silence(system.audio_codec, system.config.model.audio.grid, CPU)
    assert torch.equal(begun.audio[:, :1], silence.half().float()), "as the stream's own"
    for name in ("video", "audio"):
        assert torch.equal(getattr(begun, name)[:, 1:], getattr(real, name))
    assert torch.equal(begun.text.ids[:, 1:], real.text.ids)
    later = begun.text.start[0, 0][begun.text.ids[0, 0] > 0]
    assert (later >= CHUNK_SECONDS - 1e-6).all(), "nothing is said in it"
    for weights in begun.weights(BRANCHES).values():
        assert not weights[0, 0].any() and weights[0, 1:].all()
    rng = np.random.default_rng(0)
    for share in (0.0, 1.0):
        batch = data.batch(rng, "train", 8, 2, Dropout(beginning=share))
        assert (~batch.has_motion).float().mean() == share


def test_export_loads_and_streams(trained: Workspace, picture, tmp_path) -> None:
    from training.export import export

    export(trained, tmp_path)
    generator = StreamingGenerator.from_pretrained(tmp_path)
    record = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))
    assert record["model_stage"] == "mutual_forcing" and set(record["stages"]) == set(STAGES)
    corpus = json.loads((trained.corpus_folder / "corpus.json").read_text(encoding="utf-8"))
    assert record["corpus"]["options"] == corpus["options"]
    assert record["stages"]["mutual_forcing"]["objective"]["guidance"] == {"video": 2, "audio": 2}
    assert record["hours"] == round(sum(s["hours"] for s in record["stages"].values()), 2)
    chunk = next(generator.stream(GenerationRequest(picture, text="Hello.", steps=1)))
    assert chunk.frames.shape == (16, 256, 342, 3), "small pictures are enlarged"


def test_a_record_holds_the_stages_of_its_own_checkpoint_alone(
    trained: Workspace, tmp_path: Path
) -> None:
    from training.export import export, held_stages

    assert "mutual_forcing" not in held_stages(trained, "joint")
    export(trained, tmp_path, "joint")
    record = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))
    assert list(record["stages"]) == list(STAGES[: STAGES.index("joint") + 1])
    for name in ("bidirectional", "self_forcing"):
        trained.train(name)
    assert "bidirectional" in held_stages(trained, "self_forcing")
    assert "bidirectional" not in held_stages(trained, "mutual_forcing")


def test_a_run_can_start_from_a_checkpoint(trained: Workspace, tmp_path: Path) -> None:
    from training.export import export
    from training.import_checkpoint import import_checkpoint

    export(trained, tmp_path / "checkpoint")
    workspace = Workspace(tmp_path / "run", "smoke", CPU)
    import_checkpoint(tmp_path / "checkpoint", workspace)
    ours, theirs = workspace.system("joint"), trained.system("mutual_forcing")
    for name, module in theirs.modules.items():
        for key, value in module.state_dict().items():
            stored = ours.modules[name].state_dict()[key]
            assert torch.equal(stored, value.half().float()), key
    assert workspace.record("joint")["recipe"]["steps"] == 2
    export(workspace, tmp_path / "again", "joint")
    told = json.loads((tmp_path / "again/record.json").read_text(encoding="utf-8"))
    assert told["stages"]["joint"]["objective"]["guidance"] == {"video": 2, "audio": 2}
    assert told["stages"]["video_detail"]["objective"]["only_detail"]
    assert not told["stages"]["video_codec"]["objective"]["only_detail"]
    with pytest.raises(ValueError, match="already holds"):
        import_checkpoint(tmp_path / "checkpoint", workspace)
    weights = workspace.stage_folder("joint") / "weights.safetensors"
    weights.unlink()  # killed before it was all there
    import_checkpoint(tmp_path / "checkpoint", workspace, again=True)
    assert weights.exists()
    export(trained, tmp_path / "earlier", "joint")
    with pytest.raises(ValueError, match="already holds"):
        import_checkpoint(tmp_path / "earlier", workspace, again=True)
    with pytest.raises(ValueError, match="preset"):
        import_checkpoint(tmp_path / "checkpoint", Workspace(tmp_path / "other", "tiny", CPU))
    with pytest.raises(ValueError, match="Not finished"):
        export(Workspace(tmp_path / "empty", "smoke", CPU), tmp_path / "nothing", "joint")
    with pytest.raises(ValueError, match="video_codec has not finished"):
        Workspace(tmp_path / "empty", "smoke", CPU).train("video_detail")


@pytest.mark.parametrize(
    "name", ["video_detail", "audio_codec", "audio_detail", "joint", "mutual_forcing"]
)
def test_resumed_training_equals_uninterrupted(
    trained: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Stopped by Ctrl-C after two of four steps and started again: the same weights, bit by bit."""
    plan = replace(recipe(name, "smoke"), steps=4, sample_every=100)

    def build(folder: Path) -> Trainer:
        torch.manual_seed(0)
        return Trainer(plan, plan.objective.build(trained, plan), folder, CPU)

    whole = build(tmp_path / "whole")
    whole.run()
    stopped = build(tmp_path / "stopped")
    take_step = Trainer._train_step

    def interrupt(self: Trainer, batch: object) -> dict[str, float]:
        if self.step == 2:
            raise KeyboardInterrupt
        return take_step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_step", interrupt)
        with pytest.raises(Interrupted, match="step 2"):
            stopped.run()
    resumed = build(tmp_path / "stopped")
    assert resumed.step == 2
    resumed.run()
    for (key, a), b in zip(
        whole.ema.state_dict().items(), resumed.ema.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), key


def test_corpus_is_deterministic_and_refuses_other_options(corpus_folder: Path, tmp_path) -> None:
    from training.data.synthesize import CorpusOptions, synthesize

    options = CorpusOptions(hours=0.001, seed=76, size=128, heldout=0.5, clips_per_identity=2)
    synthesize(options, tmp_path, workers=1)  # the fixture used two
    ours, theirs = ((f / "manifest.jsonl").read_text() for f in (tmp_path, corpus_folder))
    assert ours == theirs
    for row in map(json.loads, ours.splitlines()):
        assert (tmp_path / row["path"]).read_bytes() == (corpus_folder / row["path"]).read_bytes()
    other = CorpusOptions(hours=0.001, seed=6, size=128, heldout=0.5, clips_per_identity=2)
    with pytest.raises(ValueError, match="other options"):
        synthesize(other, corpus_folder, 1)


def test_corpus_rows_are_whole(corpus_folder: Path) -> None:
    from training.data.dataset import Corpus

    corpus = Corpus(corpus_folder)
    assert {c.row["split"] for c in corpus.clips} == {"train", "test"}
    for clip in corpus.clips:
        row = clip.row
        assert clip.frames == 16 * clip.chunks == len(row["mouth_openness"])
        assert clip.read_audio().shape == (clip.frames * SAMPLE_RATE // 25,)
        assert clip.read_frames(8, 4).shape == (4, 128, 128, 3)
        ends = [p.end for p in clip.transcript.phonemes]
        assert ends == sorted(ends) and ends[-1] <= row["seconds"] + 1e-3
        voiced = [p for p in clip.transcript.phonemes if p.phoneme != "_"]
        assert len(voiced) > 10 and len(row["words"]) > 3


def test_methods_see_the_same_clips_and_no_other_stage_does(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compared methods differ in what they learn from, not in what they were shown."""
    # Whether the stages before them were trained does not matter here.
    monkeypatch.setattr(Workspace, "system", lambda self, *_: System.build(self.system_config))

    def batch(name: str, step: int = 3):
        plan = workspace.plan(name)
        return plan.objective.build(workspace, plan).batch(step)

    ours, theirs, joint = (batch(n) for n in ("mutual_forcing", "diffusion_forcing", "joint"))
    assert torch.equal(ours.video, theirs.video) and torch.equal(ours.audio, theirs.audio)
    rows, chunks = (
        min(len(ours.video), len(joint.video)),
        min(ours.video.shape[1], joint.video.shape[1]),
    )
    assert not torch.equal(ours.video[:rows, :chunks], joint.video[:rows, :chunks])
    assert not torch.equal(ours.video, batch("mutual_forcing", 4).video)


def test_guidance_s_negative_branch_is_a_tenth_of_the_rows(workspace: Workspace) -> None:
    """No words and no caption, with picture and voice: what guidance compares with."""
    config = workspace.system_config.model
    data = LatentDataset(
        Corpus(workspace.corpus_folder), workspace.latents_folder, config, BRANCHES
    )
    dropped = [data._dropped(np.random.default_rng(n), Dropout()) for n in range(2000)]
    negative = [
        d["transcript"] and d["caption"] and not d["picture"] and not d["voice"] for d in dropped
    ]
    assert 0.05 < np.mean(negative) < 0.12
