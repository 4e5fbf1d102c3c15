"""Training on many devices, by two processes: the weights of one process, whatever was split and stopped."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_training import ALONE, CPU, NoiseClips, in_two_processes, trainer
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor

from mutual_forcing.checkpoint import System
from mutual_forcing.config import SystemConfig
from mutual_forcing.models.sequence_parallel import SequenceParallel
from training.command import Interrupted
from training.data.latents import LatentBatch
from training.distributed import Strategy, sequence_group, whole
from training.objectives.draws import Draws
from training.optim import Optimizers
from training.recipes import STAGES
from training.stage_config import OptimizerConfig, Share
from training.stages import Workspace
from training.train import train_in
from training.train_state import find_state, read_record, save_tensors
from training.trainer import Trainer

ADAMW = OptimizerConfig(lr=2e-4, final_lr=1e-4, warmup=0, muon=0.0)
"""Muon rounds to bf16 on its way, and so makes more of the last bits of a gradient than 1e-6."""
CLOSE = 1e-6
STEPS = 3


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    """All of the state in a stage's folder, read by one process."""
    state = find_state(folder)
    if state.is_file():
        return load_file(state)
    _, names = read_record(state)
    parts: dict[str, list[torch.Tensor]] = {name: [] for name in names}
    for path in sorted(state.glob("*.safetensors")):
        for name, part in load_file(path).items():
            parts[name].append(part)
    # Every process holds some rows.
    return {name: torch.cat(found) if found[0].ndim else found[0] for name, found in parts.items()}


def assert_close(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    """Weights and averages differ by rounding; so do moments, which are as small as gradients."""
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        bound = 1e-3 * float(value.abs().max()) + 1e-12 if "exp_avg" in name else CLOSE
        assert (ours[name] - value).abs().max() <= bound, name


def assert_equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def logged(folder: Path) -> dict[str, float]:
    """Losses and gradients of the last step."""
    return json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])


def assert_same_log(*folders: Path) -> None:
    """The losses are those of the whole batch, wherever they were computed."""
    ours, theirs = (logged(folder) for folder in folders)
    assert ours.keys() == theirs.keys() and "gradient_norm" in ours
    for name in ours.keys() - {"seconds"}:
        assert ours[name] == pytest.approx(theirs[name], rel=1e-3, abs=1e-6), name


def train(strategy: Strategy, folder: Path, method: str, **options) -> None:
    trainer(method, folder, strategy, **options).run()


def train_some(strategy: Strategy, folder: Path, method: str, **options) -> None:
    """Train until the last process is told to stop in the second step."""
    one = trainer(method, folder, strategy, **options)
    begin = one.objective.step

    def asked(batch, ema, generator, step, *share):
        if step == 1 and strategy.rank == strategy.ranks - 1:
            signal.raise_signal(signal.SIGTERM)
        return begin(batch, ema, generator, step, *share)

    one.objective.step = asked
    with pytest.raises(Interrupted, match="step 2"):
        one.run()
    assert find_state(folder) is not None and not (folder / "weights.safetensors").exists()


# Shares of a batch


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_shares_add_up_to_the_whole_batch(parts: int) -> None:
    def draws(share: Share) -> Draws:
        return Draws(torch.Generator().manual_seed(0), 5, share)

    every = draws(Share()).normal(3)
    weights = torch.rand(5, 3, generator=torch.Generator().manual_seed(1))
    found, total = torch.full((5, 3), torch.nan), 0.0
    for index in range(parts):
        mine = draws(Share(index, parts))
        rows = mine.normal(3)
        assert len(rows) == len(mine) >= 1
        if mine.count:
            found[mine.share.rows] = rows
        total += mine.mean(rows, weights)
    assert torch.equal(found, every)
    expected = ((every * weights).sum() / weights.sum()).item()
    assert total.item() == pytest.approx(expected, abs=1e-6)
    assert draws(Share(1, 2)).head(1).count == 0 and len(draws(Share(1, 2)).head(1)) == 1


