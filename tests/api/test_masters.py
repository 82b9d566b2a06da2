"""Masters over HTTP: uploads, content, thumbnails, browsing, changes and deletions."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal
from urllib.parse import unquote
from uuid import UUID, uuid4

import pytest
from PIL import Image

from app.errors import Unavailable
from models.decoding.turns import Purpose
from storage.records import LOOK
from tests.support.images import CAT, encoded, part_of, photograph
from tests.support.service import Service, eventually


def nothing_left(service: Service) -> bool:
    """Report whether no visible master, object, vector or temporary file is left."""
    listed = service.client.get("/masters").json()
    stores = service.stores
    objects = service.app.state.settings.data_dir / "objects"
    files = [
        path
        for folder in ("masters", ".incoming")
        for path in (objects / folder).rglob("*")
        if path.is_file()
    ]
    return (
        listed["total"] == 0
        and files == []
        and sum(stores.vectors.count(v) for v in stores.vectors.versions()) == 0
    )


def test_a_new_image_is_201_and_described(service: Service) -> None:
    response = service.put(CAT, "my cat.jpg", attributes='{"colour": "ginger", "age": 3}')
    assert response.status_code == 201
    (result,) = response.json()["results"]
    assert (result["status"], result["created"], result["indexed"]) == (201, True, True)
    master = result["master"]
    assert UUID(master["id"]).version == 7
    assert master["sha256"] == hashlib.sha256(CAT).hexdigest()
    assert (master["size"], master["width"], master["height"], master["mime"]) == (
        len(CAT),
        451,
        300,
        "image/jpeg",
    )
    assert (master["name"], master["collection"]) == ("my cat.jpg", "default")
    assert master["attributes"] == {"colour": "ginger", "age": 3}
    assert master["links"]["content"] == f"/masters/{master['id']}/content"
    assert service.client.get(f"/masters/{master['id']}").json() == master


def test_the_same_bytes_again_are_200_with_the_same_id_and_nothing_changed(
    service: Service,
) -> None:
    first = service.put_master(CAT, name="first", attributes='{"a": 1}')
    again = service.put(CAT, name="second", attributes='{"a": 2}')
    assert again.status_code == 200
    (result,) = again.json()["results"]
    assert (result["created"], result["indexed"], result["master"]) == (False, True, first)


def test_each_collection_deduplicates_on_its_own(service: Service) -> None:
    first = service.put_master(CAT, collection="one")
    second = service.put_master(CAT, collection="two")
    assert first["id"] != second["id"]


def test_the_same_image_fifty_times_at_once_is_one_master(service: Service) -> None:
    with ThreadPoolExecutor(50) as pool:
        responses = list(pool.map(lambda _: service.put(CAT), range(50)))
    assert sorted(response.status_code for response in responses) == [200] * 49 + [201]
    assert len({response.json()["results"][0]["master"]["id"] for response in responses}) == 1
    assert service.client.get("/masters").json()["total"] == 1
    assert len(service.objects()) == 1
    assert service.stores.vectors.count(service.stores.registry.find_active(LOOK)) == 1


def test_concurrent_uploads_keep_their_own_vectors(service: Service) -> None:
    images = [encoded(part_of("coffee", seed)) for seed in range(40)]
    with ThreadPoolExecutor(16) as pool:
        ids = list(pool.map(lambda image: service.put_master(image)["id"], images))
    version = service.stores.registry.find_active(LOOK)
    for image, id_ in zip(images, ids, strict=True):
        vector = (
            service.stores.vectors.fetch_vectors(version, [UUID(id_)])[UUID(id_)].parts[0].vector
        )
        picture = service.app.state.services.vision.decode_image(io.BytesIO(image), Purpose.SEARCH)
        assert (
            float(vector @ service.app.state.services.vision.embed_image(picture, version)) > 0.9999
        )


def test_each_file_has_its_own_result_and_a_bad_one_affects_no_other(service: Service) -> None:
    files = [
        ("file", ("a.jpg", CAT)),
        ("file", ("b.jpg", CAT[:1000])),
        ("file", ("c.txt", b"hello")),
        ("file", ("a2.jpg", CAT)),
    ]
    response = service.client.post("/masters", files=files)
    assert response.status_code == 207
    results = response.json()["results"]
    assert [result["status"] for result in results] == [201, 422, 415, 200]
    assert [result["error"]["code"] for result in results[1:3]] == [
        "invalid-image",
        "unsupported-image-type",
    ]
    assert "master" not in results[1]
    assert service.client.get("/masters").json()["total"] == 1


def test_several_files_with_the_same_status_return_that_status(service: Service) -> None:
    files = [("file", (f"{seed}.jpg", encoded(part_of("rocket", seed)))) for seed in range(3)]
    response = service.client.post("/masters", files=files)
    assert response.status_code == 201
    assert len(response.json()["results"]) == 3


def png(width: int, height: int) -> bytes:
    return encoded(Image.new("1", (width, height)), "PNG")


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 422, "empty-file"),
        (CAT[: len(CAT) // 2], 422, "invalid-image"),
        (encoded(photograph("rocket"), "PNG")[:20000], 422, "invalid-image"),
        ((30000, 30000), 422, "too-many-pixels"),
        ((65535, 1), 422, "bad-aspect-ratio"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "unsupported-image-type"),
        (b"%PDF-1.7 ...", 415, "unsupported-image-type"),
        (encoded(photograph("rocket"), "JPEG2000"), 415, "unsupported-image-type"),
    ],
)
def test_bad_bytes_are_refused_and_leave_nothing_behind(
    service: Service, content: bytes | tuple[int, int], status: int, code: str
) -> None:
    file = png(*content) if isinstance(content, tuple) else content
    response = service.put(file, collection="new-one")
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert (body["status"], body["code"]) == (status, code)
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["detail"]
    assert nothing_left(service)
    assert [
        found["name"] for found in service.client.get("/collections").json()["collections"]
    ] == ["default"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"attributes": "{"}, "invalid-attributes"),
        ({"attributes": "[1]"}, "invalid-attributes"),
        ({"attributes": '{"a": NaN}'}, "invalid-attributes"),
        ({"attributes": '{"a.b": 1}'}, "invalid-attributes"),
        ({"attributes": '{"a": "\\ud800"}'}, "invalid-attributes"),
        ({"attributes": '{"a": ' + "9" * 5000 + "}"}, "invalid-attributes"),
        ({"attributes": "[" * 50_000}, "invalid-attributes"),
        ({"attributes": json.dumps({"a": "x" * 20_000})}, "invalid-attributes"),
        ({"collection": "Not A Name"}, "invalid-collection-name"),
        ({"collection": "../up"}, "invalid-collection-name"),
    ],
)
def test_bad_fields_are_refused_and_leave_nothing_behind(
    service: Service, fields: dict[str, str], code: str
) -> None:
    response = service.put(CAT, **fields)
    assert (response.status_code, response.json()["code"]) == (422, code)
    assert nothing_left(service)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("../../etc/passwd.jpg", "passwd.jpg"),
        ("..\\..\\boot.ini.jpg", "boot.ini.jpg"),
        ("a\u202egpj.exe", "agpj.exe"),
        ("émile 猫.jpg", "émile 猫.jpg"),
        ("e\u0301mile.jpg", "émile.jpg"),
        ("👩\u200d🚀.jpg", "👩\u200d🚀.jpg"),
        ("می\u200cخواهم.jpg", "می\u200cخواهم.jpg"),
        ("<img src=x onerror=alert(1)>.jpg", "<img src=x onerror=alert(1)>.jpg"),
    ],
)
def test_file_names_are_cleaned_and_never_paths(service: Service, sent: str, kept: str) -> None:
    master = service.put_master(CAT, sent)
    assert master["name"] == kept
    content = service.client.get(master["links"]["content"])
    assert content.status_code == 200
    assert "\n" not in content.headers["content-disposition"]
    disposition = content.headers["content-disposition"]
    assert disposition.startswith("inline; filename=")
    assert unquote(disposition.partition("filename*=UTF-8''")[2]) == kept
    assert content.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in content.headers["content-security-policy"]


def test_a_very_long_name_is_truncated(service: Service) -> None:
    assert len(service.put_master(CAT, name="猫" * 1700)["name"]) == 255


def test_the_decoded_type_wins_over_the_declared_one(service: Service) -> None:
    response = service.client.post("/masters", files={"file": ("page.html", CAT, "text/html")})
    master = response.json()["results"][0]["master"]
    assert (response.status_code, master["mime"]) == (201, "image/jpeg")
    assert service.client.get(master["links"]["content"]).headers["content-type"] == "image/jpeg"


def test_content_is_the_original_bytes(service: Service) -> None:
    master = service.put_master(CAT)
    response = service.client.get(master["links"]["content"])
    assert response.content == CAT
    assert response.headers["etag"] == f'"{master["sha256"]}"'
    unchanged = service.client.get(
        master["links"]["content"], headers={"If-None-Match": response.headers["etag"]}
    )
    assert (unchanged.status_code, unchanged.content) == (304, b"")


def test_head_describes_the_content_without_sending_it(service: Service) -> None:
    response = service.client.head(service.put_master(CAT)["links"]["content"])
    assert (response.status_code, response.headers["content-length"], response.content) == (
        200,
        str(len(CAT)),
        b"",
    )


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=0-99", 0, 100),
        ("bytes=100-", 100, None),
        ("bytes=-50", len(CAT) - 50, None),
        ("bytes=0-99999999", 0, None),
    ],
)
def test_a_range_request_returns_that_part(
    service: Service, header: str, start: int, stop: int | None
) -> None:
    master = service.put_master(CAT)
    response = service.client.get(master["links"]["content"], headers={"Range": header})
    assert (response.status_code, response.content) == (206, CAT[start:stop])
    assert response.headers["content-range"] == f"bytes {start}-{(stop or len(CAT)) - 1}/{len(CAT)}"


def test_a_range_beyond_the_end_is_416(service: Service) -> None:
    response = service.client.get(
        service.put_master(CAT)["links"]["content"], headers={"Range": f"bytes={len(CAT)}-"}
    )
    assert (response.status_code, response.headers["content-range"]) == (416, f"bytes */{len(CAT)}")
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.json()["code"], response.json()["status"]) == ("range-not-satisfiable", 416)


class _BusyUploads:
    """Refuses each upload with the next of ``waits`` in seconds; None lets the upload through."""

    def __init__(self, service: Service, waits: list[int | None]) -> None:
        self._upload = service.app.state.services.ingest.upload_image
        self._waits = iter(waits)

    def __call__(self, *given: Any, **named: Any) -> Any:
        wait = next(self._waits)
        if wait is None:
            return self._upload(*given, **named)
        raise Unavailable("upload-in-progress", "Retry later.", wait)


def test_a_single_upload_is_answered_with_the_wait_of_its_error(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest = service.app.state.services.ingest
    monkeypatch.setattr(ingest, "upload_image", _BusyUploads(service, [17]))
    response = service.put(CAT)
    assert (response.status_code, response.json()["code"]) == (503, "upload-in-progress")
    assert response.headers["retry-after"] == "17"


@pytest.mark.parametrize(
    ("waits", "status", "retry_after"), [([3, 60, 5], 503, "60"), ([None, 60, 5], 207, None)]
)
def test_several_uploads_that_all_failed_are_answered_with_the_longest_wait(
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    waits: list[int | None],
    status: int,
    retry_after: str | None,
) -> None:
    ingest = service.app.state.services.ingest
    monkeypatch.setattr(ingest, "upload_image", _BusyUploads(service, waits))
    files = [("file", (f"{number}.jpg", CAT)) for number in range(3)]
    response = service.client.post("/masters", files=files)
    assert response.status_code == status
    assert response.headers.get("retry-after") == retry_after
    assert [result["status"] for result in response.json()["results"]][1:] == [503, 503]


@pytest.mark.parametrize(
    ("method", "path", "known"),
    [
        ("GET", "/masters?colection=default", "collection"),
        ("GET", "/collections?limit=1", "takes none"),
        ("DELETE", "/masters?collection=default&confirm=default&filtr={}", "filter"),
        ("DELETE", "/collections/default?confirm=default&force=true", "confirm"),
    ],
)
def test_an_unknown_query_parameter_is_refused_and_changes_nothing(
    service: Service, method: str, path: str, known: str
) -> None:
    service.put_master(CAT)
    response = service.client.request(method, path)
    assert (response.status_code, response.json()["code"]) == (422, "unknown-parameter")
    assert known in response.json()["detail"]
    assert service.client.get("/masters").json()["total"] == 1


def test_a_range_of_another_version_returns_the_whole_content(service: Service) -> None:
    link = service.put_master(CAT)["links"]["content"]
    response = service.client.get(link, headers={"Range": "bytes=0-9", "If-Range": '"another"'})
    assert (response.status_code, response.content) == (200, CAT)


def test_a_thumbnail_fits_is_upright_and_has_no_metadata(service: Service) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a camera held upright: rotate by 90 degrees clockwise
    exif[0x010F] = "a camera"
    master = service.put_master(encoded(photograph("coffee"), exif=exif, comment=b"a secret"))
    assert (master["width"], master["height"]) == (400, 600)
    response = service.client.get(master["links"]["thumbnail"], params={"size": 120})
    thumbnail = Image.open(io.BytesIO(response.content))
    assert (thumbnail.format, thumbnail.size) == ("JPEG", (80, 120))
    assert not thumbnail.getexif()
    assert b"secret" not in response.content
    again = service.client.get(
        master["links"]["thumbnail"],
        params={"size": 120},
        headers={"If-None-Match": response.headers["etag"]},
    )
    assert again.status_code == 304


def test_browsing_lists_every_master_newest_first(service: Service) -> None:
    ids = [service.put_master(encoded(part_of("rocket", seed)))["id"] for seed in range(7)]
    seen: list[str] = []
    params: dict[str, Any] = {"limit": 3}
    while True:
        page = service.client.get("/masters", params=params).json()
        assert page["total"] == 7
        seen += [master["id"] for master in page["masters"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert len(seen) == 7
    assert set(seen) == set(ids)
    assert seen == sorted(seen, reverse=True)


def test_browsing_can_be_filtered(service: Service) -> None:
    for seed in range(4):
        service.put_master(encoded(part_of("rocket", seed)), attributes=json.dumps({"n": seed}))
    page = service.client.get("/masters", params={"filter": '{"n": {"$lt": 2}}'}).json()
    assert (page["total"], {master["attributes"]["n"] for master in page["masters"]}) == (2, {0, 1})


@pytest.mark.parametrize(
    "params",
    [
        {"limit": "0"},
        {"limit": "1001"},
        {"cursor": "x"},
        {"filter": "{"},
        {"filter": '{"$x": 1}'},
        {"sort": "-"},
        {"sort": "a..b"},
    ],
)
def test_bad_browsing_parameters_are_422(service: Service, params: dict[str, str]) -> None:
    response = service.client.get("/masters", params=params)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("spelling", ["NFC", "NFD"])
def test_the_folder_of_a_mac_is_found_in_any_spelling(
    service: Service, spelling: Literal["NFC", "NFD"]
) -> None:
    uploaded = json.dumps({"folder": unicodedata.normalize("NFD", "Frühling 한국")})
    master = service.put_master(CAT, attributes=uploaded)
    assert master["attributes"] == {"folder": "Frühling 한국"}
    filter_ = json.dumps({"folder": unicodedata.normalize(spelling, "Frühling 한국")})
    page = service.client.get("/masters", params={"filter": filter_}).json()
    hits = service.search(CAT, filter=filter_)
    assert page["total"] == len(hits) == 1


def test_two_spellings_of_one_key_are_refused(service: Service) -> None:
    response = service.put(CAT, attributes=json.dumps({"ö": 1, "o\u0308": 2}))
    assert (response.status_code, response.json()["code"]) == (422, "invalid-attributes")
    assert "the key 'ö' occurs twice" in response.json()["detail"]


def test_a_change_replaces_attributes_and_is_searchable(service: Service) -> None:
    master = service.put_master(CAT, attributes='{"a": 1, "b": 2}')
    response = service.client.patch(
        f"/masters/{master['id']}", json={"attributes": {"a": 5}, "name": "new\u202ename"}
    )
    assert response.status_code == 200
    assert (response.json()["attributes"], response.json()["name"]) == ({"a": 5}, "newname")
    assert [hit["master"]["id"] for hit in service.search(CAT, filter='{"a": 5}')] == [master["id"]]
    assert service.search(CAT, filter='{"b": 2}') == []
    record = service.stores.vectors.fetch_vectors(
        service.stores.registry.find_active(LOOK), [UUID(master["id"])]
    )[UUID(master["id"])]
    stored = service.stores.metadata.find_master(UUID(master["id"]))
    assert (record.attributes, record.revision) == (stored.filterable, 2)


def test_a_change_of_what_somebody_else_has_changed_is_412_and_changes_nothing(
    service: Service,
) -> None:
    path = f"/masters/{service.put_master(CAT)['id']}"
    seen = service.client.get(path)
    assert seen.headers["etag"] == f'"{seen.json()["revision"]}"'
    mine = service.client.patch(
        path, json={"name": "mine"}, headers={"If-Match": seen.headers["etag"]}
    )
    assert mine.status_code == 200
    assert mine.headers["etag"] == service.client.get(path).headers["etag"] != seen.headers["etag"]
    for method, body in (("PATCH", {"name": "yours"}), ("DELETE", None)):
        late = service.client.request(
            method, path, json=body, headers={"If-Match": seen.headers["etag"]}
        )
        assert (late.status_code, late.json()["code"]) == (412, "precondition-failed")
        assert f"revision {mine.json()['revision']}" in late.json()["detail"]
    assert service.client.get(path).json() == mine.json()
    newest = {"If-Match": mine.headers["etag"]}
    assert service.client.delete(path, headers=newest).status_code == 204
    assert service.client.get(path).status_code == 404


@pytest.mark.parametrize(
    ("if_match", "status"),
    [
        ("*", 200),
        ('"1"', 200),
        ('"9", "1"', 200),
        ('"9"', 412),
        ('W/"1"', 412),
        ('"abc"', 412),
        ("1", 422),
        ("", 422),
    ],
)
def test_if_match_compares_as_rfc_9110_says(service: Service, if_match: str, status: int) -> None:
    path = f"/masters/{service.put_master(CAT)['id']}"
    changed = service.client.patch(path, json={"name": "x"}, headers={"If-Match": if_match})
    assert changed.status_code == status
    assert service.client.get(path).json()["revision"] == (2 if status == 200 else 1)


def read_names(service: Service, **params: Any) -> list[str]:
    """Return the names of all masters, read in pages of two."""
    names: list[str] = []
    while True:
        page = service.client.get("/masters", params={"limit": 2} | params).json()
        names += [master["name"] for master in page["masters"]]
        if page["next_cursor"] is None:
            return names
        params["cursor"] = page["next_cursor"]


def test_masters_are_sorted_by_name_time_or_attribute(service: Service) -> None:
    for seed, (name, year) in enumerate([("b", 3), ("c", None), ("A", 1), ("é", 2), ("a", 2.5)]):
        attributes = {} if year is None else {"year": year}
        content = encoded(part_of("rocket", seed))
        service.put_master(content, name=name, attributes=json.dumps(attributes))
    assert (
        read_names(service) == read_names(service, sort="-created_at") == ["a", "é", "A", "c", "b"]
    )
    assert read_names(service, sort="created_at") == ["b", "c", "A", "é", "a"]
    assert read_names(service, sort="name") == ["A", "a", "b", "c", "é"]
    assert read_names(service, sort="-name") == ["é", "c", "b", "a", "A"]
    assert read_names(service, sort="year") == ["A", "é", "a", "b", "c"]
    assert read_names(service, sort="-year") == ["b", "a", "é", "A", "c"]
    assert read_names(service, sort="year", filter='{"name": {"$like": "_"}}') == [
        "A",
        "é",
        "a",
        "b",
        "c",
    ]
    assert read_names(service, sort="-capture.time", filter='{"name": {"$gt": "a"}}')[0] == "é"


def test_a_cursor_is_for_one_order(service: Service) -> None:
    for seed in range(3):
        service.put_master(encoded(part_of("rocket", seed)), name=f"{seed}")

    def page(**params: str) -> Any:
        return service.client.get("/masters", params={"limit": "1"} | params)

    orders = ["-created_at", "created_at", "name", "-name", "capture.time", "colour"]
    cursors = {sort: page(sort=sort).json()["next_cursor"] for sort in orders}
    for sort in orders:
        for other, cursor in cursors.items():
            response = page(sort=sort, cursor=cursor)
            if sort == other:
                assert response.status_code == 200
            else:
                assert (response.status_code, response.json()["code"]) == (422, "invalid-cursor")


def test_a_cursor_that_somebody_made_up_is_refused(service: Service) -> None:
    id_ = "0" * 32
    forms: list[tuple[str, Any]] = [
        ("name", ["name", None, id_]),
        ("name", ["name", 1, id_]),
        ("name", ["name", "x" * 256, id_]),
        ("name", ["name", "\ud800", id_]),
        ("name", ["name", "x", "y"]),
        ("name", ["name", "x", 1]),
        ("name", ["name", "x"]),
        ("name", {"name": "x"}),
        ("created_at", ["created_at", 1, id_]),
        ("capture.time", ["capture.time", "x", id_]),
        ("capture.time", ["capture.time", True, id_]),
        ("capture.time", ["capture.time", 2**63, id_]),
        ("a", ["a", float("nan"), id_]),
        ("a", ["a", 10**400, id_]),
        ("a", ["a", ["x"], id_]),
    ]
    made = [(sort, base64.urlsafe_b64encode(json.dumps(form).encode())) for sort, form in forms]
    for sort, cursor in [*made, ("name", b"!"), ("name", b"A"), ("name", b"/w=="), ("a", b"W1tb")]:
        params = {"sort": sort, "cursor": cursor.decode()}
        response = service.client.get("/masters", params=params)
        assert (response.status_code, response.json()["code"]) == (422, "invalid-cursor"), params


def test_several_if_match_lines_are_one_list(service: Service) -> None:
    path = f"/masters/{service.put_master(CAT)['id']}"
    lines = [("If-Match", '"9"'), ("If-Match", '"1"')]
    assert service.client.patch(path, json={"name": "x"}, headers=lines).status_code == 200


def test_a_missing_master_is_404_whatever_if_match_is(service: Service) -> None:
    for headers in ({"If-Match": "*"}, {"If-Match": '"1"'}):
        missing = service.client.patch(f"/masters/{uuid4()}", json={"name": "x"}, headers=headers)
        assert missing.status_code == 404
        assert service.client.delete(f"/masters/{uuid4()}", headers=headers).status_code == 404


def test_an_upload_of_one_file_has_the_entity_tag_of_its_master(service: Service) -> None:
    for status in (201, 200):
        uploaded = service.client.post("/masters", files={"file": ("cat.jpg", CAT)})
        assert uploaded.status_code == status
        path = f"/masters/{uploaded.json()['results'][0]['master']['id']}"
        assert uploaded.headers["etag"] == service.client.get(path).headers["etag"]
    two = [("file", ("cat.jpg", CAT)), ("file", ("dog.jpg", CAT))]
    assert "etag" not in service.client.post("/masters", files=two).headers


def test_unchanged_metadata_is_304(service: Service) -> None:
    path = f"/masters/{service.put_master(CAT)['id']}"
    etag = service.client.get(path).headers["etag"]
    again = service.client.get(path, headers={"If-None-Match": f"W/{etag}"})
    assert (again.status_code, again.headers["etag"], again.content) == (304, etag, b"")
    service.client.patch(path, json={"name": "x"})
    assert service.client.get(path, headers={"If-None-Match": etag}).status_code == 200


def test_one_of_many_concurrent_changes_of_the_same_revision_succeeds(service: Service) -> None:
    path = f"/masters/{service.put_master(CAT)['id']}"

    def change(number: int) -> int:
        body = {"attributes": {"n": number}}
        return service.client.patch(path, json=body, headers={"If-Match": '"1"'}).status_code

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(change, range(8))) == [200] + [412] * 7


@pytest.mark.parametrize(
    "body",
    [
        {"attributes": {"a.b": 1}},
        {"attributes": []},
        {"name": "\u202e"},
        {"name": "1/2"},
        {"other": 1},
    ],
)
def test_a_bad_change_is_422_and_changes_nothing(service: Service, body: dict[str, Any]) -> None:
    master = service.put_master(CAT, attributes='{"a": 1}')
    assert service.client.patch(f"/masters/{master['id']}", json=body).status_code == 422
    assert service.client.get(f"/masters/{master['id']}").json() == master


@pytest.mark.parametrize("text", ["\\ud800", "a\\udc00b", "\\u0000"])
def test_text_that_no_store_keeps_is_refused_everywhere(service: Service, text: str) -> None:
    master = service.put_master(CAT)
    path, member = f"/masters/{master['id']}", f'{{"a": "{text}"}}'
    as_json = {"Content-Type": "application/json"}
    refused = [
        service.client.get("/masters", params={"filter": member}),
        service.client.post("/search", files={"file": CAT}, data={"filter": member}),
        service.client.post("/masters", files={"file": CAT}, data={"attributes": member}),
        service.client.patch(path, content=f'{{"attributes": {member}}}', headers=as_json),
        service.client.patch(path, content=f'{{"name": "{text}"}}', headers=as_json),
        service.client.post("/collections", content=f'{{"name": "{text}"}}', headers=as_json),
    ]
    assert [response.status_code for response in refused] == [422] * 6
    assert service.client.get(path).json() == master


def test_a_deleted_master_is_gone_at_once_and_its_data_soon_after(service: Service) -> None:
    master = service.put_master(CAT)
    path = f"/masters/{master['id']}"
    assert service.client.delete(path).status_code == 204
    for gone in (
        service.client.get(path),
        service.client.get(f"{path}/content"),
        service.client.delete(path),
    ):
        assert (gone.status_code, gone.json()["code"]) == (404, "master-not-found")
    assert service.search(CAT) == []
    assert eventually(lambda: nothing_left(service))
    assert service.put_master(CAT)["id"] != master["id"]


@pytest.mark.parametrize("path", ["", "/content", "/thumbnail"])
def test_an_unknown_master_is_404_and_a_bad_id_422(service: Service, path: str) -> None:
    assert service.client.get(f"/masters/{uuid4()}{path}").status_code == 404
    assert service.client.get(f"/masters/7{path}").status_code == 422


def test_concurrent_changes_are_searchable_when_acknowledged(service: Service) -> None:
    path = f"/masters/{service.put_master(CAT)['id']}"
    for round_ in range(10):
        with ThreadPoolExecutor(4) as pool:
            list(
                pool.map(
                    lambda n: service.client.patch(path, json={"attributes": {"n": n}}),
                    range(round_, round_ + 4),
                )
            )
        current = service.client.get(path).json()["attributes"]
        assert len(service.search(CAT, filter=json.dumps(current))) == 1
