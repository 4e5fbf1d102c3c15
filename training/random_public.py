"""Random weights in the layout of public ones: python -m training.random_public DIR.

Writes DIR/wan as Wan-AI/Wan2.2-TI2V-5B-Diffusers is laid out (vae, transformer, text_encoder, tokenizer) and
DIR/audio as stabilityai/stable-audio-open-1.0 (vae), of the sizes of the preset `wan_smoke`: two megabytes
to try every command at scale with, where nothing can be downloaded. They know nothing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mutual_forcing.codecs.public_weights import network_class
from mutual_forcing.codecs.wan import GEOMETRY
from mutual_forcing.config import WanConfig, preset

from .command import run
from .data.sentences import SentenceMaker

VOCABULARY = 400
SHAKE = 0.05
"""How far weights that begin at zero are moved, so that every one takes part."""


def write_public(folder: Path, seed: int = 0) -> None:
    """Write them; what is there already is replaced."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = preset("wan_smoke").model
        assert isinstance(config, WanConfig)
        write_codecs(folder)
        write_transformer(config, folder / "wan" / "transformer")
        write_text(config.text_dim, folder / "wan", _sentences(seed))


def write_codecs(folder: Path) -> None:
    """Both autoencoders, of 8 numbers a latent each."""
    wan = network_class("AutoencoderKLWan")(
        **GEOMETRY,
        base_dim=8,
        decoder_base_dim=8,
        z_dim=8,
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        in_channels=12,
        out_channels=12,
        latents_mean=[0.0] * 8,
        latents_std=[0.5] * 8,
    )
    wan.save_pretrained(folder / "wan" / "vae")
    sound = network_class("AutoencoderOobleck")(
        encoder_hidden_size=16, decoder_channels=4, decoder_input_channels=8
    )
    sound.save_pretrained(folder / "audio" / "vae")


def write_transformer(config: WanConfig, folder: Path) -> nn.Module:
    """One branch as diffusers has it; returns it."""
    channels = config.video.token_dim // config.patch**2
    branch = network_class("WanTransformer3DModel")(
        patch_size=(1, config.patch, config.patch),
        num_attention_heads=config.heads,
        attention_head_dim=config.head_dim,
        in_channels=channels,
        out_channels=channels,
        text_dim=config.text_dim,
        freq_dim=config.frequencies,
        ffn_dim=config.ffn_width,
        num_layers=config.layers,
        eps=config.eps,
    )
    for parameter in branch.parameters():
        parameter.data += SHAKE * torch.randn(parameter.shape)
    branch.save_pretrained(folder)
    return branch


def write_text(
    width: int, folder: Path, sentences: list[str], vocabulary: int = VOCABULARY
) -> None:
    """UMT5's text encoder, `width` wide, and a tokenizer of pieces of these sentences."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    config = transformers.UMT5Config(
        vocab_size=vocabulary + 64, d_model=width, d_kv=8, d_ff=32, num_layers=2, num_heads=2
    )
    transformers.UMT5EncoderModel(config).save_pretrained(folder / "text_encoder")
    # Pieces of words with a mark for the space before them, as UMT5's tokenizer has them.
    made: Any = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=vocabulary, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator(sentences, trainer)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    fast.save_pretrained(folder / "tokenizer")


def _sentences(seed: int) -> list[str]:
    import numpy as np

    rng, maker = np.random.default_rng(seed), SentenceMaker(seed)
    return [maker.sentence(rng, "train") for _ in range(300)]


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.random_public", description=__doc__)
    parser.add_argument("out", type=Path, help="folder for wan/ and audio/")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    return run(lambda: write_public(options.out, options.seed))


if __name__ == "__main__":
    sys.exit(main())
