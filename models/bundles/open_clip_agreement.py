"""Checks that an exported bundle gives the vectors and tokens of open_clip."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.bundles.archive import Bundle
from models.bundles.engine import BundleEmbedder
from models.bundles.open_clip_models import OpenClipModel, silence
from models.bundles.texts import BundleTextEncoder
from models.errors import BundleInvalid

LEAST_COSINE = 0.999
_SIZES = ((1.0, 1.0), (1.6, 1.1), (1.2, 2.1), (0.7, 0.5))  # width and height, in inputs
_TEXTS = (
    "a photo of a dog",
    "Two RED bicycles, leaning against a wall!",
    "it's what we're after: they'll say “don't”, ‘I'd’ won't",
    "  spaces \t and\n lines  ",
    "\N{GRINNING FACE} cat \N{WAVING HAND SIGN}\N{EMOJI MODIFIER FITZPATRICK TYPE-5}",
    "собака и кошка",
    "犬と猫 ＡＢＣ１２３",
    "عربي हिन्दी ไทย",
    "ΔΡΟΜΟΣ İstanbul",
    "naïve cafe\N{COMBINING ACUTE ACCENT}, 3.14 €, C++ & R&amp;D <b>",
    "snake_case -- ... ??? #1",
    "ﬁne ﬂowers",
    "a very long text " * 100,
    "antidisestablishmentarianism" * 10,
)


def check_agreement(bundle: Bundle, loaded: OpenClipModel) -> None:
    """Compare tokens, and the vectors of generated images and of texts. Raises BundleInvalid."""
    embedder = BundleEmbedder(bundle, slots=1, precision="f32")
    text, tower = embedder.bundle_text, bundle.manifest.text
    if text is not None and tower is not None:
        wanted = _tokenize(loaded, [tower.template.replace("{}", each) for each in _TEXTS])
        _check_tokens(text, wanted)
        ours = np.stack([text.embed_cleaned(text.clean(each)) for each in _TEXTS])
        _check_cosines("texts", ours, embed_tokens(loaded, wanted))
    image = bundle.manifest.image
    images = [
        draw_image(round(image.width * wide), round(image.height * high), seed)
        for seed, (wide, high) in enumerate(_SIZES)
    ]
    ours = embedder.embed(np.stack([embedder.preprocessing.prepare(each) for each in images]))
    _check_cosines("images", ours, embed_images(loaded, images))


def draw_image(width: int, height: int, seed: int) -> Image.Image:
    """Return an RGB image of coloured waves, with edges and shades."""
    draw = np.random.default_rng(seed)
    x, y = np.arange(width) / width, np.arange(height)[:, None] / height
    channels = []
    for _ in range(3):
        waves = sum(
            np.sin(2 * np.pi * (a * x + b * y + c))
            for a, b, c in draw.uniform((-4, -4, 0), (4, 4, 1), (4, 3))
        )
        channels.append(np.clip(128 + 60 * waves, 0, 255))
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def embed_images(loaded: OpenClipModel, images: list[Image.Image]) -> NDArray[np.float32]:
    """Embed images with open_clip and its own preprocessing, ``(n, dimension)`` of length 1."""
    import torch

    with silence(), torch.inference_mode():
        pixels = torch.stack([loaded.prepare(image) for image in images])
        vectors: NDArray[np.float32] = loaded.network.encode_image(pixels, normalize=True).numpy()
    return vectors


def embed_tokens(loaded: OpenClipModel, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """Embed ``(n, context_length)`` tokens with open_clip, ``(n, dimension)`` of length 1."""
    import torch

    with silence(), torch.inference_mode():
        tokens = torch.from_numpy(ids)
        vectors: NDArray[np.float32] = loaded.network.encode_text(tokens, normalize=True).numpy()
    return vectors


def _tokenize(loaded: OpenClipModel, texts: list[str]) -> NDArray[np.int64]:
    with silence():
        ids: NDArray[np.int64] = loaded.tokenizer(texts).numpy()
    return ids


def _check_tokens(text: BundleTextEncoder, wanted: NDArray[np.int64]) -> None:
    for given, expected in zip(_TEXTS, wanted, strict=True):
        ids, _ = text.tokenize(text.clean(given))
        if not np.array_equal(ids[0], expected):
            raise BundleInvalid(
                f"The exported tokenizer splits “{given[:40].strip()}” into other tokens than"
                " open_clip does, so the text tower would misread texts. Choose another model."
            )


def _check_cosines(kind: str, ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> None:
    least = float((ours * theirs).sum(axis=1).min())
    if not least >= LEAST_COSINE:
        raise BundleInvalid(
            f"The exported network gives other vectors of {kind} than open_clip: a cosine of"
            f" {least:.4f}, where {LEAST_COSINE} is the least. Half precision may be too narrow for"
            " it. Choose another model."
        )
