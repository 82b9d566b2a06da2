"""Models of open_clip are exported as bundles, which give the same vectors and tokens."""

from __future__ import annotations

import builtins
import dataclasses
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer
from typer.testing import CliRunner, Result

from app.cli.main import app
from models.bundles import open_clip_export
from models.bundles.archive import Bundle, read_bundle
from models.bundles.open_clip_agreement import draw_image, embed_images, embed_tokens
from models.bundles.open_clip_export import ExportRequest, export_open_clip
from models.bundles.open_clip_models import load_open_clip
from models.bundles.open_clip_tokenizer import ConvertedTokenizer, convert_tokenizer
from models.embedder import load_embedder, read_encoder
from tests.support.tiny_clip import (
    import_clip,
    make_network,
    needs_open_clip,
    save_checkpoint,
    save_siglip,
)

pytestmark = [needs_open_clip, pytest.mark.slow]
SMALLEST = "tiny-vit-quickgelu"
QUERIES = ["a red dog", "Two BICYCLES, beside a wall", "собака", "it's a “quoted” 犬 \N{DOG FACE}"]

TEXTS = [
    "",
    "a photo of a dog",
    "A Photo OF a DOG!",
    "it's we're don't I'll she'd they've I'm o'clock 's 'S",
    "  two   spaces\tand\nlines\xa0  ",
    "日本語 犬 ＡＢＣ１２３ ｶﾞｷﾞ",
    "собака и кот ΟΔΟΣ ΣΑΣ İstanbul",
    "किताब हिन्दी ภาษาไทย עברית شكرا",
    "\N{GRINNING FACE} a cat \N{THUMBS UP SIGN}\N{EMOJI MODIFIER FITZPATRICK TYPE-4} !",
    "“curly” ‘quotes’ ﬁsh ﬂoor ĳs ŉ ²½™ⅷ ℃ … – —",
    "12345 3.14 $5 !!! ... ??? -- _under_score_",
    "naïve café cafe\N{COMBINING ACUTE ACCENT}",
    "AT&amp;T &lt;b&gt; &quot;x&quot; &#39;y&#39; fish&nbsp;chips",
    "zero\u200bwidth \xadsoft \x07bell",
    "a very long text " * 40,
    "antidisestablishmentarianism" * 20,
    "\N{GRINNING FACE}" * 60,
]
DIFFERENT = ["cafÃ© au lait", "&eacute;t&eacute;", "&amp;amp;amp; co", "<end_of_text> dog"]


def run(*arguments: str | Path) -> Result:
    command = ["encoders", "export", "open-clip", *map(str, arguments)]
    return CliRunner().invoke(app, command, env={"COLUMNS": "100"})


@pytest.fixture(scope="module", autouse=True)
def registered_models() -> None:
    import_clip()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(SMALLEST, tmp_path_factory.mktemp("weights") / "mine.pt")


def check_served_like_torch(bundle: Bundle, model: str, weights: Path | None) -> None:
    """Load a bundle as a service does, and compare it with the network it was made from."""
    served = load_embedder(read_encoder(bundle.path), precision="f32")
    theirs = load_open_clip(model, None if weights is None else str(weights))
    images = [draw_image(150, 110, 10), draw_image(70, 180, 11), draw_image(40, 40, 12)]
    ours = served.embed(np.stack([served.preprocessing.prepare(each) for each in images]))
    expected = embed_images(theirs, images)
    assert ours.shape == (3, bundle.manifest.dimension)
    assert (ours * expected).sum(axis=1).min() > 0.999
    assert (ours @ expected.T)[~np.eye(3, dtype=bool)].max() < 0.99  # so the comparison tells
    assert served.text is not None
    texts = np.stack([served.text.embed_text(each) for each in QUERIES])
    expected = embed_tokens(theirs, theirs.tokenizer(QUERIES).numpy())
    assert (texts * expected).sum(axis=1).min() > 0.999
    assert (texts @ expected.T)[~np.eye(4, dtype=bool)].max() < 0.99


