"""What the tests share: a real corpus of two identities, a run trained on it, generators.

A test that needs what takes long to make is marked as slow: `pytest -m "not slow and not browser"` renders
no corpus, trains nothing, serves no page to clients and does not run the served checkpoint.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

# Before torch reads it, and for the processes that tests start: networks this small are no faster with two
# threads, which then spend twice the time waiting for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch

from mutual_forcing import StreamingGenerator
from mutual_forcing.checkpoint import PRETRAINED, System
from mutual_forcing.config import preset
from mutual_forcing.text.inventory import NEEDED

if TYPE_CHECKING:
    from training.stages import Workspace

SLOW_TO_MAKE = {
    "corpus_folder",
    "portraits_folder",
    "served_generator",
    "address",  # of a page that is served
    "server",  # the same
    "engine",  # served to pages
    "compared",  # films of several variants
    "tall",  # the same
}
"""Fixtures that mark every test that uses them, directly or not, as slow."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if SLOW_TO_MAKE.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def corpus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two identities (one held out) of two clips at 128 px, synthesised for real."""
    pytest.importorskip("moderngl", reason="pip install -r training/requirements.txt")
    from training.data.synthesize import CorpusOptions, synthesize

    folder = tmp_path_factory.mktemp("corpus")
    options = CorpusOptions(hours=0.001, seed=76, size=128, heldout=0.5, clips_per_identity=2)
    synthesize(options, folder, workers=2)
    return folder


@pytest.fixture(scope="session")
def portraits_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three people drawn for real, 128 px."""
    pytest.importorskip("moderngl", reason="pip install -r training/requirements.txt")
    from training.data.portraits import PortraitOptions, make_portraits

    folder = tmp_path_factory.mktemp("portraits")
    make_portraits(PortraitOptions(identities=3, seed=5, size=128), folder, workers=2)
    return folder


@pytest.fixture(scope="session")
def workspace(
    corpus_folder: Path, portraits_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Workspace:
    """A run of the smoke scale with everything before the transformer done."""
    from training.data.world import write_all
    from training.recipes import STAGES
    from training.stages import Workspace

    root = tmp_path_factory.mktemp("run")
    (root / "corpus").symlink_to(corpus_folder)
    (root / "portraits").symlink_to(portraits_folder)
    workspace = Workspace(root, "smoke", torch.device("cpu"))
    write_all(workspace.corpus().clips, workers=1)
    for name in STAGES[: STAGES.index("audio_pretrain")]:
        workspace.train(name)
    for branch in ("audio", "video"):
        workspace.encode(branch)
    return workspace


@pytest.fixture(scope="session")
def trained(workspace: Workspace) -> Workspace:
    """Every stage of the transformer done, two steps each."""
    from training.recipes import STAGES

    for name in STAGES[STAGES.index("audio_pretrain") :]:
        workspace.train(name)
    return workspace


@pytest.fixture(scope="session")
def random_generator() -> StreamingGenerator:
    """Random weights: real code, output is noise. The smallest preset takes a seventh of `tiny`'s time."""
    return StreamingGenerator.random("smoke")


@pytest.fixture(scope="session")
def lively_generator() -> StreamingGenerator:
    """Weights under which text, past and noise level matter: those of a new network start as nothing."""
    generator = StreamingGenerator.random("smoke", seed=3)
    noise = torch.Generator().manual_seed(0)
    for name, parameter in generator.system.model.named_parameters():
        scale = 0.0 if "coupling" in name else 0.01 if "contexts" in name else 0.05
        parameter.add_(scale * torch.randn(parameter.shape, generator=noise))
    return generator


@pytest.fixture(scope="session")
def english_generator() -> StreamingGenerator:
    """Random weights of a checkpoint that knows the phonemes of English alone."""
    config, known = preset("smoke"), NEEDED["en"]
    model = replace(config.model, phonemes=known)
    duration = replace(config.duration, phonemes=known)
    system = System.build(replace(config, model=model, duration=duration))
    for module in system.modules.values():
        module.eval().requires_grad_(False)
    return StreamingGenerator(system, torch.device("cpu"))


@pytest.fixture(scope="session")
def served_generator() -> StreamingGenerator:
    """The checkpoint in the package, loaded once for all tests; random weights while there is none."""
    if (PRETRAINED / "tiny" / "config.json").is_file():
        return StreamingGenerator.from_pretrained("tiny", device="cpu")
    return StreamingGenerator.random("tiny")


@pytest.fixture
def picture() -> np.ndarray:
    """A picture of no particular size."""
    return np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
