"""A checkpoint: a folder with config.json and safetensors shards below 10 MB, named as on the Hub. Nothing
unpickles. Of a public codec it holds where its weights come from, not the weights.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub import save_torch_state_dict
from torch import Tensor, nn

from .codecs.protocol import AudioCodec, VideoCodec
from .codecs.public_weights import find_folder, weight_files
from .codecs.registry import build_audio_codec, build_video_codec, public_weights
from .config import BranchConfig, ModelConfig, SystemConfig, WanConfig
from .hub import TEXT_FILES, HubName, download
from .models.build import build_model
from .models.duration import DurationPredictor
from .models.joint_model import JointModel
from .models.sound_reader import SoundReader
from .models.wan_text import UMT5Text
from .models.wan_transformer import WanAVTransformer
from .shards import read_tensors

SHARD_BYTES, MANY_SHARDS = 9_500_000, 100
"""A file of this size needs no LFS, so that a Space can hold it."""
LARGE_SHARD_BYTES = 4_000_000_000
"""Where there would be more than so many shards."""
INDEX = "*.safetensors.index.json"
"""Which tensor lies in which of several shards, as the Hub wants it."""
PRETRAINED = Path(__file__).parent / "pretrained"


@dataclass(frozen=True)
class System:
    """All networks of a checkpoint; `folder` is where they were read from, None for random ones.

    Raises ValueError for codecs whose latents are not what the model takes.
    """

    config: SystemConfig
    model: JointModel
    video_codec: VideoCodec
    audio_codec: AudioCodec
    duration: DurationPredictor
    sound_reader: SoundReader | None = None
    digest: str = ""
    folder: Path | None = None

    def __post_init__(self) -> None:
        for name, codec, branch in (
            ("video", self.video_codec, self.config.model.video),
            ("audio", self.audio_codec, self.config.model.audio),
        ):
            _check_codec(name, codec, branch)

    @staticmethod
    def build(
        config: SystemConfig, folder: Path | None = None, empty_model: bool = False
    ) -> System:
        """Networks with random weights, but for codecs with public ones.

        folder: the checkpoint's, where these are looked for first. empty_model: leave a transformer of Wan's
        shape on the meta device, for weights that are assigned to it later. Raises ValueError where weights
        cannot be loaded, and for a model that does not take the codecs' latents.
        """
        empty = empty_model and isinstance(config.model, WanConfig)
        with torch.device("meta") if empty else nullcontext():
            model = build_model(config.model)
        if isinstance(model, WanAVTransformer) and model.config.text is not None:
            source = find_folder(model.config.text, folder, TEXT_FILES)
            model.text = UMT5Text.load(source, model.config.text_tokens)
        return System(
            config,
            model,
            build_video_codec(config.video_codec, folder),
            build_audio_codec(config.audio_codec, folder),
            DurationPredictor(config.duration),
            _build_reader(config),
        )

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The networks by the names they have in a checkpoint."""
        networks = {
            "model": self.model,
            "video_codec": self.video_codec,
            "audio_codec": self.audio_codec,
            "duration": self.duration,
        }
        if self.sound_reader is not None:
            networks["sound_reader"] = self.sound_reader
        return cast("dict[str, nn.Module]", networks)

    @property
    def own_modules(self) -> dict[str, nn.Module]:
        """Those whose weights a checkpoint holds: all but codecs with public ones."""
        codecs = {"video_codec": self.config.video_codec, "audio_codec": self.config.audio_codec}
        public = {name for name, config in codecs.items() if public_weights(config)}
        return {name: module for name, module in self.modules.items() if name not in public}

    def to(self, device: torch.device) -> System:
        """Move every network; returns self."""
        for module in self.modules.values():
            module.to(device)
        if isinstance(self.model, WanAVTransformer) and self.model.text is not None:
            self.model.text.to(device)
        return self


