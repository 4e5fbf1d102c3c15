"""Jobs at the same time: order, sharing of the machine, what a failure and a Ctrl-C leave behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from training.reproduce import JOBS
from training.workers import Job, run_jobs

MAKE = "import sys, time; from pathlib import Path; Path(sys.argv[1]).write_text(str(time.time()))"
PATIENT = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGTERM, signal.default_int_handler)
try:
    Path(sys.argv[1] + ".begun").touch(); time.sleep(200)
except KeyboardInterrupt:
    time.sleep(0.3); Path(sys.argv[1]).write_text("saved"); sys.exit(130)
"""
STUBBORN = """
import os, signal, sys, time
from pathlib import Path
signal.signal(signal.SIGTERM, signal.default_int_handler)
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    Path(sys.argv[1] + ".begun").write_text(str(os.getpid())); time.sleep(200)
except KeyboardInterrupt:
    Path(sys.argv[1] + ".saving").touch(); time.sleep(200)
"""


def job(
    folder: Path,
    name: str,
    *after: str,
    code: str = MAKE,
    apart: bool = False,
) -> Job:
    path = folder / name
    command = ("-c", code, str(path))

    def here() -> None:
        path.write_text(str(time.time()))
        (folder / f"{name}.here").touch()

    return Job(name, path.exists, 0.1, after, None if apart else here, command)


def made(folder: Path) -> list[str]:
    times = {path.name: float(path.read_text()) for path in folder.iterdir() if not path.suffix}
    return sorted(times, key=times.__getitem__)


def test_jobs_wait_for_what_they_need_and_run_beside_what_they_do_not(tmp_path: Path) -> None:
    """The long one lasts until those beside it are made: in turn with them it would last for ever."""
    shorter = str(tmp_path / "shorter")
    until = f"import os, time\nwhile not os.path.exists({shorter!r}): time.sleep(0.05)\ntime.sleep(0.05)\n"
    run_jobs(
        [
            job(tmp_path, "corpus"),
            job(tmp_path, "long", "corpus", code=f"{until}{MAKE}"),
            job(tmp_path, "short", "corpus"),
            job(tmp_path, "shorter", "short"),
            job(tmp_path, "last", "long", "shorter"),
        ],
        2,
    )
    assert made(tmp_path) == ["corpus", "short", "shorter", "long", "last"]
    alone = {path.stem for path in tmp_path.glob("*.here")}
    assert alone == {"corpus", "last"}, "what is ready alone has the whole machine"


def test_one_worker_keeps_everything_in_this_process(tmp_path: Path) -> None:
    run_jobs([job(tmp_path, "one"), job(tmp_path, "two")], 1)
    assert made(tmp_path) == ["one", "two"] and len(list(tmp_path.glob("*.here"))) == 2


def test_what_needs_a_process_of_its_own_gets_one_also_when_it_is_alone(tmp_path: Path) -> None:
    run_jobs([job(tmp_path, "one", apart=True), job(tmp_path, "two", "one", apart=True)], 1)
    assert made(tmp_path) == ["one", "two"] and not list(tmp_path.glob("*.here"))


def test_a_job_that_was_interrupted_interrupts_the_whole(tmp_path: Path) -> None:
    stopped = job(tmp_path, "stopped", code="raise SystemExit(130)", apart=True)
    with pytest.raises(KeyboardInterrupt):
        run_jobs([stopped], 1)


def test_what_is_done_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("0.0")
    run_jobs([job(tmp_path, "one"), job(tmp_path, "two", "one")], 2)
    assert (tmp_path / "one").read_text() == "0.0" and made(tmp_path) == ["one", "two"]


def test_a_failure_lets_the_others_save(tmp_path: Path) -> None:
    wrong = f"""
import sys, time
from pathlib import Path
while not Path({str(tmp_path / "patient.begun")!r}).exists():
    time.sleep(0.1)
time.sleep(0.3); sys.exit(3)
"""
    jobs = [
        job(tmp_path, "patient", code=PATIENT),
        job(tmp_path, "wrong", code=wrong),
        job(tmp_path, "never", "wrong"),
    ]
    with pytest.raises(ValueError, match="wrong failed"):
        run_jobs(jobs, 2)
    assert (tmp_path / "patient").read_text() == "saved" and not (tmp_path / "never").exists()


def started(folder: Path, code: str) -> subprocess.Popen[bytes]:
    """A process that runs two jobs of `code` beside each other, which have begun."""
    source = f"""
import signal
from pathlib import Path
import test_workers
from training.command import run
from training.workers import run_jobs
signal.signal(signal.SIGINT, signal.default_int_handler)
folder = Path({str(folder)!r})
jobs = [test_workers.job(folder, name, code=test_workers.{code}) for name in ("one", "two")]
raise SystemExit(run(lambda: run_jobs(jobs, 2)))
"""
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here}:{here.parent}"}
    process = subprocess.Popen([sys.executable, "-c", source], env=environment)
    wait_for(folder, "*.begun")
    return process


def wait_for(folder: Path, pattern: str) -> None:
    until = time.monotonic() + 600
    while len(list(folder.glob(pattern))) < 2 and time.monotonic() < until:
        time.sleep(0.1)
    time.sleep(0.3)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_lets_all_save_and_ends(number: signal.Signals, tmp_path: Path) -> None:
    process = started(tmp_path, "PATIENT")
    os.kill(process.pid, number)
    assert process.wait(timeout=600) == 130
    assert all((tmp_path / name).read_text() == "saved" for name in ("one", "two"))


@pytest.mark.slow
def test_a_second_ctrl_c_ends_what_saves_for_too_long(tmp_path: Path) -> None:
    process = started(tmp_path, "STUBBORN")
    os.kill(process.pid, signal.SIGINT)
    wait_for(tmp_path, "*.saving")
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(timeout=600) == 130
    for path in tmp_path.glob("*.begun"):
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.read_text()), 0)


def test_every_job_of_reproduce_waits_for_jobs_that_exist_before_it() -> None:
    names = list(JOBS)
    for name, (share, after) in JOBS.items():
        assert share >= 0 and all(names.index(other) < names.index(name) for other in after)
    needed = {other for _, after in JOBS.values() for other in after}
    assert set(names) - needed == {"export"}, "the checkpoint waits for everything"
