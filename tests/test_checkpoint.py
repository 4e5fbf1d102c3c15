"""Checkpoints: what was saved under old names is what is loaded under today's."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from mutual_forcing.checkpoint import PRETRAINED, System, load_checkpoint, save_checkpoint
from mutual_forcing.config import SystemConfig, preset
from mutual_forcing.text.inventory import NEEDED

OLD = (
    (
        "model.blocks.{layer}.branches.{branch}.modulation",
        "model.branches.{branch}.layers.{layer}.table",
    ),
    (
        "model.blocks.{layer}.branches.{branch}.cross.",
        "model.branches.{branch}.layers.{layer}.tail.cross.",
    ),
    (
        "model.blocks.{layer}.branches.{branch}.ffn.",
        "model.branches.{branch}.layers.{layer}.tail.ffn.",
    ),
    (
        "model.blocks.{layer}.branches.{branch}.out.",
        "model.branches.{branch}.layers.{layer}.tail.out.",
    ),
    ("model.blocks.{layer}.branches.{branch}.", "model.branches.{branch}.layers.{layer}.head."),
    ("model.branches.{branch}.contexts.last.", "model.branches.{branch}.underlays.before."),
    ("model.branches.{branch}.contexts.", "model.branches.{branch}.underlays."),
    ("model.branches.{branch}.modulation.", "model.branches.{branch}.noise."),
    ("model.branches.{branch}.out_modulation.", "model.branches.{branch}.out_noise."),
    ("video_codec.", "video_autoencoder."),
    ("audio_codec.", "audio_autoencoder."),
)


def old_name(key: str) -> str:
    """What a weight was called before there were joint blocks and codecs."""
    for layer in range(2):
        for branch in ("video", "audio"):
            for new, old in OLD:
                start = new.format(layer=layer, branch=branch)
                if key.startswith(start):
                    return old.format(layer=layer, branch=branch) + key[len(start) :]
    return key


def test_weights_and_config_of_before_load_through_the_key_map(tmp_path) -> None:
    torch.manual_seed(0)
    system = System.build(preset("smoke"))
    for module in system.modules.values():
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter)
    save_checkpoint(system, tmp_path, {}, half=False)
    tensors = load_file(tmp_path / "weights.safetensors")
    renamed = {old_name(key): value for key, value in tensors.items() if ".coupling." not in key}
    for branch in ("video", "audio"):
        layers = [tensors[f"model.blocks.{layer}.coupling.{branch}"] for layer in range(2)]
        renamed[f"model.coupling.{branch}"] = torch.stack(layers)
    assert not any("model.blocks" in key or "_codec" in key for key in renamed)
    save_file(renamed, tmp_path / "weights.safetensors")
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    for kind in ("video", "audio"):
        config[f"{kind}_autoencoder"] = config.pop(f"{kind}_codec")
        del config["model"][kind]["grid"]
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    loaded = load_checkpoint(tmp_path)
    assert loaded.config == preset("smoke")
    for name, module in system.modules.items():
        own = loaded.modules[name].state_dict()
        assert all(torch.equal(value, own[key]) for key, value in module.state_dict().items()), name


def test_a_config_survives_its_file_and_a_foreign_one_is_refused() -> None:
    config = preset("tiny")
    assert SystemConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(ValueError, match="does not fit this version"):
        SystemConfig.from_dict({"name": "of something else"})


def test_a_checkpoint_knows_its_phonemes_and_old_ones_know_the_english(tmp_path) -> None:
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
    values = preset("smoke").to_dict()
    for part in ("model", "duration"):
        assert values[part].pop("phonemes") == NEEDED["en"]
    assert SystemConfig.from_dict(values) == preset("smoke")
    with pytest.raises(ValueError, match="The model knows 74 phonemes, its duration predictor 41"):
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
