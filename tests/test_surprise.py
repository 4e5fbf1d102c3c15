""" "Surprise me": the bundled characters, the tool that draws them, and the button."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from mutual_forcing.demo import components
from mutual_forcing.demo.inputs import read_character
from mutual_forcing.demo.page import build_demo
from mutual_forcing.deploy import space_files
from mutual_forcing.media import read_image

ROOT = Path(__file__).parents[1]
BUNDLED = sorted(components.SURPRISES.glob("*.webp"))


def surprise_of(demo: gr.Blocks):
    return next(fn for fn in demo.fns.values() if fn.name == "surprise")


@pytest.mark.slow
def test_the_bundled_characters_can_be_read_and_all_differ():
    pictures = [read_character(str(path)) for path in BUNDLED]
    assert len(pictures) >= 40
    assert {picture.shape for picture in pictures} == {(512, 512, 3)}
    flat = np.stack([picture.astype(np.float32).ravel() for picture in pictures])
    apart = np.abs(flat[:, None, ::16] - flat[None, :, ::16]).mean(-1)
    assert apart[~np.eye(len(flat), dtype=bool)].min() > 5
    assert min(picture.std() for picture in pictures) > 20
    assert sum(path.stat().st_size for path in BUNDLED) < 1_000_000


def test_they_are_none_of_the_gallery_and_go_to_spaces():
    examples = {path.read_bytes() for path in components.CHARACTERS.glob("*.png")}
    assert not examples & {path.read_bytes() for path in BUNDLED}
    assert {path.relative_to(ROOT) for path in BUNDLED} <= set(space_files())


def test_pressing_again_gives_another_character(random_generator):
    surprise = surprise_of(build_demo(random_generator))
    shown = [""]
    for _ in range(60):
        picture, last = surprise.fn(shown[-1])
        assert picture == last != shown[-1]
        shown.append(picture)
    assert set(shown[1:]) <= {str(path) for path in BUNDLED}
    assert len(set(shown)) > 20
    assert isinstance(surprise.outputs[0], gr.Image)
    assert isinstance(surprise.outputs[1], gr.State) and surprise.inputs == surprise.outputs[1:]


@pytest.mark.slow
def test_without_the_folder_the_gallery_serves(random_generator, monkeypatch, tmp_path):
    monkeypatch.setattr(components, "SURPRISES", tmp_path)
    picture, _ = surprise_of(build_demo(random_generator)).fn("")
    assert Path(picture).parent == components.CHARACTERS


def test_a_single_character_may_come_again():
    only = [Path("a.webp")]
    assert components.another(only, "a.webp") == "a.webp"


@pytest.fixture(scope="module")
def gallery():
    moderngl = pytest.importorskip("moderngl")
    try:
        moderngl.create_standalone_context(backend="egl").release()
    except Exception as error:
        pytest.skip(f"no EGL on this machine: {error}")
    from training.data import gallery as tool

    return tool


def test_the_same_seed_draws_the_same_characters(gallery):
    first, again = (list(gallery.portraits([0, 1], seed=7, size=64)) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first[0], first[1])
    other = next(gallery.portraits([0], seed=8, size=64))
    assert not np.array_equal(first[0], other)


def test_the_tool_writes_what_is_bundled(gallery, tmp_path, capsys):
    assert gallery.main(["--count", "2", "--seed", "1000", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("2 characters")
    written = sorted(tmp_path.glob("*.webp"))
    assert len(written) == 2
    for made, bundled in zip(written, BUNDLED, strict=False):
        assert Image.open(made).format == "WEBP"
        difference = read_image(made).astype(float) - read_image(bundled)
        # Another rasteriser may draw an edge a little differently.
        assert np.abs(difference).mean() < 4


@pytest.mark.parametrize("wrong", [["--count", "0"], ["--seed", "-1"], ["--size", "3"]])
def test_wrong_arguments_are_one_sentence(gallery, wrong, tmp_path, capsys):
    assert gallery.main([*wrong, "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
