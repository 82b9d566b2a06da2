"""Fixtures every suite shares: real photographs, the real model, and the real service over real HTTP."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file
from skimage import data

from app.bootstrap import run_service
from app.logs import configure_logging
from app.main import create_app
from app.services.loaded_models import GivenModel
from app.settings import Settings
from models.embedder import Embedder, load_embedder
from models.weights_file import DEFAULT_WEIGHTS
from tests.fleet import Fleet

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "retina")


def photograph(name: str) -> Image.Image:
    """A real photograph, free to use, from scikit-image's own package."""
    return Image.fromarray(getattr(data, name)()[..., :3])


def encoded(image: Image.Image, format: str = "JPEG", **options: Any) -> bytes:
    output = io.BytesIO()
    image.save(output, format, **options)
    return output.getvalue()


def part_of(name: str, seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """A different part of a photograph for each seed."""
    random = np.random.default_rng(seed)
    source = photograph(name)
    width, height = (
        source.width * random.uniform(0.4, 0.8),
        source.height * random.uniform(0.4, 0.8),
    )
    x, y = random.uniform(0, source.width - width), random.uniform(0, source.height - height)
    return source.resize(size, Image.Resampling.BICUBIC, box=(x, y, x + width, y + height))


def turned_weights(path: Path, seed: int) -> Path:
    """The shipped model with its projection turned: another version, whose distances are the same."""
    with safe_open(DEFAULT_WEIGHTS, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        turn, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((512, 512)))
        for name in ("projection.weight", "projection.bias"):
            tensors[name] = (turn @ tensors[name].astype(np.float64)).astype(tensors[name].dtype)
        save_file(tensors, path, file.metadata())
    return path


_fleet: Fleet | None = None


def pytest_configure(config: pytest.Config) -> None:
    """Start the servers once, in the process that controls the run."""
    global _fleet  # noqa: PLW0603 - pytest gives its hooks no better place
    only_units = all("unit" in Path(argument.partition("::")[0]).parts for argument in config.args)
    if not hasattr(config, "workerinput") and not config.option.collectonly and not only_units:
        _fleet = Fleet()


def pytest_unconfigure() -> None:
    if _fleet is not None:
        _fleet.stop()


@pytest.fixture(scope="session", autouse=True)
def quiet() -> None:
    configure_logging("error")


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    return load_embedder(slots=2)


@pytest.fixture(scope="session")
def other_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model version that finds alike: its embeddings are the shipped model's, turned, far from what they were."""
    return turned_weights(tmp_path_factory.mktemp("weights") / "turned.safetensors", 1)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", worker_interval=0.05, _env_file=None)


class Service:
    """A service over real HTTP in this process, with a client for it."""

    def __init__(self, app: Any, client: httpx.Client) -> None:
        self.app = app
        self.client = client

    @property
    def stores(self) -> Any:
        return self.app.state.services.stores

    def put(self, content: bytes, name: str = "photograph.jpg", **fields: str) -> httpx.Response:
        return self.client.post("/masters", files={"file": (name, content)}, data=fields)

    def put_master(
        self, content: bytes, name: str = "photograph.jpg", **fields: str
    ) -> dict[str, Any]:
        response = self.put(content, name, **fields)
        assert response.status_code == 201, response.text
        master: dict[str, Any] = response.json()["results"][0]["master"]
        return master

    def search(self, content: bytes, **fields: str) -> list[dict[str, Any]]:
        response = self.client.post(
            "/search", files={"sample": ("sample.jpg", content)}, data=fields
        )
        assert response.status_code == 200, response.text
        hits: list[dict[str, Any]] = response.json()["hits"]
        return hits

    def objects(self) -> list[str]:
        return [info.key for info in self.stores.objects.list("masters")]


def eventually(check: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether the check holds within that time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if check():
            return True
        time.sleep(0.02)
    return check()


@contextmanager
def serving(
    settings: Settings,
    embedder: Embedder | None,
    headers: dict[str, str] | None = None,
    port: int = 0,
) -> Iterator[Service]:
    with run_service(settings, GivenModel(embedder) if embedder else None) as services:
        app = create_app(settings, services)
        config = uvicorn.Config(
            app, host="127.0.0.1", port=port, log_level="error", access_log=False
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            assert eventually(lambda: server.started or not thread.is_alive())
            assert server.started, "the service did not start"
            port = server.servers[0].sockets[0].getsockname()[1]
            url = f"http://127.0.0.1:{port}"
            with httpx.Client(base_url=url, timeout=60, headers=headers) as client:
                yield Service(app, client)
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def service(settings: Settings, embedder: Embedder) -> Iterator[Service]:
    with serving(settings, embedder) as running:
        yield running
