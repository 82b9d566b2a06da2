"""Drives the service over HTTP, remembers what it acknowledged, and checks after a crash that the stores agree with it.

The invariants are those of the design: I1 an acknowledged upload is readable with the same hash; I2 no stored row without its
exact object; I3 an acknowledged deletion never returns; I4 at most one live row per collection and hash, ids never reused;
I5 the ids of rows, objects and vectors are the same; I6 what was not acknowledged is absent or complete; I7 every hit is stored,
and scored by a version that was active; I8 no temporary file and no lease is left; I9 the vectors' attributes are the truth's.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from tests.crash import service
from tests.crash.service import Kill
from tests.support.service import eventually

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["tests.crash.warm"])
_READY = 30.0  # seconds


class Crashed(Exception):
    """The process ended while it was asked something."""


@dataclass
class Running:
    directory: Path
    client: httpx.Client
    process: Any
    armed: Any

    def arm(self) -> None:
        """From now on writes count."""
        self.armed.value = True

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        """Raises Crashed."""
        try:
            return self.client.request(method, path, **request)
        except httpx.TransportError:
            self.process.join(10)
            raise Crashed from None


@dataclass
class Installation:
    directory: Path
    order: str = "right"

    @property
    def weights(self) -> Path:
        path = self.directory.with_name(f"{self.directory.name}-first.safetensors")
        if not path.exists():
            path.write_bytes(service.tiny_weights("first"))
        return path

    @contextmanager
    def running(self, kill: Kill | None = None, *, armed: bool = False) -> Iterator[Running]:
        """Raises Crashed if it ends before it is ready."""
        ours, theirs = _forks.Pipe()
        switch = _forks.Value("b", armed)
        process = _forks.Process(
            target=service.run,
            args=(self.directory, self.weights, kill, switch, theirs, self.order),
            daemon=True,
        )
        process.start()
        theirs.close()
        try:
            try:
                if not ours.poll(_READY):
                    raise AssertionError("the service does not start")
                port = ours.recv()
            except EOFError:
                process.join(10)
                raise Crashed from None
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                yield Running(self.directory, client, process, switch)
        finally:
            process.kill()
            process.join()
            ours.close()

    def writes(self) -> Counter[str]:
        """Those that were counted so far, by name."""
        log = self.directory / "writes.log"
        return Counter(log.read_text().split()) if log.exists() else Counter()


@dataclass
class Image:
    """What must be, or may be, of one image in one collection."""

    content: bytes
    collection: str
    present: set[bool] = field(
        default_factory=lambda: {False}
    )  # both: an operation on it was not acknowledged
    ids: set[str] = field(default_factory=set)  # acknowledged as its own while it lives
    attributes: list[dict[str, Any]] = field(default_factory=list)  # each of them is right
    indexed: bool = False


@dataclass
class Journal:
    """Operations as invoked and as acknowledged."""

    images: dict[tuple[str, str], Image] = field(default_factory=dict)  # by collection and hash
    dead: set[str] = field(default_factory=set)  # ids whose deletion was acknowledged
    acknowledged: int = 0
    pending: Callable[[Running], None] | None = None  # the operation that was under way

    def image(self, content: bytes, collection: str) -> Image:
        key = (collection, hashlib.sha256(content).hexdigest())
        return self.images.setdefault(key, Image(content, collection))

    def upload(
        self, running: Running, content: bytes, collection: str = "default", **attributes: Any
    ) -> None:
        def again(running: Running) -> None:
            image = self.image(content, collection)
            image.present.add(True)
            if image.present != {True} or attributes not in image.attributes:
                image.attributes.append(attributes)
            data = {"collection": collection, "attributes": json.dumps(attributes)}
            response = running.ask(
                "POST", "/masters", files={"file": ("a.png", content)}, data=data
            )
            assert response.status_code in (200, 201, 202), response.text
            (result,) = response.json()["results"]
            master = result["master"]
            assert master["id"] not in self.dead, "I4: an id came back"
            assert master["attributes"] in image.attributes, (
                master["attributes"],
                image.attributes,
            )
            assert not image.ids or image.ids == {master["id"]} or image.present != {True}, (
                "I4: two ids"
            )
            image.present, image.ids, image.attributes = (
                {True},
                {master["id"]},
                [master["attributes"]],
            )
            image.indexed = bool(result["indexed"])

        self._do(running, again)

    def delete(self, running: Running, content: bytes, collection: str = "default") -> None:
        image = self.image(content, collection)
        (id_,) = image.ids

        def again(running: Running) -> None:
            image.present.add(False)
            response = running.ask("DELETE", f"/masters/{id_}")
            assert response.status_code in (204, 404), response.text
            image.present = {False}
            image.attributes.clear()
            image.ids.clear()
            self.dead.add(id_)

        self._do(running, again)

    def change(self, running: Running, content: bytes, **attributes: Any) -> None:
        image = self.image(content, "default")
        (id_,) = image.ids

        def again(running: Running) -> None:
            image.attributes.append(attributes)
            response = running.ask("PATCH", f"/masters/{id_}", json={"attributes": attributes})
            assert response.status_code == 200, response.text
            image.attributes = [attributes]

        self._do(running, again)

    def delete_collection(self, running: Running, name: str) -> None:
        self._delete_all(running, name, f"/collections/{name}", {"confirm": name})

    def empty(self, running: Running, name: str) -> None:
        self._delete_all(running, name, "/masters", {"collection": name, "confirm": name})

    def _delete_all(self, running: Running, name: str, path: str, params: dict[str, str]) -> None:
        inside = [image for (collection, _), image in self.images.items() if collection == name]

        def again(running: Running) -> None:
            for image in inside:
                image.present.add(False)
            response = running.ask("DELETE", path, params=params)
            assert response.status_code in (204, 404), response.text
            for image in inside:
                self.dead |= image.ids
                image.present, image.ids, image.attributes = {False}, set(), []

        self._do(running, again)

    def do(
        self, running: Running, method: str, path: str, expected: tuple[int, ...], **request: Any
    ) -> None:
        """Something that changes no image."""

        def again(running: Running) -> None:
            response = running.ask(method, path, **request)
            assert response.status_code in expected, response.text

        self._do(running, again)

    def _do(self, running: Running, operation: Callable[[Running], None]) -> None:
        self.pending = operation
        operation(running)
        self.pending = None
        self.acknowledged += 1

    def retry(self, running: Running) -> None:
        """What was under way when the process ended, as a client does."""
        if self.pending is not None:
            self._do(running, self.pending)


def models(running: Running) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = running.ask("GET", "/admin/models").json()["models"]
    return found


def search(running: Running, image: Image) -> list[dict[str, Any]]:
    """The hits; I7 is checked."""
    versions = {model["version"] for model in models(running)}
    response = running.ask(
        "POST",
        "/search",
        files={"sample": ("a.png", image.content)},
        data={"collection": image.collection, "k": "100"},
    )
    if response.status_code == 404:
        return []
    assert response.status_code == 200, response.text
    assert response.json()["model_version"] in versions, "I7"
    hits: list[dict[str, Any]] = response.json()["hits"]
    return hits


def drained(running: Running, directory: Path) -> None:
    """The worker has nothing left to do."""

    def check() -> bool:
        with closing(sqlite3.connect(directory / "lookalike.db", timeout=10)) as database:
            unfinished = (
                "SELECT (SELECT count(*) FROM masters WHERE state IN ('pending', 'deleting'))"
                " + (SELECT count(*) FROM collections WHERE state <> 'live')"
                " + (SELECT count(*) FROM embeddings WHERE state = 'pending')"
                " + (SELECT count(*) FROM model_versions WHERE state = 'retired')"
                " + (SELECT count(*) FROM masters JOIN model_versions ON model_versions.state = 'building' WHERE NOT EXISTS"
                " (SELECT 1 FROM embeddings WHERE master_id = masters.id AND model_version = model_versions.id))"
            )
            return bool(database.execute(unfinished).fetchone()[0] == 0)

    assert eventually(check, 20), "I5: the worker does not come to an end"


def scrubbed(running: Running, *, repair: bool = True) -> dict[str, int]:
    response = running.ask("POST", "/admin/scrub", json={"full": True, "repair": repair})
    found: dict[str, int] = json.loads(response.text.splitlines()[-1])["report"]["found"]
    return found


def check(journal: Journal, running: Running, directory: Path) -> None:
    """All invariants, from outside over HTTP and on the raw stores. The worker has drained."""
    for image in journal.images.values():
        _check_image(journal, running, image)
    for id_ in journal.dead:
        assert running.ask("GET", f"/masters/{id_}").status_code == 404, "I3: by id"
    _check_stores(directory)


def _check_image(journal: Journal, running: Running, image: Image) -> None:
    digest = hashlib.sha256(image.content).hexdigest()
    listing = running.ask(
        "GET", "/masters", params={"collection": image.collection, "limit": "500"}
    )
    masters = listing.json()["masters"] if listing.status_code == 200 else []
    same = [master for master in masters if master["sha256"] == digest]
    assert len(same) <= 1, "I4: two live rows"
    assert bool(same) in image.present, f"I1, I3: there {bool(same)}, allowed {image.present}"
    hits = search(running, image)
    assert not journal.dead & {hit["master"]["id"] for hit in hits}, "I3: by search"
    assert {hit["master"]["id"] for hit in hits} <= {master["id"] for master in masters}, (
        "I7: a hit that is not stored"
    )
    if not same:
        return
    (master,) = same
    assert not image.ids or master["id"] in image.ids, "I4: another id"
    assert master["attributes"] in image.attributes, "I6: attributes that nobody gave"
    content = running.ask("GET", master["links"]["content"])
    assert (content.status_code, hashlib.sha256(content.content).hexdigest()) == (200, digest), (
        "I1, I2"
    )
    assert hits, "I6: it is not found"
    assert (hits[0]["exact"], hits[0]["master"]["id"]) == (True, master["id"]), (
        "I6: it is not found"
    )


def _check_stores(directory: Path) -> None:
    with closing(sqlite3.connect(directory / "lookalike.db", timeout=10)) as database:
        there = "SELECT id, attributes, collection_id, revision, state FROM masters WHERE state IN ('stored', 'damaged')"
        rows = database.execute(there).fetchall()
        known = {UUID(bytes=row[0]): (json.loads(row[1]), row[2], row[3]) for row in rows}
        damaged = {
            UUID(bytes=row[0]) for row in rows if row[4] == "damaged"
        }  # keeps its vector, for when its bytes come back
        versions = [row[0] for row in database.execute("SELECT id FROM model_versions")]
        for version in versions:
            found = database.execute(
                "SELECT master_id, attributes, collection_id, revision FROM vectors WHERE model_version = ?",
                (version,),
            )
            vectors = {UUID(bytes=row[0]): (json.loads(row[1]), row[2], row[3]) for row in found}
            assert vectors == known, f"I5, I9: vectors of {version}"
        others = database.execute("SELECT DISTINCT model_version FROM vectors").fetchall()
        assert {row[0] for row in others} <= set(versions), "I5: vectors of no version"
        leased = database.execute(
            "SELECT (SELECT count(*) FROM masters WHERE lease_until > 0)"
            " + (SELECT count(*) FROM embeddings WHERE lease_until > 0)"
        ).fetchone()
        assert leased[0] == 0, "I8: a lease is left"
    objects = {
        UUID(path.stem) for path in (directory / "objects" / "masters").rglob("*") if path.is_file()
    }
    assert objects - damaged == set(known) - damaged, "I5: objects"
    assert list((directory / "objects" / ".incoming").iterdir()) == [], "I8: a temporary file"