METHODS = (
    "joint",
    "mutual_forcing",
    "dmd_tf",
    "diffusion_forcing",
    "bidirectional",
    "self_forcing",
)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_micro_batches_are_one_whole_batch(method: str, tmp_path: Path) -> None:
    """Also where there are more of them than rows, and where activations are computed again."""
    options = {"optimizer": ADAMW, "steps": 2}
    folders = [tmp_path / name for name in ("whole", "parts")]
    train(ALONE, folders[0], method, **options)
    strategy = replace(ALONE, accumulate=7, checkpoint_activations=True)
    train(strategy, folders[1], method, **options)
    wanted, found = (tensors_of(folder) for folder in folders)
    assert_close(found, wanted)
    assert_same_log(*folders)


def test_what_cannot_be_split_is_refused(tmp_path: Path) -> None:
    one = trainer("audio_pretrain", tmp_path)
    one.objective.splits = False
    with pytest.raises(ValueError, match="one process, without micro batches"):
        Trainer(one.recipe, one.objective, tmp_path, CPU, replace(ALONE, accumulate=2))
    with pytest.raises(ValueError, match="accumulate 1 or more"):
        replace(ALONE, accumulate=0)
    with pytest.raises(ValueError, match="CUDA alone"):
        replace(ALONE, flex=True)


# Two processes


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("method", ["joint", "mutual_forcing", "self_forcing"])
def test_two_processes_are_one(method: str, tmp_path: Path) -> None:
    """Weights, average, fake score and optimisers; what is exported; what is logged."""
    options = {"optimizer": ADAMW, "steps": STEPS}
    folders = [tmp_path / name for name in ("one", "two")]
    train(ALONE, folders[0], method, **options)
    in_two_processes(_train_in_two, folders[1], method, options)
    wanted, found = (tensors_of(folder) for folder in folders)
    assert_close(found, wanted)
    start = trainer(method, tmp_path / "start", **options).ema.state_dict()
    exported = [load_file(folder / "weights.safetensors") for folder in folders]
    assert_close(*exported)
    assert max((v - start[name]).abs().max() for name, v in exported[0].items()) > 100 * CLOSE
    assert_same_log(*folders)


def _train_in_two(strategy: Strategy, folder: Path, method: str, options: dict) -> None:
    one = trainer(method, folder, strategy, **options)
    for name, parameter in one.objective.networks["model"].named_parameters():
        assert isinstance(parameter, DTensor), name
    one.run()


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_stop_together_and_resume_exactly(tmp_path: Path) -> None:
    """With Muon, as recipes have it; the signal reaches one process alone."""
    in_two_processes(_stop_and_resume, tmp_path)
    whole_run, resumed = (tensors_of(tmp_path / name) for name in ("whole", "stopped"))
    assert any("muon" in name for name in whole_run)
    assert_equal(resumed, whole_run)


def _stop_and_resume(strategy: Strategy, folder: Path) -> None:
    train(strategy, folder / "whole", "joint", steps=STEPS)
    train_some(strategy, folder / "stopped", "joint", steps=STEPS)
    if strategy.leads:  # a crash while the next state was written
        left = folder / "stopped" / "state.partial"
        left.mkdir()
        (left / "shard-00001-model-00001-of-00001.safetensors").write_bytes(b"torn")
    strategy.wait()
    train(strategy, folder / "stopped", "joint", steps=STEPS)


@pytest.mark.slow
@pytest.mark.distributed
def test_a_state_goes_on_in_another_number_of_processes(tmp_path: Path) -> None:
    options = {"optimizer": ADAMW, "steps": STEPS}
    train(ALONE, tmp_path / "whole", "joint", **options)
    train_some(ALONE, tmp_path / "from one to two", "joint", **options)
    in_two_processes(_go_on_and_begin, tmp_path, options)
    train(ALONE, tmp_path / "from two to one", "joint", **options)
    wanted = tensors_of(tmp_path / "whole")
    for name, newest in (("from one to two", f"state-{STEPS:08d}"), ("from two to one", None)):
        states = [path.name for path in (tmp_path / name).glob("state*")]
        assert states == [newest or "state.safetensors"]
        assert_close(tensors_of(tmp_path / name), wanted)


def _go_on_and_begin(strategy: Strategy, folder: Path, options: dict) -> None:
    train(strategy, folder / "from one to two", "joint", **options)
    train_some(strategy, folder / "from two to one", "joint", **options)


