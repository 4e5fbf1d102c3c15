"""The commands of a run as a user starts them: killed at random moments and resumed, and compared."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from training.export import export
from training.recipes import STAGES
from training.stages import Workspace

pytestmark = pytest.mark.slow
STAGE, STEPS, KILLS = "mutual_forcing", 7, 2
SAVES_EVERY_STEP = """
import sys
from dataclasses import replace
from training import recipes, train
build = recipes.BUILDERS[sys.argv[1]]
recipes.BUILDERS[sys.argv[1]] = lambda scale: replace(build(scale), save_every=1, sample_every=99)
sys.exit(train.main())
"""
"""`python -m training.train` that saves after every step, as a stage of hours does every few minutes."""


@pytest.fixture(scope="module")
def run(trained: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the smoke scale with the joint model done, and nothing after it."""
    return _beside(trained.root, tmp_path_factory.mktemp("run"))


def _beside(run: Path, folder: Path) -> Path:
    """A run of its own that shares everything up to the joint model."""
    (folder / "stages").mkdir(parents=True)
    before = STAGES[: STAGES.index("joint") + 1]
    shared = [*(f"stages/{name}" for name in before), "corpus", "latents"]
    for name in shared:
        (folder / name).symlink_to((run / name).resolve())
    return folder


def _start(run: Path) -> subprocess.Popen[bytes]:
    options = ["--run", str(run), "--preset", "smoke", "--steps", str(STEPS), "--device", "cpu"]
    return subprocess.Popen([sys.executable, "-c", SAVES_EVERY_STEP, STAGE, *options])


def _saved(run: Path) -> dict[str, float]:
    """What the state on disk says of itself."""
    path = run / "stages" / STAGE / "state.safetensors"
    if not path.exists():
        return {"step": 0, "seconds": 0.0}
    # For torch it opens the file twice, and a training may put another in its place in between.
    with safe_open(path, framework="np") as file:
        return json.loads(file.metadata()["record"])


def test_training_killed_at_random_moments_ends_with_the_same_weights(
    run: Path, tmp_path: Path
) -> None:
    whole, killed = (_beside(run, tmp_path / name) for name in ("whole", "killed"))
    Workspace(whole, "smoke", torch.device("cpu")).train(STAGE, STEPS)
    pace = _saved(whole)["seconds"] / STEPS
    rng = np.random.default_rng(3)
    for _ in range(KILLS):
        process = _start(killed)
        goal = min(_saved(killed)["step"] + int(rng.integers(1, 3)), STEPS - 2)
        deadline = time.monotonic() + 1800
        while _saved(killed)["step"] < goal and time.monotonic() < deadline:
            assert process.poll() is None, "training ended by itself"
            time.sleep(0.02)
        time.sleep(float(rng.uniform(0, pace)))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert goal <= _saved(killed)["step"] < STEPS
        assert not (killed / "stages" / STAGE / "weights.safetensors").exists()
    assert _start(killed).wait(timeout=3600) == 0
    for name in ("weights.safetensors", "state.safetensors"):
        ours, theirs = (load_file(folder / "stages" / STAGE / name) for folder in (killed, whole))
        assert ours.keys() == theirs.keys()
        parts = {key.split("/")[0] for key in ours}
        for key, value in ours.items():
            assert torch.equal(value, theirs[key]), f"{name}: {key}"
    assert {"ema", "player.model", "player.fake", "optimizer.model", "optimizer.fake"} <= parts


def test_two_methods_are_trained_judged_and_compared(run: Path, tmp_path: Path) -> None:
    base, out = _beside(run, tmp_path / "base"), tmp_path / "compared"
    command = [
        sys.executable, "-m", "training.compare", "--run", base, "--preset", "smoke", "--out", out,
        "--steps", "1", "--clips", "1", "--sampling", "1", "--device", "cpu", "--long-seconds", "5",
        "--opening-seconds", "2", "--methods", "teacher_forcing,mutual_forcing",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3600)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads((out / "comparison.json").read_text(encoding="utf-8"))["methods"]
    assert list(rows) == ["joint", "teacher_forcing", "mutual_forcing"]
    for name, row in rows.items():
        own = row["systems"]["multi 1" if name == "teacher_forcing" else "few 1"]
        assert own["clips"] == 1
        assert own["wer"][0] > 0.5, "one step of training speaks no words"
        assert row["systems"]["ground truth"] == rows["joint"]["systems"]["ground truth"]
        assert ("autoencoders" in row["systems"]) == (name == "joint"), "judged once"
        assert ("ground truth" in row["streams"]) == (name == "joint"), "judged once"
        if name != "joint":
            assert row["cost"]["seconds_per_step"] > 0 and row["cost"]["peak_memory_gb"] > 0.1
    assert "[8/8] judge mutual_forcing" in done.stderr, "progress of this project is told"
    assert "successfully saved" not in done.stderr, "and that of others is not"
    text = (out / "comparison.md").read_text(encoding="utf-8")
    assert done.stdout == text and text.count("few 1") == 4 and text.count("multi 1") == 2
    assert text.count("\n| ground truth |") == 2 and "\n| autoencoders |" in text
    assert "mutual_forcing minus teacher_forcing, few 1 beside multi 1: WER" in text
    assert "first sentences to the same at the end" in text and text.count("few 4") == 3
    unknown = subprocess.run([*command[:-1], "magic"], capture_output=True, text=True, check=False)
    assert unknown.returncode == 1 and "Unknown methods: magic" in unknown.stderr


def test_a_clean_clone_compares_on_a_checkpoint_with_one_command(
    run: Path, corpus_folder: Path, tmp_path: Path
) -> None:
    """It imports the checkpoint, encodes the corpus, trains what a method needs, and goes on if run again."""
    export(Workspace(run, "smoke", torch.device("cpu")), tmp_path / "checkpoint")
    command = [
        sys.executable, "-m", "training.compare", "--run", tmp_path / "run", "--preset", "smoke",
        "--checkpoint", tmp_path / "checkpoint", "--corpus", corpus_folder, "--steps", "1",
        "--clips", "1", "--sampling", "1", "--device", "cpu", "--long-seconds", "0",
        "--methods", "self_forcing", "--seeds", "0,4", "--workers", "1",
    ]  # fmt: skip
    folder, times = tmp_path / "run" / "compare", []
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3600)
        assert done.returncode == 0, done.stderr[-2000:]
        weights = sorted(folder.glob("seed-*/stages/*/weights.safetensors"))
        times.append([path.stat().st_mtime_ns for path in weights])
    assert times[0] == times[1] and len(times[0]) >= 4, "nothing is trained again"
    rows = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))["methods"]
    assert list(rows) == [
        "joint", "bidirectional", "self_forcing", "bidirectional, seed 4", "self_forcing, seed 4"
    ]  # fmt: skip
    assert not rows["bidirectional"]["systems"] and rows["bidirectional"]["cost"]
    text = (folder / "comparison.md").read_text(encoding="utf-8")
    assert "imported from" in text and "Over seeds of training" in text
    first, second = (
        load_file(folder / f"seed-{seed}" / "stages" / "self_forcing" / "weights.safetensors")
        for seed in (0, 4)
    )
    assert any(not torch.equal(first[key], second[key]) for key in first), "another seed"
