"""Random histories of uploads, changes, deletions, model changes, crashes and scrubs, against a model of what must be there."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.crash.harness import (
    Crashed,
    Image,
    Installation,
    Journal,
    Running,
    check,
    drained,
    models,
    scrubbed,
    search,
)
from tests.crash.service import Kill, tiny_weights
from tests.support.images import encoded, part_of

IMAGES = [encoded(part_of("astronaut", seed, (96, 72)), "PNG") for seed in range(4)]
COLLECTIONS = ("default", "other")
images, collections = st.sampled_from(IMAGES), st.sampled_from(COLLECTIONS)
kills = st.one_of(
    st.none(),
    st.builds(Kill, st.just("any"), st.integers(1, 12), st.sampled_from(["before", "after"])),
)
Operation = Callable[[Running], None]


class Histories(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.ending = ExitStack()
        directory = self.ending.enter_context(tempfile.TemporaryDirectory())
        self.installation = Installation(Path(directory) / "data")
        self.installation.directory.mkdir()
        self.journal = Journal()
        self.service = ExitStack()
        self.running = self.service.enter_context(self.installation.running())

    def restart(self, kill: Kill | None = None) -> None:
        """Without warning; what was under way is asked for again."""
        self.service.close()
        if kill is not None:
            self.running = self.service.enter_context(self.installation.running(kill))
            return
        self.running = self.service.enter_context(self.installation.running())
        self.journal.retry(self.running)

    def do(self, operation: Operation, kill: Kill | None) -> None:
        """The operation, and a kill at one of the writes that it makes, or that the worker makes meanwhile."""
        if kill is None:
            operation(self.running)
            return
        self.restart(kill)
        self.running.arm()
        with suppress(Crashed):
            operation(self.running)
        self.restart()

    def there(self) -> list[Image]:
        return [image for image in self.journal.images.values() if image.present == {True}]

    @rule(content=images, collection=collections, number=st.integers(0, 3), kill=kills)
    def upload(self, content: bytes, collection: str, number: int, kill: Kill | None) -> None:
        self.do(lambda running: self.journal.upload(running, content, collection, n=number), kill)

    @precondition(lambda self: self.there())
    @rule(data=st.data(), kill=kills)
    def delete(self, data: st.DataObject, kill: Kill | None) -> None:
        image = data.draw(st.sampled_from(self.there()))
        self.do(lambda running: self.journal.delete(running, image.content, image.collection), kill)

    @precondition(lambda self: any(image.collection == "default" for image in self.there()))
    @rule(data=st.data(), number=st.integers(0, 3), kill=kills)
    def change(self, data: st.DataObject, number: int, kill: Kill | None) -> None:
        image = data.draw(
            st.sampled_from([image for image in self.there() if image.collection == "default"])
        )
        self.do(lambda running: self.journal.change(running, image.content, n=number), kill)

    @rule(kill=kills)
    def delete_collection(self, kill: Kill | None) -> None:
        self.do(lambda running: self.journal.delete_collection(running, "other"), kill)

    @precondition(lambda self: self.there())
    @rule(data=st.data())
    def find(self, data: st.DataObject) -> None:
        image = data.draw(st.sampled_from(self.there()))
        hits = search(self.running, image)
        assert [hit["master"]["id"] for hit in hits if hit["exact"]] == list(image.ids)

    @rule()
    def crash(self) -> None:
        self.restart()

    @rule(repair=st.booleans())
    def scrub(self, repair: bool) -> None:
        scrubbed(self.running, repair=repair)

    @rule(weights=st.sampled_from([tiny_weights("second"), tiny_weights("third")]), kill=kills)
    def start_model(self, weights: bytes, kill: Kill | None) -> None:
        def start(running: Running) -> None:
            added = running.ask(
                "POST", "/admin/models", files={"weights": ("w.safetensors", weights)}
            )
            started = running.ask("POST", f"/admin/models/{added.json()['version']}/start")
            assert started.status_code in (202, 404, 409), (
                started.text
            )  # 404: retired in between, with its weights

        self.do(start, kill)

    @rule(kill=kills)
    def activate(self, kill: Kill | None) -> None:
        def switch(running: Running) -> None:
            for model in models(running):
                if model["state"] in ("building", "previous"):
                    response = running.ask("POST", f"/admin/models/{model['version']}/activate")
                    assert response.status_code == 200, response.text
                    last = json.loads(response.text.splitlines()[-1])
                    assert "active" in last or last["error"]["code"] in (
                        "model-not-ready",
                        "model-conflict",
                    ), last
                    return

        self.do(switch, kill)

    @rule(kill=kills)
    def retire(self, kill: Kill | None) -> None:
        def remove(running: Running) -> None:
            for model in models(running):
                if model["state"] in ("building", "previous"):
                    response = running.ask("POST", f"/admin/models/{model['version']}/retire")
                    assert response.status_code in (202, 409), response.text
                    return

        self.do(remove, kill)

    def teardown(self) -> None:
        try:
            self.restart()
            drained(self.running, self.installation.directory)
            assert scrubbed(self.running) == {}, "the order of writes leaves nothing for a scrub"
            check(self.journal, self.running, self.installation.directory)
        finally:
            self.service.close()
            self.ending.close()


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=2,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
