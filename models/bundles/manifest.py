"""The manifest of a bundle: what the files are, and how images and texts become their input.

docs/encoders.md describes every key.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from models.calibration import Calibration
from models.errors import BundleInvalid
from models.weights_file import RESNET_NAME

MANIFEST = "manifest.json"
_NETWORKS = (".xml", ".onnx")
_NOTES = (".txt", ".md")  # licences and notices, which are kept but not used
_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

_FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")]
_Port = Annotated[str, Field(min_length=1, max_length=200)] | Annotated[int, Field(ge=0, le=99)]
_Side = Annotated[int, Field(ge=8, le=2048)]  # pixels
_Line = Annotated[str, Field(max_length=500)]
_Channels = tuple[float, float, float]  # red, green, blue
_Scale = Annotated[float, Field(gt=0)]
_Byte = Annotated[int, Field(ge=0, le=255)]


@dataclass(frozen=True, config=_STRICT)
class ImageTower:
    """The network for images and its preprocessing.

    ``colour_profiles`` says whether colours are converted to sRGB by the image's profile first.
    ``mean`` and ``std`` are those of pixels from 0 to 1. ``shortest_side`` is the length in pixels
    to which ``resize: shortest-side`` scales before it crops; by default the smallest that covers
    the input. ``fill`` is the colour that ``resize: pad`` adds. ``pool`` says how an output of
    ``(1, tokens, dimension)`` or ``(1, dimension, rows, columns)`` becomes one vector.
    """

    file: _FileName
    width: _Side
    height: _Side
    mean: _Channels
    std: tuple[_Scale, _Scale, _Scale]
    colour_profiles: Literal["convert", "ignore"] = "ignore"
    resize: Literal["shortest-side", "squash", "pad"] = "shortest-side"
    shortest_side: _Side | None = None
    crop: Literal["centre"] = "centre"
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    fill: tuple[_Byte, _Byte, _Byte] = (0, 0, 0)
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    input: _Port = 0
    output: _Port = 0
    pool: Literal["none", "first", "mean"] = "none"

    @model_validator(mode="after")
    def _check_shortest_side(self) -> ImageTower:
        if self.shortest_side is None:
            return self
        if self.resize != "shortest-side":
            raise ValueError("shortest_side belongs to the resize rule shortest-side")
        if self.shortest_side < max(self.width, self.height):
            raise ValueError("shortest_side is less than the width or the height")
        return self


@dataclass(frozen=True, config=_STRICT)
class TextInputs:
    """The network's inputs, by name or index: token ids, attention mask, token types (zeros)."""

    ids: _Port = 0
    mask: _Port | None = None
    types: _Port | None = None


@dataclass(frozen=True, config=_STRICT)
class TextTower:
    """The network for texts and its tokenizer.

    ``context_length`` is the number of tokens with start and end; longer texts are cut. ``clean``
    changes a text before the tokenizer does: ``canonical`` means lower case without punctuation.
    ``template`` is the sentence that a query becomes, with ``{}`` in its place.
    """

    file: _FileName
    context_length: Annotated[int, Field(ge=3, le=4096)]
    pad_id: Annotated[int, Field(ge=0, le=2**31 - 1)]
    tokenizer: _FileName = "tokenizer.json"
    inputs: TextInputs = Field(default_factory=TextInputs)
    output: _Port = 0
    clean: Literal["none", "lower", "canonical"] = "none"
    template: _Line = "{}"

    @model_validator(mode="after")
    def _check_template_and_tokenizer(self) -> TextTower:
        if self.template.count("{}") != 1 or set("{}") & set(self.template.replace("{}", "")):
            raise ValueError("the template needs {} exactly once, and no other braces")
        if not self.tokenizer.endswith(".json") or self.tokenizer == MANIFEST:
            raise ValueError("the tokenizer must be a .json file other than the manifest")
        return self


@dataclass(frozen=True, config=_STRICT)
class StatedCalibration:
    """The numbers of ``models.calibration.Calibration``."""

    intercept: float
    slope: _Scale


