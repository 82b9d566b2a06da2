"""The bundle file: what is written is read back, and nothing hostile is unpacked."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.bundles.archive import read_bundle, write_bundle
from models.bundles.manifest import (
    ImageTower,
    Manifest,
    TextInputs,
    TextTower,
    parse_manifest,
)
from models.embedder import read_encoder
from models.errors import BundleInvalid, EncoderInvalid
from models.weights_file import DEFAULT_WEIGHTS
from tests.support.tiny_encoders import make_image_bundle, make_text_bundle, manifest

ROOT = Path(__file__).parent.parent.parent
CONTENT = {"image.xml": b"<net/>", "image.bin": b"\0" * 5000}


def describe(content: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}


def stated(files: dict[str, bytes] = CONTENT, **changes: Any) -> dict[str, Any]:
    """Return a complete manifest."""
    return manifest(**changes) | {"files": {name: describe(files[name]) for name in files}}


def archive_of(
    path: Path,
    members: dict[str, bytes] = CONTENT,
    listed: dict[str, Any] | None = None,
    method: int = zipfile.ZIP_DEFLATED,
) -> Path:
    """Write an archive as any program could: ``write_bundle`` makes no invalid ones."""
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("manifest.json", json.dumps(listed or stated()))
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def refusal(path: Path, **limits: Any) -> str:
    with pytest.raises(BundleInvalid) as refused:
        read_bundle(path, **limits)
    return str(refused.value)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "words.bundle"


# reading and writing
def test_a_bundle_is_read_as_it_was_written(path: Path, tmp_path: Path) -> None:
    files = {}
    for name, content in CONTENT.items():
        files[name] = tmp_path / f"source of {name}"
        files[name].write_bytes(content)
    write_bundle(path, manifest(), files)
    bundle = read_bundle(path)
    assert bundle.manifest.image.width == 32
    assert {name: bundle.read_file(name).tobytes() for name in CONTENT} == CONTENT
    assert bundle.size == sum(map(len, CONTENT.values()))
    first = path.read_bytes()
    write_bundle(path, manifest(), dict(reversed(files.items())))
    assert path.read_bytes() == first
    assert {each.name for each in tmp_path.iterdir()} == {
        path.name,
        *(f.name for f in files.values()),
    }


def test_a_version_is_the_name_and_16_digits_which_never_change(path: Path) -> None:
    assert read_bundle(archive_of(path)).version == "tiny-9ac905c290e8b2c2"


def test_a_version_depends_on_the_content_alone(path: Path) -> None:
    version = read_bundle(archive_of(path)).version
    same = dict(reversed(stated().items()))
    members = dict(reversed(CONTENT.items()))
    archive_of(path, members, same, zipfile.ZIP_STORED)
    assert read_bundle(path).version == version
    other = CONTENT | {"image.bin": b"\1" * 5000}
    assert read_bundle(archive_of(path, other, stated(other))).version != version
    assert read_bundle(archive_of(path, listed=stated(image__pool="mean"))).version != version


def test_a_bundle_may_contain_a_licence(path: Path) -> None:
    files = CONTENT | {"LICENSE.txt": b"Apache"}
    assert "LICENSE.txt" in read_bundle(archive_of(path, files, stated(files))).manifest.files


def test_a_weights_file_is_an_encoder_and_keeps_its_version(path: Path) -> None:
    assert read_encoder(DEFAULT_WEIGHTS).version.startswith("rn50-")
    assert read_encoder(archive_of(path)).version.startswith("tiny-")
    for content in (b"", b"PK\x03\x04", b"text"):
        path.write_bytes(content)
        with pytest.raises(EncoderInvalid, match=r"words\.bundle"):
            read_encoder(path)
    with pytest.raises(EncoderInvalid, match="cannot be read"):
        read_encoder(path.with_name("missing"))


# archives that are refused
@pytest.mark.parametrize(
    "name",
    ["../image.bin", "/etc/passwd", "sub/image.bin", "..", "a\\b.bin", ".hidden.bin", "a\nb.bin"],
)
def test_only_plain_names_are_accepted(path: Path, name: str) -> None:
    files = CONTENT | {name: b"x"}
    assert "file name" in refusal(archive_of(path, files, stated(files)))
    assert "does not list" in refusal(archive_of(path, files))


@pytest.mark.parametrize("name", ["code.py", "weights.pkl", "extension.so", "model.pt", "x.dll"])
def test_files_that_could_be_code_are_refused(path: Path, name: str) -> None:
    files = CONTENT | {name: b"x"}
    assert "nothing uses" in refusal(archive_of(path, files, stated(files)))
    assert "OpenVINO IR" in refusal(archive_of(path, listed=stated(image__file=name)))


def test_missing_and_extra_files_are_refused(path: Path) -> None:
    assert "image.bin is missing" in refusal(archive_of(path, {"image.xml": b"<net/>"}))
    assert "does not list" in refusal(archive_of(path, CONTENT | {"more.bin": b"x"}))
    less = {"image.xml": b"<net/>"}
    assert "lacks image.bin" in refusal(archive_of(path, less, stated(less)))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("image.xml", b"<net/>")
    assert "no manifest.json" in refusal(path)


def test_changed_content_is_refused(path: Path) -> None:
    changed = CONTENT | {"image.bin": b"\1" * 5000}
    assert "SHA-256" in refusal(archive_of(path, changed))
    assert "5001 bytes" in refusal(archive_of(path, CONTENT | {"image.bin": b"\0" * 5001}))


def test_a_file_that_changes_after_the_check_is_noticed(path: Path) -> None:
    bundle = read_bundle(archive_of(path, method=zipfile.ZIP_STORED))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\0" * 5000, b"\1" * 5000))
    with pytest.raises(BundleInvalid, match="damaged"):
        bundle.read_file("image.bin")


def test_a_bundle_over_the_limit_is_refused_before_it_is_unpacked(path: Path) -> None:
    assert "over the limit" in refusal(archive_of(path), max_bytes=5000)
    listed = stated()
    listed["files"]["image.bin"]["size"] = 2 << 30
    archive_of(path, listed=listed)
    patch_sizes(path, "image.bin", 2 << 30)
    assert "2.1 GB, which is over the limit" in refusal(path)


def patch_sizes(path: Path, name: str, size: int) -> None:
    """State another uncompressed size of a member in the archive's directory."""
    content = bytearray(path.read_bytes())
    entry = content.rindex(name.encode()) - 46  # the directory is at the end
    content[entry + 24 : entry + 28] = struct.pack("<I", size)
    path.write_bytes(content)


def test_a_zip_bomb_is_refused_without_unpacking_it(path: Path) -> None:
    bomb = CONTENT | {"image.bin": b"\0" * 50_000_000}
    archive_of(path, bomb)
    assert path.stat().st_size < 100_000
    assert "50000000 bytes" in refusal(path)
    patch_sizes(path, "image.bin", 5000)  # a directory that lies agrees with the manifest
    assert "damaged" in refusal(path)


def test_a_large_manifest_is_refused(path: Path) -> None:
    assert "at most 1 MB" in refusal(archive_of(path, listed=stated(padding="x" * 2_000_000)))


def test_a_large_directory_is_refused(path: Path) -> None:
    assert "64 files" in refusal(archive_of(path, {f"{number}.txt": b"" for number in range(70)}))


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-30],
        lambda content: content[:1000],
        lambda content: content + b"x",
        lambda content: b"x" + content,
        lambda content: content.replace(b"<net/>", b"<nex/>"),
        lambda content: content[:-22] + b"PK\x06\x07" + bytes(16) + content[-22:],
        lambda _: b"PK\x05\x06" + bytes(18),
        lambda _: b"",
    ],
)
def test_a_damaged_archive_is_refused(path: Path, damage: Callable[[bytes], bytes]) -> None:
    archive_of(path, method=zipfile.ZIP_STORED)
    path.write_bytes(damage(path.read_bytes()))
    assert "damaged" in refusal(path)


def test_links_repeated_names_and_unusual_compression_are_refused(path: Path) -> None:
    link = zipfile.ZipInfo("image.bin")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", json.dumps(stated()))
        archive.writestr("image.xml", b"<net/>")
        archive.writestr(link, "/etc/passwd")
    assert "a link" in refusal(path)
    assert "unusual method" in refusal(archive_of(path, method=zipfile.ZIP_LZMA))
    with (
        zipfile.ZipFile(archive_of(path), "a") as archive,
        pytest.warns(UserWarning, match="Duplicate"),
    ):
        archive.writestr("image.xml", b"<net/>")
    assert "same name" in refusal(path)


# manifests
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"colour": "red"}, "colour: this key is not known"),
        ({"image__gamma": 2.2}, "image.gamma: this key is not known"),
        ({"format": 2}, "format"),
        ({"name": "Tiny Network"}, "name"),
        ({"name": "-"}, "name"),
        ({"name": "rn50"}, "the name rn50 belongs to the ResNet's weights"),
        ({"dimension": 64}, "dimension"),
        ({"dimension": 4096}, "dimension"),
        ({"dimension": "512"}, "dimension"),
        ({"kind": "image-text"}, "`text` is needed"),
        ({"licence": ""}, "licence"),
        ({"image__width": 4}, "image.width"),
        ({"image__std": [1, 0, 1]}, "image.std"),
        ({"image__mean": [0.5, 0.5]}, "image.mean"),
        ({"image__mean": [0.5, 0.5, float("nan")]}, "image.mean"),
        ({"image__resize": "stretch"}, "image.resize"),
        ({"image__shortest_side": 16}, "less than"),
        ({"image__resize": "pad", "image__shortest_side": 64}, "belongs to"),
        ({"calibration": {"intercept": 1.0, "slope": -1.0}}, "calibration.slope"),
        ({"text": True, "text__template": "a photo"}, "template"),
        ({"text": True, "text__template": "{0} {}"}, "template"),
        ({"text": True, "text__context_length": 2}, "context_length"),
        ({"text": True, "text__tokenizer": "manifest.json"}, "tokenizer"),
        ({"text": True, "text__tokenizer": "vocabulary.txt"}, "tokenizer"),
    ],
)
def test_an_invalid_manifest_is_refused_with_its_key(
    path: Path, changes: dict[str, Any], reason: str
) -> None:
    files = CONTENT | {"text.xml": b"", "text.bin": b"", "tokenizer.json": b""}
    if not changes.get("text"):
        files = CONTENT
    message = refusal(archive_of(path, files, stated(files, **changes)))
    assert reason in message
    assert "docs/encoders.md" in message


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"[" * 100_000, b"\xff", b'{"name": "a", "name": "b"}']
)
def test_a_manifest_that_is_not_an_object_is_refused(content: bytes) -> None:
    with pytest.raises(BundleInvalid, match="manifest of words"):
        parse_manifest(content, "words")


def test_a_calibration_is_kept(path: Path) -> None:
    numbers = {"intercept": 4.0, "slope": 8.0}
    calibration = read_bundle(archive_of(path, listed=stated(calibration=numbers))).manifest
    found = calibration.as_calibration()
    assert found is not None
    assert found.probability(0.5) == 0.5


def test_tiny_bundles_are_valid(tmp_path: Path) -> None:
    assert read_bundle(make_image_bundle(tmp_path / "a.bundle")).manifest.text is None
    assert read_bundle(make_text_bundle(tmp_path / "b.bundle")).manifest.text is not None


# documentation
@pytest.mark.parametrize("kind", [Manifest, ImageTower, TextTower, TextInputs])
def test_every_key_of_the_manifest_is_documented(kind: Any) -> None:
    page = (ROOT / "docs" / "encoders.md").read_text()
    for field in dataclasses.fields(kind):
        assert f"`{field.name}`" in page, field.name


def test_the_manifest_in_the_documentation_is_valid() -> None:
    page = (ROOT / "docs" / "encoders.md").read_text()
    example = re.search(r"^    (\{\n.*?\n    \})$", page, re.DOTALL | re.MULTILINE)
    assert example
    content = json.loads(example[1])
    names = ("vision.onnx", "text.onnx", "tokenizer.json")
    content |= {"format": 1, "files": {name: describe(b"") for name in names}}
    assert parse_manifest(json.dumps(content).encode(), "the example")[0].text
