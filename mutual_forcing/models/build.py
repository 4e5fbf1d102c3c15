"""The transformer that a configuration asks for."""

from __future__ import annotations

from ..config import JointConfig, ModelConfig, WanConfig
from .joint_model import JointModel
from .transformer import AVTransformer
from .wan_transformer import WanAVTransformer


def build_model(config: JointConfig) -> JointModel:
    """With random weights; raises ValueError for a configuration of no known kind."""
    if isinstance(config, WanConfig):
        return WanAVTransformer(config)
    if isinstance(config, ModelConfig):
        return AVTransformer(config)
    raise ValueError(f"No transformer is built from a {type(config).__name__}.")