@pytest.mark.slow
@pytest.mark.distributed
def test_a_gradient_that_is_not_finite_is_skipped_by_all(tmp_path: Path) -> None:
    """Also with fewer rows than shares: two processes with two micro batches of two rows."""
    options = {"optimizer": ADAMW, "steps": 3, "batch": 2}
    _train_poisoned(ALONE, tmp_path / "one", options)
    in_two_processes(_train_poisoned, tmp_path / "two", options)
    wanted = tensors_of(tmp_path / "one")
    assert all(value.isfinite().all() for value in wanted.values())
    assert_close(tensors_of(tmp_path / "two"), wanted)


def _train_poisoned(strategy: Strategy, folder: Path, options: dict) -> None:
    """The second step meets a row of NaN, which only the last process has."""
    if strategy.ranks > 1:
        strategy = replace(strategy, accumulate=2, checkpoint_activations=True)
    one = trainer("joint", folder, strategy, **options)
    read = one.objective.batch

    def batch(step: int) -> LatentBatch:
        found = read(step)
        if step == 1:
            found.audio[1] = torch.nan
        return found

    one.objective.batch = batch
    one.run()


@pytest.mark.slow
@pytest.mark.distributed
def test_mixed_precision_keeps_weights_and_moments_whole(tmp_path: Path) -> None:
    in_two_processes(_train_in_bfloat16, tmp_path / "half")
    train(ALONE, tmp_path / "full", "joint", optimizer=ADAMW, steps=2)
    half, full = (tensors_of(tmp_path / name) for name in ("half", "full"))
    assert full.keys() == half.keys()
    assert all(value.dtype == torch.float32 for value in half.values())
    ours, theirs = (logged(tmp_path / name)["loss"] for name in ("half", "full"))
    assert ours != theirs and ours == pytest.approx(theirs, rel=0.02)


def _train_in_bfloat16(strategy: Strategy, folder: Path) -> None:
    strategy = replace(strategy, bfloat16=True)
    train(strategy, folder, "joint", optimizer=ADAMW, steps=2)


@pytest.mark.slow
@pytest.mark.distributed
def test_muon_of_shards_is_muon() -> None:
    in_two_processes(_step_of_muon)


def _step_of_muon(strategy: Strategy) -> None:
    """The same gradients, sharded and whole, give the same weights bit by bit, also after loading others."""
    plain, sharded = (nn.Sequential(nn.Linear(6, 5), nn.Conv1d(5, 3, 3)) for _ in range(2))
    for one in (plain, sharded):
        for index, parameter in enumerate(one.parameters()):
            values = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index))
            parameter.data.copy_(values)
    strategy.prepare(sharded)
    both = plain, sharded
    optimizers = [Optimizers(one, OptimizerConfig()) for one in both]
    for step in range(3):
        if step == 2:
            with torch.no_grad():
                for one in both:
                    next(one.parameters()).mul_(0.5)
            for optimizer in optimizers:
                optimizer.follow()
        for ours, theirs in zip(*(one.parameters() for one in both), strict=True):
            gradient = torch.randn(ours.shape, generator=torch.Generator().manual_seed(step))
            ours.grad = gradient
            theirs.grad = distribute_tensor(gradient, theirs.device_mesh, theirs.placements)
        for optimizer in optimizers:
            optimizer.step(1e-2)
        for ours, theirs in zip(*(one.parameters() for one in both), strict=True):
            assert torch.equal(ours, whole(theirs))
    names = [set(optimizer.state_tensors()) for optimizer in optimizers]
    assert names[1] < names[0], "each process has the momentum of some matrices"


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("method", ["joint", "mutual_forcing"])
def test_a_model_of_wan_is_trained_by_two_processes(method: str, tmp_path: Path) -> None:
    """The tiny random system of Wan's shape, with its text encoder, by the same trainer."""
    folders = _train_wan_alone_and(_train_wan, method, tmp_path)
    wanted, found = (tensors_of(folder) for folder in folders)
    assert any("layers.1.branches.audio" in name for name in wanted)
    assert_close(found, wanted)