def save_checkpoint(
    system: System, folder: Path, record: dict[str, Any], half: bool = True
) -> None:
    """Write config.json, record.json and shards; weights in half precision by default.

    What was there before is replaced once everything is written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{name}.{key}": _stored(value, half)
        for name, module in system.own_modules.items()
        for key, value in module.state_dict().items()
    }
    few = sum(tensor.nbytes for tensor in tensors.values()) <= MANY_SHARDS * SHARD_BYTES
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as name:
        partial = Path(name)
        save_torch_state_dict(
            tensors,
            partial,
            filename_pattern="weights{suffix}.safetensors",
            max_shard_size=SHARD_BYTES if few else LARGE_SHARD_BYTES,
        )
        _write_json(partial / "config.json", system.config.to_dict())
        _write_json(partial / "record.json", record)
        made = {path.name for path in partial.iterdir()}
        for path in partial.iterdir():
            path.replace(folder / path.name)
    for old in [*folder.glob("*.safetensors"), *folder.glob(INDEX)]:
        if old.name not in made:
            old.unlink()


def load_checkpoint(
    source: str | Path, device: torch.device | str = "cpu", revision: str | None = None
) -> System:
    """Load a preset name embedded in the package, a folder, or a Hub repository ("owner/name", or
    "owner/name@revision").

    revision: the repository's branch, tag or commit. Raises ValueError when there is none or it does not fit.
    """
    folder = find_checkpoint(source, revision)
    config, tensors = read_config(folder), _read_shards(folder)
    if config.least_parameters > sum(tensor.numel() for tensor in tensors.values()):
        raise ValueError(f"The weights in {folder} are far fewer than its config asks for.")
    system = System.build(config, folder)
    for key, value in tensors.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ValueError(f"The weights in {folder} are not all finite ({key}).")
    for name, module in system.own_modules.items():
        start = f"{name}."
        own = {k[len(start) :]: v.float() for k, v in tensors.items() if k.startswith(start)}
        try:
            module.load_state_dict(own)
        except RuntimeError as error:
            raise ValueError(f"The weights of {name} in {folder} do not fit its config.") from error
    for module in system.modules.values():
        module.eval().requires_grad_(False)
    system = replace(system, digest=_digest(folder, config), folder=folder)
    return system.to(torch.device(device))


def find_checkpoint(source: str | Path, revision: str | None = None) -> Path:
    """The folder of an embedded preset, a path, or a Hub repository (downloaded).

    Of a repository the configuration comes first: one that is of something else is refused before its weights
    are fetched. Raises ValueError as `hub.download` does, and for a revision of what has none.
    """
    embedded, path = PRETRAINED / str(source), Path(source)
    if (embedded / "config.json").exists() or path.is_dir():
        if revision is not None:
            raise ValueError(f"{source} is no Hub repository, so it has no revision {revision!r}.")
        return embedded if (embedded / "config.json").exists() else path
    if str(source).partition("@")[0].count("/") != 1 or path.exists():
        raise ValueError(
            f"No checkpoint at {source!r}: give a folder, an embedded name or a Hub id."
        )
    name = HubName.parse(str(source), revision)
    commit = download(name, ["config.json"])
    if not (commit / "config.json").is_file():
        raise ValueError(f"{name} is no checkpoint of this project: it holds no config.json.")
    try:
        read_config(commit)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{name} is no checkpoint of this version of the project: {error}"
        ) from error
    return download(replace(name, revision=commit.name))


def read_config(folder: Path) -> SystemConfig:
    """A checkpoint's configuration; raises ValueError when there is none or it does not fit."""
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{folder} holds no readable config.json: {error}.") from error
    return SystemConfig.from_dict(values)


def shards_of(folder: Path) -> list[Path]:
    """The files of a checkpoint's weights, sorted: those that its index names, or all if it has none.

    Raises ValueError when the index cannot be read or names what is not there.
    """
    indices = sorted(folder.glob(INDEX))
    if not indices:
        return sorted(folder.glob("*.safetensors"))
    try:
        values = json.loads(indices[0].read_text(encoding="utf-8"))
        named = sorted({str(name) for name in values["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{indices[0]} is no readable index of shards.") from error
    present = {path.name for path in folder.glob("*.safetensors")}
    missing = [name for name in named if name not in present]
    if missing:
        raise ValueError(
            f"{folder} lacks {missing[0]}, which its index names: the copy is not whole."
        )
    return [folder / name for name in named]


def _stored(value: Tensor, half: bool) -> Tensor:
    value = value.detach().cpu().contiguous()
    return value.half() if half and value.is_floating_point() else value


def _read_shards(folder: Path) -> dict[str, Tensor]:
    tensors = dict(read_tensors(shards_of(folder)))
    if not tensors:
        raise ValueError(
            f"{folder} holds no weights (*.safetensors); pickled ones (*.bin, *.pt) are never loaded."
        )
    return tensors


def _build_reader(config: SystemConfig) -> SoundReader | None:
    if config.sound_reader is None:
        return None
    assert isinstance(config.model, ModelConfig), "checked by SystemConfig"
    return SoundReader(config.sound_reader, config.model.text_width)


def _check_codec(name: str, codec: VideoCodec | AudioCodec, branch: BranchConfig) -> None:
    """Raise ValueError unless the latents of `codec` are the tokens of `branch`."""
    made, taken = (codec.grid, codec.channels), (branch.grid, branch.token_dim)
    if made != taken:
        raise ValueError(
            f"The {name} codec makes tokens of {made[1]} numbers on {made[0]}, the model takes {taken[1]} on "
            f"{taken[0]}."
        )


def _digest(folder: Path, config: SystemConfig) -> str:
    """The hash of all weights, those of public codecs among them: they decide what a film looks like."""
    files = shards_of(folder)
    for codec in (config.video_codec, config.audio_codec):
        weights = getattr(codec, "weights", None)
        files += weight_files(find_folder(weights, folder)) if weights else []
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()[:12]


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
