"""`lookalike backup` and `restore` of an installation with a second space."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.bootstrap import connect_stores
from app.services.encoder_files import EncoderFiles, encoder_key
from app.settings import Settings
from models.embedder import Embedder
from storage.records import LOOK, ModelState
from tests.support.embedded import run_on
from tests.support.images import encoded, part_of
from tests.support.service import eventually, serving
from tests.support.spaces import WORDS, create_space, search_itself, vectors_of
from tests.support.tiny_encoders import make_text_bundle

IMAGES = [encoded(part_of("coffee", seed)) for seed in range(4)]


@pytest.mark.parametrize("vectors", [True, False])
def test_a_restored_installation_has_both_spaces(
    settings: Settings, embedder: Embedder, tmp_path: Path, vectors: bool
) -> None:
    directory, bundle = tmp_path / "backup", make_text_bundle(tmp_path / "words.bundle")
    with serving(settings, embedder) as service:
        for image in IMAGES:
            service.put_master(image)
        version = create_space(service.services, bundle)
        before = vectors_of(service.stores, version)
        options = ["--vectors"] if vectors else []
        done = run_on(settings.data_dir, "backup", str(directory), *options)
        assert (done.returncode, "4 masters copied" in done.stderr) == (0, True), done
    restored = settings.model_copy(update={"data_dir": tmp_path / "restored"})
    done = run_on(restored.data_dir, "restore", str(directory))
    assert (done.returncode, "4 masters copied" in done.stderr) == (0, True), done
    with connect_stores(restored, read_only=True) as stores:
        content = b"".join(stores.objects.read(encoder_key(version)))
        assert content == bundle.read_bytes()
        assert len(vectors_of(stores, version)) == (4 if vectors else 0)
    with serving(restored, embedder) as service:
        stores = service.stores
        assert [(each.space, each.id, each.state) for each in stores.registry.list_models()] == [
            (LOOK, embedder.model_version, ModelState.ACTIVE),
            (WORDS, version, ModelState.ACTIVE),
        ]
        assert eventually(lambda: stores.metadata.count_pending_embeddings() == 0)
        assert eventually(lambda: version in service.services.models.live_versions)
        after = vectors_of(stores, version)
        assert after.keys() == before.keys()
        assert all(np.allclose(after[id_], before[id_], atol=1e-6) for id_ in before)
        for each in (embedder.model_version, version):
            assert search_itself(stores, each) == {True}
        service.put_master(encoded(part_of("astronaut", 1)))
        assert len(vectors_of(stores, version)) == 5


def test_a_backup_follows_a_change_of_the_encoder_and_the_end_of_a_space(
    settings: Settings, embedder: Embedder, tmp_path: Path
) -> None:
    directory = tmp_path / "backup"
    copied = settings.model_copy(update={"data_dir": directory})
    bundles = [make_text_bundle(tmp_path / f"{name}.bundle", name=name) for name in "ab"]

    def back_up() -> tuple[list[str], list[str]]:
        """Make a backup; return the versions and encoders that it has."""
        done = run_on(settings.data_dir, "backup", str(directory), "--vectors")
        assert done.returncode == 0, done
        with connect_stores(copied, read_only=True) as stores:
            models = [model.id for model in stores.registry.list_models()]
            assert sorted(models) == stores.vectors.versions()
            assert all(len(vectors_of(stores, model)) == 4 for model in models)
            files = EncoderFiles(stores.objects)
            return models, [model for model in models if files.exists(model)]

    with serving(settings, embedder) as service:
        look, services = embedder.model_version, service.services
        for image in IMAGES:
            service.put_master(image)
        first = create_space(services, bundles[0])
        assert back_up() == ([look, first], [first])
        second = create_space(services, bundles[1])
        assert back_up() == ([look, second], [second])
        for version in (first, second):
            services.reembed.retire_version(version)
        assert eventually(lambda: len(services.stores.registry.list_models()) == 1)
        assert back_up() == ([look], [])
