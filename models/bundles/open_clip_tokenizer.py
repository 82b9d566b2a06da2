"""Turns open_clip's tokenizers into ``tokenizer.json`` of Hugging Face's library `tokenizers`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from models.errors import BundleInvalid

# The words of CLIP's byte-pair encoding; a part of the network's definition (open_clip.tokenizer).
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_CONTROLS = r"[\x00-\x08\x0b\x0e-\x1f\x7f\x{206a}-\x{206f}\x{feff}\x{fff9}-\x{fffc}]"  # as ftfy
_PUNCTUATION = r"[!-/:-@\[-`{-~]"  # string.punctuation
_ENTITIES = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "#39": "'", "apos": "'", "nbsp": " "}


@dataclass(frozen=True)
class ConvertedTokenizer:
    """A tokenizer for a bundle, and what the manifest says about it."""

    tokenizer: Tokenizer
    context_length: int
    pad_id: int
    clean: str


def convert_tokenizer(given: Any) -> ConvertedTokenizer:
    """Convert a tokenizer that ``open_clip.get_tokenizer`` returned.

    Cleaning becomes a part of the result, except what ftfy repairs by guessing. Raises
    BundleInvalid if the library `tokenizers` cannot express the tokenizer.
    """
    rule = _find_clean_rule(given)
    if hasattr(given, "bpe_ranks"):
        tokenizer, pad_id = _build_byte_pair_encoding(given), 0
    else:
        backend = getattr(getattr(given, "tokenizer", None), "backend_tokenizer", None)
        if backend is None:
            raise BundleInvalid(
                "The model's tokenizer has no tokenizer.json of the library `tokenizers`, so it"
                " cannot be exported. Choose another model."
            )
        tokenizer, pad_id = Tokenizer.from_str(backend.to_str()), given.tokenizer.pad_token_id
        tokenizer.no_truncation()
        tokenizer.no_padding()
    own = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
    tokenizer.normalizer = normalizers.Sequence([*_list_cleaning_steps(rule), *own])
    # Lower case depends on the letters around only in Python: the Greek sigma at a word's end.
    clean = "none" if rule == "whitespace" else "lower"
    return ConvertedTokenizer(tokenizer, given.context_length, pad_id, clean)


def _find_clean_rule(given: Any) -> str:
    """Return the name of open_clip's cleaning: ``lower``, ``whitespace`` or ``canonicalize``."""
    from open_clip.tokenizer import get_clean_fn

    used = getattr(given, "clean_fn", None)  # SigLipTokenizer has none, and canonicalizes
    for rule in ("lower", "whitespace"):
        if used is get_clean_fn(rule):
            return rule
    return "canonicalize"


def _build_byte_pair_encoding(given: Any) -> Tokenizer:
    start, end = given.sot_token_id, given.eot_token_id
    names = {number: name for name, number in given.encoder.items()}
    merges = sorted(given.bpe_ranks, key=given.bpe_ranks.__getitem__)
    tokenizer = Tokenizer(models.BPE(dict(given.encoder), merges, end_of_word_suffix="</w>"))
    tokenizer.add_special_tokens([names[number] for number in given.all_special_ids])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{names[start]} $A {names[end]}",
        special_tokens=[(names[start], start), (names[end], end)],
    )
    return tokenizer


def _list_cleaning_steps(rule: str) -> list[Any]:
    """Return what open_clip does to a text before its tokenizer, as normalizers.

    It calls ftfy, which unescapes HTML and replaces ligatures, wide letters and curly quotes. ftfy
    also guesses how to repair a text that was decoded wrongly; no normalizer can do that.
    """
    from ftfy.chardata import LIGATURES, WIDTH_MAP

    letters = {chr(code): text for code, text in {**LIGATURES, **WIDTH_MAP}.items()}
    steps: list[Any] = [
        *(normalizers.Replace(f"&{name};", text) for name, text in _ENTITIES.items()),
        normalizers.Replace(Regex(_CONTROLS), ""),
        *(normalizers.Replace(letter, text) for letter, text in letters.items()),
        normalizers.Replace(Regex("[\u02bc\u2018-\u201b]"), "'"),
        normalizers.Replace(Regex("[\u201c-\u201f]"), '"'),
        normalizers.NFC(),
    ]
    if rule == "canonicalize":
        steps.append(normalizers.Replace("_", " "))
        steps.append(normalizers.Replace(Regex(_PUNCTUATION), ""))
    if rule != "whitespace":
        steps.append(normalizers.Lowercase())
    return [*steps, normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