@pytest.mark.parametrize(
    ("model", "file"),
    [
        (SMALLEST, "mine.pt"),
        ("tiny-resnet", "mine.safetensors"),
        ("tiny-convnext", "mine.bin"),
    ],
)
@pytest.mark.usefixtures("untried_bundles")
def test_a_model_from_a_file_is_served_like_torch(tmp_path: Path, model: str, file: str) -> None:
    weights = save_checkpoint(model, tmp_path / file)
    made = export_open_clip(ExportRequest(model, str(weights)), tmp_path / "words.bundle")
    assert made.bundle.manifest.source == f"open_clip {model} mine"
    assert made.bundle.manifest.name == f"{model}-mine"
    constants = sum(made.bundle.manifest.files[name].size for name in ("image.bin", "text.bin"))
    assert constants < 0.55 * weights.stat().st_size  # half precision
    check_served_like_torch(made.bundle, model, weights)


@pytest.mark.usefixtures("untried_bundles")
def test_a_siglip_with_its_own_tokenizer_is_served_like_torch(tmp_path: Path) -> None:
    model = f"local-dir:{save_siglip(tmp_path / 'Tiny_SigLIP')}"
    made = export_open_clip(ExportRequest(model), tmp_path / "words.bundle")
    manifest = made.bundle.manifest
    assert manifest.name == "tiny-siglip"
    assert manifest.image.resize == "squash"
    assert manifest.image.mean == (0.5, 0.5, 0.5)
    assert manifest.text is not None
    assert (manifest.text.context_length, manifest.text.pad_id) == (16, 1)
    check_served_like_torch(made.bundle, model, None)


def test_the_command_makes_a_bundle_from_a_file(tmp_path: Path, checkpoint: Path) -> None:
    bundle = tmp_path / "out" / "words.bundle"
    made = run(SMALLEST, checkpoint, "--out", bundle)
    assert made.exit_code == 0, made.output
    assert f"Written: {bundle}" in made.output
    for fact in ("dimension", "128", "MB", "time per image", "time per text", "ms on one core"):
        assert fact in made.output, fact
    assert list(bundle.parent.iterdir()) == [bundle]
    manifest = read_bundle(bundle).manifest
    assert manifest.name == "tiny-vit-quickgelu-mine"
    assert manifest.licence == "see the model's page"
    checked = CliRunner().invoke(app, ["encoders", "check", str(bundle)])
    assert checked.exit_code == 0, checked.output


@pytest.mark.usefixtures("untried_bundles")
def test_the_manifest_states_what_the_options_state(tmp_path: Path, checkpoint: Path) -> None:
    options = ["--name", "words", "--licence", "MIT", "--source", "a shop"]
    options += ["--template", "a photo of {}"]
    bundle = tmp_path / "words.bundle"
    assert run(SMALLEST, checkpoint, "--out", bundle, *options).exit_code == 0
    manifest = read_bundle(bundle).manifest
    assert (manifest.name, manifest.licence, manifest.source) == ("words", "MIT", "a shop")
    theirs = load_open_clip(SMALLEST, str(checkpoint))
    wanted = embed_tokens(theirs, theirs.tokenizer(["a photo of a DOG"]).numpy())
    served = load_embedder(read_encoder(bundle), precision="f32")
    assert served.text is not None
    assert float(served.text.embed_text("a DOG") @ wanted[0]) > 0.999


@pytest.mark.parametrize("part", ["image", "text", "tokens"])
@pytest.mark.usefixtures("untried_bundles")
def test_a_bundle_that_differs_from_open_clip_is_not_written(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    load = open_clip_export.load_open_clip

    def load_and_spoil(*names: Any) -> Any:
        """Return a network that gives other vectors once it was exported, or other tokens."""
        loaded = load(*names)
        original = loaded.network
        if part == "tokens":
            tokenize = loaded.tokenizer.encode
            monkeypatch.setattr(loaded.tokenizer, "encode", lambda text: tokenize(f"{text} x"))
            return loaded
        other = make_network(SMALLEST)
        for parameter in other.parameters():
            parameter.data = parameter.data.flip(0)

        class Spoilt:
            encode_image = staticmethod((other if part == "image" else original).encode_image)
            encode_text = staticmethod((other if part == "text" else original).encode_text)

        monkeypatch.setattr(open_clip_export, "check_agreement", compare_with(Spoilt()))
        return loaded

    def compare_with(network: Any) -> Any:
        def check(bundle: Bundle, loaded: Any) -> None:
            compare(bundle, dataclasses.replace(loaded, network=network))

        return check

    compare = open_clip_export.check_agreement
    monkeypatch.setattr(open_clip_export, "load_open_clip", load_and_spoil)
    bundle = tmp_path / "words.bundle"
    result = run(SMALLEST, checkpoint, "--out", bundle)
    assert result.exit_code == 2, result.output
    expected = "other tokens" if part == "tokens" else f"gives other vectors of {part}s"
    assert expected in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TorchScript is deprecated
def test_a_checkpoint_with_code_is_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    class Hostile:
        def __reduce__(self) -> Any:
            return (Path.write_text, (tmp_path / "ran", "x"))

    file = tmp_path / "hostile.pt"
    file.write_bytes(pickle.dumps({"state_dict": Hostile()}))
    program = tmp_path / "program.pt"
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(program))
    for each in (file, program):
        result = run(SMALLEST, each, "--out", tmp_path / "words.bundle")
        assert result.exit_code == 2
        assert "could run code" in result.output
    assert set(tmp_path.iterdir()) == {file, program}


