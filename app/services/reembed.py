"""Changes the model without downtime: built beside the active one, checked, switched to, rolled back from, removed."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import nsmallest
from operator import itemgetter
from typing import Any, BinaryIO
from uuid import UUID, uuid4

import numpy as np

from app.errors import Conflict, InvalidInput, NotFound, Unavailable
from app.logs import log
from app.services.loaded_models import Models, weights_key
from app.services.originals import original
from app.services.scrub import Report, Scrub
from app.services.vision import Vision
from models.embedder import Embedder
from models.imaging import ImageRejected
from models.transforms import INPUT_SIDE
from models.weights_file import WeightsFile, WeightsInvalid
from storage.errors import ModelConflict, ModelNotReady, ObjectMissing
from storage.protocols import Stores
from storage.records import Master, MasterState, ModelState, ModelVersion, Replica

_BATCH = 1000
_GOLDEN = 32  # masters that are embedded anew and looked for
_ALIKE = 0.001  # cosine distance within which two engines' embeddings are of one model version
_PATIENCE = 20.0  # seconds for which what is on its way may come to an end
_PAUSE = 0.05


@dataclass(frozen=True)
class Progress:
    """How far a version is. ``masters`` there are; so many of them are ``indexed``, and ``dead`` letters."""

    model: ModelVersion
    masters: int
    indexed: int
    dead: int


class Reembed:
    def __init__(
        self,
        stores: Stores,
        models: Models,
        vision: Vision,
        scrub: Scrub,
        load: Callable[[WeightsFile], Embedder],
    ) -> None:
        self._stores = stores
        self._models = models
        self._vision = vision
        self._scrub = scrub
        self._load = load

    def add(self, weights: BinaryIO) -> str:
        """Put weights where every process finds them; their model version. Raises InvalidInput."""
        weights.seek(0)
        content = weights.read()
        try:
            version = _tried(self._load(WeightsFile.parse(content)))
        except WeightsInvalid as error:
            raise InvalidInput(
                "invalid-weights", f"These are no weights to serve with: {error}"
            ) from None
        key, file = weights_key(version), io.BytesIO(content)
        self._stores.objects.put(
            key, file, len(content), "application/octet-stream", "weights.safetensors"
        )
        return version

    def start(self, version: str) -> None:
        """Begin to build it: uploads get its embeddings from now on, workers make those of all masters. Raises AppError."""
        known = {model.id for model in self._stores.registry.models()}
        if version not in known:
            self._check_weights(version)
        try:
            self._stores.registry.start(version)
        except ModelConflict as error:
            raise Conflict("model-conflict", f"{error}.") from None
        try:
            self._check_weights(version)  # again: a worker may have removed what was retired
        except NotFound:
            self._stores.registry.retire(version)
            raise
        self._models.refresh()

    def _check_weights(self, version: str) -> None:
        try:
            self._stores.objects.stat(weights_key(version))
        except ObjectMissing:
            raise NotFound(
                "model-not-found",
                f"There are no weights of {version}. Give the weights file itself.",
            ) from None

    def status(self) -> tuple[list[Progress], list[Replica]]:
        registry = self._stores.registry
        masters = sum(count for _, count in self._stores.metadata.list_collections())
        progress = []
        for model in registry.models():
            count = registry.count(model.id)
            progress.append(Progress(model, masters, count.get("indexed", 0), count.get("dead", 0)))
        return progress, registry.replicas()

    def check_started(self, version: str) -> None:
        """Raises NotFound."""
        if version not in {model.id for model in self._stores.registry.models()}:
            raise NotFound(
                "model-not-found",
                f"There is no model version {version} that was started: lookalike models start {version}",
            )

    def activate(self, version: str) -> Iterator[dict[str, Any]]:
        """Check the version and switch to it, as one commit: how far that is, again and again, and at last the answer.

        Raises Conflict if it may not be switched to; then nothing was changed.
        """
        golden: list[tuple[float, Master]] = []
        report = Report(repair=False)
        for report, batch in self._scrub.run_vectors(version):
            stored = [
                record.master for record in batch if record.master.state is MasterState.STORED
            ]
            lots = np.random.default_rng().random(len(stored))
            golden = nsmallest(
                _GOLDEN, golden + list(zip(lots, stored, strict=True)), key=itemgetter(0)
            )
            yield {"checked": report.masters}
        if not report.clean:
            found = ", ".join(f"{count} x {kind}" for kind, count in report.found.items())
            raise Conflict(
                "model-not-ready",
                f"The vectors of {version} are not right ({found}): scrub with --repair, and try again.",
            )
        for _, master in golden:
            self._check_golden(master, version)
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                self._stores.registry.activate(version)
                break
            except ModelNotReady as error:
                if time.monotonic() > until:
                    raise Conflict("model-not-ready", f"{error}.") from None
            except ModelConflict as error:
                raise Conflict("model-conflict", f"{error}.") from None
            yield {}
            time.sleep(_PAUSE)
        log.info("model activated", version=version)
        self._models.refresh()
        yield {"active": version}

    def _check_golden(self, master: Master, version: str) -> None:
        """It finds itself: the vector under its id is that of its bytes by this model, and a search comes to it."""
        try:
            picture = self._vision.read(original(self._stores.objects, master))
        except (ObjectMissing, Unavailable, ImageRejected):
            return  # deleted meanwhile, or damaged: the scrub's business
        vector = self._vision.embed(picture, version)
        stored = self._stores.vectors.get(version, [master.id]).get(master.id)
        nearest = self._stores.vectors.search(version, master.collection_id, vector, 1)
        if stored is None or self._stores.metadata.find_master(master.id) is None:
            return  # deleted meanwhile, or not embedded: that is counted elsewhere
        apart = 1.0 - float(np.dot(vector, stored.vector))
        if not (
            apart <= _ALIKE and nearest and nearest[0].distance <= apart + _ALIKE
        ):  # also where something is no number
            raise Conflict(
                "model-not-ready",
                f"The master {master.id} does not find itself by {version} ({apart:.4f} apart).",
            )

    def retire(self, version: str) -> None:
        """Give it up; workers remove its embeddings, vectors and weights. Raises Conflict."""
        try:
            self._stores.registry.retire(version)
        except ModelConflict as error:
            raise Conflict("model-conflict", f"{error}.") from None
        self._models.refresh()


def _tried(embedder: Embedder) -> str:
    """The version of a model that gives embeddings, of grey and of noise, too. Raises WeightsInvalid."""
    grey = np.full((INPUT_SIDE, INPUT_SIDE, 3), 127, dtype=np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, grey.shape, dtype=np.uint8)
    for image in (grey, noise):
        length = float(np.linalg.norm(embedder.embed(image[None])[0]))
        if not abs(length - 1.0) < _ALIKE:
            raise WeightsInvalid(
                f"the network embeds an image to a vector of length {length}, not 1"
            )
    return embedder.model_version


class Backfill:
    """The worker's part: gives every master a pending embedding of what is being built, and removes what is retired."""

    def __init__(self, stores: Stores, lease: float) -> None:
        self._stores = stores
        self._lease = lease
        self._owner = f"backfill-{uuid4().hex}"
        self._after: dict[str, UUID] = {}
        self._done: set[str] = set()

    def step(self) -> bool:
        """One batch; whether there was anything to do. Raises StoreUnavailable."""
        models = self._stores.registry.models()
        self._done &= {model.id for model in models}
        busy = False
        for model in models:
            if model.state is ModelState.BUILDING and model.id not in self._done:
                busy = self._fill(model.id) or busy
            elif model.state is ModelState.RETIRED:
                busy = self._remove(model.id) or busy
        return busy

    def _fill(self, version: str) -> bool:
        """One process at a time; the next one begins anew, which costs it a look at every master and nothing else."""
        lease = f"backfill {version}"
        if not self._stores.metadata.acquire_lease(lease, self._owner, self._lease):
            return False
        last = self._stores.registry.backfill(version, self._after.get(version), _BATCH)
        if last is None:
            self._done.add(version)
            self._after.pop(version, None)
            self._stores.metadata.release_lease(lease, self._owner)
        else:
            self._after[version] = last
        return True

    def _remove(self, version: str) -> bool:
        """The rows first: without them nobody indexes any more. Then all that they stand for, and the version."""
        registry = self._stores.registry
        left = registry.drain(version, _BATCH)
        if left:
            return left > _BATCH
        self._stores.vectors.drop(version)
        self._stores.objects.delete(weights_key(version))
        registry.forget(version)
        log.info("model retired", version=version)
        return True
