"""Sound to the latents of Stable Audio's autoencoder (Oobleck) and back, chunk by chunk.

It was made for 44,100 Hz, 2048 samples a latent, which no film's frames divide. Here it is given 44,800 Hz:
0.64 s are 14 latents, 16 frames and four latents of Wan's (1.6 % too slow on its way in, as much too fast on
its way out). What is generated is resampled to SAMPLE_RATE.

Its decoder is not causal: sound depends on 9.3 latents to each side. A stream is decoded a chunk at a time,
each with what came before it and `look_ahead` latents that come after it, and is faded over from what the
chunk before guessed of it. So sound comes later than its latents, and at the end of a stream `finish` gives
the rest. Shape letters: B batch, N samples, T latents, C numbers of a latent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..audio import resample_waveform
from ..chunks import CHUNK_SECONDS
from ..codec_config import OOBLECK_REACH, OobleckConfig, PublicWeights
from ..config import SAMPLE_RATE, TokenGrid
from .public_weights import load_network, network_class

NETWORK = "AutoencoderOobleck"
RATE = 44_800
"""Samples a second of what the autoencoder hears."""
HOP = 2048
LATENTS_PER_CHUNK = round(CHUNK_SECONDS * RATE / HOP)
STEP = 28
"""So many of the autoencoder's samples are 15 of SAMPLE_RATE."""
MARGIN = 5 * STEP
"""Of the autoencoder's samples: resampling reaches 127 to each side."""
FADE = 480
"""Samples, 20 ms, over which a chunk takes over from what the one before it guessed."""
SLACK = 0.01
"""Less of a latent than this is rounding, not sound."""


@dataclass(frozen=True)
class OobleckState:
    """Where a stream stands; nothing in it changes.

    latents [B, C, T]: the last `heard` (at most 10) that have sounded, then those that have not. guess
    [B, FADE]: how the sound goes on by what was known of it; None where nothing was. ended: whether it was
    finished where no sample of both rates lies, so that it cannot go on.
    """

    latents: Tensor
    heard: int = 0
    guess: Tensor | None = None
    ended: bool = False

    @property
    def waiting(self) -> int:
        """Latents that have not sounded yet."""
        return self.latents.shape[2] - self.heard


