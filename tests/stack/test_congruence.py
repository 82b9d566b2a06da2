"""The embedded default and the servers give the same answers to the same operations."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import ImageOps

from app.settings import Settings
from models.embedder import Embedder
from tests.support.images import CAT, encoded, part_of, photograph
from tests.support.service import eventually, serving
from tests.support.stack import Stack
from tests.support.tiny_encoders import make_text_bundle

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
CURSOR = re.compile(r"'cursor': '[\w-]{9,}'")
VARYING = (
    "took_ms",
    "created_at",
    "updated_at",
    "decided_at",
    "undo_until",
    "request_id",
    "next_cursor",
)
IMAGES = [encoded(part_of(name, seed)) for name in ("coffee", "astronaut") for seed in range(6)]
FILTERS = (
    {"n": 3},
    {"n": {"$gte": 2, "$lt": 5}},
    {"n": {"$in": [1, "2", 4.0, True]}},
    {"tag": {"$exists": False}},
    {"tags": {"$contains": "ä"}},
    {"tags": {"$contains": 1}},
    {"camera": {"make": 'Lei"ca\\'}},
    {"$or": [{"n": 1}, {"$not": {"n": {"$lt": 10}}}]},
    {"$and": [{"n": {"$ne": 1}}, {"tag": {"$nin": ["a", None]}}]},
    {"n": {"$near": 1}},
)
ASKED: tuple[dict[str, Any], ...] = (
    {"group_by": "tag"},
    {"group_by": "tag", "group_size": 3, "offset": 1},
    {"group_by": "camera.make", "k": 12, "filter": {"n": {"$ne": 2}}},
    {"group_by": "n", "sort": "-n", "mirror": True},
    {"collapse_duplicates": 0.2},
    {"collapse_duplicates": 0.4, "group_by": "tag", "k": 10},
    {"sort": "tag"},
    {"facets": ["tag", "tags", "n", "mime"], "max_distance": 0.5},
    {"facets": ["n"], "group_by": "tag"},
    {"group_size": 2},
    {"group_by": "a..b"},
    {"cursor": "x"},
)
CHANGE = {"attributes": {"n": 77}}


class Script:
    """Sends operations and records the answers, with ids numbered in order of appearance."""

    def __init__(self, client: httpx.Client) -> None:
        self.answers: list[Any] = []
        self.numbers: list[list[float]] = []
        self.client = client
        self._ids: dict[str, str] = {}

    def __call__(self, method: str, path: str, **request: Any) -> Any:
        response = self.client.request(method, path, **request)
        kind = response.headers.get("content-type", "")
        body = response.json() if "json" in kind and response.content else response.content
        shown, numbers = body, []
        if not isinstance(body, bytes):
            shown = json.dumps(_split(body, numbers))
            shown = UUID.sub(
                lambda match: self._ids.setdefault(match[0], f"id-{len(self._ids)}"), shown
            )
        headers = {
            name: response.headers.get(name)
            for name in ("etag", "content-range", "content-disposition", "location")
        }
        headers = {name: UUID.sub("id", value) for name, value in headers.items() if value}
        self.numbers.append(numbers)
        self.answers.append(
            (
                CURSOR.sub("", UUID.sub("id", f"{method} {path} {request}"[:300])),
                response.status_code,
                kind,
                headers,
                shown,
            )
        )
        return body

    def put(self, content: bytes, **fields: str) -> Any:
        return self("POST", "/masters", files={"file": ("Bild ä.jpg", content)}, data=fields)

    def search(self, content: bytes, **fields: str) -> Any:
        return self("POST", "/search", files={"sample": ("a.jpg", content)}, data=fields)


def _split(body: Any, numbers: list[float]) -> Any:
    """Remove varying members and move fractions to ``numbers``, which are compared approximately.

    The arithmetic of two stores agrees to about five decimal places.
    """
    if isinstance(body, dict):
        return {
            name: _split(value, numbers)
            for name, value in sorted(body.items())
            if name not in VARYING
        }
    if isinstance(body, list):
        return [_split(value, numbers) for value in body]
    if isinstance(body, float):
        numbers.append(body)
        return "a fraction"
    return body


def perform(script: Script) -> None:
    attributes: list[dict[str, Any]] = [
        {
            "n": number,
            "tag": "abc"[number % 3],
            "tags": ["ä", number],
            "camera": {"make": 'Lei"ca\\'},
        }
        for number in range(4)
    ]
    attributes += [{"n": number + 0.5, "tags": [1.0, "1"]} for number in range(4)]
    attributes += [{"n": str(number), "tag": True} for number in range(3)] + [{}]
    masters = [
        script.put(image, attributes=json.dumps(given))["results"][0]["master"]
        for image, given in zip(IMAGES, attributes, strict=True)
    ]
    script.put(IMAGES[0], attributes='{"ignored": true}')
    script.put(b"no image")
    script.put(CAT, collection="NO")
    script.put(CAT, attributes="[]")
    script(
        "POST",
        "/masters",
        files=[("file", ("a.jpg", CAT)), ("file", ("b.jpg", b"")), ("file", ("c.jpg", CAT))],
        data={"collection": "cats"},
    )
    near_duplicates(script)
    for path in (
        "/collections",
        "/masters",
        "/masters?limit=5",
        "/masters?collection=cats",
        "/masters?collection=none",
    ):
        script("GET", path)
    for condition in FILTERS:
        script("GET", "/masters", params={"filter": json.dumps(condition)})
        script.search(IMAGES[2], filter=json.dumps(condition), k="20")
    for image in (*IMAGES[:4], CAT):
        script.search(image, k="12")
        script.search(image, k="3", offset="2")
        script.search(image, max_distance="0.3")
        script.search(image, mirror="true", k="5")
        script.search(image, turns="true", k="12")
        script.search(image, turns="true", mirror="true", max_distance="0.4")
        script.search(image, box="10,10,100,90", k="5")
    script.search(CAT, collection="none")
    script.search(CAT, k="0")
    script("POST", "/search", data={"master_id": masters[3]["id"], "k": "4"})
    query_in_json(script, [master["id"] for master in masters])
    pair = {"sample_id": masters[0]["id"], "master_id": masters[1]["id"]}
    for fields in ({}, {"box": "10,10,100,90"}, {"overlay": "both"}, {"overlay": "none"}):
        script("POST", "/explain", data=pair | fields)
    script("POST", "/compare", data={"a_id": masters[0]["id"], "b_id": masters[1]["id"]})
    one = f"/masters/{masters[4]['id']}"
    script("GET", one)
    for headers in (
        {},
        {"Range": "bytes=5-9"},
        {"Range": "bytes=999999999-"},
        {"If-None-Match": f'"{masters[4]["sha256"]}"'},
    ):
        script("GET", f"{one}/content", headers=headers)
    script("GET", f"{one}/thumbnail?size=64")
    script(
        "PATCH",
        one,
        json={"attributes": {"n": 99, "neu": {"tief": [1, 2]}}, "name": "neuer Name.jpg"},
    )
    script.search(IMAGES[4], filter='{"neu.tief": {"$contains": 2}}')
    script.search(IMAGES[4], filter='{"n": 4.5}')
    script("PATCH", one, json={"attributes": {"a.b": 1}})
    script("DELETE", one)
    script("DELETE", one)
    script.search(IMAGES[4], k="20")
    change_by_filter(script)
    script.put(IMAGES[4])
    script("DELETE", "/masters", params={"collection": "cats", "confirm": "cat"})
    script("DELETE", "/masters", params={"collection": "cats", "confirm": "cats"})
    script.put(CAT, collection="cats")
    script.search(CAT, collection="cats")
    script("DELETE", "/collections/cats?confirm=cats")
    script("POST", "/collections", json={"name": "cats"})
    script("POST", "/collections", json={"name": "cats"})
    script("GET", "/collections")


def near_duplicates(script: Script) -> None:
    """Upload nearly identical images, which are reported or rejected."""
    smaller = encoded(photograph("chelsea").reduce(2))
    mirrored = encoded(ImageOps.mirror(photograph("chelsea")))
    script.put(CAT, collection="near", on_near_duplicate="reject")
    script.put(smaller, collection="near", on_near_duplicate="reject")
    script("GET", "/masters?collection=near")
    script.put(smaller, collection="near", on_near_duplicate="report")
    script.put(mirrored, collection="near", on_near_duplicate="report", near_duplicate_distance="2")
    script.put(IMAGES[0], collection="near", on_near_duplicate="reject")
    script.put(mirrored, collection="near", on_near_duplicate="reject")
    script.put(CAT, collection="near", near_duplicate_distance="0.1")
    script("DELETE", "/collections/near?confirm=near")


def change_by_filter(script: Script) -> None:
    """Change and delete masters that match a filter: counted, confirmed, refused."""
    by_filter: list[dict[str, Any]] = [
        {"filter": {"tag": {"$in": ["a", "b"]}}, "set": {"camera": {"lens": "é"}}, "unset": ["n"]},
        {"filter": {"tag": {"$in": ["a", "b"]}}, "set": {"camera": {"make": None}, "neu": [True]}},
        {"filter": {"tag": True, "name": {"$like": "%ä%"}, "width": {"$gt": 1}}, "set": {"n": 1}},
        {"filter": {"tag": {"$bad": 1}}, "set": {"n": 1}},
        {"filter": {"tag": "a"}, "unset": ["$x"]},
    ]
    for body in by_filter:
        matched = script("PATCH", "/masters", json=body | {"dry_run": True}).get("matched", 0)
        script("PATCH", "/masters", json=body | {"confirm": matched + 1})
        script("PATCH", "/masters", json=body | {"confirm": matched})
        script("GET", "/masters")
    condition = {"filter": json.dumps({"camera.lens": {"$exists": True}}), "collection": "default"}
    matched = script("DELETE", "/masters", params=condition | {"dry_run": "true"})["matched"]
    for confirm in ("", "default", matched + 1, matched, 0):
        script("DELETE", "/masters", params=condition | {"confirm": confirm})
        script("GET", "/masters")
    script.search(IMAGES[5], k="20")
    assert eventually(lambda: script.client.get("/collections").json()["pending"] == 0, 30)


def query_in_json(script: Script, ids: list[str]) -> None:
    """Search with several examples, alone and in a batch, and with vectors."""
    like: list[dict[str, Any]] = [{"master_id": id_} for id_ in ids]
    vectors = script("GET", f"/masters/{ids[5]}/vectors")["vectors"]
    script("POST", "/embed", json={"examples": like[:2]})
    queries = [
        {"examples": like[:3], "k": 20},
        {"examples": [like[0], like[7] | {"weight": -0.6}], "k": 20, "offset": 1},
        {"examples": [like[1] | {"weight": -1}], "k": 20, "include": ["box", "vector"]},
        {"examples": [{"vector": vectors[0]["vector"]}], "max_distance": 0.3},
        {"examples": [like[2], like[9]], "filter": {"n": {"$gte": 1}}, "mirror": True},
        {"examples": [like[3], like[8] | {"weight": -0.3}], "turns": True},
        *({"examples": [like[0]], "k": 4, **asked} for asked in ASKED),
        {"examples": [{"vector": [1.0]}]},
        {"examples": [like[0], like[0] | {"weight": -1}]},
        {"examples": []},
    ]
    for query in queries:
        script("POST", "/search", json=query)
    walk(script, {"examples": [like[4]], "k": 5})
    script("POST", "/search/batch", json={"queries": queries})


def walk(script: Script, query: dict[str, Any]) -> None:
    """Go through all pages of the hits."""
    cursor = script("POST", "/search", json=query)["next_cursor"]
    while cursor is not None:
        cursor = script("POST", "/search", json=query | {"cursor": cursor})["next_cursor"]


def build_words(script: Script, bundle: Path) -> str:
    """Build a version of the space `words` and make it active; return it."""
    with bundle.open("rb") as file:
        version: str = script("POST", "/admin/models", files={"weights": file})["version"]
    script("POST", f"/admin/models/{version}/start", params={"space": "words"})

    def is_built() -> bool:
        models = script.client.get("/admin/models").json()["models"]
        (its,) = (model for model in models if model["version"] == version)
        return bool(its["indexed"] == its["masters"] and its["loaded"])

    assert eventually(is_built, 60)
    activate(script, version)
    return version


def activate(script: Script, version: str) -> None:
    last = script.client.post(f"/admin/models/{version}/activate").text.splitlines()[-1]
    assert json.loads(last) == {"active": version}


def find_duplicates(script: Script) -> None:
    """Look for copies in a collection and between two, and decide about some of them."""
    for seed in range(3):
        original = part_of("rocket", seed)
        for side in (320, 260, 200)[: 3 - seed % 2]:
            copy = original.resize((side, side * 3 // 4))
            script.put(encoded(copy, quality=90), collection="copies")
    script.put(encoded(ImageOps.mirror(part_of("rocket", 0))), collection="more")
    path = "/collections/copies/duplicates"
    script("GET", path)
    for body in ({"max_distance": 2}, {"with": "more", "max_distance": 1.5}, {"with": "none"}):
        script("POST", path, json=body)
    for other in ({}, {"with": "more"}):
        assert eventually(lambda params=other: is_complete(script, path, params), 60)
        for sort in ("size", "certainty"):
            page = script("GET", path, params=other | {"sort": sort, "limit": "2"})
            after = {"cursor": page["next_cursor"] or ""}
            script("GET", path, params=other | {"sort": sort} | after)
        assert page["groups"], "nothing was compared"
    ids = [member["id"] for member in page["groups"][0]["members"]]
    for method in ("POST", "DELETE"):
        for body in ({"masters": ids, "decision": "keep"}, {"masters": ids}, {"masters": ids[:1]}):
            script(method, "/duplicates/decisions", json=body)
            script("GET", "/duplicates/decisions", params={"collection": "more"})
            script("GET", path, params={"with": "more"})
    script("DELETE", f"/masters/{ids[0]}")
    script("GET", path)
    for _ in range(2):
        script("DELETE", path)


def is_complete(script: Script, path: str, params: dict[str, str]) -> bool:
    answer = script.client.get(path, params=params).json()
    return bool(answer["scan"]["state"] == "complete")


def perform_in_words(script: Script, bundles: list[Path]) -> None:
    """Create a space whose vectors have another length, change its encoder, and remove it."""
    script("POST", "/search", data={"text": "dog", "space": "words"})
    first = build_words(script, bundles[0])
    search_words(script)
    script("PATCH", f"/masters/{script.put(IMAGES[0])['results'][0]['master']['id']}", json=CHANGE)
    script.search(IMAGES[0], space="words", filter='{"n": 77}')
    second = build_words(script, bundles[1])
    search_words(script)
    activate(script, first)
    search_words(script)
    script("POST", f"/admin/models/{first}/retire")
    for version in (second, first):
        script("POST", f"/admin/models/{version}/retire")
    assert eventually(lambda: len(script.client.get("/admin/models").json()["models"]) == 1, 30)
    script("POST", "/search", data={"text": "dog", "space": "words"})
    script("GET", "/spaces")


def search_words(script: Script) -> None:
    script("GET", "/spaces")
    for text in ("dog", "a red bicycle", "dog 42"):
        script("POST", "/search", data={"text": text, "k": "20"})
        script.search(IMAGES[2], space="words", text=text, text_weight="0.3")
    for image in IMAGES[:4]:
        script.search(image, space="words", k="12")
        script.search(image, space="words", k="3", offset="2", mirror="true")
        script.search(image, space="words", max_distance="0.1", filter='{"n": {"$gte": 1}}')
        script.search(image, k="3")
    masters = script("GET", "/masters?limit=3")["masters"]
    look = [{"master_id": master["id"], "space": "look"} for master in masters]
    for k in (1, 5, 20):
        for weight in (1, -0.4):
            examples = [*look, {"text": "dog", "weight": weight}]
            script("POST", "/search", json={"examples": examples, "k": k, "include": ["box"]})
    script("POST", "/embed", json={"examples": [{"text": "dog"}, look[0]]})


def test_every_answer_is_the_same_on_both(
    settings: Settings, embedder: Embedder, stack: Stack, tmp_path: Path
) -> None:
    bundles = [
        make_text_bundle(tmp_path / f"{dimension}.bundle", dimension=dimension)
        for dimension in (128, 256)
    ]

    def perform_all(script: Script) -> None:
        perform(script)
        find_duplicates(script)
        perform_in_words(script, bundles)

    with serving(settings, embedder) as embedded, stack.replica() as replica:
        stack.start("worker")
        scripts = [Script(client) for client in (embedded.client, replica)]
        with ThreadPoolExecutor() as pool:
            list(pool.map(perform_all, scripts))
    assert len(scripts[0].answers) > 150
    for ours, theirs in zip(scripts[0].answers, scripts[1].answers, strict=True):
        assert ours == theirs
    for ours, theirs in zip(scripts[0].numbers, scripts[1].numbers, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-4)