def _train_wan_alone_and(job: Callable[..., None], method: str, tmp_path: Path) -> list[Path]:
    """The folders of a training by one process, and of one that two do as `job`."""
    from test_wan_system import TEXT_DIM, write_text_folder

    text = write_text_folder(tmp_path / "pipeline", TEXT_DIM)
    folders = [tmp_path / name for name in ("one", "two")]
    _train_wan(ALONE, folders[0], method, text)
    in_two_processes(job, folders[1], method, text)
    return folders


def _train_wan(strategy: Strategy, folder: Path, method: str, text: Path) -> None:
    from test_wan_system import system_config
    from tiny_training import Sources

    options = {"optimizer": ADAMW, "steps": 2, "batch": 2}
    trainer(method, folder, strategy, sources=Sources(system_config(text)), **options).run()


@pytest.mark.slow
@pytest.mark.distributed
def test_a_process_never_has_all_of_a_large_network_to_itself(tmp_path: Path) -> None:
    """Model, average and fake score: halves of them, and the pages of one file, which all share."""
    from test_wan_system import TEXT_DIM, system_config, write_text_folder

    small = system_config(write_text_folder(tmp_path / "pipeline", TEXT_DIM))
    branches = {n: replace(b, width=512) for n, b in small.model.branches.items()}
    config = replace(
        small, model=replace(small.model, **branches, heads=16, layers=4, ffn_width=4096)
    )
    weights = System.build(config).model.state_dict()
    folder = tmp_path / "stages" / "joint"
    folder.mkdir(parents=True)
    save_tensors(weights, folder / "weights.safetensors", {})
    size = sum(tensor.nbytes for tensor in weights.values())
    assert size > 200 * 2**20
    del weights
    in_two_processes(_prepare_large, tmp_path, config, size)


class Large(Workspace):
    """A run that learns from noise."""

    def latents(self, system: System, branches: tuple[str, ...]) -> NoiseClips:
        return NoiseClips(system.model)


def _prepare_large(strategy: Strategy, root: Path, config: SystemConfig, size: int) -> None:
    sources = Large(root, "smoke", CPU)
    sources.system_config = config
    sources.system("joint")  # what it imports is not what is measured
    before = _status("RssAnon")
    read = sources.system("joint")
    assert _status("RssAnon") - before < 0.1 * size, "read where it lies"
    del read
    Path("/proc/self/clear_refs").write_text("5")  # forget the largest size so far
    before = _status("VmHWM")
    made = trainer("mutual_forcing", root / "run", strategy, sources=sources, optimizer=ADAMW)
    assert {*made.objective.networks} == {"model", "fake"}
    taken = (_status("VmHWM") - before) / size
    assert taken < 2.8, f"{taken:.2f} times the network"
    wanted = load_file(root / "stages" / "joint" / "weights.safetensors")
    for network in (made.ema, *made.objective.networks.values()):
        for name, value in network.state_dict().items():
            assert torch.equal(whole(value), wanted[name]), name