class OobleckCodec(nn.Module):
    """Stable Audio's autoencoder: a protocol.AudioCodec. Its latents are about standardised as they are.

    Inside it sound has as many channels as the network has; what comes in is mono or stereo, and what comes
    out is the mean of its channels.
    """

    def __init__(self, config: OobleckConfig, network: Any = None) -> None:
        """Args:
        config: look-ahead, and size of a network with random weights.
        network: diffusers' AutoencoderOobleck; None makes one with random weights.

        Raises ValueError for a network of another hop than 2048 samples.
        """
        super().__init__()
        self.config = config
        if network is None:
            network = network_class(NETWORK)(
                encoder_hidden_size=config.encoder_width,
                decoder_channels=config.decoder_width,
                decoder_input_channels=config.latent_channels,
                audio_channels=config.audio_channels,
            )
        if network.hop_length != HOP:
            raise ValueError(f"Latents of {network.hop_length} samples do not divide a chunk.")
        self.vae = network
        _fold_weight_norm(network)

    @staticmethod
    def load(config: OobleckConfig, folder: Path | None = None) -> OobleckCodec:
        """The codec with the public weights that `config` names, relative to `folder`.

        Raises ValueError when they cannot be loaded.
        """
        return OobleckCodec(config, load_network(NETWORK, config.weights, folder)).eval()

    @staticmethod
    def from_pretrained(
        source: str | Path,
        look_ahead: int = OOBLECK_REACH,
        *,
        revision: str = "",
        subfolder: str = "",
    ) -> OobleckCodec:
        """The codec with weights from a folder or a Hub repository.

        stabilityai/stable-audio-open-1.0 has them in the subfolder "vae". Raises ValueError as `load` does.
        """
        weights = PublicWeights(str(source), revision, subfolder)
        return OobleckCodec.load(OobleckConfig(look_ahead, weights=weights))

    @property
    def grid(self) -> TokenGrid:
        """Fourteen latents a chunk, 21.875 a second."""
        return TokenGrid(LATENTS_PER_CHUNK, rate=RATE / HOP)

    @property
    def channels(self) -> int:
        """Numbers of a latent."""
        return self.vae.config.decoder_input_channels

    @property
    def look_ahead(self) -> int:
        """Latents that must follow before the sound of a chunk is made."""
        return self.config.look_ahead

    def encode(self, audio: Tensor) -> Tensor:
        """Sound [B, N] (mono) or [B, channels, N] at 24 kHz within -1..1 to latents [B, C, T].

        The last latent is filled up with silence. The encoder is not causal: give it whole clips.
        """
        audio = audio[:, None] if audio.ndim == 2 else audio
        channels = self.vae.config.audio_channels
        if audio.shape[1] != channels:
            audio = audio.mean(1, keepdim=True)
        heard = resample_waveform(audio, SAMPLE_RATE, RATE).expand(-1, channels, -1)
        length = HOP * max(1, math.ceil(heard.shape[-1] / HOP - SLACK))
        heard = nn.functional.pad(heard, (0, length - heard.shape[-1]))
        # Mean and deviation of a distribution: its mean is the latent.
        return self.vae.encoder(heard).chunk(2, 1)[0]

    def decode(
        self, latents: Tensor, state: OobleckState | None = None
    ) -> tuple[Tensor, OobleckState]:
        """Latents [B, C, T] to as much sound [B, N] as is known then, whole chunks, and the state after them.

        The same latents give bit by bit the same sound, in however many calls. Raises ValueError for a
        stream that was finished within a chunk, which cannot go on.
        """
        state = state or OobleckState(latents[..., :0])
        if state.ended:
            raise ValueError("A stream that was finished within a chunk cannot go on.")
        state = replace(state, latents=torch.cat([state.latents, latents], 2))
        sound = [latents.new_zeros(len(latents), 0)]
        while state.waiting >= LATENTS_PER_CHUNK + self.look_ahead:
            made, state = self._sound(state, LATENTS_PER_CHUNK)
            sound.append(made)
        return torch.cat(sound, 1), state

    def finish(self, state: OobleckState) -> tuple[Tensor, OobleckState]:
        """The sound [B, N] of the latents that are waiting, with nothing after them, and the state after it.

        A stream may go on from there, without a fade.
        """
        if not state.waiting:
            return state.latents.new_zeros(len(state.latents), 0), state
        return self._sound(state, state.waiting, last=True)

    def _sound(
        self, state: OobleckState, count: int, last: bool = False
    ) -> tuple[Tensor, OobleckState]:
        """Sound of the next `count` latents and the state after them; last: whether nothing follows."""
        known = state.heard + count
        latents = state.latents[..., : known + self.look_ahead]
        if not last and not self.look_ahead:
            # As if the sound stood still: with nothing at its end a chunk would end with a click.
            latents = torch.cat([latents, latents[..., -1:]], 2)
        wave = self.vae.decoder(latents).mean(1)
        # A piece begins at a whole step of the resampling: its samples lie where they do in the whole.
        start, stop = state.heard * HOP, known * HOP + FADE * RATE // SAMPLE_RATE
        first = max(0, start - MARGIN)
        piece = resample_waveform(wave[:, first : stop + MARGIN], RATE, SAMPLE_RATE)
        piece = piece[:, (start - first) * SAMPLE_RATE // RATE :]
        length = -(-count * HOP * SAMPLE_RATE // RATE)
        sound, guess = piece[:, :length], None if last else piece[:, length : length + FADE]
        if state.guess is not None:
            sound = _faded(state.guess, sound)
        heard, ended = min(OOBLECK_REACH, known), count * HOP % STEP > 0
        return sound, OobleckState(state.latents[..., known - heard :], heard, guess, ended)


def _faded(guess: Tensor, sound: Tensor) -> Tensor:
    """Sound [B, N] whose beginning goes over from `guess` [B, FADE]."""
    count = min(guess.shape[1], sound.shape[1])
    share = ((torch.arange(FADE, device=sound.device) + 0.5) / FADE).to(sound)[:count]
    begun = torch.lerp(guess[:, :count], sound[:, :count], share)
    return torch.cat([begun, sound[:, count:]], 1)


def _fold_weight_norm(network: nn.Module) -> None:
    """Weights as they are instead of directions and lengths: nothing is computed anew in every pass."""
    for module in network.modules():
        if hasattr(module, "weight_g"):
            nn.utils.remove_weight_norm(module)
