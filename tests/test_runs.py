"""The examples that set every field of the request."""

from __future__ import annotations

import json
from dataclasses import astuple, fields
from pathlib import Path

import pytest

from mutual_forcing.demo import runs
from mutual_forcing.demo.inputs import DRIVES, Form
from mutual_forcing.demo.page import build_demo
from mutual_forcing.demo.settings import NAMES

PATHS = sorted(runs.RUNS.glob("*.json"))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_an_example_sets_every_field_and_is_a_valid_request(path, random_generator):
    named = {*NAMES, "character", "voice"} - {"size", "framing", "face", "language"}
    assert named <= set(json.loads(path.read_text()))
    form = runs.read_run(path)
    assert Path(form.picture).is_file()
    request = form.request()
    assert (request.audio is not None) == (form.sound_use == DRIVES)
    assert random_generator.plan(request).chunks > 0


def test_the_examples_show_both_modes_and_both_uses_of_a_sound():
    forms = [runs.read_run(path) for path in PATHS]
    assert {form.steps > 8 for form in forms} == {True, False}
    assert len({form.sound_use for form in forms}) == 2


@pytest.mark.parametrize("speaks", ["random_generator", "english_generator"])
def test_a_click_fills_the_fields_in_their_order(speaks, request):
    """The last one, the language, is there where the checkpoint speaks several."""
    demo = build_demo(request.getfixturevalue(speaks))
    fill = next(fn for fn in demo.fns.values() if fn.name == "fill")
    count = len(fields(Form)) - (speaks == "english_generator")
    assert tuple(fill.fn(0)) == astuple(runs.read_run(PATHS[0]))[:count]
    assert len(fill.outputs) == count


def test_an_example_that_leaves_a_field_open_is_refused(tmp_path):
    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps({"character": "01.png", "text": "Hello."}))
    with pytest.raises(ValueError, match="does not set every field"):
        runs.read_run(broken)
