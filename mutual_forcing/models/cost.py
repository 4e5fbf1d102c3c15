"""What a chunk costs at the paper's scale, and how many frames a second an accelerator could make of that.

    python -m mutual_forcing.models.cost

counts by formula what WanAVTransformer computes and reads: every matrix once per pass, the text's keys and
values once per chunk, what attention sees once per pass, and nothing copied. tests/test_wan_cost.py holds the
code to it. Codecs, launches of kernels and small vectors are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..chunks import FRAMES_PER_CHUNK
from ..config import FILM_SIZES, WanConfig, preset

FEW_STEPS = 4
BYTES = 2
"""Of a number in bf16."""


@dataclass(frozen=True)
class Accelerator:
    """Operations a second that it reaches in bf16, and bytes a second that it reads."""

    name: str
    flops: float
    bandwidth: float


H100 = Accelerator("H100", 700e12, 3.35e12)


@dataclass(frozen=True)
class Work:
    """Operations, and bytes that they read; how long they take, the slower of both decides."""

    flops: float
    bytes: float

    def seconds(self, machine: Accelerator) -> float:
        """At the machine's best."""
        return max(self.flops / machine.flops, self.bytes / machine.bandwidth)


@dataclass(frozen=True)
class ChunkCost:
    """One chunk: `passes` evaluations of the network, the cache pass among them, after a full window.

    matrices: of each branch's own layers, in all passes. text: projecting the text, once. attention: of all
    passes. cache_bytes: of the window's keys and values.
    """

    tokens: tuple[int, int]
    passes: int
    matrices: tuple[Work, Work]
    text: Work
    attention: Work
    cache_bytes: float

    @property
    def work(self) -> tuple[Work, ...]:
        """What is done one after the other."""
        return (*self.matrices, self.text, self.attention)

    @property
    def flops(self) -> float:
        """Of all."""
        return sum(part.flops for part in self.work)

    @property
    def bytes(self) -> float:
        """Of all."""
        return sum(part.bytes for part in self.work)

    def frames_per_second(self, machine: Accelerator = H100) -> float:
        """Frames of film a second at the machine's best."""
        return FRAMES_PER_CHUNK / sum(part.seconds(machine) for part in self.work)


def chunk_cost(config: WanConfig, steps: int = FEW_STEPS, references: bool = True) -> ChunkCost:
    """Of a chunk with so many steps and the cache pass, once `window` chunks lie in the cache.

    references: whether a picture and a voice are given.
    """
    width, layers, passes = config.heads * config.head_dim, config.layers, steps + 1
    counts = {name: grid.tokens for name, grid in config.grids.items()}
    matrices = []
    for name, branch in config.branches.items():
        # Self-attention has four matrices, cross-attention two for the tokens; see text for the others.
        each = layers * (6 * width**2 + 2 * width * config.ffn_width) + 2 * width * branch.token_dim
        levels, modulation = _noise_parameters(config)
        flops = 2 * (each * counts[name] + levels + modulation)
        read = BYTES * (each + modulation) + 2 * BYTES * levels  # the latter stay in fp32
        matrices.append(Work(passes * flops, passes * read))

    embed = config.text_dim * width + width**2
    words = 2 * config.frequencies * width + width**2
    text = len(counts) * (embed + words + layers * 2 * width**2)
    own = sum(counts.values())
    fixed = counts["video"] // config.video.grid.frames + config.voice_latents if references else 0
    seen = own * (config.window + 1) + fixed
    keys = 2 * width * layers * BYTES
    pairs = own * (seen + config.text_tokens)
    return ChunkCost(
        tokens=(counts["video"], counts["audio"]),
        passes=passes,
        matrices=(matrices[0], matrices[1]),
        text=Work(2 * text * config.text_tokens, BYTES * text),
        attention=Work(
            passes * 4 * pairs * width * layers,
            passes * keys * (seen + len(counts) * config.text_tokens),
        ),
        cache_bytes=own * config.window * keys,
    )


def parameters(config: WanConfig, name: str = "video") -> int:
    """Numbers in the matrices of one branch."""
    width = config.heads * config.head_dim
    layer = 8 * width**2 + 2 * width * config.ffn_width
    text = config.text_dim * width + width**2 + 2 * config.frequencies * width + width**2
    ends = 2 * width * config.branches[name].token_dim
    return config.layers * layer + text + ends + sum(_noise_parameters(config))


def _noise_parameters(config: WanConfig) -> tuple[int, int]:
    """Of the embeddings of a noise level and an interval, and of the modulation that is made of them."""
    width = config.heads * config.head_dim
    return 2 * (config.frequencies * width + width**2), 6 * width**2


def table(names: tuple[str, ...] = ("wan_5b", "paper_14b"), machine: Accelerator = H100) -> str:
    """A line for every preset and size of film."""
    lines = [
        f"{'preset':<21}{'tokens a chunk':>16}{'TFLOP':>8}{'GB moved':>10}{'cache GB':>10}"
        f"{'FPS on one ' + machine.name:>18}"
    ]
    for name in names:
        for height, width in FILM_SIZES:
            whole = f"{name}_{height}x{width}"
            config = preset(whole).model
            assert isinstance(config, WanConfig)
            cost = chunk_cost(config)
            tokens = f"{cost.tokens[0]} + {cost.tokens[1]}"
            lines.append(
                f"{whole:<21}{tokens:>16}{cost.flops / 1e12:>8.0f}{cost.bytes / 1e9:>10.0f}"
                f"{cost.cache_bytes / 1e9:>10.1f}{cost.frames_per_second(machine):>18.0f}"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())  # noqa: T201
