"""The text tower of a bundle: tokenizer and network."""

from __future__ import annotations

import json
import string

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from models.bundles.archive import Bundle
from models.bundles.graphs import build_text_graph, translate_failures
from models.bundles.manifest import TextTower
from models.errors import BundleInvalid
from models.openvino_network import CompiledNetwork
from models.text_encoder import TextNotUnderstood

# What stands for a space or a line feed in the tokens of SentencePiece and of byte-level BPE.
_SPACES = (
    "\N{LOWER ONE EIGHTH BLOCK}"
    "\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}"
    "\N{LATIN CAPITAL LETTER C WITH DOT ABOVE} "
)
_PUNCTUATION = str.maketrans("", "", string.punctuation)


class BundleTextEncoder:
    """Embeds texts with the text tower of a bundle. Thread-safe."""

    def __init__(self, bundle: Bundle, tower: TextTower, *, slots: int, precision: str) -> None:
        """Load the tokenizer and compile the network. Raises BundleInvalid."""
        self._tower = tower
        content = bundle.read_file(tower.tokenizer).tobytes()
        self._tokenizer, self._unknown = _load_tokenizer(content, bundle, tower)
        graph = build_text_graph(bundle, tower)
        with translate_failures(bundle, tower.file):
            self._network = CompiledNetwork(graph, slots=slots, precision=precision)

    def embed_text(self, text: str) -> NDArray[np.float32]:
        """Return the embedding of a text, ``(dimension,)`` float32 of length 1.

        The text is cut to the tower's context length. Raises TextNotUnderstood.
        """
        cleaned = self.clean(text)
        if not self._knows(cleaned):
            raise TextNotUnderstood(
                "The encoder knows nothing of this text. Use other words, or a language that the"
                " encoder was trained on."
            )
        return self.embed_cleaned(cleaned)

    def clean(self, text: str) -> str:
        """Change a text as the manifest says, before the tokenizer does."""
        return _clean(text, self._tower.clean)

    def embed_cleaned(self, cleaned: str) -> NDArray[np.float32]:
        """Embed a text that ``clean`` returned, even if the encoder knows nothing of it.

        Raises TextNotUnderstood if the tokenizer fails.
        """
        ids, mask = self.tokenize(cleaned)
        rows = [ids]
        if self._tower.inputs.mask is not None:
            rows.append(mask)
        if self._tower.inputs.types is not None:
            rows.append(np.zeros_like(ids))
        with self._network.requests.borrow() as request:
            outputs = request.infer(dict(enumerate(rows)), share_outputs=True)
            return np.array(outputs[0][0], dtype=np.float32)

    def tokenize(self, cleaned: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return token ids and attention mask, each ``(1, context_length)`` int64.

        Raises TextNotUnderstood.
        """
        encoding = self._encode(self._tower.template.replace("{}", cleaned))
        return np.array([encoding.ids]), np.array([encoding.attention_mask])

    def _encode(self, text: str) -> Encoding:
        """Run the tokenizer. Raises TextNotUnderstood."""
        try:
            return self._tokenizer.encode(text)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic in the library is no Exception
            raise TextNotUnderstood(
                "The encoder's tokenizer cannot split this text. Use other words."
            ) from error

    def _knows(self, cleaned: str) -> bool:
        """Report whether any token is known and stands for a part of the text."""
        encoding = self._encode(cleaned)
        return any(
            not added and token != self._unknown and content.strip(_SPACES)
            for token, added, content in zip(
                encoding.ids, encoding.special_tokens_mask, encoding.tokens, strict=True
            )
        )


def _load_tokenizer(
    content: bytes, bundle: Bundle, tower: TextTower
) -> tuple[Tokenizer, int | None]:
    """Return the tokenizer, which cuts and pads, and the id of its unknown token, if any."""
    try:
        tokenizer = Tokenizer.from_str(content.decode())
        tokenizer.encode_special_tokens = True  # "</s>" typed by a person is not the end of a text
        tokenizer.enable_truncation(tower.context_length)
        tokenizer.enable_padding(length=tower.context_length, pad_id=tower.pad_id)
        given = json.loads(content)["model"]
        unknown = given.get("unk_id")
        if unknown is None and given.get("unk_token") is not None:
            unknown = tokenizer.token_to_id(given["unk_token"])
        tokenizer.encode("a")  # fails here rather than later
    except Exception as error:  # the library raises Exception itself
        raise BundleInvalid(
            f"The tokenizer of {bundle.path.name} cannot be used ({error}). Export it again as"
            " tokenizer.json of Hugging Face's library `tokenizers`."
        ) from error
    return tokenizer, unknown


def _clean(text: str, rule: str) -> str:
    if rule == "none":
        return text
    if rule == "canonical":  # as canonicalize_text in google-research/big_vision
        text = text.replace("_", " ").translate(_PUNCTUATION)
    return " ".join(text.lower().split())
