"""The sentence encoder MiniLM (Wang et al. 2020; Reimers & Gurevych 2019) in OpenVINO.

It is a BERT of six layers whose matrices stay int8 in memory. A text becomes 384 numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
import openvino.opset15 as ops
from numpy.typing import NDArray
from openvino.op import Constant
from tokenizers import Tokenizer

from models.openvino_network import RequestPool
from models.words.words_file import Tensors

_LAYERS = 6
_HEADS = 12
_WIDTH = 384
_NORM_EPS = 1e-12
_MOST_TOKENS = 32  # further ones are cut off: they would take the query over 20 ms
_UNKNOWN = "[UNK]"


class TextNetwork:
    """Encodes texts on one core. Thread-safe: concurrent calls run on ``slots`` requests."""

    def __init__(
        self, tensors: Tensors, *, slots: int = 1, most_tokens: int = _MOST_TOKENS
    ) -> None:
        """Compile the network that ``make_words.py`` stored under ``text.`` in the data file."""
        self._tokenizer = Tokenizer.from_str(tensors["text.tokenizer"].tobytes().decode())
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(most_tokens)
        config = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": 1,
            "NUM_STREAMS": 1,
            # Rounding to bf16 or of the activations would give each processor other vectors.
            "INFERENCE_PRECISION_HINT": "f32",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        }
        compiled = ov.Core().compile_model(build_text_graph(tensors), "CPU", config)
        self._requests = RequestPool(compiled, slots)

    def encode(self, text: str) -> NDArray[np.float32] | None:
        """Encode a text as ``(384,)`` float32 of length 1; None if it has no known token.

        Letters are lower-cased, and only the first 30 tokens count.
        """
        encoding = self._tokenizer.encode(text)
        tokens = [token for token in encoding.tokens[1:-1] if token != _UNKNOWN]
        if not tokens:
            return None
        ids = np.array([encoding.ids], dtype=np.int64)
        with self._requests.borrow() as request:
            vector: NDArray[np.float32] = request.infer({0: ids})[0][0].copy()
        return vector


def build_text_graph(tensors: Tensors) -> ov.Model:
    """Build the OpenVINO graph from token ids ``(1, n)`` int64 to ``(1, 384)`` float32."""
    ids = ops.parameter([1, -1], np.int64, name="ids")
    x = _embed_tokens(ids, tensors)
    for number in range(_LAYERS):
        layer = f"text.{number}."
        x = _normalise(ops.add(x, _attend(x, tensors, layer)), tensors, f"{layer}attention.norm")
        wide = ops.gelu(_linear(x, tensors, f"{layer}wide"), "erf")
        x = _normalise(
            ops.add(x, _linear(wide, tensors, f"{layer}narrow")), tensors, f"{layer}norm"
        )
    pooled = ops.reduce_mean(x, np.array([1]))
    return ov.Model([ops.normalize_l2(pooled, np.array([1]), 1e-12, "max")], [ids], "words")


def _embed_tokens(ids: Any, tensors: Tensors) -> Any:
    """Look up the tokens' vectors and add those of their positions."""
    axis = np.array(0)
    tokens = ops.convert(ops.gather(Constant(tensors["text.tokens"]), ids, axis), np.float32)
    scales = ops.gather(Constant(tensors["text.tokens.scale"]), ids, axis)
    length = ops.gather(ops.shape_of(ids), np.array([1]), axis)
    positions = ops.slice(
        Constant(tensors["text.positions"]), np.array([0]), length, np.array([1]), np.array([0])
    )
    return _normalise(ops.add(ops.multiply(tokens, scales), positions), tensors, "text.norm")


def _attend(x: Any, tensors: Tensors, layer: str) -> Any:
    """Append multi-head self-attention (Vaswani et al. 2017, section 3.2)."""

    def split_heads(name: str) -> Any:
        heads = ops.reshape(
            _linear(x, tensors, f"{layer}attention.{name}"), np.array([0, 0, _HEADS, -1]), True
        )
        return ops.transpose(heads, np.array([0, 2, 1, 3]))

    query, key, value = (split_heads(name) for name in ("query", "key", "value"))
    scores = ops.matmul(query, key, False, True)
    weights = ops.softmax(ops.multiply(scores, np.float32((_WIDTH / _HEADS) ** -0.5)), -1)
    mixed = ops.transpose(ops.matmul(weights, value, False, False), np.array([0, 2, 1, 3]))
    mixed = ops.reshape(mixed, np.array([0, 0, _WIDTH]), True)
    return _linear(mixed, tensors, f"{layer}attention.out")


def _linear(x: Any, tensors: Tensors, name: str) -> Any:
    """Append a linear layer with int8 weights."""
    weight = ops.convert(Constant(tensors[name]), np.float32)
    weight = ops.multiply(weight, Constant(tensors[f"{name}.scale"]))
    return ops.add(ops.matmul(x, weight, False, True), Constant(tensors[f"{name}.bias"]))


def _normalise(x: Any, tensors: Tensors, name: str) -> Any:
    x = ops.mvn(x, np.array([-1]), True, _NORM_EPS, "inside_sqrt")
    scaled = ops.multiply(x, Constant(tensors[f"{name}.weight"]))
    return ops.add(scaled, Constant(tensors[f"{name}.bias"]))