@dataclass(frozen=True, config=_STRICT)
class StatedFile:
    """What the manifest says about a file: SHA-256 in hexadecimal digits, and bytes."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]


@dataclass(frozen=True, config=_STRICT)
class Manifest:
    """A valid manifest. Vectors have ``dimension`` numbers, of images and texts alike."""

    format: Literal[1]
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
    kind: Literal["image", "image-text"]
    dimension: Annotated[int, Field(ge=128, le=2048)]
    licence: Annotated[_Line, Field(min_length=1)]
    source: Annotated[_Line, Field(min_length=1)]
    image: ImageTower
    files: dict[_FileName, StatedFile]
    text: TextTower | None = None
    calibration: StatedCalibration | None = None

    @model_validator(mode="after")
    def _check_name(self) -> Manifest:
        if self.name == RESNET_NAME:
            raise ValueError(f"the name {RESNET_NAME} belongs to the ResNet's weights; use another")
        return self

    @model_validator(mode="after")
    def _check_files(self) -> Manifest:
        if (self.kind == "image-text") != (self.text is not None):
            raise ValueError("`text` is needed for the kind image-text, and only for that")
        used = self._used_files()
        if missing := used - set(self.files):
            raise ValueError(f"`files` lacks {', '.join(sorted(missing))}")
        for name in sorted(set(self.files) - used):
            if not name.endswith(_NOTES):
                raise ValueError(f"nothing uses the file {name}; remove it")
        return self

    def _used_files(self) -> set[str]:
        networks = [self.image.file, *([self.text.file] if self.text else [])]
        for name in networks:
            if not name.endswith(_NETWORKS):
                raise ValueError(f"{name} must be OpenVINO IR (.xml and .bin) or ONNX (.onnx)")
        constants = {weights_of(name) for name in networks if name.endswith(".xml")}
        return {*networks, *constants, *([self.text.tokenizer] if self.text else [])}

    def as_calibration(self) -> Calibration | None:
        stated = self.calibration
        return None if stated is None else Calibration(stated.intercept, stated.slope)


_ADAPTER = TypeAdapter(Manifest)


def weights_of(network: str) -> str:
    """Return the name of the file with the constants of an ``.xml`` file."""
    return str(PurePath(network).with_suffix(".bin"))


def parse_manifest(content: bytes, source: str) -> tuple[Manifest, str]:
    """Return the manifest and the version of the bundle, ``NAME-`` and 16 hexadecimal digits.

    The version depends on what the JSON says, which includes the hash of every file, and not on
    its spaces or the order of its keys. ``source`` names the bundle in errors. Raises
    BundleInvalid.
    """
    try:
        given = json.loads(content, object_pairs_hook=_refuse_repeated_keys)
        manifest = _ADAPTER.validate_json(content)
    except ValidationError as error:
        raise BundleInvalid(
            f"The manifest of {source} is invalid: {_describe(error)}. docs/encoders.md describes"
            " every key."
        ) from error
    except (ValueError, RecursionError) as error:
        raise BundleInvalid(f"The manifest of {source} is not valid JSON ({error}).") from error
    return manifest, f"{manifest.name}-{hashlib.sha256(serialize(given)).hexdigest()[:16]}"


def serialize(manifest: dict[str, Any]) -> bytes:
    """Return the canonical JSON of a manifest."""
    return json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()


def _refuse_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key occurs twice")
    return dict(pairs)


def _describe(error: ValidationError) -> str:
    """Return the first problem, with the key that has it."""
    first = error.errors(include_url=False, include_input=False)[0]
    if first["loc"][-1:] == ("[key]",):
        return f"the file name {first['loc'][-2]} has other characters than A-Z a-z 0-9 _ . -"
    place = ".".join(str(part) for part in first["loc"])
    problem = first["msg"].removeprefix("Value error, ")
    if first["type"] == "unexpected_keyword_argument":
        problem = "this key is not known"
    return f"{place}: {problem}" if place else problem
