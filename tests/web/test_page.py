"""The page, used as a person uses it."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit
from uuid import uuid4

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image, ImageFilter, ImageOps
from playwright.sync_api import Page, Route, expect
from sqlalchemy import make_url

from app.settings import Settings
from models.embedder import Embedder
from storage.errors import StoreUnavailable
from tests.support import fleet
from tests.support.images import PHOTOGRAPHS, encoded, part_of
from tests.support.service import Service, eventually, serving

HOSTILE = [
    "<img src=x onerror=alert(1)>.jpg",
    '"><script>alert(1)</script>.jpg',
    "\u202egpj.exe",
    "x" * 250 + ".jpg",
]
# One test waits for a deletion to be sent; the others set the clock of the page forward.
UNDO_PERIOD = 6_000  # milliseconds


def names(page: Page, grid: str = "#masters") -> list[str]:
    return page.locator(f"{grid} .name").all_inner_texts()


def shows(page: Page, count: str) -> None:
    expect(page.locator("#count")).to_have_text(count)


def tick(page: Page, value: str) -> None:
    page.locator("#filters label").filter(has_text=value).check()


def asked(page: Page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


# what is served


def test_the_page_is_small_and_strict(service: Service) -> None:
    answer = service.client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|\sstyle=", answer.text)
    sources = set(re.findall(r'(?:src|href)="(/web/[^"]+)"', answer.text))
    folder = Path(__file__).parents[2] / "app" / "web"
    files = {path.name for path in folder.iterdir()} - {"index.html", "types.d.ts"}
    assert {
        source.rpartition("/")[2] for source in sources
    } == files  # everything is linked, so it loads at once
    size = len(answer.content)
    for source in sources:
        asset = service.client.get(source)
        assert (asset.status_code, asset.headers["x-content-type-options"]) == (200, "nosniff")
        assert (
            "immutable" in asset.headers["cache-control"]
        )  # fetched once: another version has another URL
        again = service.client.get(source, headers={"If-None-Match": asset.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        size += len(asset.content)
    assert size < 250_000
    assert answer.headers["cache-control"] == "no-cache"
    other = service.client.get(
        "/web/before/main.js"
    )  # a page of the previous version, during an upgrade
    assert (other.status_code, other.headers["cache-control"]) == (200, "no-cache")
    for path in (
        "/web/before/index.html",
        "/web/before/none.js",
        "/web/main.js",
        "/web/../main.py",
    ):
        assert service.client.get(path).status_code == 404, path


@pytest.mark.servers
@pytest.mark.parametrize("key", ["", "the-admin-key"])
def test_originals_are_loaded_from_the_public_address(
    tmp_path: Path, embedder: Embedder, opened: Callable[..., Page], key: str
) -> None:
    """The browser loads originals from a real S3: by the link or, with an API key, by fetch."""
    server = make_url(fleet.url_of("seaweedfs").replace("s3://", "mysql://"))
    login, address = f"{server.username}:{server.password}", f"{server.host}:{server.port}"
    settings = Settings(
        data_dir=tmp_path / "beside",
        objects_url=f"s3://{login}@{address}/test-{uuid4().hex}?secure=false",
        public_objects_url=f"http://{address}",
        api_keys=f"admin:{key}" if key else "",
        _env_file=None,
    )
    with serving(
        settings, embedder, {"Authorization": f"Bearer {key}"} if key else None
    ) as service:
        service.put_master(encoded(part_of("coffee", 1)), "cup.jpg")
        page = opened(str(service.client.base_url))
        if key:
            page.get_by_label("API key", exact=True).fill(key)
            page.keyboard.press("Enter")
        page.get_by_role("link", name="cup.jpg").click()
        with page.context.expect_page() as opening:
            page.get_by_role("button", name="Open original").click()
        original = opening.value
        original.wait_for_load_state()
        assert original.url.startswith("blob:" if key else settings.public_objects_url)
        assert original.evaluate("() => document.images[0].naturalWidth") == 320
        original.close()
        page.close()


# search


@pytest.mark.real_network
def test_a_sample_finds_similar_masters(shelf: Service, page: Page, sample: Path) -> None:
    shows(page, "12 pictures")
    page.set_input_files("#choose", sample)
    shows(page, "12 results")
    assert {name.split()[0] for name in names(page, "#hits")[:4]} == {"coffee"}
    expect(page.locator("#sample-image")).to_be_visible()
    scores = [float(text) for text in page.locator("#hits .score b").all_inner_texts()]
    assert scores == sorted(scores, reverse=True)
    expect(page.locator("#hits img[data-state=shown]").first).to_be_visible()
    slider = page.get_by_role("slider", name="Distance")
    slider.press("Home")  # narrows without another search
    shows(page, "1 of 12 results")  # the nearest stays
    expect(page.locator("#more")).to_be_hidden()
    slider.press("End")
    shows(page, "12 results")
    slider.press("Home")
    page.get_by_role("button", name=re.compile("Find similar to")).first.press("Enter")
    shows(page, "12 results")  # a new search starts with all results
    page.go_back()
    page.get_by_role("button", name="End search").click()
    shows(page, "12 pictures")
    page.go_back()  # the sample of this tab comes back
    shows(page, "12 results")


def test_more_hits_are_loaded_when_asked_for(shelf: Service, page: Page, sample: Path) -> None:
    for number in range(4, 8):
        shelf.put_master(encoded(part_of("coffee", number)), f"coffee {number}.jpg")
    page.set_input_files("#choose", sample)
    shows(page, "16 results")
    page.select_option("#k", "12")
    shows(page, "12 results")
    page.route("**/search", lambda route: route.fulfill(status=503, json={"detail": "Not now."}))
    page.get_by_role("button", name="Load more results").click()
    expect(page.get_by_role("alert").filter(has_text="Not now.")).to_be_visible()
    shows(page, "12 results")  # the earlier results stay
    page.unroute("**/search")
    page.get_by_role("button", name="Load more results").click()
    shows(page, "16 results")
    expect(page.locator("#more")).to_be_hidden()
    assert len(set(names(page, "#hits"))) == 16


def test_a_box_searches_with_a_part_of_the_sample(shelf: Service, page: Page, sample: Path) -> None:
    page.set_input_files("#choose", sample)
    shows(page, "12 results")
    before = page.locator("#hits .score b").all_inner_texts()
    expect(page.locator("#sample-image")).to_have_attribute("data-state", "shown")
    area = page.locator("#stage").bounding_box()
    assert area
    page.mouse.move(area["x"] + 0.25 * area["width"], area["y"] + 0.5 * area["height"])
    page.mouse.down()
    page.mouse.move(area["x"] + 0.75 * area["width"], area["y"] + area["height"] - 1, steps=4)
    page.mouse.up()
    expect(page).to_have_url(re.compile("box="))
    x, y, width, height = (int(part) for part in asked(page)["box"].split(","))
    assert (x, y) == (pytest.approx(80, abs=2), pytest.approx(120, abs=2))  # of 320 x 240
    assert (width, height) == (pytest.approx(160, abs=3), pytest.approx(120, abs=3))
    assert eventually(lambda: page.locator("#hits .score b").all_inner_texts() != before)
    page.locator("#box").focus()  # and by the keyboard
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowLeft")
    expect(page).to_have_url(re.compile(f"box={x - 6}|box={x - 7}"))
    page.keyboard.press("Delete")
    expect(page.locator("#box")).to_be_hidden()
    assert eventually(lambda: page.locator("#hits .score b").all_inner_texts() == before)
    page.get_by_role("button", name="Select area").click()
    expect(page.locator("#box")).to_be_focused()


def test_a_box_on_a_wide_sample_is_where_it_was_drawn(
    shelf: Service, page: Page, tmp_path: Path
) -> None:
    part_of("coffee", 0).resize((1200, 100)).save(tmp_path / "wide.png")
    page.set_input_files("#choose", tmp_path / "wide.png")
    shows(page, "12 results")
    expect(page.locator("#sample-image")).to_have_attribute("data-state", "shown")
    picture = page.locator("#sample-image").bounding_box()
    assert picture
    page.mouse.move(picture["x"] + 12, picture["y"] + 1)  # beside the round corner
    page.mouse.down()
    page.mouse.move(
        picture["x"] + picture["width"] / 2, picture["y"] + picture["height"] - 1, steps=4
    )
    page.mouse.up()
    expect(page).to_have_url(re.compile("box="))
    x, y, width, height = (int(part) for part in asked(page)["box"].split(","))
    assert (x, y) == (pytest.approx(50, abs=10), pytest.approx(0, abs=8))
    assert (width, height) == (pytest.approx(550, abs=16), pytest.approx(95, abs=8))


def test_a_finger_draws_a_box(shelf: Service, opened: Callable[..., Page], sample: Path) -> None:
    page = opened(has_touch=True, is_mobile=True, viewport={"width": 390, "height": 844})
    page.set_input_files("#choose", sample)
    shows(page, "12 results")
    area = page.locator("#stage").bounding_box()
    assert area
    touch = page.context.new_cdp_session(page)
    for kind, part in (("touchStart", 0.2), ("touchMove", 0.5), ("touchMove", 0.8)):
        point = {"x": area["x"] + part * area["width"], "y": area["y"] + part * area["height"]}
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    expect(page).to_have_url(re.compile("box="))


def test_mirrored_samples_are_found_with_the_switch(
    shelf: Service, page: Page, tmp_path: Path
) -> None:
    mirrored = tmp_path / "mirrored.png"
    ImageOps.mirror(part_of("rocket", 1)).save(mirrored)
    page.set_input_files("#choose", mirrored)
    shows(page, "12 results")
    before = float(page.locator("#hits .score b").first.inner_text())
    page.get_by_role("switch", name="Include mirrored").check()
    assert eventually(lambda: float(page.locator("#hits .score b").first.inner_text()) > before)
    assert names(page, "#hits")[0] == "rocket 1.jpg"


def test_turned_samples_are_found_with_the_switch(
    shelf: Service, page: Page, tmp_path: Path
) -> None:
    turned = tmp_path / "turned.png"
    part_of("rocket", 1).transpose(Image.Transpose.ROTATE_90).save(turned)
    page.set_input_files("#choose", turned)
    shows(page, "12 results")
    before = float(page.locator("#hits .score b").first.inner_text())
    page.get_by_role("switch", name="Include rotated").check()
    expect(page).to_have_url(re.compile("turns=1"))
    assert eventually(lambda: float(page.locator("#hits .score b").first.inner_text()) > before)
    assert names(page, "#hits")[0] == "rocket 1.jpg"


def test_a_pasted_or_dropped_picture_is_searched_with(
    shelf: Service, page: Page, sample: Path
) -> None:
    shows(page, "12 pictures")
    transfer = """async (bytes) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array(bytes)], "pasted.jpg", {type: "image/jpeg"}));
        return transfer; }"""
    pasted = page.evaluate_handle(transfer, list(sample.read_bytes()))
    page.evaluate(
        """(clipboardData) => document.body.dispatchEvent(
            new ClipboardEvent('paste', {clipboardData, bubbles: true}))""",
        pasted,
    )
    shows(page, "12 results")
    page.get_by_role("button", name="End search").click()
    shows(page, "12 pictures")
    carried = page.evaluate_handle(transfer, list(sample.read_bytes()))
    page.dispatch_event("body", "dragenter", {"dataTransfer": carried})
    expect(page.locator("#zone-sample")).to_be_visible()
    page.dispatch_event("#zone-sample", "drop", {"dataTransfer": carried})
    shows(page, "12 results")
    expect(page.locator("#zones")).to_be_hidden()
    carried = page.evaluate_handle(transfer, list(sample.read_bytes()))
    page.dispatch_event("body", "dragenter", {"dataTransfer": carried})
    page.dispatch_event("#zone-upload", "drop", {"dataTransfer": carried})
    expect(page.locator("#upload-status")).to_contain_text("1 picture uploaded")


def test_a_master_is_searched_with_and_results_are_compared(
    shelf: Service, page: Page, opened: Callable[..., Page]
) -> None:
    page.locator("#masters .card").nth(2).hover()
    page.get_by_role("button", name="Find similar to rocket 1.jpg").click()
    shows(page, "12 results")
    expect(page.locator("#hits .score").first).to_contain_text("same file")
    page.locator("#hits .card").nth(1).hover()
    page.get_by_role("button", name=re.compile("Compare with")).nth(1).click()
    expect(page.locator("#compare-title")).to_have_text("Result 2 of 12")
    expect(page.locator("#compare-hit")).to_have_attribute("data-state", "shown")
    distance = float(page.locator("#compare-facts dd").first.inner_text())
    assert 0 < distance < 1
    page.keyboard.press("ArrowRight")
    expect(page.locator("#compare-title")).to_have_text("Result 3 of 12")
    assert float(page.locator("#compare-facts dd").first.inner_text()) >= distance
    page.keyboard.press("Escape")
    other = opened(
        page.url.removeprefix(str(shelf.client.base_url))
    )  # the link shows the same in another browser
    shows(other, "12 results")
    assert names(other, "#hits") == names(page, "#hits")


def test_the_comparison_shows_what_is_alike(shelf: Service, page: Page, sample: Path) -> None:
    page.set_input_files("#choose", sample)
    shows(page, "12 results")
    page.locator("#hits .card").first.hover()
    page.get_by_role("button", name=re.compile("Compare with")).first.click()
    heat = page.locator("#compare .heat")
    expect(heat.first).to_be_hidden()
    page.get_by_role("switch", name="Show what is alike").check()
    for canvas in (heat.first, heat.last):
        expect(canvas).to_be_visible()
        assert canvas.evaluate(
            "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)"
            ".data.some((value, i) => i % 4 === 3 && value > 100)"
        )
    drawn = heat.last.evaluate("canvas => canvas.toDataURL()")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#compare-title")).to_have_text("Result 2 of 12")
    expect(heat.last).to_be_visible()
    assert eventually(lambda: heat.last.evaluate("canvas => canvas.toDataURL()") != drawn)
    page.get_by_role("switch", name="Show what is alike").uncheck()
    expect(heat.last).to_be_hidden()


def test_a_comparison_that_cannot_be_explained_says_why(
    shelf: Service, page: Page, sample: Path
) -> None:
    page.set_input_files("#choose", sample)
    shows(page, "12 results")
    page.locator("#hits .card").nth(1).hover()
    page.get_by_role("button", name=re.compile("Compare with")).nth(1).click()
    expect(page.locator("#compare-title")).to_have_text("Result 2 of 12")
    master = page.locator("#compare-name").inner_text()
    gone = next(
        each["id"]
        for each in shelf.client.get("/masters").json()["masters"]
        if each["name"] == master
    )
    shelf.client.delete(f"/masters/{gone}")
    page.get_by_role("switch", name="Show what is alike").click()
    expect(page.get_by_role("alert").last).to_be_visible()
    expect(page.get_by_role("switch", name="Show what is alike")).not_to_be_checked()


def test_a_file_that_is_not_a_picture_is_rejected_as_a_sample(
    shelf: Service, page: Page, tmp_path: Path
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    page.set_input_files("#choose", tmp_path / "broken.jpg")
    expect(page.locator("#nothing")).to_contain_text("image")
    (tmp_path / "letter.txt").write_text("no picture")
    page.set_input_files("#choose", tmp_path / "letter.txt")
    expect(page.get_by_role("alert").last).to_contain_text("is not a supported picture")


# collections and filters


def test_collections_are_created_switched_and_deleted(shelf: Service, page: Page) -> None:
    shows(page, "12 pictures")
    page.get_by_role("button", name="Collection").click()
    page.get_by_label("New collection").fill("Not Good")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").last).to_contain_text("The name of a collection has")
    page.get_by_label("New collection").fill("shop")
    page.keyboard.press("Enter")
    expect(page.locator("#nothing")).to_contain_text("No pictures here yet")
    assert asked(page) == {"collection": "shop"}
    page.get_by_role("button", name="Collection").click()
    page.get_by_role("button", name="Delete the collection shop").click()
    really = page.get_by_role("button", name="Delete permanently")
    expect(really).to_be_disabled()
    page.get_by_label("Type shop to delete it").fill("sho")
    expect(really).to_be_disabled()
    page.get_by_label("Type shop to delete it").fill("shop")
    really.click()
    shows(page, "12 pictures")
    assert [found["name"] for found in shelf.client.get("/collections").json()["collections"]] == [
        "default"
    ]
    page.get_by_role("button", name="Collection").click()
    page.get_by_role("button", name="Delete the collection default").click()
    page.get_by_label("Type default to delete it").fill("default")
    really.click()  # the collection on the screen
    shows(page, "0 pictures")
    expect(page.locator("#masters .cell")).to_have_count(0)


def test_the_filter_form_offers_the_attributes_of_the_collection(
    shelf: Service, page: Page, sample: Path, opened: Callable[..., Page]
) -> None:
    for number in range(20):
        shelf.put_master(
            encoded(part_of("retina", number)),
            f"retina {number}.jpg",
            attributes=json.dumps({"price": number, "tags": ["a", f"t{number % 2}"]}),
        )
    page.reload()
    page.get_by_role("button", name="Filter").click()
    tick(page, "coffee")
    shows(page, "4 pictures")
    tick(page, "rocket")
    shows(page, "8 pictures")
    assert json.loads(asked(page)["filter"]) == {"subject": {"$in": ["coffee", "rocket"]}}
    page.set_input_files("#choose", sample)  # the filter applies to searches too
    shows(page, "8 results")
    page.get_by_role("button", name="Remove the filter subject: rocket").click()
    shows(page, "4 results")
    assert {name.split()[0] for name in names(page, "#hits")} == {"coffee"}
    page.get_by_role("button", name="End search").click()
    page.get_by_role("button", name="Remove the filter subject: coffee").click()
    shows(page, "32 pictures")
    page.get_by_label("price: from").fill("15")
    shows(page, "5 pictures")
    page.get_by_label("price: to").fill("16")
    shows(page, "2 pictures")
    tick(page, "t0")
    shows(page, "1 picture")
    other = opened(page.url.removeprefix(str(shelf.client.base_url)))
    shows(other, "1 picture")
    expect(other.locator(".chip")).to_have_count(3)
    page.get_by_role("button", name="Clear filters").click()
    shows(page, "32 pictures")


def test_values_alone_and_in_lists_are_found(shelf: Service, page: Page) -> None:
    for number in range(30):
        tags = f"tag{number}" if number % 3 == 0 else [f"tag{number}", "common"]
        shelf.put_master(
            encoded(part_of("retina", number)),
            f"retina {number}.jpg",
            attributes=json.dumps({"tags": tags}),
        )
    page.goto("/")
    page.get_by_role("button", name="Filter", exact=True).click()
    for value, found in (("tag27", "1 picture"), ("tag28", "2 pictures")):
        page.get_by_label("Another value of tags").fill(value)
        page.keyboard.press("Enter")
        shows(page, found)
    page.get_by_role("button", name="Clear filters").click()
    shows(page, "42 pictures")


def test_a_filter_that_the_form_cannot_show_still_applies(
    shelf: Service, opened: Callable[..., Page]
) -> None:
    page = opened("/?filter=" + quote('{"$not": {"subject": "coffee"}}'))
    shows(page, "8 pictures")
    page.get_by_role("button", name=re.compile("Remove the filter")).click()
    shows(page, "12 pictures")


# upload


def test_every_uploaded_file_is_accounted_for(shelf: Service, page: Page, tmp_path: Path) -> None:
    files = []
    for number in range(6):
        files.append(tmp_path / f"new {number}.jpg")
        files[-1].write_bytes(encoded(part_of("astronaut", number)))
    (tmp_path / "twin.jpg").write_bytes(encoded(part_of("coffee", 0)))
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    (tmp_path / "letter.txt").write_text("dear")
    page.get_by_role("button", name="Add pictures").click()
    page.get_by_text("Attributes for all pictures").click()
    page.get_by_role("button", name="Add attribute").click()
    page.get_by_label("Key", exact=True).fill("crew")
    page.get_by_label("Value of the new attribute").fill("7")
    page.set_input_files(
        "#files", [*files, tmp_path / "twin.jpg", tmp_path / "broken.jpg", tmp_path / "letter.txt"]
    )
    expect(page.locator("#upload-status")).to_have_text(
        "6 pictures uploaded, 1 already in the collection, 1 failed, "
        "1 file skipped (not a picture)."
    )
    expect(page.locator("#upload-failed li")).to_have_text(
        re.compile("broken.jpgThe file is not an image of an accepted type")
    )
    page.locator("#upload-duplicates summary").click()
    page.get_by_role("link", name="as coffee 0.jpg").click()
    expect(page.locator("#detail-title")).to_have_text("coffee 0.jpg")
    page.keyboard.press("Escape")
    shows(page, "18 pictures")
    found = shelf.client.get("/masters", params={"filter": '{"crew": 7}'}).json()
    assert sorted(master["name"] for master in found["masters"]) == [path.name for path in files]


def test_the_folder_name_becomes_an_attribute(service: Service, page: Page, tmp_path: Path) -> None:
    for folder in ("cats", "deep/dogs"):
        (tmp_path / "all" / folder).mkdir(parents=True)
        for number in range(2):
            (tmp_path / "all" / folder / f"{number}.jpg").write_bytes(
                encoded(part_of("chelsea", number + 10 * len(folder)))
            )
    page.locator("#nothing").get_by_role("button", name="Add pictures").click()
    page.get_by_text("Attributes for all pictures").click()
    page.get_by_label(re.compile("folder name")).check()
    page.set_input_files("#folder", tmp_path / "all")
    expect(page.locator("#upload-status")).to_have_text("4 pictures uploaded.")
    masters = service.client.get("/masters").json()["masters"]
    assert sorted(master["attributes"]["folder"] for master in masters) == [
        "cats",
        "cats",
        "dogs",
        "dogs",
    ]


def test_an_upload_is_cancelled_and_retried(service: Service, page: Page, tmp_path: Path) -> None:
    gate = threading.Event()
    put = service.stores.objects.put

    def slow(*given: Any) -> None:
        gate.wait(20)
        put(*given)

    service.stores.objects.put = slow
    files = [tmp_path / f"{number}.jpg" for number in range(8)]
    for number, path in enumerate(files):
        path.write_bytes(encoded(part_of("coffee", number)))
    page.locator("#nothing").get_by_role("button", name="Add pictures").click()
    page.set_input_files("#files", files)
    expect(page.locator("#upload-active li")).to_have_count(3)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#upload-status")).to_contain_text("8 cancelled")
    gate.set()
    page.get_by_role("button", name="Retry failed uploads").click()
    expect(page.locator("#upload-status")).to_contain_text(
        re.compile(r"\d pictures? uploaded"), timeout=20_000
    )
    expect(page.locator("#upload-failed")).to_be_hidden()
    assert eventually(lambda: service.client.get("/masters").json()["total"] == 8)


def test_an_upload_to_a_busy_service_is_retried(service: Service, page: Page, sample: Path) -> None:
    answers = iter([503])

    def sometimes(route: Route) -> None:
        if route.request.method == "POST" and (status := next(answers, None)):
            problem = json.dumps({"code": "busy", "detail": "Too much to do."})
            route.fulfill(
                status=status,
                body=problem,
                headers={"Retry-After": "1", "Content-Type": "application/problem+json"},
            )
        else:
            route.continue_()

    page.route("**/masters", sometimes)
    page.locator("#nothing").get_by_role("button", name="Add pictures").click()
    page.set_input_files("#files", sample)
    expect(page.locator("#upload-active")).to_contain_text("waiting for the service")
    expect(page.locator("#upload-status")).to_have_text("1 picture uploaded.")


# browse


def test_a_master_is_viewed_edited_and_deleted(shelf: Service, page: Page) -> None:
    assert eventually(
        lambda: (
            names(page)
            == [
                f"{name} {number}.jpg"
                for name in ("rocket", "chelsea", "coffee")
                for number in (3, 2, 1, 0)
            ]
        )
    )
    page.get_by_role("link", name="chelsea 2.jpg").click()
    expect(page.locator("#detail-image")).to_have_attribute("data-state", "shown")
    expect(page.locator("#facts")).to_contain_text("320 × 240 pixels")
    page.get_by_label("Name", exact=True).fill("a cat")
    page.get_by_label("Value of number").fill('"2"')
    page.get_by_role("button", name="Add attribute").click()
    page.get_by_label("Key", exact=True).last.fill("tame")
    page.get_by_label("Value of the new attribute").fill("true")
    page.get_by_role("button", name="Save changes").click()
    expect(page.get_by_role("status").filter(has_text="Changes saved.")).to_be_visible()
    master = shelf.client.get(f"/masters/{asked(page)['master']}").json()
    assert (master["name"], master["attributes"]) == (
        "a cat",
        {"subject": "chelsea", "number": "2", "tame": True},
    )
    expect(page.get_by_label("Value of number")).to_have_value('"2"')  # still text
    page.get_by_label("Name", exact=True).fill("half 1/2")
    page.get_by_role("button", name="Save changes").click()
    expect(page.get_by_role("alert").filter(has_text="A name cannot contain /")).to_be_visible()
    page.locator("#detail-delete").click()
    expect(page.locator(".leaving")).to_have_count(1)
    page.get_by_role("link", name="chelsea 3.jpg").click()
    page.get_by_role("button", name="Undo").click()  # reachable above a dialog
    expect(page.locator(".leaving")).to_have_count(0)
    page.keyboard.press("Escape")
    page.get_by_role("link", name="a cat").click()
    page.locator("#detail-delete").click()
    assert shelf.client.get("/masters").json()["total"] == 12  # not sent yet
    shows(page, "11 pictures")
    assert shelf.client.get(f"/masters/{master['id']}").status_code == 404
    expect(page.locator('.cell[aria-setsize="11"]')).to_have_count(11)


def test_a_change_of_a_picture_that_was_changed_meanwhile_is_explained(
    shelf: Service, page: Page
) -> None:
    page.get_by_role("link", name="chelsea 2.jpg").click()
    expect(page.locator("#detail-image")).to_have_attribute("data-state", "shown")
    path = f"/masters/{asked(page)['master']}"
    name, save = (
        page.get_by_label("Name", exact=True),
        page.get_by_role("button", name="Save changes"),
    )
    conflict = page.get_by_role("alert").filter(has_text="changed after you opened it")

    shelf.client.patch(path, json={"name": "theirs", "attributes": {"by": "them"}})
    name.fill("mine")
    save.click()
    expect(conflict).to_be_visible()
    assert shelf.client.get(path).json()["name"] == "theirs"
    expect(name).to_have_value("mine")
    conflict.get_by_role("button", name="Show them").click()
    expect(name).to_have_value("theirs")
    expect(page.get_by_label("Value of by")).to_have_value("them")
    expect(conflict).to_have_count(0)

    shelf.client.patch(path, json={"name": "theirs again"})
    name.fill("mine")
    save.click()
    expect(conflict).to_be_visible()
    save.click()
    expect(page.get_by_role("status").filter(has_text="Changes saved.")).to_be_visible()
    master = shelf.client.get(path).json()
    assert (master["name"], master["attributes"]) == ("mine", {"by": "them"})
    name.fill("mine again")  # its own change is no conflict
    save.click()
    expect(page.locator("#detail-title")).to_have_text("mine again")


def test_attributes_that_nobody_edited_stay(shelf: Service, page: Page) -> None:
    given = {"note": "two\nlines", " key ": 1, "größe": "12"}
    master = shelf.put_master(
        encoded(part_of("retina", 1)), "kept.jpg", attributes=json.dumps(given)
    )
    page.goto(f"/?master={master['id']}")
    page.get_by_label("Value of größe", exact=True).fill("13")
    page.get_by_role("button", name="Save changes").click()
    expect(page.get_by_role("status").filter(has_text="Changes saved.")).to_be_visible()
    assert shelf.client.get(f"/masters/{master['id']}").json()["attributes"] == given | {
        "größe": 13
    }
    page.get_by_role("button", name="Add attribute").click()
    page.get_by_label("Key", exact=True).last.fill("gro\u0308ße")
    page.get_by_role("button", name="Save changes").click()
    expect(
        page.get_by_role("alert").filter(has_text="The key “größe” occurs twice")
    ).to_be_visible()


def test_the_focus_stays_in_place_after_a_deletion_or_search(
    shelf: Service, page: Page, sample: Path
) -> None:
    focused = (
        "() => document.activeElement.closest('.cell')?.textContent ?? document.activeElement.id"
    )
    page.get_by_role("link", name="coffee 1.jpg").focus()
    page.keyboard.press("Delete")
    expect(page.locator(".leaving")).to_have_count(1)
    assert "coffee 1.jpg" in page.evaluate(focused)
    page.keyboard.press("Control+z")
    expect(page.locator(".leaving")).to_have_count(0)
    assert "coffee 1.jpg" in page.evaluate(focused)
    page.set_input_files("#choose", sample)
    shows(page, "12 results")
    page.locator(".skip").focus()
    page.keyboard.press("Enter")  # the search stays
    assert page.evaluate(focused) == "results"
    shows(page, "12 results")
    page.get_by_role("button", name="End search").press("Enter")
    shows(page, "12 pictures")
    assert page.evaluate(focused) == "results"


def test_masters_deleted_elsewhere_disappear(shelf: Service, page: Page) -> None:
    shows(page, "12 pictures")
    expect(page.locator("#status")).to_contain_text("12 pictures")
    some = [master["id"] for master in shelf.client.get("/masters").json()["masters"][:2]]
    page.goto(f"/?like={some[0]}")
    shows(page, "12 results")
    page.go_back()
    shows(page, "12 pictures")
    for master in some:
        shelf.client.delete(f"/masters/{master}")
    page.evaluate(
        "document.dispatchEvent(new Event('visibilitychange'))"
    )  # polls now instead of in a few seconds
    shows(page, "10 pictures")
    page.go_forward()
    expect(page.locator("#nothing")).to_contain_text("The search picture no longer exists")
    expect(page.locator("#sample")).to_be_hidden()


def test_a_deletion_is_sent_when_the_page_is_left(shelf: Service, page: Page) -> None:
    page.get_by_role("link", name="coffee 1.jpg").focus()
    page.keyboard.press("Delete")
    expect(page.locator(".leaving")).to_have_count(1)
    page.goto("/docs")
    assert eventually(lambda: shelf.client.get("/masters").json()["total"] == 11)


def test_a_large_collection_needs_few_elements(service: Service, page: Page) -> None:
    """Pages are requested near the window only, and few elements exist at a time."""
    total, offsets = 50_000, set()
    master = service.put_master(encoded(part_of("coffee", 0)), "one.jpg")

    def many(route: Route) -> None:
        query = {
            name: values[0] for name, values in parse_qs(urlsplit(route.request.url).query).items()
        }
        offset, limit = int(query["offset"]), int(query["limit"])
        offsets.add(offset)
        masters = [
            master | {"name": f"number {number}"}
            for number in range(offset, min(total, offset + limit))
        ]
        route.fulfill(json={"masters": masters, "next_cursor": None, "total": total})

    page.route(re.compile(r"/masters\?"), many)
    page.reload()
    shows(page, "50\u202f000 pictures")
    most = 0
    for part in (0, 0.1, 0.5, 0.500_1, 1):
        page.evaluate("(part) => scrollTo(0, part * document.documentElement.scrollHeight)", part)
        assert eventually(
            lambda: (
                page.locator("#masters .cell").count() > 0
                and page.locator("#masters .waiting").count() == 0
            )
        )
        most = max(most, page.locator("#masters .cell").count())
    assert eventually(lambda: "number 49999" in names(page))
    assert most < 200
    assert len(offsets) < 20
    page.locator("#masters a").last.focus()
    page.keyboard.press("Home")
    expect(page.get_by_role("link", name="number 0", exact=True)).to_be_focused()


# state


def test_the_status_line_shows_counts_and_model(shelf: Service, page: Page) -> None:
    expect(page.locator("#status")).to_contain_text("12 pictures")
    expect(page.locator("#status")).to_contain_text("rn50-")
    expect(page.get_by_role("img", name="Ready")).to_be_visible()


def test_the_status_line_shows_how_much_metadata_is_not_read_yet(
    shelf: Service, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf.services.captures, "count_unread", lambda: 3)
    page.reload()
    expect(page.locator("#status")).to_contain_text("metadata of 3 pictures not read yet")


def test_an_unavailable_store_is_named_with_advice(shelf: Service, page: Page) -> None:
    shows(page, "12 pictures")
    ping = shelf.stores.vectors.ping

    def down() -> None:
        raise StoreUnavailable("vector", "connection refused")

    shelf.stores.vectors.ping = down
    # the last result of a check is kept for a second
    assert eventually(lambda: shelf.client.get("/readyz").status_code == 503)
    page.reload()
    banner = page.locator("#banner")
    expect(banner).to_contain_text("The vector store is unavailable: connection refused.")
    expect(banner).to_contain_text("You can still add pictures")
    shelf.stores.vectors.ping = ping
    expect(banner).to_be_hidden()


def test_the_page_recovers_when_the_service_returns(
    tmp_path: Path, embedder: Embedder, opened: Callable[..., Page]
) -> None:
    settings = Settings(data_dir=tmp_path / "own", _env_file=None)
    with serving(settings, embedder) as service:
        for number in range(3):
            service.put_master(encoded(part_of("coffee", number)), f"coffee {number}.jpg")
        url = str(service.client.base_url)
        page = opened(url)
        shows(page, "3 pictures")
    page.locator("#masters .card").first.hover()
    page.get_by_role("button", name=re.compile("Find similar to")).first.click()
    expect(page.locator("#nothing")).to_contain_text("The service is not responding")
    expect(page.locator("#banner")).to_contain_text("The service is not responding")
    with serving(settings, embedder, port=int(url.rpartition(":")[2])):
        shows(page, "3 results")  # without a reload of the page
        expect(page.locator("#banner")).to_be_hidden()
        page.close()


def test_a_slow_search_shows_that_it_is_running(shelf: Service, page: Page, sample: Path) -> None:
    shows(page, "12 pictures")

    def slow(route: Route) -> None:
        time.sleep(1)
        route.continue_()

    page.route("**/search", slow)
    page.set_input_files("#choose", sample)
    expect(page.locator("#hits .waiting").first).to_be_visible()
    expect(page.locator("#results")).to_have_attribute("aria-busy", "true")
    shows(page, "12 results")
    expect(page.locator("#results")).not_to_have_attribute("aria-busy", "true")
    page.get_by_role("switch", name="Include mirrored").check()
    expect(page.locator("#results")).to_have_attribute("aria-busy", "true")
    page.get_by_role("button", name="End search").click()  # nobody waits for the search any more
    shows(page, "12 pictures")
    expect(page.locator("#announcer")).to_have_text("12 pictures")
    expect(page.locator("#results")).not_to_have_attribute("aria-busy", "true")


def test_the_key_is_requested_and_kept_for_the_tab(
    tmp_path: Path, embedder: Embedder, opened: Callable[..., Page]
) -> None:
    settings = Settings(
        data_dir=tmp_path / "locked",
        api_keys="admin:the-admin-key,read:the-read-key",
        _env_file=None,
    )
    with serving(settings, embedder, {"Authorization": "Bearer the-admin-key"}) as locked:
        locked.put_master(encoded(part_of("coffee", 0)), "behind.jpg")
        page = opened(str(locked.client.base_url))
        page.get_by_label("API key", exact=True).fill("a-wrong-key")
        page.keyboard.press("Enter")
        expect(page.get_by_text("That key was not accepted.")).to_be_visible()
        page.get_by_label("API key", exact=True).fill("the-read-key")
        page.keyboard.press("Enter")
        shows(page, "1 picture")
        expect(page.locator("#masters img")).to_have_attribute("data-state", "shown")
        assert "read-key" not in page.url
        page.reload()
        shows(page, "1 picture")
        page.clock.install()
        page.get_by_role("link", name="behind.jpg").focus()
        page.keyboard.press("Delete")  # the key does not allow this
        expect(page.locator(".leaving")).to_have_count(1)
        page.clock.run_for(UNDO_PERIOD)
        expect(page.get_by_role("dialog")).to_contain_text(
            "needs a key with the scope write; yours has read."
        )
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator(".leaving")).to_have_count(0)
        other = opened(str(locked.client.base_url))
        expect(other.get_by_label("API key", exact=True)).to_be_visible()
        other.get_by_role("button", name="Cancel").click()
        page.close()
        other.close()


@pytest.mark.real_network
def test_the_first_hour_of_a_new_user(
    service: Service, page: Page, tmp_path: Path, opened: Callable[..., Page]
) -> None:
    """Upload 80 photographs, find one with a phone picture, delete one, share the link."""
    folder = tmp_path / "holiday"
    folder.mkdir()
    for number in range(80):
        image = part_of(PHOTOGRAPHS[number % 5], number)
        (folder / f"{number:03}.jpg").write_bytes(encoded(image, quality=85))
    page.locator("#nothing").get_by_role("button", name="Add pictures").click()
    page.set_input_files("#folder", folder)
    expect(page.locator("#upload-status")).to_contain_text("per second")
    expect(page.locator("#upload-status")).to_have_text("80 pictures uploaded.", timeout=120_000)
    page.keyboard.press("Escape")
    shows(page, "80 pictures")
    phone = (
        part_of("chelsea", 26)
        .crop((30, 20, 300, 220))
        .rotate(3, expand=False, fillcolor=(90, 80, 70))
    )
    phone = phone.resize((2700, 2000)).filter(ImageFilter.GaussianBlur(4))
    (tmp_path / "phone.jpg").write_bytes(encoded(phone, quality=70))
    page.set_input_files("#choose", tmp_path / "phone.jpg")
    shows(page, "60 results")
    assert "026.jpg" in names(page, "#hits")[:2]
    page.get_by_role("link", name="026.jpg").click()
    page.locator("#detail-like").click()
    expect(page.locator("#hits .score").first).to_contain_text("same file")
    wrong = page.locator("#hits .name").nth(1).inner_text()
    page.get_by_role("link", name=wrong).click()
    page.clock.install()
    page.locator("#detail-delete").click()
    expect(page.locator(".leaving")).to_have_count(1)
    page.clock.run_for(UNDO_PERIOD)
    shows(page, "59 results")
    other = opened(page.url)
    shows(other, "60 results")
    assert names(other, "#hits")[0] == "026.jpg"
    assert wrong not in names(other, "#hits")


# security and accessibility


def test_names_and_attributes_are_never_interpreted_as_html(service: Service, page: Page) -> None:
    for number, hostile in enumerate(HOSTILE):
        attributes = {"<b>key</b>": hostile[:200], "list": ["<i>item</i>"]}
        service.put_master(
            encoded(part_of("coffee", number)), hostile, attributes=json.dumps(attributes)
        )
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    page.reload()
    shows(page, "4 pictures")
    kept = [master["name"] for master in service.client.get("/masters").json()["masters"]]
    assert names(page) == kept
    page.get_by_role("button", name="Filter").click()
    tick(page, "<i>item</i>")
    expect(page.locator(".chip")).to_have_text("list: <i>item</i>")
    for link in range(4):
        page.locator("#masters .opens").nth(link).click()
        expect(page.locator("#detail-title")).to_have_text(kept[link])
        page.keyboard.press("Escape")
    assert page.locator("#masters b, #masters i, #filters b, #detail b, main script").count() == 0
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


def test_uploading_and_searching_work_by_keyboard_alone(
    service: Service, page: Page, tmp_path: Path, sample: Path
) -> None:
    (tmp_path / "coffee.jpg").write_bytes(encoded(part_of("coffee", 1)))

    focused = """() => {
        const { ariaLabel, innerText } = document.activeElement;
        return ariaLabel ?? innerText.trim();
    }"""

    def tab_to(name: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate(focused) == name:
                return
        pytest.fail(f"Tab does not lead to {name}")

    files = iter([tmp_path / "coffee.jpg", sample])
    page.on("filechooser", lambda chooser: chooser.set_files(next(files)))
    page.locator("#nothing button").wait_for()
    tab_to("Add pictures")
    page.keyboard.press("Enter")
    tab_to("Choose pictures")
    page.keyboard.press("Enter")
    expect(page.locator("#upload-status")).to_have_text("1 picture uploaded.")
    page.keyboard.press("Escape")
    shows(page, "1 picture")
    page.locator("#home").focus()
    tab_to("Search with a picture")
    page.keyboard.press("Enter")
    shows(page, "1 result")
    expect(page.locator("#announcer")).to_have_text("1 result")  # for screen readers
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.className") == "opens":
            break
    page.keyboard.press("Enter")
    expect(page.locator("#detail-title")).to_have_text("coffee.jpg")
    page.keyboard.press("Escape")
    expect(page.locator("#hits .opens")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_accessibility_violation(
    shelf: Service, opened: Callable[..., Page], sample: Path, scheme: str
) -> None:
    page = opened(color_scheme=scheme, reduced_motion="reduce")

    def scan(what: str) -> None:
        found = (
            Axe()
            .run(
                page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
            )
            .response["violations"]
        )
        told = [
            (what, rule["id"], [node["target"] for node in rule["nodes"]][:3]) for rule in found
        ]
        assert told == []

    shows(page, "12 pictures")
    page.get_by_role("button", name="Filter").click()
    tick(page, "coffee")
    shows(page, "4 pictures")
    scan("browse with a filter")
    page.locator("#masters .opens").first.click()
    expect(page.locator("#detail-image")).to_have_attribute("data-state", "shown")
    scan("detail")
    page.keyboard.press("Escape")
    page.set_input_files("#choose", sample)
    shows(page, "4 results")
    page.get_by_role("button", name="Select area").click()
    scan("search")
    page.locator("#hits .card").first.hover()
    page.get_by_role("button", name=re.compile("Compare with")).first.click()
    scan("compare")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Add pictures").click()
    page.set_input_files("#files", sample)
    expect(page.locator("#upload-status")).to_contain_text("1 picture uploaded.")
    scan("upload")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Collection").click()
    page.get_by_role("button", name="Delete the collection default").click()
    scan("collections")
    page.keyboard.press("Escape")
    page.goto("/?collection=nowhere")
    expect(page.locator("#nothing")).to_contain_text("There is no collection")
    scan("nothing there")


@pytest.mark.parametrize("width", [320, 360, 1280, 3840])
def test_it_fits_from_phone_to_wall(
    shelf: Service, opened: Callable[..., Page], sample: Path, width: int
) -> None:
    page = opened(viewport={"width": width, "height": max(640, width * 9 // 16)})
    shows(page, "12 pictures")
    fits = "() => document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert page.evaluate(fits)
    page.set_input_files("#choose", sample)
    shows(page, "12 results")
    assert page.evaluate(fits)
    page.locator("#hits .opens").first.click()
    expect(page.locator("#detail")).to_be_visible()
    assert page.evaluate(
        """() => {
            const dialog = document.querySelector('#detail');
            return dialog.scrollWidth <= dialog.clientWidth;
        }"""
    )