@pytest.mark.usefixtures("untried_bundles")
def test_names_that_open_clip_does_not_have_are_refused(tmp_path: Path, checkpoint: Path) -> None:
    out = ("--out", tmp_path / "words.bundle")
    for arguments, message in (
        (("ViT-B-23", "openai"), "Did you mean ViT-B-32"),
        (("ViT-B-32", "nonsense"), "It has openai, laion400m_e31"),
        (("ViT-B-32",), "ViT-B-32 needs weights"),
        (("ViT-B-32", "openai"), "Name the model ViT-B-32-quickgelu"),
        ((SMALLEST, checkpoint.parent / "missing.pt"), "is neither a file nor weights"),
        (("ViT-L-14", checkpoint), "need different preprocessing"),
        ((SMALLEST, checkpoint, "--preprocessing", "webli"), "has no weights webli"),
        (("tiny-resnet", checkpoint), "open_clip cannot load tiny-resnet"),
        (("local-dir:/missing",), "open_clip cannot load local-dir:/missing"),
        (("local-dir:/missing", checkpoint), "has its own weights"),
        ((SMALLEST, checkpoint, "--name", "No Name"), "name"),
        ((SMALLEST, checkpoint, "--name", "rn50"), "belongs to the ResNet's weights"),
    ):
        result = run(*arguments, *out)
        assert result.exit_code == 2, result.output
        assert message in result.output
        assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("clean", ["lower", "whitespace", "canonicalize"])
def test_a_converted_tokenizer_gives_the_tokens_of_open_clip(clean: str) -> None:
    theirs = import_clip().get_tokenizer(SMALLEST, clean=clean)
    converted = convert_tokenizer(theirs)
    assert (converted.context_length, converted.pad_id) == (77, 0)
    tokenize = serve_tokenizer(converted)
    for text in TEXTS:
        assert tokenize(text) == theirs([text])[0].tolist(), text
    for text in DIFFERENT if clean == "lower" else []:
        assert tokenize(text) != theirs([text])[0].tolist(), text


def serve_tokenizer(converted: ConvertedTokenizer) -> Callable[[str], list[int]]:
    """Return a function that turns a text into tokens, as ``BundleTextEncoder`` does."""
    tokenizer = Tokenizer.from_str(converted.tokenizer.to_str())
    tokenizer.encode_special_tokens = True
    tokenizer.enable_truncation(converted.context_length)
    tokenizer.enable_padding(length=converted.context_length, pad_id=converted.pad_id)

    def tokenize(text: str) -> list[int]:
        cleaned = " ".join(text.lower().split()) if converted.clean == "lower" else text
        ids: list[int] = tokenizer.encode(cleaned).ids
        return ids

    return tokenize


def test_a_file_gets_the_preprocessing_of_the_weights_of_its_architecture() -> None:
    from models.bundles.open_clip_models import _find_preprocessing

    open_clip = import_clip()
    tags = open_clip.list_pretrained_tags_by_model("ViT-B-16-SigLIP")
    known = {tag: open_clip.get_pretrained_cfg("ViT-B-16-SigLIP", tag) for tag in tags}
    found = _find_preprocessing("ViT-B-16-SigLIP", known, None)
    assert found["resize_mode"] == "squash"
    assert found["mean"] == (0.5, 0.5, 0.5)


def test_without_the_extra_the_command_names_its_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    importing = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name == "open_clip":
            raise ModuleNotFoundError("No module named 'open_clip'")
        return importing(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    result = run("ViT-B-32", "openai", "--out", tmp_path / "words.bundle")
    assert result.exit_code == 2
    assert result.output.count("\n") == 1
    assert "pip install '.[clip]'" in result.output
    assert list(tmp_path.iterdir()) == []
