"""The one training loop on a toy: what is saved is whole, whatever interrupts it."""

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn

from training.command import Interrupted
from training.objectives.losses import Guidance
from training.recipes import BASELINES, STAGES
from training.stage_config import Recipe, Turns
from training.stages import Workspace
from training.tracker import Tracker
from training.trainer import Trainer, differences

CPU = torch.device("cpu")
STEPS = 5


@pytest.fixture(autouse=True)
def interrupts() -> Iterator[None]:
    """As at a terminal: where tests run in the background, Ctrl-C may be ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@dataclass(frozen=True)
class ToyConfig:
    kind: ClassVar[str] = "toy"

    def build(self, sources, recipe) -> "Toy":
        return Toy()


class Toy:
    """A line is fitted, then a second network to the first one's output of the same step."""

    splits = False

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.networks = {"model": nn.Linear(3, 3), "critic": nn.Linear(3, 3)}
        self.interrupts: dict[int, int] = {}
        self.signal = signal.SIGINT

    def batch(self, step: int) -> torch.Tensor:
        return torch.randn(4, 3, generator=torch.Generator().manual_seed(step))

    def step(self, batch, ema, generator, step) -> Turns:
        for name in ("model", "critic", "critic"):
            if name == "critic":  # the model has moved already
                for _ in range(self.interrupts.pop(step, 0)):
                    signal.raise_signal(self.signal)
            noise = torch.randn(batch.shape, generator=generator)
            out = self.networks[name](batch + noise)
            yield name, {"loss": (out - batch.flip(1)).square().mean()}

    def write_samples(self, ema, folder: Path, step: int) -> dict[str, float]:
        return {"heldout/step": float(step)}

    def finish(self, ema: nn.Module) -> None:
        return


def trainer(folder: Path, save_every: int = 100, steps: int = STEPS, seed: int = 0) -> Trainer:
    plan = Recipe("toy", ToyConfig(), steps, 4, seed=seed, save_every=save_every, sample_every=2)
    return Trainer(plan, Toy(), folder, CPU)


def weights(one: Trainer) -> list[torch.Tensor]:
    modules = [one.ema, *one.objective.networks.values()]
    return [value for module in modules for value in module.state_dict().values()]


@pytest.fixture
def whole(tmp_path: Path) -> list[torch.Tensor]:
    """The weights of a run that nothing interrupted."""
    one = trainer(tmp_path / "whole")
    one.run()
    return weights(one)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_within_a_step_waits_for_its_end(number, whole, tmp_path: Path) -> None:
    before = signal.getsignal(number)
    stopped = trainer(tmp_path / "run")
    stopped.objective.signal = number
    stopped.objective.interrupts = {2: 1}
    with pytest.raises(Interrupted, match="step 3"):
        stopped.run()
    assert signal.getsignal(number) is before
    resumed = trainer(tmp_path / "run")
    assert resumed.step == 3
    resumed.run()
    assert all(torch.equal(a, b) for a, b in zip(weights(resumed), whole, strict=True))


@pytest.mark.slow
def test_a_second_ctrl_c_stops_at_once_and_saves_no_half_step(whole, tmp_path: Path) -> None:
    stopped = trainer(tmp_path / "run", save_every=2)
    stopped.objective.interrupts = {3: 2}
    with pytest.raises(Interrupted, match="step 3"):
        stopped.run()
    resumed = trainer(tmp_path / "run", save_every=2)
    assert resumed.step == 2, "the newest whole state on disk"
    resumed.run()
    assert all(torch.equal(a, b) for a, b in zip(weights(resumed), whole, strict=True))


def test_ctrl_c_in_the_last_step_lets_the_stage_end_and_nothing_follow(tmp_path: Path) -> None:
    last = trainer(tmp_path / "run")
    last.objective.interrupts = {STEPS - 1: 1}
    with pytest.raises(Interrupted, match="done"):
        last.run()
    assert (tmp_path / "run" / "weights.safetensors").exists()


def test_a_training_goes_on_only_with_its_own_recipe(tmp_path: Path) -> None:
    trainer(tmp_path).run()
    with pytest.raises(ValueError, match=r"other seed: use a new folder"):
        trainer(tmp_path, seed=1)
    with pytest.raises(ValueError, match=f"has {STEPS} steps already, more than {STEPS - 1}"):
        trainer(tmp_path, steps=STEPS - 1)
    longer = trainer(tmp_path, save_every=1, steps=STEPS + 2)
    longer.run()
    assert longer.step == STEPS + 2


@pytest.mark.parametrize("name", [*STAGES, *BASELINES])
def test_a_longer_training_goes_on_with_a_shorter_and_no_other(name: str, tmp_path: Path) -> None:
    plans = [Workspace(tmp_path, "tiny", CPU).plan(name, steps) for steps in (50, 100)]
    saved = json.loads(json.dumps(plans[0].to_dict()))
    assert not differences(plans[0], saved) and not differences(plans[1], saved)
    assert differences(replace(plans[1], batch=3), saved) == ["batch"]
    assert "objective.kind" in differences(replace(plans[0], objective=ToyConfig()), saved)


def test_a_training_from_before_a_field_goes_on(tmp_path: Path) -> None:
    plan = Workspace(tmp_path, "tiny", CPU).plan("joint", 50)
    saved = json.loads(json.dumps(plan.to_dict()))
    del saved["optimizer"]["others"]
    assert not differences(plan, saved)
    faster = replace(plan, optimizer=replace(plan.optimizer, others=5.0))
    assert differences(faster, saved) == ["optimizer.others"]


def test_what_differs_is_named_by_its_place(tmp_path: Path) -> None:
    plans = [Workspace(tmp_path, "tiny", CPU).plan("mutual_forcing", steps) for steps in (50, 100)]
    saved = json.loads(json.dumps(plans[0].to_dict()))
    objective = replace(plans[1].objective, guidance=Guidance(2.0, 9.0))
    other = replace(plans[1], objective=objective)
    assert differences(other, saved) == ["objective.guidance.audio"], "no schedule"


def test_a_stage_killed_before_its_export_still_knows_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = trainer(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_export", lambda self: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception, match="killed"):
            killed.run()
    assert not (tmp_path / "record.json").exists()
    trainer(tmp_path).run()
    record = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))
    assert record["metrics"] == {"heldout/step": STEPS}
    assert record["seconds_per_step"] > 0 and record["peak_memory_gb"] > 0.05


def test_the_log_forgets_what_comes_again(tmp_path: Path) -> None:
    with Tracker(tmp_path, "toy", 9, 0) as tracker:
        for step in range(1, 7):
            tracker.log(step, {"loss": float(step)})
    with (tmp_path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 7, "lo')
    with Tracker(tmp_path, "toy", 9, 4) as tracker:
        tracker.log(5, {"loss": 0.5})
    lines = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5] and rows[-1]["loss"] == 0.5


def test_schedules_are_as_long_as_the_steps_that_are_asked_for(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, "tiny", CPU)
    for name in ("mutual_forcing", "mutual_forcing_sc"):
        plan = workspace.plan(name, 400, seed=3)
        assert plan.steps == 400 and plan.seed == 3 and plan.objective.rollout.ramp == 200
        assert plan.optimizer.warmup == 50
    assert workspace.plan("joint", 1000).objective.consistency.start == 400
    assert workspace.plan("joint") == workspace.plan("joint", workspace.plan("joint").steps)
    with pytest.raises(ValueError, match="at least one step"):
        workspace.plan("joint", 0)
