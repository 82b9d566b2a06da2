"""Random histories of uploads, changes, deletions, model changes, kills and scrubs, over HTTP."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from storage.records import LOOK
from tests.crash.invariants import check_invariants, drain, forget_heartbeats, hits_of
from tests.crash.journal import Image, Journal
from tests.crash.operations import Operations
from tests.crash.process import Child, Crashed, fork_child
from tests.crash.scenarios import WORDS, create_words
from tests.crash.watch import Kill
from tests.support.images import encoded, part_of
from tests.support.tiny_network import tiny_weights

IMAGES = [encoded(part_of("astronaut", seed, (96, 72)), "PNG") for seed in range(4)]
COLLECTIONS = ("default", "other")
images, collections = st.sampled_from(IMAGES), st.sampled_from(COLLECTIONS)
kills = st.one_of(
    st.none(),
    st.builds(Kill, st.just("any"), st.integers(1, 12), st.sampled_from(["before", "after"])),
)
Operation = Callable[[Operations], None]


class Histories(RuleBasedStateMachine):
    """Performs random operations, kills some of them, and checks the invariants at the end."""

    @initialize()
    def begin(self) -> None:
        self.ending = ExitStack()
        directory = self.ending.enter_context(tempfile.TemporaryDirectory())
        self.directory = Path(directory) / "data"
        self.journal = Journal()
        self.rules = 0
        self.started = 1
        self.processes = ExitStack()
        self.child: Child = self.processes.enter_context(fork_child(self.directory, http=True))
        create_words(self.operations)

    @property
    def operations(self) -> Operations:
        return self.child.operations

    def restart(self) -> None:
        """Kill the process, start another one, and retry the pending operation."""
        self.replace_child(None)
        self.journal.retry(self.operations)

    def replace_child(self, kill: Kill | None) -> None:
        self.processes.close()
        forget_heartbeats(self.directory)
        self.child = self.processes.enter_context(fork_child(self.directory, kill, http=True))

    def do(self, operation: Operation, kill: Kill | None) -> None:
        """Perform an operation; kill the process at a write of the operation or of the worker."""
        if kill is None:
            operation(self.operations)
            return
        self.replace_child(kill)
        self.child.arm()
        with suppress(Crashed):
            operation(self.operations)
        self.restart()

    @rule(content=images, collection=collections, number=st.integers(0, 3), kill=kills)
    def upload(self, content: bytes, collection: str, number: int, kill: Kill | None) -> None:
        def upload(operations: Operations) -> None:
            self.journal.upload(operations, content, collection, n=number)

        self.do(upload, kill)

    @precondition(lambda self: self.journal.stored())
    @rule(data=st.data(), kill=kills)
    def delete(self, data: st.DataObject, kill: Kill | None) -> None:
        image = data.draw(st.sampled_from(self.journal.stored()))

        def delete(operations: Operations) -> None:
            self.journal.delete(operations, image.content, image.collection)

        self.do(delete, kill)

    @precondition(lambda self: self.changeable())
    @rule(data=st.data(), number=st.integers(0, 3), kill=kills)
    def change(self, data: st.DataObject, number: int, kill: Kill | None) -> None:
        image = data.draw(st.sampled_from(self.changeable()))

        def change(operations: Operations) -> None:
            self.journal.change(operations, image.content, n=number)

        self.do(change, kill)

    def changeable(self) -> list[Image]:
        return [image for image in self.journal.stored() if image.collection == "default"]

    @rule(kill=kills)
    def delete_collection(self, kill: Kill | None) -> None:
        self.do(lambda operations: self.journal.delete_collection(operations, "other"), kill)

    @precondition(lambda self: self.journal.stored())
    @rule(data=st.data())
    def find(self, data: st.DataObject) -> None:
        image = data.draw(st.sampled_from(self.journal.stored()))
        hits = hits_of(self.operations, image)
        assert [master_id for master_id, exact in hits if exact] == list(image.ids)

    @rule()
    def crash(self) -> None:
        self.restart()

    @rule(repair=st.booleans())
    def scrub(self, repair: bool) -> None:
        self.operations.scrub(repair=repair)

    @invariant()
    def change_model(self) -> None:
        """Change the model of a space after every second rule, and kill every third change."""
        self.rules += 1
        if self.rules % 2 == 0:
            number = self.rules // 2
            space = LOOK if number % 3 == 0 else WORDS
            kill = Kill("any", number, "after") if number % 3 == 1 else None
            self.do(lambda operations: self.take_next_step(operations, space), kill)

    def take_next_step(self, operations: Operations, space: str) -> None:
        """Build a version, activate it, retire the one before; then remove the space, or go on."""
        states = {each.state: each for each in operations.models() if each.space == space}
        if "building" in states:
            outcome = operations.activate_model(states["building"].version)
            assert outcome in ("active", "model-not-ready", "model-conflict"), outcome
        elif "previous" in states:
            outcome = operations.retire_model(states["previous"].version)
            assert outcome in ("retired", "model-conflict"), outcome
        elif "active" in states and space == WORDS and self.started % 2 == 0:
            outcome = operations.retire_model(states["active"].version)
            assert outcome in ("retired", "model-conflict"), outcome
        else:
            self.started += 1
            version = operations.add_model(tiny_weights(f"{self.started} of {space}"))
            outcome = operations.start_model(version, space)
            # Not found: the version was retired in between, with its weights.
            assert outcome in ("started", "model-not-found", "model-conflict"), outcome

    def teardown(self) -> None:
        try:
            self.restart()
            drain(self.directory)
            assert self.operations.scrub(repair=True) == {}, (
                "the order of writes leaves nothing for a scrub"
            )
            check_invariants(self.journal, self.operations, self.directory)
        finally:
            self.processes.close()
            self.ending.close()


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=2,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
