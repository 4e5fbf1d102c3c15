"""Checkpoints to and from a Hub: a local server that speaks its API (hub_endpoint.py)."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import portraits
import pytest
import torch
import yaml
from hub_endpoint import OWNER, TOKEN, HubServer, hub

import app
from mutual_forcing import StreamingGenerator, push
from mutual_forcing.checkpoint import PRETRAINED, load_checkpoint, save_checkpoint
from mutual_forcing.hub import HubName
from mutual_forcing.model_card import check_card, model_card
from mutual_forcing.types import GenerationRequest

ROOT = Path(__file__).parents[1]
NAME = f"{OWNER}/talk"
STAGES = {"joint": {"steps": 7, "batch": 2, "hours": 0.1}}
RECORD = {"preset": "smoke", "hours": 0.5, "stages": STAGES}


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A Hub, and this process told to use it: what HF_ENDPOINT, HF_TOKEN, HF_HOME... say at its start."""
    from huggingface_hub import constants

    with hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        files = server.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


@pytest.fixture
def checkpoint(random_generator, tmp_path) -> Path:
    folder = tmp_path / "checkpoint"
    save_checkpoint(random_generator.system, folder, RECORD)
    return folder


def test_what_was_pushed_is_what_is_loaded(server, checkpoint, random_generator) -> None:
    pinned = push.push_to_hub(checkpoint, NAME)
    assert pinned == HubName(NAME, server.repositories[NAME].branches["main"])
    loaded = load_checkpoint(NAME)
    own = load_checkpoint(checkpoint)
    assert loaded.digest == own.digest and loaded.config == own.config
    assert loaded.folder is not None and loaded.folder.name == pinned.revision
    for name, module in own.modules.items():
        for key, value in module.state_dict().items():
            assert torch.equal(value, loaded.modules[name].state_dict()[key]), (name, key)
    request = GenerationRequest(portraits.portrait(), "Hello.", steps=1, seconds=0.64)
    chunks = [
        next(StreamingGenerator(s, torch.device("cpu")).stream(request)) for s in (own, loaded)
    ]
    assert np.array_equal(chunks[0].frames, chunks[1].frames)
    assert np.array_equal(chunks[0].audio, chunks[1].audio)


def test_a_commit_pins_what_a_branch_does_not(server, checkpoint, tmp_path) -> None:
    first = push.push_to_hub(checkpoint, NAME)
    other = tmp_path / "other"
    save_checkpoint(StreamingGenerator.random("smoke", seed=1).system, other, {})
    push.push_to_hub(other, NAME)
    trial = push.push_to_hub(checkpoint, NAME, revision="trial/one")
    digest = {folder: load_checkpoint(folder).digest for folder in (checkpoint, other)}
    assert load_checkpoint(NAME).digest == digest[other]
    assert load_checkpoint(str(first)).digest == digest[checkpoint]
    assert load_checkpoint(NAME, revision=first.revision).digest == digest[checkpoint]
    assert load_checkpoint(f"{NAME}@trial/one").digest == digest[checkpoint]
    assert trial.revision == server.repositories[NAME].branches["trial/one"]
    asked = len(server.asked)
    load_checkpoint(str(first))
    assert len(server.asked) == asked, "a commit that is in the cache is not asked for again"


@pytest.fixture
def many(random_generator, monkeypatch, tmp_path) -> Path:
    """A checkpoint of several shards."""
    with monkeypatch.context() as patch:
        patch.setattr("mutual_forcing.checkpoint.SHARD_BYTES", 200_000)
        save_checkpoint(random_generator.system, tmp_path / "many", {}, half=False)
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 2
    return tmp_path / "many"


def test_a_smaller_checkpoint_leaves_no_shard_of_a_larger_one(server, checkpoint, many) -> None:
    push.push_to_hub(many, NAME)
    assert load_checkpoint(NAME).digest == load_checkpoint(many).digest
    server.repositories[NAME].commits[server.repositories[NAME].branches["main"]]["notes.txt"] = (
        b"mine"
    )
    push.push_to_hub(checkpoint, NAME)
    there = server.repositories[NAME].commits[server.repositories[NAME].branches["main"]]
    assert {name for name in there if "weights" in name} == {"weights.safetensors"}
    assert there["notes.txt"] == b"mine"
    assert load_checkpoint(NAME).digest == load_checkpoint(checkpoint).digest


