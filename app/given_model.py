"""The model that a process is started with: the shipped one or that of the settings.

It can be loaded in a thread. This module imports neither the stores nor FastAPI, so the thread can
begin before they are imported.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from app.settings import Settings
from models.embedder import Embedder, Encoder, load_embedder, read_encoder
from models.weights_file import DEFAULT_WEIGHTS


@dataclass(frozen=True)
class GivenModel:
    """A loaded encoder, and where it comes from."""

    embedder: Embedder
    file: Path | None = None  # None: there is no file to share with the other processes
    chosen: bool = False  # whether the settings name it


def build_embedder(settings: Settings, encoder: Encoder) -> Embedder:
    """Build the network on the engine that the settings name.

    Raises EncoderInvalid, EngineMissing.
    """
    return load_embedder(
        encoder, engine=settings.engine, precision=settings.precision, slots=settings.slots
    )


def load_given_model(settings: Settings) -> GivenModel:
    """Load the weights that the settings name, or the shipped ones.

    Raises EncoderInvalid, EngineMissing.
    """
    path = settings.weights or DEFAULT_WEIGHTS
    embedder = build_embedder(settings, read_encoder(path))
    return GivenModel(embedder, path, chosen=settings.weights is not None)


def start_loading(settings: Settings) -> Future[GivenModel]:
    """Call ``load_given_model`` in a thread, which ends with it.

    Most of its time is spent outside the interpreter's lock: reading, hashing, compiling.
    """
    thread = ThreadPoolExecutor(1, thread_name_prefix="load model")
    loading = thread.submit(load_given_model, settings)
    thread.shutdown(wait=False)
    return loading
