"""The code needs no more passes, operations, bytes and copies than models/cost.py says, at the paper's scale.

The networks have their real sizes, but two layers, on the meta device, where tensors have shapes and no
numbers.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from mutual_forcing.config import FILM_SIZES, WanConfig, preset
from mutual_forcing.models.build import build_model
from mutual_forcing.models.cost import FEW_STEPS, H100, chunk_cost, parameters, table
from mutual_forcing.models.joint_model import Conditions
from mutual_forcing.models.wan_text import WanText
from mutual_forcing.models.wan_transformer import WanAVTransformer
from mutual_forcing.sampling import Sampler, sample_chunk, write_cache
from mutual_forcing.types import AVLatents, References
from mutual_forcing.wan_weights import to_precision

META = torch.device("meta")
SAMPLER = Sampler(FEW_STEPS, "few")
DESIGN = {  # TFLOP, cache GB, GB moved and FPS of the design note, which projects the text for every token
    (192, 352): (21, 1.1, 146, 322),
    (480, 768): (148, 5.7, 172, 69),
    (704, 1280): (521, 13.8, 218, 21),
}


def config_of(name: str, layers: int | None = None) -> WanConfig:
    config = preset(name).model
    assert isinstance(config, WanConfig)
    return config if layers is None else replace(config, layers=layers)


class Stream:
    """A stream on the meta device in bf16 whose window is full; `chunk` makes the next chunk."""

    def __init__(self, config: WanConfig) -> None:
        with META:
            model = build_model(config).requires_grad_(False)
        assert isinstance(model, WanAVTransformer)
        to_precision(model, torch.bfloat16)
        self.model, self.config, self.cache = model, config, model.new_cache()
        video, audio = config.video, config.audio
        picture = self.empty(1, video.grid.frame_tokens, video.token_dim)
        voice = self.empty(1, config.voice_latents, audio.token_dim)
        self.references = model.encode_references(References(picture, voice))
        for _ in range(config.window):
            write_cache(model, AVLatents.of(self.noise()), self.conditions(), self.cache, SAMPLER)

    def empty(self, *shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=torch.bfloat16, device=META)

    def noise(self) -> dict[str, torch.Tensor]:
        return {
            n: torch.empty(1, 1, b.grid.tokens, b.token_dim, device=META)
            for n, b in self.config.branches.items()
        }

    def conditions(self) -> Conditions:
        states = self.empty(1, 1, self.config.text_tokens, self.config.text_dim)
        times = torch.empty(states.shape[:3], device=META)
        return Conditions(WanText(states, times, times, times > 0), self.references)

    @torch.no_grad()
    def chunk(self) -> None:
        conditions = self.conditions()
        made = sample_chunk(self.model, self.noise(), conditions, self.cache, SAMPLER)
        write_cache(self.model, made, conditions, self.cache, SAMPLER)


@pytest.fixture(scope="module", params=["paper_14b_704x1280", "wan_5b_192x352"])
def stream(request) -> Stream:
    with torch.no_grad():
        return Stream(config_of(request.param, layers=2))


@pytest.mark.slow
def test_operations_are_those_of_the_formula(stream: Stream) -> None:
    with FlopCounterMode(display=False) as counter:
        stream.chunk()
    wanted = chunk_cost(stream.config).flops
    assert abs(counter.get_total_flops() / wanted - 1) < 1e-3


@pytest.mark.slow
def test_every_pass_calls_every_layer_once(stream: Stream) -> None:
    calls: Counter[int] = Counter()
    hooks = [
        layer.register_forward_hook(lambda *_, index=index: calls.update([index]))
        for index, layer in enumerate(stream.model.layers)
    ]
    stream.chunk()
    for hook in hooks:
        hook.remove()
    assert set(calls.values()) == {chunk_cost(stream.config).passes} == {FEW_STEPS + 1}


class Traffic(TorchDispatchMode):
    """Bytes of weights and of attended keys and values that operations read, and who touches the history."""

    VIEWS = ("view", "t", "transpose", "slice", "select", "unsqueeze", "expand", "alias", "unbind")
    VIEWS += ("split_with_sizes", "_unsafe_view", "detach", "permute", "as_strided", "split")

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self.weights = {self.place(p) for p in stream.model.parameters()}
        self.history = {
            self.place(x) for layer in stream.cache.layers for pair in layer.values() for x in pair
        }
        self.read_weights, self.read_keys = 0, 0
        self.on_history: Counter[str] = Counter()
        self.largest = 0

    @staticmethod
    def place(x: torch.Tensor) -> int:
        return x.untyped_storage()._cdata

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.__name__.split(".")[0]
        if name in self.VIEWS:
            return out
        tensors = [x for x in args if isinstance(x, torch.Tensor)]
        tensors += [
            x
            for arg in args
            if isinstance(arg, (list, tuple))
            for x in arg
            if isinstance(x, torch.Tensor)
        ]
        for x in tensors:
            size = x.numel() * x.element_size()
            if self.place(x) in self.weights:
                self.read_weights += size
            if self.place(x) in self.history:
                self.on_history[name] += 1
        if "attention" in name:
            self.read_keys += sum(x.numel() * x.element_size() for x in tensors[1:3])
        made = out if isinstance(out, (list, tuple)) else [out]
        for x in made:
            if isinstance(x, torch.Tensor) and self.place(x) not in self.history:
                self.largest = max(self.largest, x.numel() * x.element_size())
        return out


@pytest.mark.slow
def test_bytes_are_those_of_the_formula_and_the_history_stays_where_it_is(stream: Stream) -> None:
    config, cost = stream.config, chunk_cost(stream.config)
    with Traffic(stream) as traffic:
        stream.chunk()
    matrices = sum(work.bytes for work in (*cost.matrices, cost.text))
    assert abs(traffic.read_weights / matrices - 1) < 2e-3, "biases and tables besides"
    assert traffic.read_keys == cost.attention.bytes

    # Keys and values of both branches: only attention reads what is past, only the own slot is written.
    writes = cost.passes * config.layers * 2 * 2
    reads = traffic.on_history.pop("_scaled_dot_product_flash_attention")
    assert traffic.on_history == {"copy_": writes}
    assert reads == cost.passes * config.layers * 2 * 2
    inner = max(cost.tokens) * config.ffn_width
    assert traffic.largest <= 2 * max(inner, config.text_tokens * config.ffn_width) * 2


@pytest.mark.parametrize("size", FILM_SIZES)
def test_the_design_s_table_holds(size: tuple[int, int]) -> None:
    """A little cheaper: the text is projected once for each of its tokens and chunk."""
    cost = chunk_cost(config_of(f"paper_14b_{size[0]}x{size[1]}"))
    flops, cache, moved, fps = DESIGN[size]
    assert cost.tokens == (4 * size[0] // 32 * size[1] // 32, 14)
    assert 0.93 * flops < cost.flops / 1e12 < 1.01 * flops
    assert 0.93 * moved < cost.bytes / 1e9 < 1.01 * moved
    assert cost.cache_bytes / 1e9 == pytest.approx(cache, abs=0.05)
    assert 0.99 * fps < cost.frames_per_second(H100) < 1.08 * fps


def test_the_table_has_every_preset_and_size() -> None:
    lines = table().splitlines()
    print("", *lines, sep="\n")  # noqa: T201
    names = [f"{name}_{h}x{w}" for name in ("wan_5b", "paper_14b") for h, w in FILM_SIZES]
    assert [line.split()[0] for line in lines[1:]] == names


@pytest.mark.parametrize(("name", "billions"), [("wan_5b", 5.0), ("paper_14b", 7.1)])
@pytest.mark.parametrize("size", FILM_SIZES)
def test_presets_have_their_size(name: str, billions: float, size: tuple[int, int]) -> None:
    config = config_of(f"{name}_{size[0]}x{size[1]}")
    with META:
        model = build_model(config)
    for branch in config.branches:
        own = sum(
            p.numel()
            for key, p in model.named_parameters()
            if branch in key.split(".") and "coupling" not in key
        )
        assert own / 1e9 == pytest.approx(billions, rel=0.03)
        assert own == pytest.approx(parameters(config, branch), rel=1e-3)
        assert own > config.least_parameters / 2
