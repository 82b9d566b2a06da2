"""Records which operations were invoked and acknowledged: what must and what may be stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.crash.operations import Operations, digest_of


@dataclass
class Image:
    """What is known about one image in one collection.

    ``present`` holds the possible answers to whether it is stored: both of them while an operation
    on it is not acknowledged. ``ids`` are the acknowledged ids of the stored master. Each of
    ``attributes`` may be the stored ones.
    """

    content: bytes
    collection: str
    present: set[bool] = field(default_factory=lambda: {False})
    ids: set[str] = field(default_factory=set)
    attributes: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Journal:
    """Performs operations. One that does not return stays ``pending`` and can be retried."""

    images: dict[tuple[str, str], Image] = field(default_factory=dict)  # by collection and hash
    dead: set[str] = field(default_factory=set)  # ids whose deletion was acknowledged
    pending: Callable[[Operations], None] | None = None

    def image(self, content: bytes, collection: str = "default") -> Image:
        key = (collection, digest_of(content))
        return self.images.setdefault(key, Image(content, collection))

    def stored(self) -> list[Image]:
        """Return the images that are certainly stored."""
        return [image for image in self.images.values() if image.present == {True}]

    def upload(
        self,
        operations: Operations,
        content: bytes,
        collection: str = "default",
        **attributes: Any,
    ) -> None:
        def upload(operations: Operations) -> None:
            image = self.image(content, collection)
            image.present.add(True)
            if image.present != {True} or attributes not in image.attributes:
                image.attributes.append(attributes)
            master, _ = operations.upload(content, collection, attributes)
            assert master.id not in self.dead, "I4: an id was used again"
            allowed = image.attributes
            assert master.attributes in allowed, (master.attributes, allowed)
            is_first = not image.ids or image.present != {True}
            assert is_first or image.ids == {master.id}, "I4: one image has two ids"
            image.present, image.ids = {True}, {master.id}
            image.attributes = [master.attributes]

        self._carry_out(operations, upload)

    def delete(self, operations: Operations, content: bytes, collection: str = "default") -> None:
        image = self.image(content, collection)
        (master_id,) = image.ids

        def delete(operations: Operations) -> None:
            image.present.add(False)
            operations.delete(master_id)
            image.present = {False}
            image.attributes.clear()
            image.ids.clear()
            self.dead.add(master_id)

        self._carry_out(operations, delete)

    def change(self, operations: Operations, content: bytes, **attributes: Any) -> None:
        image = self.image(content)
        (master_id,) = image.ids

        def change(operations: Operations) -> None:
            image.attributes.append(attributes)
            operations.change(master_id, attributes)
            image.attributes = [attributes]

        self._carry_out(operations, change)

    def change_matching(self, operations: Operations, name: str, **attributes: Any) -> None:
        """Merge attributes into those of all images of a collection."""
        inside = [image for image in self.stored() if image.collection == name]
        before = {id(image): image.attributes[-1] for image in inside}

        def change_all(operations: Operations) -> None:
            for image in inside:
                image.attributes = [before[id(image)], before[id(image)] | attributes]
            operations.change_matching(name, attributes)
            for image in inside:
                image.attributes = [before[id(image)] | attributes]

        self._carry_out(operations, change_all)

    def delete_matching(self, operations: Operations, name: str) -> None:
        self._delete_all(operations, name, lambda target: target.delete_matching(name))

    def remove_matching(self, operations: Operations, name: str) -> None:
        """Delete all images of a collection so that it can be undone."""
        inside = [image for image in self.images.values() if image.collection == name]

        def remove_all(operations: Operations) -> None:
            for image in inside:
                image.present.add(False)
            operations.delete_matching(name, permanent=False)
            for image in inside:
                image.present = {False}

        self._carry_out(operations, remove_all)

    def undo(self, operations: Operations, name: str) -> None:
        """Bring back all images of a collection that were deleted so."""
        inside = [image for image in self.images.values() if image.collection == name]

        def undo(operations: Operations) -> None:
            for image in inside:
                image.present.add(True)
            operations.undo_deletions(name)
            for image in inside:
                image.present = {True}

        self._carry_out(operations, undo)

    def resolve(
        self, operations: Operations, contents: tuple[bytes, bytes], collection: str
    ) -> None:
        """Keep the first of two images with the attributes of both, and delete the second."""
        kept, other = (self.image(content, collection) for content in contents)
        before, merged = kept.attributes[-1], other.attributes[-1] | kept.attributes[-1]
        ids = [min(image.ids) for image in (kept, other)]

        def resolve(operations: Operations) -> None:
            kept.attributes = [before, merged]
            other.present.add(False)
            operations.resolve(collection, ids)
            kept.attributes = [merged]
            other.present = {False}

        self._carry_out(operations, resolve)

    def undo_resolving(
        self, operations: Operations, contents: tuple[bytes, bytes], collection: str
    ) -> None:
        """Bring the second image back, and give the first one its own attributes again."""
        kept, other = (self.image(content, collection) for content in contents)
        merged = kept.attributes[-1]
        before = {key: merged[key] for key in merged if key not in other.attributes[-1]}

        def undo(operations: Operations) -> None:
            kept.attributes = [before, merged]
            other.present.add(True)
            operations.undo_deletions(collection)
            kept.attributes = [before]
            other.present = {True}

        self._carry_out(operations, undo)

    def delete_collection(self, operations: Operations, name: str) -> None:
        self._delete_all(operations, name, lambda target: target.delete_collection(name))

    def empty_collection(self, operations: Operations, name: str) -> None:
        self._delete_all(operations, name, lambda target: target.empty_collection(name))

    def _delete_all(
        self, operations: Operations, name: str, delete: Callable[[Operations], None]
    ) -> None:
        inside = [image for image in self.images.values() if image.collection == name]

        def delete_all(operations: Operations) -> None:
            for image in inside:
                image.present.add(False)
            delete(operations)
            for image in inside:
                self.dead |= image.ids
                image.present, image.ids, image.attributes = {False}, set(), []

        self._carry_out(operations, delete_all)

    def do(self, operations: Operations, operation: Callable[[Operations], object]) -> None:
        """Carry out an operation that changes no image."""
        self._carry_out(operations, lambda target: void(operation(target)))

    def _carry_out(self, operations: Operations, operation: Callable[[Operations], None]) -> None:
        self.pending = operation
        operation(operations)
        self.pending = None

    def retry(self, operations: Operations) -> None:
        """Repeat the pending operation after the process has ended, as a client does."""
        if self.pending is not None:
            self._carry_out(operations, self.pending)


def void(_: object) -> None:
    """Discard a result."""
