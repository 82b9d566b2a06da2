"""Decides which model versions are active after a recovery."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from app.services.encoder_files import EncoderFiles, is_weights
from models.errors import EncoderInvalid
from storage.errors import ObjectMissing
from storage.protocols import Stores
from storage.records import LOOK, ModelState


def choose_active(
    stores: Stores,
    catalogued: Mapping[str, str],
    installed: str,
    fail: Callable[[str, str], None],
) -> dict[str, str]:
    """Return the active version of each space. ``catalogued`` is what the catalogue says.

    A registry whose database has masters keeps its versions. Otherwise a version comes back if its
    file is in the bucket; that of `look` may also be the ``installed`` one, which is the fallback.
    Raises StoreUnavailable.
    """
    models = stores.registry.list_models()
    active = {each.space: each.id for each in models if each.state is ModelState.ACTIVE}
    if LOOK in active and any(count for _, count in stores.metadata.list_collections()):
        return active
    files = EncoderFiles(stores.objects)
    chosen = {}
    for space, version in catalogued.items():
        problem = _find_problem(files, version)
        if not problem or version == installed:
            chosen[space] = version
        else:
            fail(f"the encoder {version} of the space {space}", problem)
    if LOOK not in chosen:
        chosen[LOOK] = _choose_weights(stores, files, installed, fail)
    return chosen


def _find_problem(files: EncoderFiles, version: str) -> str:
    try:
        with files.open(version):
            return ""
    except ObjectMissing:
        return "its file is not in the bucket: add it again with `lookalike models add`"
    except EncoderInvalid as error:
        return f"its file is damaged ({str(error).rstrip('.')})"


def _choose_weights(
    stores: Stores, files: EncoderFiles, installed: str, fail: Callable[[str, str], None]
) -> str:
    """Return the version of `look` if no catalogue names it."""
    versions = {info.key.split("/")[1] for info in stores.objects.list("models/")}
    weights = sorted(version for version in versions if is_weights(version))
    if installed in weights or not weights:
        return installed
    if len(weights) == 1 and not _find_problem(files, weights[0]):
        return weights[0]
    names = ", ".join(weights)
    fail(f"the encoders {names}", f"it is not known which was active; {installed} is now")
    return installed
