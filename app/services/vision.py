"""Decodes and embeds images, with limits on what all of them together may take."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from app.errors import Busy, Conflict
from app.logs import log
from app.metrics import Metrics
from app.services.loaded_models import LoadedModels
from models.attribution import Attribution, attribute_similarity
from models.capture.values import Capture
from models.decoding.jobs import DecodedFile, DecodeJob
from models.decoding.process import DecoderUnavailable
from models.decoding.turns import Abandoned, Caller, Purpose, Refused, TooManyWaiting
from models.imaging import ANYTHING, MAX_PIXELS, Acceptance, Box
from models.local_features import WholeSquare
from models.orientations import UPRIGHT, Orientation, find_turned_rule, orient_input
from models.transforms import Preprocessing

LOCAL_FEATURES = WholeSquare()
_CALM = 0.1  # seconds with a single image after which it gets all cores
# A file, or a function that reads it from a store once its turn has come, and perhaps once more.
Source = BinaryIO | Callable[[], BinaryIO]
# Set for the time of a request, so that work is dropped if its client leaves.
current_caller: ContextVar[Caller | None] = ContextVar("current_caller", default=None)


class Decoder(Protocol):
    """Decodes files of unknown origin. ``DecodePool`` does so in child processes."""

    def decode(
        self, source: Source, job: DecodeJob, purpose: Purpose, caller: Caller | None = None
    ) -> DecodedFile:
        """Raises ImageRejected, TooManyWaiting, Refused, Abandoned, DecoderUnavailable."""

    def stop(self) -> None:
        """Refuse images that wait or come; those in work go on."""

    def close(self) -> None:
        """Free everything; images in work fail."""


@dataclass(frozen=True)
class DecodedImage:
    """An image as the input of encoders; width and height are those of the upright original."""

    inputs: Mapping[str, NDArray[np.uint8]]  # (height, width, 3) RGB, by model version
    mime: str
    extension: str  # without a dot
    width: int  # pixels
    height: int
    capture: Capture | None = None  # the capture metadata, if it was asked for
    warnings: tuple[str, ...] = ()  # ``models.imaging.TRUNCATED`` or nothing
    # The inputs of the image turned by 90 degrees, where ``find_turned_rule`` has a rule for them.
    turned: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    features_input: NDArray[np.uint8] | None = None  # of local features, if it was asked for
    # Embeddings that ``start_embedding`` has begun, by model version.
    embeddings: Mapping[str, Future[NDArray[np.float32]]] = field(default_factory=dict)


class Vision:
    """Everything that needs a CPU core for an image: decoding, embedding, thumbnails."""

    def __init__(
        self,
        models: LoadedModels,
        decoder: Decoder,
        slots: int,
        metrics: Metrics,
        *,
        keep_gps: bool = True,
        max_pixels: int = MAX_PIXELS,
        accept_truncated: bool = False,
    ) -> None:
        """``slots`` is the number of images embedded at the same time; further calls wait.

        ``keep_gps`` False leaves the position out of the metadata that is read. ``max_pixels`` of a
        sample or an upload are accepted, and with ``accept_truncated`` also uploads that lack the
        last bytes of their file.
        """
        self._models = models
        self._decoder = decoder
        self._slots = threading.BoundedSemaphore(slots)
        self._load = _Load()
        self._background = ThreadPoolExecutor(slots, thread_name_prefix="embed")
        self._metrics = metrics
        self.keep_gps = keep_gps
        self._accepted_samples = Acceptance(max_pixels, truncated=True)
        self._accepted_uploads = Acceptance(max_pixels, truncated=accept_truncated)

    def stop(self) -> None:
        """Refuse images that wait or come, so that the process can end soon."""
        self._decoder.stop()

    def close(self) -> None:
        """End the processes that decode, and the threads that embed."""
        self._decoder.close()
        # Nothing is cancelled: an upload would wait for ever for a future that nobody runs.
        self._background.shutdown()

    def decode_image(
        self,
        source: Source,
        purpose: Purpose,
        box: Box | None = None,
        *,
        versions: Iterable[str] | None = None,
        capture: bool = False,
        turns: bool = False,
        local_features: bool = False,
    ) -> DecodedImage:
        """Decode the whole file, or the part of the image in ``box``, for the encoders named.

        ``versions`` None means all that are loaded. ``capture`` also reads the metadata, ``turns``
        also prepares the turned image, and ``local_features`` the input of those. Raises
        ImageRejected, what ``source`` raises, and Unavailable if too many images are waiting, or if
        this process has not loaded a version.
        """
        if versions is None:
            rules = {name: each.preprocessing for name, each in self._models.loaded.items()}
        else:
            rules = {name: self._models.find_embedder(name).preprocessing for name in versions}
        turned_rules = {
            version: turned
            for version, rule in rules.items()
            if turns and (turned := find_turned_rule(rule)) is not None
        }
        more = [LOCAL_FEATURES] if local_features else []
        distinct = tuple(dict.fromkeys([*rules.values(), *turned_rules.values(), *more]))
        job = DecodeJob(distinct, box, capture=capture, keep_gps=self.keep_gps)
        decoded = self._decode_pixels(source, job, purpose)
        inputs = {version: decoded.inputs[rule] for version, rule in rules.items()}
        return DecodedImage(
            inputs,
            decoded.mime,
            decoded.extension,
            decoded.width,
            decoded.height,
            decoded.capture,
            decoded.warnings,
            {version: decoded.inputs[rule] for version, rule in turned_rules.items()},
            decoded.inputs.get(LOCAL_FEATURES),
        )

    def decode_inputs(
        self,
        source: Source,
        rules: tuple[Preprocessing, ...],
        box: Box | None = None,
        purpose: Purpose = Purpose.SEARCH,
    ) -> DecodedFile:
        """Decode a sample or a master, or the part of it in ``box``, for other uses than embedding.

        Raises what ``decode_image`` raises.
        """
        return self._decode_pixels(source, DecodeJob(rules, box), purpose)

    def _decode_pixels(self, source: Source, job: DecodeJob, purpose: Purpose) -> DecodedFile:
        with self._metrics.stage("decode"):
            return self._decode(source, job, purpose)

    def read_capture(self, source: Source) -> Capture:
        """Return the capture metadata of an image, without decoding its pixels if possible.

        Raises what ``decode_image`` raises.
        """
        with self._metrics.stage("capture"):
            job = DecodeJob(capture=True, keep_gps=self.keep_gps, skip_pixels=True)
            return self._decode(source, job, Purpose.INDEXING).capture or {}

    def make_thumbnail(self, source: Source, size: int) -> bytes:
        """Return an upright JPEG of at most ``size`` x ``size`` pixels, without metadata.

        Raises what ``decode_image`` raises.
        """
        with self._metrics.stage("thumbnail"):
            job = DecodeJob(thumbnail=size)
            return self._decode(source, job, Purpose.THUMBNAIL).thumbnail

    def _decode(self, source: Source, job: DecodeJob, purpose: Purpose) -> DecodedFile:
        accept = self._choose_acceptance(purpose, is_stored=callable(source))
        with self._load.one_more(), _translate_refusals():
            return self._decoder.decode(
                source, replace(job, accept=accept), purpose, current_caller.get()
            )

    def _choose_acceptance(self, purpose: Purpose, *, is_stored: bool) -> Acceptance:
        """Return what is accepted. A stored original was accepted when it was uploaded."""
        if is_stored:
            return ANYTHING
        accepted = {
            Purpose.UPLOAD: self._accepted_uploads,
            Purpose.SEARCH: self._accepted_samples,
        }
        return accepted.get(purpose, ANYTHING)

    def start_embedding(self, image: DecodedImage, versions: Iterable[str]) -> DecodedImage:
        """Begin to embed the image in the background; ``embed_image`` waits for the results.

        Versions that the image was not decoded for are left out, and all of them once this object
        is closed.
        """
        begun = {}
        with suppress(RuntimeError):  # it is closed
            for version in versions:
                if version in image.inputs:
                    begun[version] = self._background.submit(self.embed_image, image, version)
        return replace(image, embeddings=begun)

    def embed_image(
        self, image: DecodedImage, version: str, orientation: Orientation = UPRIGHT
    ) -> NDArray[np.float32]:
        """Return the embedding under that model version: ``(dimension,) float32`` of length 1.

        The image must have been decoded for the version, with ``turns`` if the orientation is a
        turned one. It is embedded on all cores if no other one is or was just in work, otherwise on
        one. Raises Unavailable if this process has not loaded the version, and Conflict if its
        network fails for this image.
        """
        if version in image.embeddings and orientation == UPRIGHT:
            return image.embeddings[version].result()
        embedder = self._models.find_embedder(version)
        pixels = orient_input(image.inputs[version], orientation, image.turned.get(version))
        with self._load.one_more(), self._slots, self._metrics.stage("embed"):
            all_cores = self._load.is_calm()
            embedding: NDArray[np.float32] = embedder.embed(pixels[None], all_cores=all_cores)[0]
        check_finite(embedding, version)
        return embedding

    def attribute_similarity(
        self, version: str, one: NDArray[np.uint8], other: NDArray[np.uint8]
    ) -> Attribution:
        """Compare two inputs of an encoder place by place. Raises what ``embed_image`` raises."""
        embedder = self._models.find_embedder(version)
        with self._load.one_more(), self._slots, self._metrics.stage("explain"):
            all_cores = self._load.is_calm()
            found = attribute_similarity(embedder, one, other, all_cores=all_cores)
        for grid in found.grids:
            check_finite(grid, version)
        return found


class _Load:
    """The images that are being decoded or embedded, or wait for it. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._images = 0
        self._last_shared = float("-inf")  # when there were several

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Count an image during the block."""
        with self._lock:
            self._images += 1
            self._note_sharing()
        try:
            yield
        finally:
            with self._lock:
                self._note_sharing()
                self._images -= 1

    def is_calm(self) -> bool:
        """Report whether at most one image is in work, and has been for a moment."""
        with self._lock:
            return self._images <= 1 and time.monotonic() - self._last_shared >= _CALM

    def _note_sharing(self) -> None:
        if self._images > 1:
            self._last_shared = time.monotonic()


@contextmanager
def _translate_refusals() -> Iterator[None]:
    try:
        yield
    except TooManyWaiting:
        detail = "Too many images are waiting to be decoded. Retry in a few seconds."
        raise Busy("too-busy", detail, 5) from None
    except Refused:
        raise Busy("stopping", "The service is stopping. Retry later.", 5) from None
    except Abandoned:
        detail = "The connection was closed before the image was decoded."
        raise Busy("abandoned", detail) from None
    except DecoderUnavailable as error:
        log.error("no process can decode images", reason=str(error))
        detail = "The service cannot decode images now. Retry later; its log has the reason."
        raise Busy("decoder-unavailable", detail, 5) from None


def check_finite(embedding: NDArray[np.float32], version: str) -> None:
    """Raise Conflict if a network gave NaN or infinite numbers: they have no distance."""
    if not np.isfinite(embedding).all():
        detail = (
            f"The encoder {version} gives no valid vector for this input. Use another input, or"
            " change the encoder."
        )
        raise Conflict("not-embeddable", detail)
