"""Changes the model without downtime: adds, builds, checks, activates and retires versions."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from heapq import nsmallest
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import numpy as np

from app.errors import Busy, Conflict, InvalidInput, NotFound, Unavailable
from app.logs import log
from app.services.encoder_files import COPY_PREFIX, EncoderFiles, is_weights
from app.services.loaded_models import LoadedModels
from app.services.originals import read_original
from app.services.scrub import Scrub
from app.services.scrub_report import ScrubReport
from app.services.vision import Vision
from models.bundles.archive import Bundle, is_bundle
from models.bundles.check import check_bundle
from models.decoding.turns import Purpose
from models.embedder import Embedder, Encoder
from models.errors import BundleInvalid, EncoderInvalid
from models.imaging import ImageRejected
from models.transforms import INPUT_SIDE
from models.weights_file import WeightsFile, WeightsInvalid
from storage.errors import ModelConflict, ModelNotReady, ObjectMissing
from storage.protocols import Stores
from storage.records import LOOK, WORDS, Master, MasterState, ModelVersion, Replica

_SPOT_CHECKS = 32  # random masters that are embedded again before a version is activated
_TOLERANCE = 0.001  # cosine distance between embeddings of one version made by different engines
_ACTIVATION_WAIT = 20.0  # seconds for the last embeddings and processes to catch up
_ACTIVATION_PAUSE = 0.05  # seconds between two attempts
_Event = dict[str, Any]


@dataclass(frozen=True)
class Progress:
    """How far a model version is."""

    model: ModelVersion
    masters: int  # number of stored masters
    indexed: int  # embeddings in the vector store
    dead: int  # embeddings that failed too often


class Reembed:
    """The life cycle of model versions. Every method may raise StoreUnavailable."""

    def __init__(
        self,
        stores: Stores,
        models: LoadedModels,
        vision: Vision,
        scrub: Scrub,
        load: Callable[[Encoder], Embedder],
        wake_worker: Callable[[], None],
    ) -> None:
        """``load`` builds the networks of an encoder; ``wake_worker`` is called when there is
        work for it.
        """
        self._stores = stores
        self._files = EncoderFiles(stores.objects)
        self._models = models
        self._vision = vision
        self._scrub = scrub
        self._load = load
        self._wake_worker = wake_worker

    def add_encoder(self, file: BinaryIO) -> str:
        """Check weights or a bundle and store them for every process; return their version.

        The networks of a bundle are first run in a child process with limits. Raises InvalidInput.
        """
        with TemporaryDirectory(prefix=COPY_PREFIX) as directory:
            path = Path(directory) / "the file"  # its name in error messages
            file.seek(0)
            with path.open("wb") as copy:
                shutil.copyfileobj(file, copy)
            try:
                version = self._check_encoder(path)
            except BundleInvalid as error:
                detail = f"The bundle cannot be used: {error}"
                raise InvalidInput("invalid-bundle", detail) from None
            except EncoderInvalid as error:
                detail = f"The file is no bundle, and cannot be used as weights: {error}"
                raise InvalidInput("invalid-weights", detail) from None
            with path.open("rb") as checked:
                self._files.store(version, checked)
        return version

    def _check_encoder(self, path: Path) -> str:
        """Return the version of an encoder that can be served. Raises EncoderInvalid."""
        if is_bundle(path):
            return check_bundle(path).bundle.version
        return _check_embedder(self._load(WeightsFile.parse(path.read_bytes())))

    def read_encoder(self, version: str) -> tuple[int, Iterator[bytes]]:
        """Return the size of an encoder's file in bytes, and its chunks. Raises NotFound."""
        try:
            return self._files.read(version)
        except ObjectMissing:
            raise _no_encoder(version) from None

    def start_building(self, version: str, space: str = LOOK) -> None:
        """Begin to build a version beside the active one of its space, which may have none yet.

        From now on uploads get its embeddings, too, and workers make those of all masters. Raises
        NotFound, Conflict, and InvalidInput if `words` would get an encoder that takes no words.
        """
        if version not in self._list_versions():
            self._check_stored(version)
        if space == WORDS:
            self._check_takes_words(version)
        try:
            self._stores.registry.start_building(version, space)
        except ModelConflict as error:
            raise Conflict("model-conflict", f"{error}.") from None
        try:
            self._check_stored(version)  # a worker may have removed a retired version meanwhile
        except NotFound:
            self._stores.registry.retire_model(version)
            raise
        self._models.refresh()
        self._wake_worker()

    def _list_versions(self) -> set[str]:
        return {model.id for model in self._stores.registry.list_models()}

    def _check_stored(self, version: str) -> None:
        if not self._files.exists(version):
            raise _no_encoder(version)

    def _check_takes_words(self, version: str) -> None:
        """Refuse an encoder of images for the space in which texts are searched."""
        if is_weights(version):  # the built-in words fit them
            return
        try:
            with self._files.open(version) as encoder:
                takes_words = isinstance(encoder, Bundle) and encoder.manifest.text is not None
        except (ObjectMissing, EncoderInvalid):
            return  # the registry and the processes report what is wrong with it
        if not takes_words:
            detail = (
                f"The encoder {version} takes images only, but texts are searched in the space"
                f" {WORDS}. Use an encoder with a text tower, or give the space another name."
            )
            raise InvalidInput("text-not-supported", detail)

    def list_progress(self) -> tuple[list[Progress], list[Replica]]:
        """Return the progress of every version, and the running processes."""
        registry = self._stores.registry
        masters = sum(count for _, count in self._stores.metadata.list_collections())
        progress = []
        for model in registry.list_models():
            counts = registry.count_embeddings(model.id)
            progress.append(
                Progress(model, masters, counts.get("indexed", 0), counts.get("dead", 0))
            )
        return progress, registry.list_replicas()

    def check_registered(self, version: str) -> None:
        """Raise NotFound unless the registry has the version."""
        if version not in self._list_versions():
            detail = (
                f"The model version {version} has not been started."
                f" Run `lookalike models start {version}` first."
            )
            raise NotFound("model-not-found", detail)

    def activate_version(self, version: str) -> Iterator[_Event]:
        """Check a version and switch all searches to it in one commit.

        Yields events: ``checked`` with a number of masters, again and again, and ``active`` at the
        end. Raises Conflict if the version is not ready, and then changes nothing.
        """
        samples = yield from self._check_vectors(version)
        for master in samples:
            self._check_finds_itself(master, version)
        yield from self._switch_to(version)
        log.info("model activated", version=version)
        self._models.refresh()
        yield {"active": version}

    def _check_vectors(self, version: str) -> Generator[_Event, None, list[Master]]:
        """Check that every master has its vector; return a random sample of stored masters."""
        random = np.random.default_rng()
        sample: list[tuple[float, Master]] = []
        report = ScrubReport(repair=False)
        for report, batch in self._scrub.check_vectors(version):
            stored = [each.master for each in batch if each.master.state is MasterState.STORED]
            drawn = list(zip(random.random(len(stored)), stored, strict=True))
            sample = nsmallest(_SPOT_CHECKS, sample + drawn, key=itemgetter(0))
            yield {"checked": report.masters}
        if not report.clean:
            counts = ", ".join(f"{count} x {kind}" for kind, count in report.found.items())
            detail = (
                f"The vectors of {version} are not complete ({counts})."
                " Run `lookalike scrub --repair`, then activate the version again."
            )
            raise Conflict("model-not-ready", detail)
        return [master for _, master in sample]

    def _check_finds_itself(self, master: Master, version: str) -> None:
        """Embed the original again, and check that a search with it finds the master.

        Masters that are damaged or were deleted meanwhile are skipped. Raises Conflict, Busy.
        """
        try:
            original = partial(read_original, self._stores.objects, master)
            image = self._vision.decode_image(original, Purpose.INDEXING, versions=[version])
        except Busy:  # the master was not checked
            raise
        except (ObjectMissing, Unavailable, ImageRejected):
            return
        vector = self._vision.embed_image(image, version)
        stored = self._stores.vectors.fetch_vectors(version, [master.id]).get(master.id)
        nearest = self._stores.vectors.search(version, master.collection_id, vector, 1)
        if stored is None or self._stores.metadata.find_master(master.id) is None:
            return
        products = [np.dot(vector, part.vector) for part in stored.parts]
        distance = 1.0 - float(np.max(products))
        # written so that NaN, which compares false, is a conflict, too
        if not (
            distance <= _TOLERANCE and nearest and nearest[0].distance <= distance + _TOLERANCE
        ):
            detail = (
                f"The master {master.id} does not find itself with the model {version}: its stored"
                f" vector has the distance {distance:.4f} from that of its image. Run"
                " `lookalike models retire` and build the version again."
            )
            raise Conflict("model-not-ready", detail)

    def _switch_to(self, version: str) -> Iterator[_Event]:
        """Activate the version, and retry while embeddings are on their way. Raises Conflict."""
        deadline = time.monotonic() + _ACTIVATION_WAIT
        while True:
            try:
                self._stores.registry.activate_model(version)
            except ModelNotReady as error:
                if time.monotonic() > deadline:
                    raise Conflict("model-not-ready", f"{error}.") from None
            except ModelConflict as error:
                raise Conflict("model-conflict", f"{error}.") from None
            else:
                return
            yield {}  # keeps the connection alive, and lets the client end the wait
            time.sleep(_ACTIVATION_PAUSE)

    def retire_version(self, version: str) -> None:
        """Retire a version; workers remove its vectors and weights. Raises Conflict."""
        try:
            self._stores.registry.retire_model(version)
        except ModelConflict as error:
            raise Conflict("model-conflict", f"{error}.") from None
        self._models.refresh()
        self._wake_worker()


def _check_embedder(embedder: Embedder) -> str:
    """Check that grey and random images get vectors of length 1; return the model version.

    Raises WeightsInvalid.
    """
    grey = np.full((INPUT_SIDE, INPUT_SIDE, 3), 127, dtype=np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, grey.shape, dtype=np.uint8)
    for image in (grey, noise):
        length = float(np.linalg.norm(embedder.embed(image[None])[0]))
        if not abs(length - 1.0) < _TOLERANCE:
            raise WeightsInvalid(f"the network returns a vector of length {length:g}, not 1")
    return embedder.model_version


def _no_encoder(version: str) -> NotFound:
    return NotFound("model-not-found", f"There is no encoder {version}. Add its file first.")
