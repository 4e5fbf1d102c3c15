"""Comparing methods: what it starts from, and what its tables say. The whole command: test_resume.py."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from training import compare
from training.compare import (
    METHODS,
    MethodComparison,
    begin,
    comparison_jobs,
    prepare,
    sampling_of,
    with_needed,
    write,
)
from training.evaluation.comparison_tables import differences
from training.evaluation.judge import ENDS
from training.stages import Workspace

CPU = torch.device("cpu")


def finished(root: Path, *stages: str) -> Workspace:
    """A run that claims to have finished these stages."""
    workspace = Workspace(root, "smoke", CPU)
    for name in stages:
        folder = workspace.stage_folder(name)
        folder.mkdir(parents=True)
        folder.joinpath("weights.safetensors").touch()
        folder.joinpath("record.json").write_text(json.dumps({"adopted": "tiny (abc, joint)"}))
    return workspace


def comparison(base: Workspace, folder: Path, seeds: tuple[int, ...] = (0,)) -> MethodComparison:
    return MethodComparison(base, folder, 10, ("mutual_forcing",), 3, "4", 0, seeds)


def figures(mouth: float) -> dict[str, object]:
    around = [mouth, mouth - 0.1, mouth + 0.1]
    return {
        **dict.fromkeys(("wer", "wer_closed", "mouth", "sync"), around),
        **dict.fromkeys(("similarity", "motion", "jump"), 1.0),
    }


def stretch(mouth: float, similarity: float | None) -> dict[str, float | None]:
    other = dict.fromkeys(("wer", "sharpness", "motion", "loudness"), 0.5)
    return {"mouth": mouth, "similarity": similarity, **other}


def test_methods_come_after_what_they_start_from() -> None:
    assert with_needed(("self_forcing", "dmd_tf"), "tiny") == (
        "bidirectional", "self_forcing", "dmd_tf"
    )  # fmt: skip
    assert with_needed(METHODS, "tiny") == METHODS


def test_a_run_without_a_joint_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name a --checkpoint"):
        begin(Workspace(tmp_path, "smoke", CPU), None, None, None)


def test_what_is_missing_is_made_and_a_corpus_that_is_named_is_used(
    tmp_path: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    monkeypatch.setattr(Workspace, "encode", lambda self, branch: made.append(branch))
    monkeypatch.setattr("training.reproduce.synthesize", lambda *_: made.append("corpus"))
    base = finished(tmp_path / "mine", "joint")
    begin(base, None, corpus_folder, None)
    assert made == ["audio", "video"] and base.corpus_folder.resolve() == corpus_folder.resolve()
    begin(base, None, corpus_folder, None)  # the same again is no quarrel
    with pytest.raises(ValueError, match="No corpus"):
        begin(base, None, tmp_path, None)
    other = tmp_path / "other"
    other.mkdir()
    (other / "manifest.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match="has a corpus already"):
        begin(base, None, other, None)
    made.clear()
    begin(finished(tmp_path / "bare", "joint"), None, None, 0.5)
    assert made == ["corpus", "audio", "video"]


def test_seeds_train_apart_and_share_what_came_before(tmp_path: Path) -> None:
    base = finished(tmp_path / "base", "video_codec", "joint")
    both = comparison(base, tmp_path / "out", (0, 1))
    for _ in range(2):  # resumed
        first, second = (prepare(both, seed) for seed in both.seeds)
    assert first.root != second.root
    for workspace in (first, second):
        assert workspace.done("joint") and not workspace.done("audio_pretrain")
        shared = workspace.stage_folder("joint").resolve()
        assert shared == base.stage_folder("joint").resolve()


def test_a_method_that_was_trained_otherwise_is_not_taken(tmp_path: Path) -> None:
    both = comparison(finished(tmp_path / "base", "joint"), tmp_path / "out")
    workspace = prepare(both, 0)
    plan = workspace.plan("mutual_forcing", both.steps, 0)
    folder = finished(workspace.root, "mutual_forcing").stage_folder("mutual_forcing")
    train = next(job for job in comparison_jobs(both) if job.name == "train mutual_forcing")
    for change, message in (
        ({}, ""), ({"steps": 3}, "has 3 steps in"),
        ({"objective": {}}, "with other objective.audio_driven, "),
    ):  # fmt: skip
        record = json.dumps({"recipe": {**plan.to_dict(), **change}})
        (folder / "record.json").write_text(record, encoding="utf-8")
        if not message:
            assert train.done()
            continue
        with pytest.raises(ValueError, match=message):
            train.done()


def test_the_tables_tell_costs_spread_and_drift(tmp_path: Path) -> None:
    base = finished(tmp_path / "base", "joint")
    cost = {"seconds_per_step": 2.0, "peak_memory_gb": 1.5}
    first, last = ENDS
    truth = {"ground truth": {first: stretch(0.9, None), last: stretch(0.8, None)}}
    long = truth | {"few 4": {first: stretch(0.5, 0.9), last: stretch(0.1, 0.7)}}
    rows = {
        "joint": {
            "cost": None,
            "systems": {"autoencoders": figures(0.9), "few 4": figures(0.1)},
            "streams": long,
        },
        "bidirectional": {"cost": cost, "systems": {}, "streams": {}},
    }
    rows |= {
        name: {"cost": cost, "systems": {"few 4": figures(mouth)}, "streams": {}}
        for name, mouth in (("mutual_forcing", 0.4), ("mutual_forcing, seed 1", 0.6))
    }
    (tmp_path / "out").mkdir()
    text = write(rows, comparison(base, tmp_path / "out", (0, 1)), {})
    assert "| autoencoders |" in text
    assert "| bidirectional, does not stream | 2.00 | 1.50 |" in text
    assert "| mutual_forcing, few 4 | 2 | 0.50 (0.40 to 0.60) |" in text, "mean and range of seeds"
    assert "| joint, few 4 | 0.50 to 0.10 |" in text and "| ground truth | 0.90 to 0.80 |" in text
    assert "imported from tiny (abc, joint)" in text and "0.02 hours" in text
    alone = write(rows, comparison(base, tmp_path / "out"), {})
    assert "Over seeds" not in alone


def clip(index: int, errors: int) -> dict[str, float]:
    same = dict.fromkeys(("mouth", "sync", "similarity"), 0.5)
    return {"index": index, "errors": errors, "closed_errors": 1, "words": 10, **same}


def test_methods_are_paired_by_clip_and_seed_and_with_the_model_that_has_no_seed() -> None:
    ours = {0: [clip(1, 2), clip(2, 4)], 1: [clip(2, 5), clip(1, 3)]}
    clips = {
        ("joint", "few 4"): {-1: [clip(2, 6), clip(1, 5)]},
        ("dmd_tf", "few 4"): {0: [clip(1, 2), clip(2, 5)], 2: [clip(1, 9)]},
        ("dmd_tf", "few 8"): {0: [clip(1, 2)]},
        ("mutual_forcing", "few 4"): ours,
    }
    found = differences(clips, "mutual_forcing")
    assert list(found) == [
        "mutual_forcing minus joint, few 4", "mutual_forcing minus dmd_tf, few 4"
    ]  # fmt: skip
    joint, other = found.values()
    assert joint["clips"] == 2, "seeds of a clip are not independent"
    assert joint["wer"] == pytest.approx([(14 - 22) / 40, -0.25, -0.15], abs=1e-4)
    assert other["clips"] == 2 and other["wer"][0] == pytest.approx((6 - 7) / 20, abs=1e-4)
    assert other["wer_closed"] == [0, 0, 0]


def test_each_method_is_sampled_as_it_was_trained(tmp_path: Path) -> None:
    """What knows no intervals has no Few mode: it is judged in Multi mode, beside the method's Few mode."""
    assert sampling_of("mutual_forcing", "4, 8") == "4, 8"
    assert sampling_of("teacher_forcing", "4, 8,m16") == "m4,m8,m16"
    for name, steps in (("self_forcing", "4"), ("diffusion_forcing", "m4")):
        base = finished(tmp_path / name, "joint")
        asked = comparison(base, tmp_path / f"{name}-out")
        asked = replace(asked, methods=with_needed([name], "smoke"))
        (judge,) = (job for job in comparison_jobs(asked) if job.name == f"judge {name}")
        assert judge.command[judge.command.index("--steps") + 1] == steps
    clips = {
        ("mutual_forcing", "few 4"): {0: [clip(1, 2), clip(2, 0)]},
        ("teacher_forcing", "multi 4"): {0: [clip(1, 4), clip(2, 2)]},
    }
    found = differences(clips, "mutual_forcing", ("teacher_forcing",))
    ((name, figures),) = found.items()
    assert name == "mutual_forcing minus teacher_forcing, few 4 beside multi 4"
    assert figures["wer"][0] == pytest.approx(-0.2, abs=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--methods", "magic"], "Unknown methods: magic"),
        (["--seeds", "0,0"], "different whole numbers"),
        (["--seeds", "-1"], "different whole numbers"),
        ([], "name a --checkpoint"),
    ],
)
def test_wrong_options_get_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, options: list[str], message: str
) -> None:
    arguments = ["training.compare", "--run", str(tmp_path), "--preset", "smoke", "--device", "cpu"]
    given = [f"{name}={value}" for name, value in zip(options[::2], options[1::2], strict=True)]
    monkeypatch.setattr(sys, "argv", [*arguments, *given])
    assert compare.main() == 1
    assert message in capsys.readouterr().err
