"""Checkpoints: what was saved under old names is what is loaded under today's."""

import json
from dataclasses import replace

import pytest

from mutual_forcing.checkpoint import PRETRAINED, System, load_checkpoint, save_checkpoint
from mutual_forcing.config import SystemConfig, preset
from mutual_forcing.text.inventory import NEEDED


def test_a_config_survives_its_file_and_a_foreign_one_is_refused() -> None:
    config = preset("tiny")
    assert SystemConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(ValueError, match="does not fit this version"):
        SystemConfig.from_dict({"name": "of something else"})


def test_a_checkpoint_knows_its_phonemes(tmp_path) -> None:
    both = NEEDED["ja"]
    config = preset("smoke")
    config = replace(
        config,
        model=replace(config.model, phonemes=both),
        duration=replace(config.duration, phonemes=both),
    )
    save_checkpoint(System.build(config), tmp_path, {})
    loaded = load_checkpoint(tmp_path)
    assert loaded.duration.known_phonemes == both
    assert loaded.model.text_encoder.phoneme.num_embeddings == both + 1
    with pytest.raises(ValueError, match="The model knows 74 phonemes, its duration predictor 93"):
        replace(config, duration=preset("smoke").duration)


def test_a_smaller_checkpoint_leaves_nothing_of_a_larger_one(tmp_path, monkeypatch) -> None:
    system = System.build(preset("smoke"))
    size = sum(v.nbytes for m in system.modules.values() for v in m.state_dict().values())
    monkeypatch.setattr("mutual_forcing.checkpoint.SHARD_BYTES", size // 3)
    save_checkpoint(system, tmp_path, {}, half=False)
    shards = {path.name for path in tmp_path.iterdir()}
    assert "weights.safetensors.index.json" in shards and len(shards) > 5
    monkeypatch.undo()
    save_checkpoint(system, tmp_path, {})
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"config.json", "record.json", "weights.safetensors"}


@pytest.mark.skipif(not (PRETRAINED / "tiny" / "config.json").is_file(), reason="no checkpoint")
def test_the_embedded_checkpoint_is_of_its_preset() -> None:
    """Runs go on from it: training.import_checkpoint, training.compare --checkpoint tiny."""
    assert load_checkpoint("tiny").config == preset("tiny")
