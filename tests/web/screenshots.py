"""Takes screenshots of every state of the page, light and dark, and the one of the README.

Run with `make screenshots`.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright
from rich.progress import track

from app.logs import configure_logging
from app.settings import Settings
from storage.errors import StoreUnavailable
from tests.support.images import PHOTOGRAPHS, encoded, part_of, photograph
from tests.support.metadata import PHONE_CAMERA, PHONE_GPS, PHONE_MAIN, exif_block
from tests.support.service import Service, eventually, serving

LOADED = """() => [...document.images].every(
    (image) => !image.checkVisibility() || image.dataset.state !== 'loading')"""
WIDTHS = {390: 844, 1280: 800, 2560: 1440}
NAMES = {
    "astronaut": "Eileen Collins",
    "chelsea": "Chelsea",
    "coffee": "Coffee",
    "rocket": "Falcon 9",
    "retina": "Retina",
}


def fill(service: Service) -> None:
    for number in range(9):
        for name in PHOTOGRAPHS:
            image = photograph(name) if number == 8 else part_of(name, number)
            view = "whole" if number == 8 else "detail"
            attributes = {"subject": name, "view": view, "year": 2010 + number}
            month = f"{2022 + number // 4}:{1 + number * 5 % 12:02}:15 10:00:00"
            exif = exif_block(PHONE_MAIN, PHONE_CAMERA | {"DateTimeOriginal": month}, PHONE_GPS)
            service.put_master(
                encoded(image, quality=90, **({} if name == "retina" else {"exif": exif})),
                f"{NAMES[name]} {number + 1}.jpg",
                attributes=json.dumps(attributes),
            )


def counted(page: Page, text: str) -> None:
    expect(page.locator("#count")).to_have_text(text)
    page.wait_for_function(LOADED)


def states(service: Service, page: Page, folder: Path) -> Iterator[str]:
    """Bring the page from state to state and yield the name of each."""
    (folder / "sample.jpg").write_bytes(encoded(part_of("coffee", 50)))
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "twin.jpg").write_bytes(encoded(part_of("coffee", 0), quality=90))
    yield from browsing(page)
    yield from searching(page, folder)
    yield from searching_by_words(page, folder)
    yield from reviewing(service, page)
    yield from tending(page, folder)
    yield from failing(service, page)


def browsing(page: Page) -> Iterator[str]:
    counted(page, "45 pictures")
    yield "browse"
    page.click("#filter-toggle")
    page.locator("#filters label").filter(has_text="coffee").check()
    counted(page, "9 pictures")
    yield "filter"
    page.click("#filter-toggle")
    page.locator(".chip").click()
    counted(page, "45 pictures")
    page.locator("#months button").last.click()
    counted(page, "4 pictures")
    yield "month"
    page.locator(".chip").click()
    counted(page, "45 pictures")
    page.select_option("#sort", label="Attribute")
    page.select_option("#sort-attribute", "year")
    counted(page, "45 pictures")
    yield "sorted"
    page.select_option("#sort", label="Uploaded")
    page.locator("#masters .opens").nth(1).click()
    counted(page, "45 pictures")
    yield "detail"
    page.keyboard.press("Escape")
    expect(page.locator("#detail")).to_be_hidden()


def searching(page: Page, folder: Path) -> Iterator[str]:
    page.set_input_files("#choose", folder / "sample.jpg")
    counted(page, "45 results")
    yield "search"
    page.click("#choose-part")
    page.keyboard.press("Shift+ArrowLeft")
    page.wait_for_timeout(1500)
    yield "box"
    page.locator("#hits .card").nth(1).hover()
    page.get_by_role("button", name=re.compile("Compare with")).nth(1).click()
    page.wait_for_timeout(500)
    yield "compare"
    page.keyboard.press("Escape")
    page.get_by_role("button", name=re.compile("More like")).nth(1).click()
    page.get_by_role("button", name=re.compile("Less like")).nth(4).click()
    expect(page.locator("#refinements button")).to_have_count(2)
    page.locator("#hits .card").nth(2).hover()
    page.wait_for_timeout(1000)
    yield "refined"
    page.select_option("#group", "subject")
    counted(page, "5 groups")
    page.locator(".stands button").first.click()
    yield "grouped"
    page.select_option("#group", "")
    counted(page, "45 results")
    page.locator("#distance").focus()
    page.keyboard.press("Home")
    yield "narrowed"
    page.click("#end-search")
    counted(page, "45 pictures")


def searching_by_words(page: Page, folder: Path) -> Iterator[str]:
    page.fill("#words", "cup of coffee")
    page.keyboard.press("Enter")
    counted(page, "45 results")
    yield "words"
    page.set_input_files("#choose", folder / "sample.jpg")
    expect(page.locator("#weight-row")).to_be_visible()
    counted(page, "45 results")
    yield "words-and-picture"
    page.click("#picture")
    page.fill("#words", "democracy")
    page.keyboard.press("Enter")
    expect(page.locator("#advice")).not_to_be_empty()
    counted(page, "45 results")
    yield "words-not-understood"
    page.click("#clear-words")
    counted(page, "45 pictures")


def reviewing(service: Service, page: Page) -> Iterator[str]:
    path = "/collections/default/duplicates"
    service.client.post(path, json={})
    assert eventually(lambda: service.client.get(path).json()["scan"]["state"] == "complete", 60)
    page.click("#open-duplicates")
    expect(page.locator(".member:focus")).to_be_visible()
    page.wait_for_function(LOADED)
    yield "duplicates"
    page.click("#dup-all")
    expect(page.locator("#resolve-form button")).to_be_enabled()
    page.wait_for_function(LOADED)
    yield "duplicates-all"
    page.keyboard.press("Escape")
    page.click("#end-review")
    counted(page, "45 pictures")


def tending(page: Page, folder: Path) -> Iterator[str]:
    page.click("#upload-open")
    yield "upload"
    page.set_input_files("#files", [folder / "twin.jpg", folder / "broken.jpg"])
    expect(page.locator("#upload-status")).to_contain_text("already")
    page.locator("#upload-duplicates summary").click()
    yield "upload-done"
    page.keyboard.press("Escape")
    page.click("#collection")
    page.get_by_label("Delete the collection default").click()
    yield "collections"
    page.keyboard.press("Escape")
    page.locator("#masters a").first.focus()
    page.keyboard.press("Delete")
    yield "undo"
    page.get_by_role("button", name="Undo").click()
    carried = page.evaluate_handle(
        "() => { const t = new DataTransfer(); t.items.add(new File(['x'], 'x.jpg')); return t; }"
    )
    page.dispatch_event("body", "dragenter", {"dataTransfer": carried})
    yield "drop"
    page.dispatch_event("body", "dragleave", {"dataTransfer": carried})


def failing(service: Service, page: Page) -> Iterator[str]:
    page.goto("/?collection=nowhere")
    expect(page.locator("#nothing")).to_contain_text("no collection")
    yield "not-there"
    ping = service.stores.vectors.ping

    def down() -> None:
        raise StoreUnavailable("vector", "connection refused")

    service.stores.vectors.ping = down
    page.goto("/")
    expect(page.locator("#banner")).to_be_visible()
    counted(page, "45 pictures")
    yield "store-down"
    service.stores.vectors.ping = ping
    page.route(re.compile(r"/masters\?"), lambda route: None)  # never answered
    page.goto("/")
    expect(page.locator(".waiting").first).to_be_visible()
    yield "loading"
    page.unroute(re.compile(r"/masters\?"))
    problem = json.dumps({"code": "unauthorized", "detail": "Send a valid API key."})
    page.route(
        re.compile(r"/masters\?|/collections$"),
        lambda route: route.fulfill(status=401, body=problem),
    )
    page.goto("/")
    expect(page.locator("#key")).to_be_visible()
    yield "key"


def empty(page: Page) -> None:
    expect(page.locator("#nothing")).to_contain_text("No pictures here yet")


def taken(
    browser: Browser, base: str, width: int, scheme: str, work: Callable[[Page], None]
) -> None:
    size = {"width": width, "height": WIDTHS[width]}
    context = browser.new_context(
        base_url=base, viewport=size, color_scheme=scheme, has_touch=width < 1000
    )  # type: ignore[arg-type]
    page = context.new_page()
    page.goto("/")
    work(page)
    context.close()


def main() -> None:
    out, readme = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    configure_logging("error")
    expect.set_options(timeout=20_000)  # the first search by words loads them
    looks = [(width, scheme) for width in WIDTHS for scheme in ("light", "dark")]
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        settings = Settings(data_dir=folder / "data", worker_interval=0.05, _env_file=None)
        with serving(settings, None) as service:  # the shipped network, whose words work
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            base = str(service.client.base_url)
            for width, scheme in looks:

                def nothing(page: Page, width: int = width, scheme: str = scheme) -> None:
                    empty(page)
                    page.screenshot(path=out / f"empty-{width}-{scheme}.png")

                taken(browser, base, width, scheme, nothing)
            fill(service)
            for width, scheme in track(looks, description="taking screenshots"):

                def each(page: Page, width: int = width, scheme: str = scheme) -> None:
                    for state in states(service, page, folder):
                        page.wait_for_timeout(300)
                        page.screenshot(path=out / f"{state}-{width}-{scheme}.png")

                taken(browser, base, width, scheme, each)
            browser.close()
    Image.open(out / "search-1280-light.png").convert("RGB").save(readme, quality=90)
    print(f"{out}: {len(list(out.glob('*.png')))} screenshots; {readme}")  # noqa: T201


if __name__ == "__main__":
    main()