def test_the_card_says_what_the_hub_asks_and_what_the_record_says(checkpoint) -> None:
    files = push.checkpoint_files(checkpoint, HubName(NAME))
    assert set(files) == {"README.md", "config.json", "record.json", "weights.safetensors"}
    card = files["README.md"].decode()
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"] == "apache-2.0" and front["library_name"] == "mutual-forcing"
    assert front["pipeline_tag"] == "image-to-video" and front["language"] == ["en", "ja"]
    assert "| joint | 7 | 2 | 0.1 |" in card and "It took 0.5 h" in card
    assert (
        f'from_pretrained("{NAME}")' in card and "What it has seen its record does not say" in card
    )


def test_a_card_that_somebody_wrote_stays(server, checkpoint) -> None:
    written = model_card(load_checkpoint(checkpoint), RECORD, "here")
    own = "\n".join(line for line in written.splitlines() if not line.startswith("# Written from"))
    (checkpoint / "README.md").write_text(own.replace("Mutual Forcing `smoke`", "My model"))
    push.push_to_hub(checkpoint, NAME)
    there = server.repositories[NAME].commits[server.repositories[NAME].branches["main"]]
    assert "# My model" in there["README.md"].decode()
    (checkpoint / "README.md").write_text("---\nlicense: mit\n---\n# My model\n")
    with pytest.raises(ValueError, match="lacks library_name, pipeline_tag, tags, language: add"):
        push.push_to_hub(checkpoint, NAME)


@pytest.mark.skipif(not (PRETRAINED / "tiny" / "config.json").is_file(), reason="no checkpoint")
def test_the_embedded_card_is_written_from_its_record() -> None:
    system = load_checkpoint("tiny")
    record = json.loads((PRETRAINED / "tiny" / "record.json").read_text(encoding="utf-8"))
    card = (PRETRAINED / "tiny" / "README.md").read_text(encoding="utf-8")
    assert card == model_card(system, record, "tiny")
    check_card(card)


@pytest.mark.slow
def test_the_lines_of_the_card_work(server, checkpoint, tmp_path) -> None:
    """In a program of its own, told by the environment as users tell it."""
    push.push_to_hub(checkpoint, NAME)
    there = server.repositories[NAME].commits[server.repositories[NAME].branches["main"]]
    code = re.findall(r"```python\n(.*?)```", there["README.md"].decode(), re.DOTALL)
    assert len(code) == 1
    portraits.save(portraits.portrait(), tmp_path / "face.png")
    environment = {
        **os.environ, "HF_ENDPOINT": server.address, "HF_HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": "",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code[0]], cwd=tmp_path, env=environment, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "hello.mp4").stat().st_size > 1000


class Bomb:
    """Runs as soon as somebody unpickles it."""

    def __reduce__(self):
        return exec, ("raise SystemExit('it was unpickled')",)


def test_pickles_are_neither_fetched_nor_loaded(server, checkpoint) -> None:
    push.push_to_hub(checkpoint, NAME)
    there = server.repositories[NAME].commits[server.repositories[NAME].branches["main"]]
    there |= {"pytorch_model.bin": pickle.dumps(Bomb()), "optimizer.pt": pickle.dumps(Bomb())}
    assert load_checkpoint(NAME).digest == load_checkpoint(checkpoint).digest
    config = {"config.json": (checkpoint / "config.json").read_bytes()}
    server.put("them/pickle", {**config, "pytorch_model.bin": pickle.dumps(Bomb())})
    with pytest.raises(ValueError, match=r"holds no weights .*pickled ones .* are never loaded"):
        load_checkpoint("them/pickle")
    assert not [asked for asked in server.asked if ".bin" in asked or ".pt" in asked]


def test_a_foreign_repository_is_refused_before_its_weights_come(server, checkpoint) -> None:
    big = {"model.safetensors": bytes(1000)}
    server.put("them/llama", {"config.json": b'{"model_type": "llama"}', **big})
    with pytest.raises(ValueError, match=r"^them/llama is no checkpoint of this version"):
        load_checkpoint("them/llama")
    server.put("them/nothing", big)
    with pytest.raises(ValueError, match=r"^them/nothing is no checkpoint .* no config\.json"):
        load_checkpoint("them/nothing")
    assert not [asked for asked in server.asked if "model.safetensors" in asked]
    # The configuration fits, the weights do not.
    config = {"config.json": (checkpoint / "config.json").read_bytes()}
    server.put("them/broken", {**config, "weights.safetensors": bytes(1000)})
    with pytest.raises(ValueError, match="is not a readable safetensors file"):
        load_checkpoint("them/broken")


