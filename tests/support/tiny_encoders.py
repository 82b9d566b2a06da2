"""Small real networks, tokenizers and bundles, for the tests of encoders.

The networks keep the properties of large ones: similar images and equal words come close together.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset15 as ops
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from models.bundles.archive import write_bundle

CONTEXT = 8  # tokens
WORDS = ("a", "photo", "of", "red", "green", "dog", "bicycle", "42")
UNKNOWN = "<unknown>"
SPECIAL = ("<pad>", "<start>", "<end>", UNKNOWN)


def manifest(**changes: Any) -> dict[str, Any]:
    """Return the manifest of a tiny bundle of images, without ``files``.

    A change is named by its path, such as ``image__width``.
    """
    made: dict[str, Any] = {
        "format": 1,
        "name": "tiny",
        "kind": "image",
        "dimension": 128,
        "licence": "Apache-2.0",
        "source": "made by the tests",
        "image": {
            "file": "image.xml",
            "width": 32,
            "height": 32,
            "mean": [0.48, 0.46, 0.41],
            "std": [0.27, 0.26, 0.28],
        },
    }
    if changes.pop("text", False):
        made |= {"kind": "image-text"}
        made["text"] = {"file": "text.xml", "context_length": CONTEXT, "pad_id": 0}
    for path, value in changes.items():
        *parents, key = path.split("__")
        place = made
        for parent in parents:
            place = place[parent]
        place[key] = value
    return made


def image_network(
    dimension: int = 128, *, width: int = 32, height: int = 32, layout: str = "NCHW", seed: int = 0
) -> ov.Model:
    """Build a convolution of 8 x 8 patches, average pooling to 2 x 2, and a projection."""
    draw = np.random.default_rng(seed)
    shape = [-1, 3, height, width] if layout == "NCHW" else [-1, height, width, 3]
    pixels = ops.parameter(shape, np.float32, name="pixels")
    x = pixels if layout == "NCHW" else ops.transpose(pixels, np.array([0, 3, 1, 2]))
    kernel = draw.standard_normal((16, 3, 8, 8)).astype(np.float32) / 8
    x = ops.convolution(x, kernel, [8, 8], [0, 0], [0, 0], [1, 1])
    x = ops.relu(ops.add(x, draw.standard_normal((1, 16, 1, 1)).astype(np.float32)))
    x = ops.adaptive_avg_pool(x, np.array([2, 2]))
    x = ops.reshape(x, np.array([-1, 64]), special_zero=False)
    x = ops.matmul(x, draw.standard_normal((64, dimension)).astype(np.float32), False, False)
    return named_model(x, [pixels], "embeddings")


def text_network(dimension: int = 128, *, tokens: int = 12, masked: bool = False) -> ov.Model:
    """Build a table of token vectors, their mean, and a projection."""
    draw = np.random.default_rng(1)
    ids = ops.parameter([-1, -1], np.int64, name="input_ids")
    table = draw.standard_normal((tokens, 16)).astype(np.float32)
    x = ops.gather(ops.constant(table), ids, np.array(0))
    parameters = [ids]
    if masked:
        mask = ops.parameter([-1, -1], np.int64, name="attention_mask")
        parameters.append(mask)
        x = ops.multiply(x, ops.unsqueeze(ops.convert(mask, np.float32), np.array([2])))
    x = ops.reduce_mean(x, np.array([1]))
    x = ops.matmul(x, draw.standard_normal((16, dimension)).astype(np.float32), False, False)
    return named_model(x, parameters, "text_embeds")


def named_model(output: Any, parameters: list[Any], name: str) -> ov.Model:
    """Return a model whose inputs and output can be found by their names."""
    model = ov.Model([output], parameters, "tiny")
    for parameter in parameters:
        parameter.output(0).set_names({parameter.get_friendly_name()})
    model.output(0).set_names({name})
    return model


def make_tokenizer() -> Tokenizer:
    """Build a tokenizer of twelve words with a start and an end token."""
    vocabulary = {word: index for index, word in enumerate((*SPECIAL, *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)]
    )
    return tokenizer


def save_network(model: ov.Model, path: Path) -> list[Path]:
    """Write IR and return its two files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ov.save_model(model, path, compress_to_fp16=False)
    return [path, path.with_suffix(".bin")]


def save_tokenizer(tokenizer: Tokenizer, path: Path) -> Path:
    path.write_text(tokenizer.to_str(), encoding="utf-8")
    return path


def make_image_bundle(path: Path, network: ov.Model | None = None, **changes: Any) -> Path:
    """Write a bundle of an image network, by default one that fits the manifest's changes."""
    stated = manifest(**changes)
    image = stated["image"]
    built = network or image_network(
        stated["dimension"],
        width=image["width"],
        height=image["height"],
        layout=image.get("layout", "NCHW"),
    )
    files = save_network(built, path.parent / f"{path.stem}-files" / "image.xml")
    write_bundle(path, stated, {file.name: file for file in files})
    return path


def make_text_bundle(
    path: Path,
    *,
    network: ov.Model | None = None,
    tokenizer: Tokenizer | None = None,
    **changes: Any,
) -> Path:
    """Write a bundle with a text tower."""
    stated = manifest(text=True, **changes)
    folder = path.parent / f"{path.stem}-files"
    files = save_network(image_network(stated["dimension"]), folder / "image.xml")
    files += save_network(network or text_network(stated["dimension"]), folder / "text.xml")
    files.append(save_tokenizer(tokenizer or make_tokenizer(), folder / "tokenizer.json"))
    write_bundle(path, stated, {file.name: file for file in files})
    return path


def write_json(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value))
    return path
