"""A checkpoint goes on on another corpus, and what reads sound for its text encoder still fits."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from mutual_forcing.checkpoint import load_checkpoint
from training.data.synthesize import CorpusOptions
from training.export import export
from training.import_checkpoint import import_checkpoint
from training.refine import BEGUN, JOINT, LAST, MEAN, SPEECH, plans, refine
from training.stages import Workspace

CPU = torch.device("cpu")


@pytest.mark.slow
def test_a_refined_checkpoint_keeps_its_text_encoder_and_its_sound_reader(
    trained: Workspace, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    export(trained, first)
    run = Workspace(tmp_path / "run", "smoke", CPU)
    shutil.copytree(trained.corpus_folder, run.corpus_folder)
    told = json.loads((run.corpus_folder / "corpus.json").read_text(encoding="utf-8"))
    refine(first, run, CorpusOptions(**told["options"]), second)
    before, after = load_checkpoint(first), load_checkpoint(second)
    for name, tensor in before.model.state_dict().items():
        same = torch.equal(tensor, after.model.state_dict()[name])
        assert same or "text_encoder" not in name, name
    learnt = [n for n, p in before.model.named_parameters() if "branches." in n]
    states = before.model.state_dict(), after.model.state_dict()
    assert any(not torch.equal(states[0][name], states[1][name]) for name in learnt)
    old, new, mean = (run.system(name).model.state_dict() for name in (BEGUN, JOINT, MEAN))
    assert all(torch.allclose(mean[name], (old[name] + new[name]) / 2) for name in learnt)
    assert after.sound_reader is not None, "it says what the text encoder still says"
    record = json.loads((second / "record.json").read_text(encoding="utf-8"))
    codecs = {"video_codec", "video_detail", "audio_codec", "audio_detail"}
    networks = codecs | {"duration", "sound_reader"}
    assert set(record["stages"]) == networks | {BEGUN, SPEECH, JOINT, MEAN, LAST}
    assert record["stages"][BEGUN]["adopted"].endswith(f"({before.digest}, mutual_forcing)")
    assert {"audio_pretrain", "video_pretrain", "joint"} == set(record["stages"][BEGUN]["earlier"])
    assert record["stages"][LAST]["objective"]["freeze_text"]
    assert record["before"]["corpus"]["options"] == told["options"]
    assert record["before"]["portraits"]["identities"] == 3
    assert "The decoder saw 3 drawn heads" in (second / "README.md").read_text(encoding="utf-8")
    # Again: nothing is left to do. What a third run goes on from tells of both.
    weights = run.stage_folder(LAST) / "weights.safetensors"
    written = weights.stat().st_mtime_ns
    refine(first, run, CorpusOptions(**told["options"]), second)
    assert weights.stat().st_mtime_ns == written
    third = Workspace(tmp_path / "third", "smoke", CPU)
    import_checkpoint(second, third, BEGUN)
    begun = third.record(BEGUN)["earlier"]
    assert begun[BEGUN]["earlier"].keys() == {"audio_pretrain", "video_pretrain", "joint"}
    assert third.reads(BEGUN) and not third.reads("another")
    with pytest.raises(ValueError, match="other options"):
        (run.latents_folder / "video.done").unlink()
        refine(first, run, CorpusOptions(**{**told["options"], "seed": 99}), second)


def test_only_the_sound_learns_alone(tmp_path: Path) -> None:
    speech, joint, last = plans(Workspace(tmp_path, "tiny", CPU))
    assert speech.objective.clips.branches == ("audio",)
    assert [plan.init for plan in (speech, joint, last)] == [(BEGUN,), (SPEECH,), (MEAN,)]
    assert all(plan.objective.freeze_text for plan in (speech, joint, last))
    assert 0 < joint.objective.consistency.start < joint.steps
