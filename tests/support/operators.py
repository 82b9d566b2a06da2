"""Simulates operators who change the models of spaces while the service is under load."""

from __future__ import annotations

import json
import random
import threading
from contextlib import suppress
from pathlib import Path

import httpx

from models.embedder import load_embedder, read_encoder
from storage.records import LOOK, WORDS
from tests.support.requests import open_client
from tests.support.space_checks import NO_VERSION, SpaceCheck, Timeline
from tests.support.tiny_encoders import make_text_bundle
from tests.support.weights import turned_weights


class Operator(threading.Thread):
    """Simulates an operator who changes the model of a space repeatedly.

    The operator also removes a space other than `look` from time to time.
    """

    def __init__(
        self, urls: list[str], encoders: list[Path], chance: random.Random, space: str
    ) -> None:
        super().__init__(daemon=True)
        self._urls = urls
        self._encoders = encoders
        self._chance = chance
        self._space = space
        self.timeline = Timeline()
        self.stopping = threading.Event()
        self.switches = 0
        self.removals = 0

    def run(self) -> None:
        while not self.stopping.wait(self._chance.uniform(1, 5)):
            client = open_client(self._chance.choice(self._urls), timeout=120)
            # If a store or a replica is down, the next step comes later.
            with client, suppress(httpx.TransportError, LookupError, ValueError):
                self._step(client)

    def find_versions(self, client: httpx.Client) -> dict[str, str]:
        """Return the versions of the space by their states."""
        models = client.get("/admin/models").json()["models"]
        return {each["state"]: each["version"] for each in models if each["space"] == self._space}

    def _step(self, client: httpx.Client) -> None:
        states = self.find_versions(client)
        if "building" in states:
            self._activate(client, states["building"])
        elif "previous" in states and self._chance.random() < 0.5:
            self._activate(client, states["previous"])
        elif "previous" in states:
            client.post(f"/admin/models/{states['previous']}/retire")
        elif "active" in states and self._space != LOOK and self._chance.random() < 0.2:
            self._remove(client, states["active"])
        else:
            with self._chance.choice(self._encoders).open("rb") as file:
                version = client.post("/admin/models", files={"weights": file}).json()["version"]
            client.post(f"/admin/models/{version}/start", params={"space": self._space})

    def _activate(self, client: httpx.Client, version: str) -> None:
        before = self.timeline.current
        self.timeline.expect({*before, version})
        answer = client.post(f"/admin/models/{version}/activate")
        said = json.loads(answer.text.splitlines()[-1])
        if "active" in said:
            self.timeline.expect({version})
            self.switches += 1
        elif said["error"]["code"] in ("model-not-ready", "model-conflict"):
            self.timeline.expect(before)

    def _remove(self, client: httpx.Client, version: str) -> None:
        before = self.timeline.current
        self.timeline.expect({*before, NO_VERSION})
        answer = client.post(f"/admin/models/{version}/retire")
        if answer.status_code == 202:
            self.timeline.expect({NO_VERSION})
            self.removals += 1
        elif answer.status_code == 409:
            self.timeline.expect(before)


def prepare_operators(
    urls: list[str], directory: Path, chance: random.Random, *, words: bool
) -> tuple[list[Operator], list[SpaceCheck]]:
    """Return an operator and a check for each space; the operators do not run yet."""
    turned = [turned_weights(directory / f"turned-{seed}.safetensors", seed) for seed in (1, 2)]
    look, shipped = Operator(urls, turned, chance, LOOK), load_embedder(slots=1)
    with open_client(urls[0], timeout=60) as client:
        look.timeline.expect({look.find_versions(client)["active"]})
    # All versions of `look` are rotations of the shipped one, with the same distances.
    operators, checks = [look], [SpaceCheck(LOOK, look.timeline, lambda _: shipped)]
    if words:
        bundles = make_bundles(directory)
        loaded = [load_embedder(read_encoder(bundle), slots=1) for bundle in bundles]
        embedders = {each.model_version: each for each in loaded}
        operators.append(Operator(urls, bundles, chance, WORDS))
        timeline = operators[-1].timeline
        checks.append(SpaceCheck(WORDS, timeline, embedders.__getitem__))
    return operators, checks


def make_bundles(directory: Path) -> list[Path]:
    """Write small bundles with different networks and text towers."""
    return [
        make_text_bundle(directory / f"{size}.bundle", name=f"words-{size}", dimension=size)
        for size in (128, 192, 256)
    ]
