"""The operations that the crash tests perform, on the services directly or over HTTP.

Both classes have the same methods. They accept an outcome that is right after a retry, such as
deleting a master that is already gone, and raise on every other refusal.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.container import Services
from app.errors import Conflict, NotFound
from app.services import changes, undo
from app.services.changes import AttributeChange
from app.services.queries import FileExample, SearchOptions
from app.services.resolving import Group
from storage.filter_parser import parse_filter
from storage.records import LOOK, Master

_ALL = {"size": {"$gte": 0}}
ALL = parse_filter(_ALL)


@dataclass(frozen=True)
class Kept:
    """A master as listed by its collection."""

    id: str
    sha256: str
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Found:
    """The answer to a search: the model version, and the id and exactness of each hit."""

    version: str
    hits: list[tuple[str, bool]]


@dataclass(frozen=True)
class Model:
    version: str
    space: str
    state: str
    complete: bool  # it has vectors of all masters


class DirectOperations:
    """Performs operations by calling the services as the routes do, without HTTP."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def upload(
        self, content: bytes, collection: str, attributes: dict[str, Any]
    ) -> tuple[Kept, bool]:
        """Upload an image; return the master and whether it is indexed."""
        done = self._services.ingest.upload_image(
            io.BytesIO(content), collection=collection, name="a.png", attributes=attributes
        )
        return _kept(done.master), done.indexed

    def delete(self, master_id: str) -> None:
        try:
            self._services.masters.delete_master(UUID(master_id))
        except NotFound:
            return  # a retry finds that it is gone

    def change(self, master_id: str, attributes: dict[str, Any]) -> None:
        self._services.masters.update_master(UUID(master_id), None, attributes)

    def change_matching(self, collection: str, attributes: dict[str, Any]) -> None:
        """Merge attributes into those of all masters, one master at a time."""
        service, change = self._services.changes, AttributeChange.parse(attributes, [])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(changes, "_BATCH", 1)
            number = service.count_matching(collection, ALL)
            list(service.change_matching(collection, ALL, change, number))

    def delete_matching(self, collection: str, *, permanent: bool = True) -> None:
        """Delete all masters by a filter, one at a time."""
        service = self._services.changes
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(changes, "_BATCH", 1)
            number = service.count_matching(collection, ALL)
            list(service.delete_matching(collection, ALL, number, permanent=permanent))

    def resolve(self, collection: str, ids: list[str]) -> None:
        """Keep the first master of a group, with the attributes of all, if there are two left."""
        service = self._services.resolving
        group = Group(tuple(map(UUID, ids)), keep=UUID(ids[0]))
        task = service.plan_groups(collection, None, [group], [], merge_attributes=True)
        list(service.resolve(task, service.preview(task).deleted))

    def undo_deletions(self, collection: str) -> None:
        """Undo all deletions in a collection, one master at a time."""
        service = self._services.undo
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(undo, "_BATCH", 1)
            for deletion in service.list_deletions(collection, 1000):
                list(service.undo_deletion(deletion.id))

    def delete_collection(self, name: str) -> None:
        try:
            self._services.collections.delete_collection(name)
        except NotFound:
            return  # a retry finds that it is gone

    def empty_collection(self, name: str) -> None:
        try:
            self._services.collections.empty_collection(name)
        except NotFound:
            return  # a retry finds that it is gone

    def list(self, collection: str) -> list[Kept]:
        try:
            page = self._services.masters.list_masters(collection, None, 500, None)
        except NotFound:
            return []
        return [_kept(master) for master in page.masters]

    def exists(self, master_id: str) -> bool:
        try:
            self._services.masters.find_master(UUID(master_id))
        except NotFound:
            return False
        return True

    def content(self, master_id: str) -> bytes:
        master = self._services.masters.find_master(UUID(master_id))
        return b"".join(self._services.masters.read_content(master, 0, master.size))

    def search(self, content: bytes, collection: str, space: str = LOOK) -> Found | None:
        """Search a collection in a space; return None if the collection does not exist."""
        options = SearchOptions(collection, k=100, space=space)
        try:
            answer = self._services.search.search([FileExample(io.BytesIO(content))], options)
        except NotFound:
            return None
        hits = [(str(hit.master.id), hit.exact) for hit in answer.hits]
        return Found(answer.model_version, hits)

    def models(self) -> list[Model]:
        progress, _ = self._services.reembed.list_progress()
        return [
            Model(
                each.model.id,
                each.model.space,
                each.model.state.value,
                each.indexed == each.masters,
            )
            for each in progress
        ]

    def add_model(self, weights: bytes) -> str:
        return self._services.reembed.add_encoder(io.BytesIO(weights))

    def start_model(self, version: str, space: str = LOOK) -> str:
        """Start building a model; return "started" or the error code of the refusal."""
        try:
            self._services.reembed.start_building(version, space)
        except (NotFound, Conflict) as error:
            return error.code
        return "started"

    def activate_model(self, version: str) -> str:
        """Activate a model; return "active" or the error code. Raises if the version is unknown."""
        self._services.reembed.check_registered(version)
        try:
            *_, last = self._services.reembed.activate_version(version)
        except Conflict as error:
            return error.code
        assert last == {"active": version}, last
        return "active"

    def retire_model(self, version: str) -> str:
        """Retire a model; return "retired" or the error code of the refusal."""
        try:
            self._services.reembed.retire_version(version)
        except Conflict as error:
            return error.code
        return "retired"

    def reread(self) -> None:
        """Let the worker read the metadata of all files again."""
        self._services.captures.reread()

    def scrub(self, *, repair: bool) -> dict[str, int]:
        """Run a full scrub; return the number of findings of each kind."""
        *_, last = self._services.scrub.stream_scrub(repair=repair, full=True)
        found: dict[str, int] = last["report"]["found"]
        return found


