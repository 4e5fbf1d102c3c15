"""The one training loop. A stage is a recipe plus an objective; nothing here knows which."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from .command import Interrupted
from .distributed import Strategy, copied, whole
from .machine import peak_memory
from .optim import Optimizers, learning_rate, update_ema
from .stage_config import WHOLE, Objective, OptimizerConfig, Recipe, Share, Turns
from .tracker import Tracker
from .train_state import (
    find_state,
    load_state,
    names_under,
    prefixed,
    read_record,
    save_state,
    save_tensors,
)

log = logging.getLogger(__name__)
LOG_EVERY = 20
_KEPT = ("step", "seconds", "peak", "validation")
"""What the state holds of a trainer besides its tensors."""
_NETWORK = "player"
"""Prefix of the networks' tensors in a state. States of earlier runs have this word."""


@contextlib.contextmanager
def interrupts_noted() -> Iterator[Callable[[], bool]]:
    """Ctrl-C, or SIGTERM as machines that are taken away send it, is only noted, so that a step is whole when
    its state is saved; a second Ctrl-C stops at once.

    Yields whether it was asked for. Where there are no signals (in a thread) it never is, nor where they are
    ignored (Ctrl-C in the background).
    """
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        # SIGTERM may come twice, from the system and from the process that started this one.
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)

    alone = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    heard = [n for n, handler in before.items() if alone and handler not in (None, signal.SIG_IGN)]
    for number in heard:
        signal.signal(number, note)
    try:
        yield lambda: bool(asked)
    finally:
        for number in heard:
            signal.signal(number, before[number])


def step_generator(seed: int, step: int, stream: str, device: torch.device) -> torch.Generator:
    """Random numbers that depend on nothing but seed, step and purpose."""
    digest = hashlib.sha256(f"{seed}/{step}/{stream}".encode()).digest()
    generator = torch.Generator(device=device)
    return generator.manual_seed(int.from_bytes(digest[:7], "big"))


SCHEDULES = {"ramp", "start", "spectral_from", "critics_first"}
"""Fields of an objective that are steps of a stage: they move with its length."""


def differences(recipe: Recipe, saved: dict[str, Any] | None) -> list[str]:
    """Fields in which `recipe` is no continuation of a saved one, such as objective.rollout.longest; none
    for a state that holds no recipe.

    How it is watched changes nothing. A recipe of another length has other schedules, which may go on.
    """
    mine = _flat(json.loads(json.dumps(recipe.to_dict())))
    # What an earlier run's record does not say was as it is by default.
    theirs = (
        mine if saved is None else _flat({"optimizer": asdict(OptimizerConfig())}) | _flat(saved)
    )
    free = {"save_every", "sample_every"}
    if mine["steps"] != theirs.get("steps"):
        free |= {"steps", "ema"}
        free |= {name for name in (*mine, *theirs) if name.split(".")[0] == "optimizer"}
        free |= {name for name in (*mine, *theirs) if name.rsplit(".", 1)[-1] in SCHEDULES}
    names = sorted({*mine, *theirs} - free)
    return [name for name in names if mine.get(name) != theirs.get(name)]


