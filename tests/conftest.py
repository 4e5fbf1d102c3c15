"""Fixtures shared by the tests: a real corpus of two identities, and a random generator."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from mutual_forcing import StreamingGenerator


@pytest.fixture(scope="session")
def corpus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two identities (one held out) of two clips at 128 px, synthesised for real."""
    if shutil.which("flite") is None:
        pytest.skip("flite is not installed: apt-get install flite")
    pytest.importorskip("moderngl", reason="pip install -r training/requirements.txt")
    from training.data.synthesize import CorpusOptions, synthesize

    folder = tmp_path_factory.mktemp("corpus")
    options = CorpusOptions(hours=0.001, seed=5, size=128, heldout=0.5, clips_per_identity=2)
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
def random_generator() -> StreamingGenerator:
    """The tiny preset with random weights: real code, output is noise."""
    return StreamingGenerator.random("tiny")


@pytest.fixture
def picture() -> np.ndarray:
    """A picture of no particular size."""
    return np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