class HttpOperations:
    """Performs operations over HTTP."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def _ask(
        self, method: str, path: str, expected: tuple[int, ...], **request: Any
    ) -> httpx.Response:
        response = self._client.request(method, path, **request)
        assert response.status_code in expected, response.text
        return response

    def upload(
        self, content: bytes, collection: str, attributes: dict[str, Any]
    ) -> tuple[Kept, bool]:
        data = {"collection": collection, "attributes": json.dumps(attributes)}
        files = {"file": ("a.png", content)}
        response = self._ask("POST", "/masters", (200, 201, 202), files=files, data=data)
        (result,) = response.json()["results"]
        return _kept_of_json(result["master"]), bool(result["indexed"])

    def delete(self, master_id: str) -> None:
        self._ask("DELETE", f"/masters/{master_id}", (204, 404))

    def change(self, master_id: str, attributes: dict[str, Any]) -> None:
        self._ask("PATCH", f"/masters/{master_id}", (200,), json={"attributes": attributes})

    def change_matching(self, collection: str, attributes: dict[str, Any]) -> None:
        body = {"collection": collection, "filter": _ALL, "set": attributes}
        counted = self._ask("PATCH", "/masters", (200,), json=body | {"dry_run": True})
        confirm = {"confirm": counted.json()["matched"]}
        self._ask("PATCH", "/masters", (200,), json=body | confirm)

    def delete_matching(self, collection: str, *, permanent: bool = True) -> None:
        params = {"collection": collection, "filter": json.dumps(_ALL)}
        params |= {"permanent": json.dumps(permanent)}
        counted = self._ask("DELETE", "/masters", (200,), params=params | {"dry_run": "true"})
        confirm = {"confirm": counted.json()["matched"]}
        self._ask("DELETE", "/masters", (200,), params=params | confirm)

    def resolve(self, collection: str, ids: list[str]) -> None:
        path = f"/collections/{collection}/duplicates/resolve"
        body = {"groups": [{"masters": ids, "keep": ids[0]}]}
        counted = self._ask("POST", path, (200,), json=body | {"dry_run": True})
        confirm = {"confirm": counted.json()["matched"]}
        self._ask("POST", path, (200,), json=body | confirm)

    def undo_deletions(self, collection: str) -> None:
        listed = self._ask("GET", "/deletions", (200,), params={"collection": collection})
        for deletion in listed.json()["deletions"]:
            self._ask("POST", f"/deletions/{deletion['id']}/undo", (200,))

    def delete_collection(self, name: str) -> None:
        self._ask("DELETE", f"/collections/{name}", (204, 404), params={"confirm": name})

    def empty_collection(self, name: str) -> None:
        both = {"collection": name, "confirm": name}
        self._ask("DELETE", "/masters", (204, 404), params=both)

    def list(self, collection: str) -> list[Kept]:
        page = {"collection": collection, "limit": "500"}
        response = self._ask("GET", "/masters", (200, 404), params=page)
        masters = response.json()["masters"] if response.status_code == 200 else []
        return [_kept_of_json(master) for master in masters]

    def exists(self, master_id: str) -> bool:
        return self._ask("GET", f"/masters/{master_id}", (200, 404)).status_code == 200

    def content(self, master_id: str) -> bytes:
        return self._ask("GET", f"/masters/{master_id}/content", (200,)).content

    def search(self, content: bytes, collection: str, space: str = LOOK) -> Found | None:
        files = {"sample": ("a.png", content)}
        data = {"collection": collection, "k": "100", "space": space}
        response = self._ask("POST", "/search", (200, 404), files=files, data=data)
        if response.status_code == 404:
            return None
        answer = response.json()
        hits = [(hit["master"]["id"], hit["exact"]) for hit in answer["hits"]]
        return Found(answer["model_version"], hits)

    def models(self) -> list[Model]:
        models = self._ask("GET", "/admin/models", (200,)).json()["models"]
        return [
            Model(each["version"], each["space"], each["state"], each["indexed"] == each["masters"])
            for each in models
        ]

    def add_model(self, weights: bytes) -> str:
        files = {"weights": ("w.safetensors", weights)}
        added = self._ask("POST", "/admin/models", (201,), files=files).json()
        version: str = added["version"]
        return version

    def start_model(self, version: str, space: str = LOOK) -> str:
        path, query = f"/admin/models/{version}/start", {"space": space}
        response = self._ask("POST", path, (202, 404, 409), params=query)
        return "started" if response.status_code == 202 else str(response.json()["code"])

    def activate_model(self, version: str) -> str:
        response = self._ask("POST", f"/admin/models/{version}/activate", (200,))
        last = json.loads(response.text.splitlines()[-1])
        return "active" if last == {"active": version} else str(last["error"]["code"])

    def retire_model(self, version: str) -> str:
        response = self._ask("POST", f"/admin/models/{version}/retire", (202, 409))
        return "retired" if response.status_code == 202 else str(response.json()["code"])

    def reread(self) -> None:
        self._ask("POST", "/admin/capture/reread", (202,))

    def scrub(self, *, repair: bool) -> dict[str, int]:
        options = {"full": True, "repair": repair}
        response = self._ask("POST", "/admin/scrub", (200,), json=options)
        found: dict[str, int] = json.loads(response.text.splitlines()[-1])["report"]["found"]
        return found


Operations = DirectOperations | HttpOperations


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _kept(master: Master) -> Kept:
    return Kept(str(master.id), master.sha256.hex(), master.attributes)


def _kept_of_json(master: dict[str, Any]) -> Kept:
    return Kept(master["id"], master["sha256"], master["attributes"])
