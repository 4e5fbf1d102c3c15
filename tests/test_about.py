"""The About tab reads any checkpoint's folder, and says so when there is nothing to read."""

from __future__ import annotations

import json

import pytest

from mutual_forcing.checkpoint import load_checkpoint, save_checkpoint
from mutual_forcing.demo import about

CARD = "---\nlicense: mit\ntags: [a, b]\n---\n# A card\n\nIt has seen nothing.\n"


def test_a_checkpoint_knows_its_folder(random_generator, tmp_path):
    assert random_generator.system.folder is None
    save_checkpoint(random_generator.system, tmp_path / "own", {})
    assert load_checkpoint(tmp_path / "own").folder == tmp_path / "own"


def test_card_and_record_are_read_from_the_folder(tmp_path):
    (tmp_path / "README.md").write_text(CARD, encoding="utf-8")
    record = {
        "hours": 2.5,
        "stages": {"video_pretrain": {"steps": 7, "metrics": {"heldout/x": 0.5}}},
    }
    (tmp_path / "record.json").write_text(json.dumps(record), encoding="utf-8")
    front, card = about.model_card(tmp_path)
    assert front == {"license": "mit", "tags": "[a, b]"}
    assert card == "# A card\n\nIt has seen nothing."
    html = about.record_html(about.training_record(tmp_path))
    assert "video pretrain" in html and "<td>7</td>" in html and "x <b>0.5</b>" in html
    assert "hours 2.5" in html and "<td>–</td>" in html, "what is missing is shown as missing"


def test_a_card_leads_nowhere_else(tmp_path):
    """Neither to other files of the machine nor, by pictures, to other servers."""
    secret, hub = tmp_path / "secret.txt", tmp_path / "hub"
    secret.write_text("root:x:0:0", encoding="utf-8")
    outside = tmp_path / "checkpoint"
    outside.mkdir()
    (outside / "README.md").symlink_to(secret)
    (outside / "record.json").symlink_to("/dev/zero")
    assert about.model_card(outside) == ({}, "") and about.training_record(outside) == {}
    snapshot = hub / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (hub / "blobs").mkdir()
    pictures = (
        "![seen](https://evil.example/a.png) ![b][c] <img src=https://evil.example/d.png> "
        "<IMG\nSRC='//evil.example'> [link](https://good.example)\n[c]: https://evil.example/e.png"
    )
    (hub / "blobs" / "1").write_text(pictures, encoding="utf-8")
    (snapshot / "README.md").symlink_to("../../blobs/1")
    _, card = about.model_card(snapshot)
    assert card.startswith("seen b") and "[link](https://good.example)" in card
    assert "![" not in card and "<img" not in card.lower()


def test_a_folder_without_them_is_said_plainly(tmp_path, random_generator):
    for folder in (None, tmp_path, tmp_path / "nowhere"):
        assert about.model_card(folder) == ({}, "")
        assert "no readable training record" in about.record_html(about.training_record(folder))
    facts = about.facts_html(random_generator, {})
    assert "random weights" in facts and "does not say" in facts
    assert "up to 1080 on the shorter side" in facts and "2604.25819" in facts
    limits, side = about.limits_html(random_generator), random_generator.square_size
    assert "1920 on the longer one" in limits and f"{side} × {side} pixels" in limits


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", "7", "[" * 50_000, '{"stages": 3}', '{"stages": {"a": null}}', "\ud7ff", "{}"],
)
def test_foreign_records_do_no_harm(tmp_path, text):
    (tmp_path / "record.json").write_text(text, encoding="utf-8")
    assert about.record_html(about.training_record(tmp_path)).startswith("<p>")


def test_a_record_cannot_bring_its_own_markup():
    evil = "<img src=x onerror=alert(1)>"
    record = {evil: evil, "stages": {evil: {"steps": evil, "metrics": {evil: evil}}}}
    assert "<img" not in about.record_html(record)
