"""The services on the embedded stores, in a forked process that kills itself at one of its writes.

The service itself has no code for this: the stores are wrapped here, and a tiny network replaces
the real one. Each embedding gets a second part, so that the tests see whether a kill leaves only
some parts of one. The test talks to the process through a pipe or, on request, over HTTP.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import httpx
import numpy as np
import uvicorn

from app.bootstrap import connect_stores, run_services
from app.container import Services
from app.given_model import GivenModel
from app.http.connections import server_config
from app.logs import configure_logging
from app.main import create_app
from app.services.indexing import Indexing
from app.services.vision import DecodedImage
from app.settings import Settings
from models.weights_file import WeightsFile
from storage.protocols import Stores
from storage.records import IndexTask, VectorPart
from tests.crash.operations import DirectOperations, HttpOperations, Operations
from tests.crash.watch import Kill, Watch, watch_stores
from tests.crash.wrong import MISTAKES
from tests.support.direct_decoder import DirectDecoder
from tests.support.processes import forks
from tests.support.requests import open_client
from tests.support.tiny_network import TinyNetwork, tiny_weights

LEASE = 0.5  # seconds
PARTS = 2  # of each embedding
_READY = 30.0  # seconds
_find_or_embed_parts = Indexing._find_or_embed_parts


class Crashed(Exception):
    """The process ended before it answered."""


@contextmanager
def run_on(
    directory: Path, watch: Callable[[Stores], Stores] = lambda stores: stores
) -> Iterator[Services]:
    """Run the services on an installation in this process."""
    settings = Settings(
        data_dir=directory,
        worker_interval=0.02,
        lease_seconds=LEASE,
        scrub_grace=0.0,
        scrub_interval=0.0,
        _env_file=None,
    )
    weights = directory.with_name(f"{directory.name}-first.safetensors")
    weights.write_bytes(tiny_weights("first"))
    given = GivenModel(TinyNetwork(WeightsFile.load(weights)), weights)
    with (
        patch.object(Indexing, "_find_or_embed_parts", _with_second_part),
        connect_stores(settings) as stores,
        run_services(settings, watch(stores), given, DirectDecoder()) as services,
    ):
        services.models.refresh()  # also loads the versions of spaces other than `look`
        yield services


def _with_second_part(
    self: Indexing, task: IndexTask, image: DecodedImage | None
) -> tuple[VectorPart, ...]:
    parts = _find_or_embed_parts(self, task, image)
    if len(parts) == PARTS:  # they were stored already
        return parts
    return (*parts, VectorPart(np.roll(parts[0].vector, 1), (1, 2, 3, 4)))


class Child:
    """The parent's view of the process. ``operations`` raise Crashed when it ends."""

    def __init__(self, process: Any, pipe: Connection, client: httpx.Client | None) -> None:
        self._process = process
        self._pipe = pipe
        target = HttpOperations(client) if client else None
        self.operations = cast("Operations", _Remote(self, target))

    def arm(self) -> None:
        """Count writes from now on."""
        self.call("arm")

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def ended_within(self, seconds: float) -> bool:
        self._process.join(seconds)
        return self._process.exitcode is not None

    def call(self, name: str, *arguments: Any, **named: Any) -> Any:
        """Have the child call an operation. Raises Crashed, or what the operation raised."""
        try:
            self._pipe.send((name, arguments, named))
            raised, value = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(10)
            raise Crashed from None
        if raised:
            raise value
        return value

    def ask(self, operation: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call an operation over HTTP. Raises Crashed if the connection breaks."""
        try:
            return operation(*arguments, **named)
        except httpx.TransportError:
            self._process.join(10)
            raise Crashed from None


class _Remote:
    """Forwards operations to the child."""

    def __init__(self, child: Child, over_http: HttpOperations | None) -> None:
        self._child, self._over_http = child, over_http

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if self._over_http is None:
            return lambda *arguments, **named: self._child.call(name, *arguments, **named)
        operation = getattr(self._over_http, name)
        return lambda *arguments, **named: self._child.ask(operation, *arguments, **named)


@contextmanager
def fork_child(
    directory: Path,
    kill: Kill | None = None,
    *,
    armed: bool = False,
    mistake: str = "none",
    http: bool = False,
) -> Iterator[Child]:
    """Run the services in a child, and kill it at the end. Raises Crashed if it ends early.

    ``armed`` counts writes from the start. ``mistake`` names a wrong order of writes, which the
    tests must find.
    """
    ours, theirs = forks.Pipe()
    process = forks.Process(
        target=_run, args=(directory, kill, armed, theirs, mistake, http), daemon=True
    )
    process.start()
    theirs.close()
    try:
        assert ours.poll(_READY), "the services do not start"
        try:
            port = ours.recv()
        except EOFError:
            process.join(10)
            raise Crashed from None
        if port is None:
            yield Child(process, ours, None)
            return
        with open_client(f"http://127.0.0.1:{port}", timeout=30) as client:
            yield Child(process, ours, client)
    finally:
        process.kill()
        process.join()
        ours.close()


def _run(
    directory: Path, kill: Kill | None, armed: bool, pipe: Connection, mistake: str, http: bool
) -> None:
    """Answer calls from the pipe until it is closed or the watch kills this process."""
    MISTAKES[mistake]()
    configure_logging("error")
    directory.mkdir(exist_ok=True)
    watch = Watch(kill, directory / "writes.log", armed=armed)
    with closing(pipe), run_on(directory, lambda stores: watch_stores(stores, watch)) as services:
        operations = DirectOperations(services)
        pipe.send(_serve(services) if http else None)
        while True:
            try:
                name, arguments, named = pipe.recv()
            except EOFError:
                return
            if name == "arm":
                watch.armed = True
                pipe.send((False, None))
                continue
            try:
                answer = False, getattr(operations, name)(*arguments, **named)
            except Exception as error:  # the test shows it
                answer = True, AssertionError(f"{type(error).__name__}: {error}")
            pipe.send(answer)


def _serve(services: Services) -> int:
    """Serve over HTTP in a thread; return the port."""
    app = create_app(services.settings, services)
    server = uvicorn.Server(server_config(app, services.settings, port=0))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        threading.Event().wait(0.005)
    port: int = server.servers[0].sockets[0].getsockname()[1]
    return port