def _flat(record: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


class Trainer:
    """Runs `recipe` on `objective`, keeping everything resumable under `folder`.

    Several processes run it together, each with its strategy: they call the networks, save and stop in the
    same order. Raises ValueError for an objective that cannot be split where the strategy splits batches.

    seconds: spent in steps and on their batches, not on samples. peak: bytes, see machine.peak_memory, until
    a process first writes samples or its state. validation: the newest held-out figures.
    """

    def __init__(
        self,
        recipe: Recipe,
        objective: Objective,
        folder: Path,
        device: torch.device,
        strategy: Strategy | None = None,
    ) -> None:
        self.strategy = strategy or Strategy(device)
        if self.strategy.shares != [WHOLE] and not objective.splits:
            raise ValueError(f"{recipe.name} is trained by one process, without micro batches.")
        self.recipe, self.objective, self.folder = recipe, objective, folder
        self.device = self.strategy.device
        self.step = 0
        self.seconds = 0.0
        self.peak = 0
        self._written = False
        self._whole = True
        self.validation: dict[str, float] = {}
        self.first = next(iter(objective.networks))
        self.ema = copied(objective.networks[self.first]).requires_grad_(False).eval()
        self.strategy.prepare(self.ema, learns=False)
        for module in objective.networks.values():
            self.strategy.prepare(module)
        self.optimizers = {
            name: Optimizers(module, recipe.optimizer)
            for name, module in objective.networks.items()
        }
        folder.mkdir(parents=True, exist_ok=True)
        state = find_state(folder)
        if state:
            self._restore(state)

    def run(self) -> None:
        """Train until the recipe's last step; Ctrl-C saves and raises Interrupted.

        What is saved is always the state between two steps: half a step is thrown away.
        """
        with interrupts_noted() as asked:
            self._learn(asked)
            self.objective.finish(self.ema)
            self._export()
            if self.strategy.any(asked()):
                raise Interrupted(f"{self.recipe.name} is done; nothing follows it.")

    def _learn(self, asked: Callable[[], bool]) -> None:
        recipe, stopped = self.recipe, False
        with Tracker(
            self.folder, recipe.name, recipe.steps, self.step, self.strategy.leads
        ) as tracker:
            try:
                began = time.monotonic()
                for batch in self._batches():
                    # All processes stop after the same step, whichever was asked to.
                    stopped = self.strategy.any(asked())
                    if stopped:
                        raise KeyboardInterrupt
                    values = self._train_step(batch)
                    self.step += 1
                    self._whole = True
                    self.seconds += time.monotonic() - began
                    if not self._written:
                        self.peak = max(self.peak, peak_memory(self.device))
                    tracker.advance()
                    last = self.step == recipe.steps
                    if self.step % LOG_EVERY == 0 or last:
                        tracker.log(self.step, values)
                    if self.step % recipe.sample_every == 0 or last:
                        tracker.log(self.step, self._samples())
                    if self.step % recipe.save_every == 0 or last:
                        self.save()
                    began = time.monotonic()
            except KeyboardInterrupt:
                if stopped or (self._whole and self.strategy.ranks == 1):
                    self.save()
                raise Interrupted(f"{recipe.name} stopped at step {self.step}.") from None

    def _batches(self) -> Iterator[Any]:
        """Prepare the next batch in a thread while the current one trains."""
        with ThreadPoolExecutor(1) as pool:
            pending = pool.submit(self.objective.batch, self.step)
            for step in range(self.step, self.recipe.steps):
                batch = pending.result()
                if step + 1 < self.recipe.steps:
                    pending = pool.submit(self.objective.batch, step + 1)
                yield batch

    def _train_step(self, batch: Any) -> dict[str, float]:
        recipe, values = self.recipe, {}
        lr = learning_rate(recipe.optimizer, self.step, recipe.steps)
        for module in self.objective.networks.values():
            module.train()
        shares = [self._begin(batch, share) for share in self.strategy.shares]
        while found := self._gradients(shares):
            name, losses = found
            prefix = "" if name == self.first else f"{name}/"
            values |= {prefix + key: value for key, value in losses.items()}
            rate = lr if name == self.first else lr * recipe.optimizer.others
            values[prefix + "gradient_norm"] = self._descend(name, rate)
        update_ema(self.ema, self.objective.networks[self.first], recipe.ema, self.step)
        values["lr"] = lr
        return values

    def _begin(self, batch: Any, share: Share) -> Turns:
        """The turns of a share of the batch; its random numbers are those of the whole batch."""
        generator = step_generator(self.recipe.seed, self.step, self.recipe.name, self.device)
        parts = () if share == WHOLE else (share,)
        return self.objective.step(batch, self.ema, generator, self.step, *parts)

    def _gradients(self, shares: list[Turns]) -> tuple[str, dict[str, float]] | None:
        """Leave the gradient of the next turn of all shares, and return its network and losses; None after
        the last turn.
        """
        name, values = "", {}
        for turns in shares:
            with self.strategy.autocast():
                turn = next(turns, None)
            if turn is None:
                return None
            if not name:
                self.objective.networks[turn[0]].zero_grad(set_to_none=True)
            name, losses = turn
            # Gradients are averaged over the processes, whose losses add up.
            (losses["loss"] * self.strategy.ranks).backward()
            for key, value in losses.items():
                values[key] = values.get(key, 0.0) + float(value.detach())
        return name, self.strategy.sum(values)

    def _descend(self, name: str, lr: float) -> float:
        """Follow the gradient, and return its norm; not where it is not finite, which all processes see."""
        parameters = self.objective.networks[name].parameters()
        norm = float(whole(nn.utils.clip_grad_norm_(parameters, self.recipe.optimizer.clip)))
        if not math.isfinite(norm):
            log.warning("%s step %d: gradient is not finite, skipped", name, self.step)
            return float("nan")
        self._whole = False
        self.optimizers[name].step(lr)
        return norm

    def _samples(self) -> dict[str, float]:
        samples = self.folder / "samples"
        samples.mkdir(exist_ok=True)
        self._written = True
        with torch.no_grad(), tempfile.TemporaryDirectory() as thrown_away:
            # All processes make them, because each holds a part of the network.
            out = samples if self.strategy.leads else Path(thrown_away)
            self.validation = self.objective.write_samples(self.ema, out, self.step)
        return self.validation

    def save(self) -> None:
        """Write the resumable state."""
        self._written = True
        figures = {name: getattr(self, name) for name in _KEPT}
        record = {**figures, "recipe": self.recipe.to_dict()}
        save_state(self._tensors(), self.folder, record, self.strategy)

    def _tensors(self) -> dict[str, Tensor]:
        """What a state holds, of it what this process has."""
        tensors = prefixed("ema", self.ema.state_dict())
        for name, module in self.objective.networks.items():
            tensors |= prefixed(f"{_NETWORK}.{name}", module.state_dict())
            tensors |= prefixed(f"optimizer.{name}", self.optimizers[name].state_tensors())
        return tensors

    def _restore(self, state: Path) -> None:
        record, names = read_record(state)
        self._check(record)
        for name in _KEPT:
            setattr(self, name, record.get(name, getattr(self, name)))
        for name, optimizers in self.optimizers.items():
            optimizers.prepare(names_under(f"optimizer.{name}", names))
        load_state(self._tensors(), state)
        for optimizers in self.optimizers.values():
            optimizers.follow()
        log.info("%s resumes at step %d", self.recipe.name, self.step)

    def _check(self, record: dict[str, Any]) -> None:
        """Raise ValueError if the state was saved by a training that this recipe does not go on with."""
        other = differences(self.recipe, record.get("recipe"))
        if other:
            raise ValueError(
                f"{self.folder} holds a training with other {', '.join(other)}: use a new folder, or delete "
                "that one."
            )
        if record["step"] > self.recipe.steps:
            raise ValueError(
                f"{self.folder} has {record['step']} steps already, more than {self.recipe.steps}: ask for "
                "at least as many, or delete it."
            )

    def _export(self) -> None:
        """Write the averaged weights and the stage's record; the mark that the stage is done."""
        weights = {}
        for name, value in self.ema.state_dict().items():
            tensor = whole(value)
            if self.strategy.leads:  # no device has room for all of a large network
                weights[name] = tensor.cpu()
        record = {
            "recipe": self.recipe.to_dict(),
            "hours": round(self.seconds / 3600, 3),
            "seconds_per_step": round(self.seconds / self.step, 4),
            "peak_memory_gb": round(self.peak / 2**30, 3),
            "metrics": self.validation,
            "device": str(self.device),
            "precision": "bf16" if self.strategy.computes_bfloat16 else "fp32",
            "processes": self.strategy.ranks,
        }
        if self.strategy.leads:
            (self.folder / "record.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
            save_tensors(weights, self.folder / "weights.safetensors", record)
        self.strategy.wait()
