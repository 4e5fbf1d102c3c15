"""Metrics to JSONL and TensorBoard, and a progress bar with the time left."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import TracebackType

from tqdm import tqdm


class Tracker:
    """Writes `metrics.jsonl` and TensorBoard events under `folder`; a context manager.

    What a killed process logged after its last saved state (`start` steps) is dropped: it comes again. One of
    several processes `writes`; the others' say nothing.
    """

    def __init__(
        self, folder: Path, name: str, steps: int, start: int, writes: bool = True
    ) -> None:
        self.writes = writes
        if not writes:
            return
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "metrics.jsonl"
        kept = _until(path, start)
        path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        self._file = path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=start)
        self._bar = tqdm(
            total=steps, initial=start, desc=name, unit="step", mininterval=10, dynamic_ncols=True
        )
        self._began = time.monotonic()

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.writes:
            self._file.close()
            self._board.close()
            self._bar.close()

    def log(self, step: int, values: dict[str, float]) -> None:
        """Record scalars of one step."""
        if not self.writes:
            return
        row = {"step": step, "seconds": round(time.monotonic() - self._began, 2), **values}
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)
        if "loss" in values:
            self._bar.set_postfix({"loss": f"{values['loss']:.4f}"}, refresh=False)

    def advance(self) -> None:
        """One step done."""
        if self.writes:
            self._bar.update()


def _until(path: Path, step: int) -> list[str]:
    """The lines of a log up to `step`; a last one that was cut off is dropped."""
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if row["step"] <= step:
            kept.append(line)
    return kept
