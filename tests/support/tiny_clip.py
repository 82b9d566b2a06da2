"""Small models of open_clip with random weights, in every way that a user can name them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from models.torchvision_import import import_torchvision

needs_open_clip = pytest.mark.skipif(
    importlib.util.find_spec("open_clip") is None or importlib.util.find_spec("torch") is None,
    reason="needs the extra `clip`",
)

_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
CONFIGS: dict[str, dict[str, Any]] = {
    "tiny-vit-quickgelu": {
        "embed_dim": 128,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16},
        "text_cfg": _TEXT,
    },
    "tiny-resnet": {
        "embed_dim": 256,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
        "text_cfg": _TEXT,
    },
    "tiny-convnext": {
        "embed_dim": 192,
        "vision_cfg": {
            "timm_model_name": "convnext_atto",
            "timm_model_pretrained": False,
            "timm_pool": "",
            "timm_proj": "linear",
            "image_size": 96,
        },
        "text_cfg": _TEXT,
    },
}
SIGLIP: dict[str, Any] = {  # as ViT-B-16-SigLIP, but narrower and with less layers
    "embed_dim": 192,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 224,
        "timm_model_name": "vit_tiny_patch16_224",
        "timm_model_pretrained": False,
        "timm_pool": "map",
        "timm_proj": "none",
    },
    "text_cfg": {
        "context_length": 16,
        "vocab_size": 300,
        "hf_tokenizer_name": "in the same directory",
        "tokenizer_kwargs": {"clean": "canonicalize"},
        "width": 64,
        "heads": 2,
        "layers": 2,
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": 1e-6},
    },
}
SIGLIP_PREPROCESSING = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"}
_SENTENCES = (
    "a photo of a red dog beside two bicycles",
    "the quick brown fox jumps over a lazy dog",
    "собака и кошка на улице",
)


def import_clip() -> Any:
    """Import open_clip and register the tiny models."""
    import_torchvision()
    import open_clip
    from open_clip.factory import _MODEL_CONFIGS

    _MODEL_CONFIGS.update(CONFIGS)
    return open_clip


def make_network(model: str) -> Any:
    """Build a network whose vectors differ from input to input, although nothing was learnt."""
    import torch

    torch.manual_seed(0)
    network = import_clip().create_model(model)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "token_embedding" in name or "positional" in name or "pos_embed" in name:
                parameter.normal_(std=0.5)
            elif ".bn" in name and name.endswith("weight"):
                parameter.fill_(3)
            elif parameter.ndim > 1 and "logit" not in name:
                parameter.mul_(2)
    return network.eval()


def save_checkpoint(model: str, path: Path) -> Path:
    """Write the weights of a tiny network as PyTorch or as safetensors."""
    import torch
    from safetensors.torch import save_file

    state = make_network(model).state_dict()
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    else:
        torch.save({"state_dict": state, "epoch": 1}, path)
    return path


def save_siglip(directory: Path) -> Path:
    """Write a directory with configuration, weights and a tokenizer, as hubs have them."""
    directory.mkdir()
    config = {"model_cfg": SIGLIP, "preprocess_cfg": SIGLIP_PREPROCESSING}
    (directory / "open_clip_config.json").write_text(json.dumps(config))
    _train_tokenizer().save_pretrained(str(directory))
    save_checkpoint(f"local-dir:{directory}", directory / "open_clip_model.safetensors")
    return directory


def _train_tokenizer() -> Any:
    """Train a tokenizer of SigLIP's kind: unigrams, padded with the token that ends a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    unknown, end = special = ("<unk>", "</s>")
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=[*special], unk_token=unknown, show_progress=False
    )
    tokenizer.train_from_iterator(_SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=unknown, eos_token=end, pad_token=end
    )
