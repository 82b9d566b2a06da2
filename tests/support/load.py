"""Clients that upload, change, delete and search, and remember what was acknowledged."""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.support.images import encoded, part_of
from tests.support.requests import open_client
from tests.support.space_checks import SpaceCheck

SHARED = 40  # images that every client uploads and none deletes
OWN = 12  # images that a single client uploads and deletes


@dataclass
class Own:
    """What a client knows about an image that only this client uses.

    ``present`` is None while an operation on the image is not acknowledged.
    """

    content: bytes
    id: str = ""
    present: bool | None = False
    dead: set[str] = field(default_factory=set)


class Load:
    """Load on a service: ``run`` drives it, then ``lost`` compares it with what it acknowledged."""

    def __init__(
        self,
        urls: list[str],
        clients: int,
        seed: int = 0,
        fault_tolerant: bool = False,
        spaces: Sequence[SpaceCheck] = (),
    ) -> None:
        """Set ``fault_tolerant`` if processes are killed: broken connections are no failures.

        Searches take place in ``spaces``, whose answers are checked; by default in `look`.
        """
        self._urls = urls
        self._clients = clients
        self._seed = seed
        self._tolerant = fault_tolerant
        self._spaces = spaces
        self._contents: dict[str, bytes] = {}  # acknowledged images by id
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._shared = [encoded(part_of("coffee", seed, (160, 120))) for seed in range(SHARED)]
        self._own = [
            [
                Own(encoded(part_of("astronaut", 1000 * client + number, (160, 120))))
                for number in range(OWN)
            ]
            for client in range(clients)
        ]
        self._shared_ids: dict[int, set[str]] = {number: set() for number in range(SHARED)}
        self.acknowledged = 0
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []

    def run(self, seconds: float) -> None:
        threads = [
            threading.Thread(target=self._client, args=(number,)) for number in range(self._clients)
        ]
        for thread in threads:
            thread.start()
        self._stopping.wait(seconds)
        self._stopping.set()
        for thread in threads:
            thread.join()

    def stop(self) -> None:
        self._stopping.set()

    def _client(self, number: int) -> None:
        chance = random.Random(f"{self._seed} {number}")
        url = self._urls[number % len(self._urls)]
        with open_client(url, timeout=60) as client:
            steps: list[Callable[[httpx.Client, random.Random, int], None]] = [
                self._upload_shared,
                self._own_step,
                self._search,
            ]
            while not self._stopping.is_set():
                try:
                    chance.choice(steps)(client, chance, number)
                except httpx.TransportError as error:
                    if not self._tolerant:
                        self._fail(f"{type(error).__name__}: {error}")
                    self._stopping.wait(0.2)
                except Exception as error:  # reported at the end; the other clients continue
                    self._fail(f"{type(error).__name__}: {error}")

    def _fail(self, what: str) -> None:
        with self._lock:
            if len(self.failures) < 50:
                self.failures.append(what)

    def _ask(
        self,
        client: httpx.Client,
        method: str,
        path: str,
        expected: tuple[int, ...],
        **request: Any,
    ) -> httpx.Response | None:
        """Send a request; return the response, or None if the service asked to retry."""
        response = client.request(method, path, **request)
        with self._lock:
            self.counts[f"{method} {response.status_code}"] += 1
        if response.status_code == 503 and "retry-after" in response.headers:
            self._stopping.wait(0.2)
            return None
        if response.status_code not in expected:
            raise AssertionError(f"{method} {path}: {response.status_code} {response.text[:300]}")
        with self._lock:
            self.acknowledged += 1
        return response

    def _upload(self, client: httpx.Client, content: bytes) -> dict[str, Any] | None:
        response = self._ask(
            client, "POST", "/masters", (200, 201, 202), files={"file": ("a.jpg", content)}
        )
        if response is None:
            return None
        master: dict[str, Any] = response.json()["results"][0]["master"]
        self._contents[master["id"]] = content
        return master

    def _upload_shared(self, client: httpx.Client, chance: random.Random, number: int) -> None:
        which = chance.randrange(SHARED)
        master = self._upload(client, self._shared[which])
        if master is not None:
            with self._lock:
                self._shared_ids[which].add(master["id"])

    def _own_step(self, client: httpx.Client, chance: random.Random, number: int) -> None:
        own = chance.choice(self._own[number])
        if own.present and chance.random() < 0.5:
            own.present = None
            response = self._ask(client, "DELETE", f"/masters/{own.id}", (204, 404))
            if response is not None:
                own.dead.add(own.id)
                own.present, own.id = False, ""
        elif own.present:
            self._ask(
                client,
                "PATCH",
                f"/masters/{own.id}",
                (200,),
                json={"attributes": {"n": chance.randrange(100)}},
            )
        elif own.present is None and own.id:  # retries an unacknowledged deletion
            response = self._ask(client, "DELETE", f"/masters/{own.id}", (204, 404))
            if response is not None:
                own.dead.add(own.id)
                own.present, own.id = False, ""
        else:
            own.present = None
            master = self._upload(client, own.content)
            if master is not None:
                if master["id"] in own.dead:
                    raise AssertionError(f"the id {master['id']} came back")
                own.present, own.id = True, master["id"]

    def _search(self, client: httpx.Client, chance: random.Random, number: int) -> None:
        own = chance.choice(self._own[number])
        space = chance.choice(self._spaces) if self._spaces else None
        fields = {"k": "5"} | ({"space": space.name} if space else {})
        files, begin = {"sample": ("a.jpg", own.content)}, time.monotonic()
        expected = (200, 422) if space else (200,)
        response = self._ask(client, "POST", "/search", expected, files=files, data=fields)
        if response is None:
            return
        if space:
            space.check_answer(response, begin, own.content, self._contents)
        if response.status_code == 422:
            return
        hits = response.json()["hits"]
        ids = {hit["master"]["id"] for hit in hits}
        if ids & own.dead:
            raise AssertionError(f"deleted masters are found: {ids & own.dead}")
        if own.present and (not hits or hits[0]["master"]["id"] != own.id):
            raise AssertionError(f"{own.id} is acknowledged and not found")

    # checks after the run

    def drained(self, client: httpx.Client) -> bool:
        """Report whether the workers have nothing left to do."""
        with suppress(httpx.TransportError):
            metrics = client.get("/metrics").text
            return (
                "\nlookalike_pending_embeddings 0.0" in metrics
                and client.get("/readyz").status_code == 200
            )
        return False

    def lost(self, client: httpx.Client) -> list[str]:
        """Return every contradiction between the service and what it acknowledged."""
        found = []
        masters: dict[str, str] = {}
        cursor: str | None = ""
        while cursor is not None:
            page = client.get(
                "/masters", params={"limit": "500"} | ({"cursor": cursor} if cursor else {})
            ).json()
            for master in page["masters"]:
                if master["sha256"] in masters:
                    found.append(f"two masters of {master['sha256']}")
                masters[master["sha256"]] = master["id"]
            cursor = page["next_cursor"]
        for which, ids in self._shared_ids.items():
            there = masters.get(hashlib.sha256(self._shared[which]).hexdigest())
            if ids and ids != {there}:
                found.append(f"shared image {which}: acknowledged {ids}, there {there}")
        with ThreadPoolExecutor(8) as pool:  # each search waits for the next tick of Milvus
            every = [own for owned in self._own for own in owned]
            for contradictions in pool.map(lambda own: _check_own(client, own, masters), every):
                found += contradictions
        for space in self._spaces:
            found += space.find_missing(client, self._shared[0], set(masters.values()))
        return found

    def scrub(self, client: httpx.Client, *, repair: bool = False) -> dict[str, int]:
        response = client.post("/admin/scrub", json={"full": True, "repair": repair}, timeout=600)
        found: dict[str, int] = json.loads(response.text.splitlines()[-1])["report"]["found"]
        return found


def _check_own(client: httpx.Client, own: Own, masters: dict[str, str]) -> list[str]:
    """Compare an image that one client used with ``masters``, the ids by the hash of the image."""
    found = []
    digest = hashlib.sha256(own.content).hexdigest()
    there = masters.get(digest)
    if own.present is not None and bool(there) != own.present:
        found.append(f"own image: acknowledged {own.present}, there {there}")
    if there in own.dead:
        found.append(f"the deleted {there} is there")
    if own.present and there:
        content = b""
        with suppress(httpx.RemoteProtocolError):  # the body was shorter than announced
            content = client.get(f"/masters/{there}/content").content
        hit = client.post(
            "/search", files={"sample": ("a.jpg", own.content)}, data={"k": "1"}
        ).json()["hits"][0]
        if (
            hashlib.sha256(content).hexdigest() != digest
            or hit["master"]["id"] != there
            or not hit["exact"]
        ):
            found.append(f"{there} is not what was uploaded, or is missing")
    return found