def _status(name: str) -> int:
    """Bytes, from /proc/self/status."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(name))
    return 1024 * int(line.split()[1])


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("method", ["joint", "mutual_forcing", "bidirectional"])
def test_two_processes_share_the_chunks_of_a_clip(method: str, tmp_path: Path) -> None:
    """Ulysses: the weights of one process, where clips are split and where rollouts are not."""
    folders = _train_wan_alone_and(_train_wan_by_chunks, method, tmp_path)
    wanted, found = (tensors_of(folder) for folder in folders)
    assert_close(found, wanted)
    assert_same_log(*folders)


def _train_wan_by_chunks(strategy: Strategy, folder: Path, method: str, text: Path) -> None:
    split, exchange = [], SequenceParallel.to_heads

    def counted(self: SequenceParallel, x: torch.Tensor) -> torch.Tensor:
        split.append(x.shape)
        return exchange(self, x)

    SequenceParallel.to_heads = counted
    _train_wan(replace(strategy, sequence=2), folder, method, text)
    assert split, "clips were shared out"


@pytest.mark.slow
@pytest.mark.distributed
def test_chunks_are_exchanged_for_heads_and_back() -> None:
    in_two_processes(_exchange)


def _exchange(strategy: Strategy) -> None:
    sequence = sequence_group(replace(strategy, sequence=2))
    whole_clip = torch.arange(2 * 4 * 3 * 6 * 5, dtype=torch.float32).view(2, 4, 3, 6, 5)
    mine = whole_clip.chunk(2, 1)[strategy.rank].clone().requires_grad_()
    heads = sequence.to_heads(mine)
    assert torch.equal(heads, whole_clip.chunk(2, 3)[strategy.rank])
    assert torch.equal(sequence.to_chunks(heads), mine)
    gathered = sequence.gather(sequence.to_chunks(heads))
    assert torch.equal(gathered, whole_clip)
    (gathered * whole_clip).sum().backward()
    assert torch.equal(mine.grad, mine.detach())
    weight = torch.ones(3, requires_grad=True)
    sequence.shared(weight).sum().backward()
    assert torch.equal(sequence.shared(weight), weight) and weight.grad.tolist() == [0.5] * 3
    assert sequence.splits(4) and not sequence.splits(1) and not sequence.splits(3)


def test_impossible_groups_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no whole number of groups of 2"):
        replace(ALONE, sequence=2)
    with pytest.raises(ValueError, match="Wan's shape whose heads"):
        Strategy(CPU, ranks=2, sequence=2).prepare(nn.Linear(2, 2))


# The command


def test_what_one_process_does_is_refused_to_several(tmp_path: Path) -> None:
    options = argparse.Namespace(run=tmp_path, preset="smoke", recipe="encode_audio")
    with pytest.raises(ValueError, match="call it without torchrun"):
        train_in(options, Strategy(CPU, ranks=2))


DIES_ONCE = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from training import recipes, train
from training.trainer import Trainer
build = recipes.BUILDERS["mutual_forcing"]
recipes.BUILDERS["mutual_forcing"] = lambda scale: replace(build(scale), save_every=1)
begin, mark = Trainer._begin, Path(sys.argv.pop())
def _begin(self, *args):
    turns = begin(self, *args)
    if self.step == 3 and self.strategy.rank == 1 and not mark.exists():
        mark.touch()
        next(turns)
        os.kill(os.getpid(), signal.SIGKILL)
    return turns
Trainer._begin = _begin
sys.exit(train.main())
"""
"""`training.train` that saves after every step; a process of it dies within the fourth, the first time."""


@pytest.mark.distributed
@pytest.mark.slow
def test_torchrun_trains_a_stage_and_goes_on_after_a_crash(
    trained: Workspace, tmp_path: Path
) -> None:
    script, runs = tmp_path / "dies_once.py", [tmp_path / name for name in ("whole", "killed")]
    script.write_text(DIES_ONCE, encoding="utf-8")
    before = STAGES[: STAGES.index("joint") + 1]
    for run in runs:
        (run / "stages").mkdir(parents=True)
        for name in (*(f"stages/{stage}" for stage in before), "corpus", "latents"):
            (run / name).symlink_to((trained.root / name).resolve())
    mark = tmp_path / "died"
    # Without "--" torchrun takes --run for its own --run-path.
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, "--nproc-per-node=2", "--"]
    options = ["mutual_forcing", "--preset", "smoke", "--device", "cpu", "--steps"]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }

    def start() -> int:
        line = [*command, script, *options, "4", "--run", runs[1], mark]
        return subprocess.run(line, env=environment, check=False, timeout=600).returncode

    in_two_processes(_train_without_torchrun, runs[0], 4)
    stage = runs[1] / "stages" / "mutual_forcing"
    assert start() != 0 and mark.exists()
    assert [path.name for path in stage.glob("state-*")] == ["state-00000003"]
    assert start() == 0
    whole_run, killed = (tensors_of(run / "stages" / "mutual_forcing") for run in runs)
    assert_equal(killed, whole_run)
    record = json.loads((stage / "record.json").read_text(encoding="utf-8"))
    assert record["processes"] == 2


def _train_without_torchrun(strategy: Strategy, run: Path, steps: int) -> None:
    """What the command does, by processes that have read the modules already."""
    strategy = replace(strategy, bfloat16=None)
    Workspace(run, "smoke", CPU).train("mutual_forcing", steps, strategy=strategy)
