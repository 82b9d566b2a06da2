"""Loads the networks of open_clip, by its names or from a file, with its own preprocessing."""

from __future__ import annotations

import difflib
import logging
import textwrap
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from models.errors import BundleInvalid, EngineMissing
from models.torchvision_import import import_torchvision

_PLACES = ("hf-hub:", "local-dir:")  # prefixes of a model's name; its weights are there too
_WEIGHTS = (".pt", ".pth", ".bin", ".safetensors")
_PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")


@dataclass(frozen=True)
class OpenClipModel:
    """A network of open_clip in float32 and evaluation mode, its tokenizer and preprocessing.

    ``network`` has ``encode_image`` and ``encode_text``. ``prepare`` turns an image into
    ``(3, height, width)`` float32. ``settings`` are the fields of open_clip's ``PreprocessCfg``.
    """

    network: Any
    tokenizer: Any
    prepare: Callable[[Image.Image], Any]
    settings: dict[str, Any]


def load_open_clip(
    model: str, pretrained: str | None, preprocessing: str | None = None
) -> OpenClipModel:
    """Load a model by the names that open_clip gives it.

    ``pretrained`` is a tag, which open_clip downloads, or a file of weights; it is None if
    ``model`` names a place that has the weights. ``preprocessing`` is the tag whose preprocessing
    goes with a file. Raises BundleInvalid, and EngineMissing if open_clip is not installed.
    """
    open_clip = import_open_clip()
    with silence():
        stated = _check_names(open_clip, model, pretrained, preprocessing)
        try:
            network = open_clip.create_model(
                model, pretrained, require_pretrained=True, force_preprocess_cfg=stated
            )
        except Exception as error:  # open_clip lets through what any library below it raises
            raise BundleInvalid(_describe_failure(model, pretrained, error)) from error
        try:
            tokenizer = open_clip.get_tokenizer(model)
        except Exception as error:
            raise BundleInvalid(
                f"The tokenizer of {model} cannot be loaded ({_first_line(error)}). Check the"
                " connection to the hub, or name a directory as local-dir:DIRECTORY."
            ) from error
        settings = network.visual.preprocess_cfg
        transform = open_clip.transform
        prepare = transform.image_transform_v2(transform.PreprocessCfg(**settings), is_train=False)
    return OpenClipModel(network.eval(), tokenizer, prepare, settings)


def import_open_clip() -> Any:
    """Import open_clip. Raises EngineMissing if it, or what it needs, is not installed."""
    try:
        import_torchvision()
        import open_clip
        import transformers  # noqa: F401 - open_clip asks for it late, and not for every model
    except ImportError as error:
        raise EngineMissing(
            f"The export from open_clip needs a library that is not installed ({error})."
            " In the source directory, run: pip install '.[clip]'"
        ) from error
    return open_clip


@contextmanager
def silence() -> Iterator[None]:
    """Keep the libraries' warnings and log lines, which are not for users, from the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _check_names(
    open_clip: Any, model: str, pretrained: str | None, preprocessing: str | None
) -> dict[str, Any]:
    """Return the preprocessing that replaces open_clip's default. Raises BundleInvalid."""
    if model.startswith(_PLACES):
        if pretrained or preprocessing:
            raise BundleInvalid(f"{model} has its own weights. Do not name others.")
        return {}
    config = open_clip.get_model_config(model)
    if config is None:
        raise BundleInvalid(
            f"open_clip has no model {model}.{_suggest(model, open_clip.list_models())}"
            " `python -c 'import open_clip; print(open_clip.list_models())'` lists all."
        )
    tags = open_clip.list_pretrained_tags_by_model(model)
    known = {tag: open_clip.get_pretrained_cfg(model, tag) for tag in tags}
    if pretrained is None:
        raise BundleInvalid(
            f"{model} needs weights. Name a file, or weights that open_clip has for it:"
            f" {', '.join(tags) or 'none'}."
        )
    if pretrained not in known and not Path(pretrained).is_file():
        raise BundleInvalid(
            f"{pretrained} is neither a file nor weights that open_clip has for {model}. It has"
            f" {', '.join(tags) or 'none'}."
        )
    if pretrained in known:
        _check_activation(model, pretrained, known[pretrained], config)
        return {}
    if Path(pretrained).suffix not in _WEIGHTS:
        endings = ", ".join(_WEIGHTS)
        raise BundleInvalid(f"{pretrained} is not a file of weights, which end in {endings}.")
    return _find_preprocessing(model, known, preprocessing)


def _check_activation(model: str, tag: str, stated: dict[str, Any], config: dict[str, Any]) -> None:
    """Refuse weights that were trained with another activation; open_clip only warns."""
    wanted, built = stated.get("quick_gelu", False), config.get("quick_gelu", False)
    if wanted != built:
        other = f"{model}-quickgelu" if wanted else model.removesuffix("-quickgelu")
        raise BundleInvalid(
            f"The weights {tag} were trained with another activation than {model} has. Name the"
            f" model {other}."
        )


def _find_preprocessing(
    model: str, known: dict[str, dict[str, Any]], tag: str | None
) -> dict[str, Any]:
    """Return the preprocessing for a file of weights, which does not state its own.

    open_clip would take that of the original CLIP for every network.
    """
    choices = {
        each: {key: stated[key] for key in _PREPROCESSING if key in stated}
        for each, stated in known.items()
    }
    if tag is not None:
        if tag not in choices:
            raise BundleInvalid(
                f"open_clip has no weights {tag} for {model}. It has"
                f" {', '.join(choices) or 'none'}."
            )
        return choices[tag]
    different: list[dict[str, Any]] = []
    for each in choices.values():
        if each not in different:
            different.append(each)
    if len(different) > 1:
        raise BundleInvalid(
            f"The weights of {model} need different preprocessing. With --preprocessing, name the"
            f" weights whose preprocessing the file needs: {', '.join(choices)}."
        )
    return different[0] if different else {}


def _describe_failure(model: str, pretrained: str | None, error: Exception) -> str:
    named = f"{model} {pretrained or ''}".strip()
    if isinstance(error, MemoryError):
        return f"{named} does not fit into memory. Use a smaller network."
    if "weights_only" in str(error) or "TorchScript" in str(error):
        return (
            f"{named} is not loaded: the file is damaged, or holds more than tensors and could run"
            " code. Save its state_dict alone, as .safetensors or with torch.save."
        )
    return (
        f"open_clip cannot load {named} ({_first_line(error)}). Check the names, the file and the"
        " connection to the hub."
    )


def _first_line(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return textwrap.shorten(line, 300, placeholder=" …").rstrip(".: ")


def _suggest(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, 3)
    return f" Did you mean {', '.join(near)}?" if near else ""