def test_an_index_names_the_shards(many, tmp_path) -> None:
    digest = load_checkpoint(many).digest
    (many / "stray.safetensors").write_bytes(b"of something else")
    assert load_checkpoint(many).digest == digest, "what the index does not name is not read"
    first = sorted(many.glob("weights-*.safetensors"))[0]
    first.rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=rf"lacks {first.name}, which its index names"):
        load_checkpoint(many)
    (many / "weights.safetensors.index.json").write_text('{"weight_map": {"a": "../elsewhere"}}')
    with pytest.raises(ValueError, match=r"lacks \.\./elsewhere"):
        load_checkpoint(many)
    (many / "weights.safetensors.index.json").write_text("[]")
    with pytest.raises(ValueError, match="is no readable index"):
        load_checkpoint(many)


def test_beyond_a_hundred_shards_they_are_large(random_generator, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("mutual_forcing.checkpoint.SHARD_BYTES", 1000)
    save_checkpoint(random_generator.system, tmp_path, {})
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["weights.safetensors"]


def _pushed_as(server: HubServer, checkpoint: Path, monkeypatch, token: str) -> str:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(ValueError) as caught:
        push.push_to_hub(checkpoint, NAME)
    return str(caught.value)


def test_what_goes_wrong_is_one_sentence(server, checkpoint, monkeypatch, capsys) -> None:
    assert "set HF_TOKEN or run `hf auth login`" in _pushed_as(server, checkpoint, monkeypatch, "")
    told = _pushed_as(server, checkpoint, monkeypatch, "hf_of_somebody_else")
    assert told.startswith("Your token has no right") and "make one that may write" in told
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert app.main(["--checkpoint", "me/nothing"]) == 1
    assert re.fullmatch(
        r"app\.py: http://\S+ shows no repository me/nothing: check the name.*\n",
        capsys.readouterr().err,
    )
    push.push_to_hub(checkpoint, NAME, private=True)
    with pytest.raises(
        ValueError, match=f"^{NAME} has no revision 'nowhere': give a branch, a tag"
    ):
        load_checkpoint(f"{NAME}@nowhere")
    monkeypatch.setenv("HF_TOKEN", "")
    with pytest.raises(ValueError, match="if it is private set HF_TOKEN"):
        load_checkpoint(f"{NAME}@main")
    with pytest.raises(ValueError, match="names another revision"):
        load_checkpoint(f"{NAME}@main", revision="other")
    with pytest.raises(ValueError, match="is no Hub repository"):
        load_checkpoint(checkpoint, revision="main")
    with pytest.raises(ValueError, match="is no repository: give OWNER/NAME"):
        push.push_to_hub(checkpoint, "only-a-name")


def test_without_a_network_what_is_in_the_cache_is_used(server, checkpoint) -> None:
    pinned = push.push_to_hub(checkpoint, NAME)
    digest = load_checkpoint(NAME).digest
    server.leave()
    assert load_checkpoint(NAME).digest == digest
    assert load_checkpoint(str(pinned)).digest == digest
    with pytest.raises(
        ValueError, match="cannot be reached, and me/other is not in this machine's"
    ):
        load_checkpoint("me/other")
    with pytest.raises(ValueError, match="cannot be reached"):
        push.push_to_hub(checkpoint, NAME)


def test_the_command(server, checkpoint, capsys) -> None:
    assert push.main([str(checkpoint), NAME, "--dry-run"]) == 0
    listed = capsys.readouterr().out
    assert "weights.safetensors" in listed and "library_name: mutual-forcing" in listed
    assert not server.repositories, "a dry run sends nothing"
    assert push.main([str(checkpoint), NAME, "--private", "--revision", "trial"]) == 0
    assert HubName.parse(capsys.readouterr().out.strip()).repository == NAME
    assert server.repositories[NAME].private and "trial" in server.repositories[NAME].branches
    assert push.main([str(checkpoint / "nowhere"), NAME]) == 1
    assert re.fullmatch(r"push: No checkpoint at .*\n", capsys.readouterr().err)
