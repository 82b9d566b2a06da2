"""A bundle as large as CLIP's ViT-B/32, with random weights: what it costs, not what it finds.

The sizes are those of Radford et al. 2021, "Learning Transferable Visual Models From Natural
Language Supervision", table 20: 88 million parameters for images and 63 million for texts.
"""

from __future__ import annotations

from pathlib import Path

import openvino as ov
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from torch.nn import functional

from models.bundles.importing import make_bundle

DIMENSION = 512
SIDE, PATCH = 224, 32  # pixels
CONTEXT, VOCABULARY = 77, 49408
LAYERS = 12


class _Block(nn.Module):
    """One layer of a transformer: attention, then two linear layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // 64
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention_in, self.attention_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        parts = self.attention_in(self.before_attention(x)).chunk(3, dim=-1)
        queries, keys, values = (
            part.unflatten(-1, (self.heads, 64)).transpose(1, 2) for part in parts
        )
        attended = functional.scaled_dot_product_attention(queries, keys, values)
        x = x + self.attention_out(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(self.before_mlp(x))


class _Tower(nn.Module):
    """Tokens through all layers; the first token's vector is projected."""

    def __init__(self, width: int, tokens: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(tokens, width) * 0.02)
        self.blocks = nn.Sequential(*(_Block(width) for _ in range(LAYERS)))
        self.norm, self.project = nn.LayerNorm(width), nn.Linear(width, DIMENSION, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        projected: Tensor = self.project(self.norm(self.blocks(tokens + self.positions))[:, 0])
        return projected


class ImageTower(nn.Module):
    """Pixels ``(1, 3, 224, 224)`` to ``(1, 512)``."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 768, PATCH, stride=PATCH, bias=False)
        self.first = nn.Parameter(torch.randn(1, 1, 768) * 0.02)
        self.tower = _Tower(768, (SIDE // PATCH) ** 2 + 1)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patches(pixels).flatten(2).transpose(1, 2)
        projected: Tensor = self.tower(torch.cat([self.first, patches], dim=1))
        return projected


class TextTower(nn.Module):
    """Token ids ``(1, 77)`` to ``(1, 512)``."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 512)
        self.tower = _Tower(512, CONTEXT)

    def forward(self, ids: Tensor) -> Tensor:
        projected: Tensor = self.tower(self.embedding(ids))
        return projected


def make_vit_b32(out: Path) -> Path:
    """Write the bundle to ``out``; its files are kept beside it. Returns ``out``."""
    torch.manual_seed(0)
    folder = out.parent / f"{out.stem}-files"
    folder.mkdir(parents=True)
    files = _export(ImageTower(), torch.zeros(1, 3, SIDE, SIDE), folder / "image.xml")
    files += _export(TextTower(), torch.zeros(1, CONTEXT, dtype=torch.int64), folder / "text.xml")
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_text(_make_tokenizer().to_str(), encoding="utf-8")
    draft = {
        "name": "random-vit-b32",
        "kind": "image-text",
        "dimension": DIMENSION,
        "licence": "Apache-2.0",
        "source": "random weights, made by benchmarks/vit_b32.py",
        "image": {
            "file": "image.xml",
            "width": SIDE,
            "height": SIDE,
            "mean": [0.48145466, 0.4578275, 0.40821073],
            "std": [0.26862954, 0.26130258, 0.27577711],
        },
        "text": {"file": "text.xml", "context_length": CONTEXT, "pad_id": VOCABULARY - 1},
    }
    make_bundle(draft, [*files, tokenizer], out)
    return out


def _export(network: nn.Module, example: Tensor, path: Path) -> list[Path]:
    """Write a network as OpenVINO IR in fp16, as exported encoders are; return its two files."""
    converted = ov.convert_model(network.eval(), example_input=example, input=list(example.shape))
    ov.save_model(converted, path, compress_to_fp16=True)
    return [path, path.with_suffix(".bin")]


def _make_tokenizer() -> Tokenizer:
    """Build a tokenizer that knows every byte, which is all that random weights need."""
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: number for number, symbol in enumerate(bytes_)}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer
