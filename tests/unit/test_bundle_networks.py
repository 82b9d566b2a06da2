"""A bundle's networks run in OpenVINO: images and texts become vectors of length 1."""

from __future__ import annotations

import io
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset15 as ops
import pytest
from numpy.typing import NDArray
from tokenizers import Regex, models, pre_tokenizers

from models.bundles.archive import Bundle, read_bundle, write_bundle
from models.bundles.engine import BundleEmbedder
from models.embedder import Embedder, load_embedder, read_encoder
from models.errors import BundleInvalid
from models.text_encoder import TextNotUnderstood
from tests.support.images import photograph
from tests.support.tiny_encoders import (
    CONTEXT,
    image_network,
    make_image_bundle,
    make_text_bundle,
    make_tokenizer,
    manifest,
    named_model,
    text_network,
)


def load(path: Path) -> Embedder:
    return load_embedder(read_encoder(path), precision="f32")


def noise(height: int = 32, width: int = 32, count: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    length: NDArray[np.float32] = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / length).astype(np.float32)


def run(network: ov.Model, *inputs: NDArray[Any]) -> NDArray[np.float32]:
    """Run a network without any preprocessing."""
    compiled = ov.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    result: NDArray[np.float32] = compiled(list(inputs))[0]
    return result


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tiny.bundle"


# images
@pytest.mark.parametrize("dimension", [128, 512, 768, 2048])
@pytest.mark.parametrize(("width", "height"), [(32, 32), (96, 96), (336, 336), (64, 128)])
def test_any_dimension_and_input_size_is_served(
    path: Path, dimension: int, width: int, height: int
) -> None:
    size = {"image__width": width, "image__height": height}
    embedder = load(make_image_bundle(path, dimension=dimension, **size))
    image = photograph("coffee")
    vectors = embedder.embed(np.stack([embedder.preprocessing.prepare(image)] * 2))
    assert (vectors.shape, vectors.dtype) == ((2, dimension), np.float32)
    assert embedder.dimension == dimension
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(vectors[0], vectors[1])
    assert embedder.text is None


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_normalisation_and_layout_are_those_of_the_manifest(path: Path, layout: str) -> None:
    embedder = load(make_image_bundle(path, image__layout=layout))
    pixels = noise()
    stated = manifest()["image"]
    scaled = (pixels / 255 - np.array(stated["mean"])) / np.array(stated["std"])
    if layout == "NCHW":
        scaled = scaled.transpose(0, 3, 1, 2)
    expected = unit(run(image_network(layout=layout), scaled.astype(np.float32)))
    assert np.allclose(embedder.embed(pixels), expected, atol=1e-5)


def test_a_network_may_take_the_pixels_themselves(path: Path) -> None:
    """A mean of 0 and a deviation of 1/255 pass the numbers 0 to 255 on exactly."""
    pixels = ops.parameter([-1, 32, 32, 3], np.uint8, name="pixels")
    x = ops.convert(ops.reshape(pixels, np.array([-1, 3072]), special_zero=False), "f32")
    network = named_model(x, [pixels], "flat")
    given = {"mean": [0.0] * 3, "std": [1 / 255] * 3, "layout": "NHWC"}
    changes = {f"image__{key}": value for key, value in given.items()}
    with pytest.raises(
        BundleInvalid, match=r"yields \[\?,3072\], but its manifest says \[1,2048\]"
    ):
        load(make_image_bundle(path, network, dimension=2048, **changes))
    first = ops.slice(x, np.array([0]), np.array([2048]), np.array([1]), np.array([1]))
    embedder = load(
        make_image_bundle(path, named_model(first, [pixels], "x"), dimension=2048, **changes)
    )
    images = noise()
    expected = unit(images.reshape(3, -1)[:, :2048].astype(np.float64))
    assert np.allclose(embedder.embed(images), expected, atol=1e-6)


def tokens_network(rank: int) -> ov.Model:
    """Build a network with an output of tokens or feature maps, and a pooled one."""
    pixels = ops.parameter([-1, 3, 32, 32], np.float32, name="pixels")
    kernel = np.random.default_rng(0).standard_normal((128, 3, 8, 8)).astype(np.float32)
    maps = ops.convolution(pixels, kernel, [8, 8], [0, 0], [0, 0], [1, 1])
    output: Any = maps
    if rank == 3:
        flat = ops.reshape(maps, np.array([-1, 128, 16]), special_zero=False)
        output = ops.transpose(flat, np.array([0, 2, 1]))
    model = ov.Model([output, ops.reduce_max(maps, np.array([2, 3]))], [pixels], "tokens")
    model.output(0).set_names({"last_hidden_state"})
    model.output(1).set_names({"pooler_output"})
    return model


@pytest.mark.parametrize(("rank", "pool"), [(3, "first"), (3, "mean"), (4, "mean")])
def test_tokens_and_feature_maps_are_pooled(path: Path, rank: int, pool: str) -> None:
    changes = {"image__mean": [0.0] * 3, "image__std": [1.0] * 3}
    path = make_image_bundle(path, tokens_network(rank), image__pool=pool, **changes)
    pixels = noise()
    scaled = (pixels / 255).astype(np.float32).transpose(0, 3, 1, 2)
    output = run(tokens_network(rank), scaled)
    axes = 1 if rank == 3 else (2, 3)
    expected = output[:, 0] if pool == "first" else output.mean(axis=axes)
    assert np.allclose(load(path).embed(pixels), unit(expected), atol=1e-5)


@pytest.mark.parametrize("output", ["pooler_output", 1])
def test_an_output_is_named_or_counted(path: Path, output: str | int) -> None:
    changes = {"image__mean": [0.0] * 3, "image__std": [1.0] * 3, "image__output": output}
    path = make_image_bundle(path, tokens_network(3), **changes)
    scaled = (noise() / 255).astype(np.float32).transpose(0, 3, 1, 2)
    compiled = ov.compile_model(tokens_network(3), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert np.allclose(load(path).embed(noise()), unit(compiled(scaled)[1]), atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dimension": 256}, r"yields \[\?,128\], but its manifest says \[1,256\]"),
        ({"image__width": 64}, r"takes \[\?,3,32,32\], but its manifest says \[1,3,32,64\]"),
        ({"image__layout": "NHWC"}, r"manifest says \[1,32,32,3\]"),
        ({"image__output": 1}, "no input or output 1; it has embeddings"),
        ({"image__output": "vectors"}, "no input or output vectors"),
        ({"image__input": "images"}, "no input or output images; it has pixels"),
        ({"image__pool": "first"}, "does not fit `pool: first`"),
    ],
)
def test_a_network_that_differs_from_the_manifest_is_refused(
    path: Path, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(BundleInvalid, match=reason):
        load(make_image_bundle(path, image_network(), **changes))


def test_a_calibration_is_served(path: Path) -> None:
    embedder = load(make_image_bundle(path, calibration={"intercept": 4.0, "slope": 8.0}))
    assert embedder.calibration is not None
    assert embedder.calibration.distance(0.5) == 0.5


def test_threads_share_an_embedder(path: Path) -> None:
    embedder = load_embedder(read_encoder(make_text_bundle(path)), slots=2)
    assert embedder.text is not None
    expected, text = embedder.embed(noise()), embedder.text.embed_text("red dog")
    differences: list[float] = []

    def embed() -> None:
        for _ in range(20):
            differences.append(float(np.abs(embedder.embed(noise()) - expected).max()))
            assert embedder.text is not None
            differences.append(float(np.abs(embedder.text.embed_text("red dog") - text).max()))

    threads = [threading.Thread(target=embed) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert differences == [0.0] * 160


# ONNX
def export_onnx(directory: Path) -> list[Path]:
    """Export a convolution with a projection, and a text tower, as people export CLIP."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")

    class Images(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 16, 8, 8)
            self.project = torch.nn.Linear(16, 128)

        def forward(self, pixels: Any) -> Any:
            return self.project(self.conv(pixels).relu().mean(dim=(2, 3)))

    class Texts(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(12, 16)
            self.project = torch.nn.Linear(16, 128)

        def forward(self, ids: Any) -> Any:
            return self.project(self.table(ids).mean(dim=1))

    torch.manual_seed(0)
    towers = {
        "vision.onnx": (Images(), torch.zeros((2, 3, 32, 32))),
        "text.onnx": (Texts(), torch.zeros((2, CONTEXT), dtype=torch.int64)),
    }
    for name, (tower, example) in towers.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                tower.eval(),
                (example,),
                directory / name,
                input_names=["given"],
                output_names=["embeds"],
                dynamic_axes={"given": {0: "n"}},
                dynamo=False,  # the exporter that starts fast
            )
    pixels = torch.from_numpy((noise() / 255 * 2 - 1).astype(np.float32).transpose(0, 3, 1, 2))
    ids = torch.tensor([[1, 7, 9, 2, 0, 0, 0, 0]])  # <start> red dog <end>, padded
    with torch.inference_mode():
        expected = [towers["vision.onnx"][0](pixels), towers["text.onnx"][0](ids)]
    np.savez(directory / "expected.npz", *(each.numpy() for each in expected))
    return [directory / name for name in towers]


def test_onnx_files_give_the_vectors_of_pytorch(path: Path, tmp_path: Path) -> None:
    files = export_onnx(tmp_path)
    files.append(tmp_path / "tokenizer.json")
    files[-1].write_text(make_tokenizer().to_str())
    stated = manifest(text=True, image__file="vision.onnx", text__file="text.onnx")
    stated["image"] |= {"mean": [0.5] * 3, "std": [0.5] * 3}
    write_bundle(path, stated, {file.name: file for file in files})
    embedder = load(path)
    expected = np.load(tmp_path / "expected.npz")
    assert embedder.text is not None
    assert np.allclose(embedder.embed(noise()), unit(expected["arr_0"]), atol=1e-5)
    text = embedder.text.embed_text("Red dog")
    assert np.allclose(text, unit(expected["arr_1"])[0], atol=1e-5)


def onnx_bundle(path: Path, *, operator: str = "Relu", location: str = "", depth: int = 0) -> Path:
    """Write a bundle of an ONNX network, possibly with a tensor in another file."""
    onnx = pytest.importorskip("onnx")
    make, floats = onnx.helper, onnx.TensorProto.FLOAT
    draw = np.random.default_rng(0)
    weights = onnx.numpy_helper.from_array(
        draw.standard_normal((3072, 128)).astype(np.float32), "weights"
    )
    if location:
        (path.parent / "secret.bin").write_bytes(weights.raw_data)
        weights.ClearField("raw_data")
        weights.data_location = onnx.TensorProto.EXTERNAL
        entry = weights.external_data.add()
        entry.key, entry.value = "location", location
    domain = "" if operator in ("Relu", "RandomNormalLike") else "somebody"
    nodes = [
        make.make_node("Flatten", ["pixels"], ["flat"]),
        make.make_node("MatMul", ["flat", "weights"], ["product"]),
        make.make_node(operator, ["product"], ["embeddings"], domain=domain),
    ]
    tensors = [weights]
    for _ in range(depth):  # the tensor moves into a branch of a condition
        value = make.make_tensor_value_info("weights", floats, [3072, 128])
        branch = make.make_graph([], "branch", [], [value], tensors)
        condition = onnx.numpy_helper.from_array(np.array(True), "yes")
        nodes.insert(
            0, make.make_node("If", ["yes"], ["weights"], then_branch=branch, else_branch=branch)
        )
        tensors = [condition]
    graph = make.make_graph(
        nodes,
        "network",
        [make.make_tensor_value_info("pixels", floats, ["n", 3, 32, 32])],
        [make.make_tensor_value_info("embeddings", floats, ["n", 128])],
        tensors,
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)])
    file = path.parent / "image.onnx"
    file.write_bytes(model.SerializeToString())
    write_bundle(path, manifest(image__file="image.onnx"), {"image.onnx": file})
    return path


def test_an_onnx_file_of_its_own_is_served(path: Path) -> None:
    assert load(onnx_bundle(path)).embed(noise()).shape == (3, 128)
    assert load(onnx_bundle(path, depth=1)).embed(noise()).shape == (3, 128)


@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize("location", ["secret.bin", "../secret.bin", "/secret.bin", "absolute"])
def test_onnx_tensors_in_other_files_are_never_read(
    path: Path, location: str, depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    if location == "absolute":
        location = str(path.parent / "secret.bin")
    with pytest.raises(BundleInvalid, match="keeps tensors in other files"):
        load(onnx_bundle(path, location=location, depth=depth))


def test_an_unknown_operator_is_named(path: Path) -> None:
    with pytest.raises(BundleInvalid, match="Frobnicate"):
        load(onnx_bundle(path, operator="Frobnicate"))
    name, content = "image.xml", io.BytesIO()
    bundle = read_bundle(make_image_bundle(path))
    content.write(bundle.read_file(name).tobytes().replace(b'"ReLU"', b'"Frobnicate"'))
    with pytest.raises(BundleInvalid, match="Frobnicate"):
        load(with_file(bundle, name, content.getvalue()))


def with_file(bundle: Bundle, name: str, content: bytes) -> Path:
    """Write the bundle again with another file."""
    folder = bundle.path.parent / "changed"
    folder.mkdir()
    for each in bundle.manifest.files:
        (folder / each).write_bytes(bundle.read_file(each).tobytes())
    (folder / name).write_bytes(content)
    kept = {each: folder / each for each in bundle.manifest.files}
    stated = manifest(text=True) if bundle.manifest.text else manifest()
    write_bundle(folder / "changed.bundle", stated, kept)
    return folder / "changed.bundle"


@pytest.mark.parametrize(
    "content", [b"", b"<net/>", b"<?xml version='1.0'?><net><layers/></net>", b"\x08\x07", b"\x80"]
)
def test_files_that_are_not_networks_are_refused(path: Path, content: bytes) -> None:
    bundle = read_bundle(make_image_bundle(path))
    with pytest.raises(BundleInvalid, match=r"image\.xml"):
        load(with_file(bundle, "image.xml", content))
    onnx = path.with_name("image.onnx")
    onnx.write_bytes(content)
    write_bundle(path, manifest(image__file="image.onnx"), {"image.onnx": onnx})
    with pytest.raises(BundleInvalid, match=r"image\.onnx"):
        load(path)


@pytest.mark.parametrize("keep", [0, 100])
def test_cut_off_constants_are_refused(path: Path, keep: int) -> None:
    bundle = read_bundle(make_image_bundle(path))
    content = bundle.read_file("image.bin").tobytes()[:keep]
    with pytest.raises(BundleInvalid, match=r"image\.xml"):
        load(with_file(bundle, "image.bin", content))


# texts
def embed_ids(ids: list[int], masked: bool = False) -> NDArray[np.float32]:
    """Embed token ids by the text network alone."""
    rows = [np.array([ids + [0] * (CONTEXT - len(ids))])]
    if masked:
        rows.append(np.array([[1] * len(ids) + [0] * (CONTEXT - len(ids))]))
    return unit(run(text_network(masked=masked), *rows))[0]


def embed_text(path: Path, text: str) -> NDArray[np.float32]:
    encoder = load(path).text
    assert encoder is not None
    return encoder.embed_text(text)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("red dog", [1, 7, 9, 2]),
        ("  RED\tdog ", [1, 7, 9, 2]),
        ("zebra dog", [1, 3, 9, 2]),
        ("a photo of a red red red red dog", [1, 4, 5, 6, 4, 7, 7, 2]),  # cut before the end token
        ("dog </s>", [1, 9, 3, 3, 3, 2]),
        ("dog <end> red", [1, 9, 3, 3, 3, 7, 2]),  # what people type is never a special token
    ],
)
def test_a_text_becomes_tokens_and_a_vector(path: Path, text: str, ids: list[int]) -> None:
    vector = embed_text(make_text_bundle(path), text)
    assert (vector.shape, vector.dtype) == ((128,), np.float32)
    assert abs(float(np.linalg.norm(vector)) - 1) < 1e-5
    assert np.allclose(vector, embed_ids(ids), atol=1e-5)


@pytest.mark.parametrize("text", ["", "  ", "zebra", "<start>", "zebra \N{SNOWMAN}", "\0"])
def test_a_text_without_a_known_word_is_not_understood(path: Path, text: str) -> None:
    with pytest.raises(TextNotUnderstood, match="other words"):
        embed_text(make_text_bundle(path, text__template="a photo of {}"), text)


def test_a_text_that_the_tokenizer_cannot_split_is_not_understood(path: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("(x+x+)+y"), "isolated")
    embedder = load(make_text_bundle(path, tokenizer=tokenizer))
    assert embedder.text is not None
    with pytest.raises(TextNotUnderstood, match="cannot split"):
        embedder.text.embed_text("x" * 100)


def test_a_space_alone_is_not_a_known_word(path: Path) -> None:
    """A SentencePiece tokenizer puts a mark for a space before every text."""
    mark = "\N{LOWER ONE EIGHTH BLOCK}"
    tokenizer = make_tokenizer()
    scores = [("<unk>", 0.0), (mark, -1.0), (f"{mark}dog", -2.0)]
    tokenizer.model = models.Unigram(scores, unk_id=0)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    path = make_text_bundle(path, tokenizer=tokenizer)
    assert embed_text(path, "dog").shape == (128,)
    with pytest.raises(TextNotUnderstood):
        embed_text(path, "\N{SNOWMAN}")


def test_a_template_frames_the_text(path: Path) -> None:
    path = make_text_bundle(path, text__template="a photo of {}")
    assert np.allclose(embed_text(path, "dog"), embed_ids([1, 4, 5, 6, 9, 2]), atol=1e-5)
    # Braces in the text are text.
    assert np.allclose(embed_text(path, "dog {}"), embed_ids([1, 4, 5, 6, 9, 3, 2]), atol=1e-5)


@pytest.mark.parametrize(
    ("rule", "ids"), [("none", [1, 3, 3, 9, 3, 2]), ("canonical", [1, 7, 9, 2])]
)
def test_a_text_is_cleaned_before_the_tokenizer(path: Path, rule: str, ids: list[int]) -> None:
    tokenizer = make_tokenizer()
    tokenizer.normalizer = None
    path = make_text_bundle(path, tokenizer=tokenizer, text__clean=rule)
    assert np.allclose(embed_text(path, "Red, dog!"), embed_ids(ids), atol=1e-5)


def test_a_network_may_need_a_mask(path: Path) -> None:
    inputs = {"ids": "input_ids", "mask": "attention_mask"}
    network = text_network(masked=True)
    path = make_text_bundle(path, network=network, text__inputs=inputs)
    assert np.allclose(embed_text(path, "red dog"), embed_ids([1, 7, 9, 2], True), atol=1e-5)


def test_an_input_that_the_manifest_does_not_name_is_refused(path: Path) -> None:
    with pytest.raises(BundleInvalid, match="attention_mask"):
        load(make_text_bundle(path, network=text_network(masked=True)))


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"model": {"type": "Pickle"}}'])
def test_an_unusable_tokenizer_is_refused(path: Path, content: bytes) -> None:
    bundle = read_bundle(make_text_bundle(path))
    with pytest.raises(BundleInvalid, match="tokenizer"):
        load(with_file(bundle, "tokenizer.json", content))


def test_a_text_tower_of_another_dimension_is_refused(path: Path) -> None:
    with pytest.raises(BundleInvalid, match=r"text\.xml .*yields \[\?,256\]"):
        BundleEmbedder(read_bundle(make_text_bundle(path, network=text_network(256))), slots=1)
