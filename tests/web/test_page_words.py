"""The search box of the page: words, a picture, or both."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Route, expect

from app.services.encoder_files import EncoderFiles
from models.bundles.archive import read_bundle
from models.embedder import Embedder
from models.weights_file import DEFAULT_WEIGHTS
from tests.support.service import Service, eventually
from tests.support.tiny_encoders import make_text_bundle

COMMAND = "lookalike spaces create words --encoder words.bundle"
TRANSFER = """([bytes, text]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([new Uint8Array(bytes)], "carried.jpg", {type: "image/jpeg"}));
    if (text) transfer.items.add(text, "text/plain");
    return transfer; }"""
PASTE = """(input, clipboardData) => input.dispatchEvent(
    new ClipboardEvent('paste', {clipboardData, bubbles: true}))"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_text_bundle(tmp_path_factory.mktemp("bundle") / "words.bundle")


@pytest.fixture
def wordy(shelf: Service, bundle: Path) -> Service:
    """The shelf with the space `words`, in which a tiny encoder embeds texts."""
    version = read_bundle(bundle).version
    with bundle.open("rb") as file:
        EncoderFiles(shelf.stores.objects).store(version, file)
    started = shelf.client.post(f"/admin/models/{version}/start", params={"space": "words"})
    assert started.status_code < 300, started.text

    def is_active() -> bool:
        shelf.client.post(f"/admin/models/{version}/activate")
        spaces = shelf.client.get("/spaces").json()["spaces"]
        return any(each["model_version"] == version for each in spaces)

    assert eventually(is_active, 30)
    return shelf


@pytest.fixture
def searches(page: Page) -> list[dict[str, str]]:
    """The fields of each search that the page sends, without files."""
    sent: list[dict[str, str]] = []

    def watch(route: Route) -> None:
        body = (route.request.post_data_buffer or b"").decode("latin-1")
        sent.append(dict(re.findall(r'name="(\w+)"\r\n\r\n(.*?)\r\n--', body, re.DOTALL)))
        route.continue_()

    page.route("**/search", watch)
    return sent


def sent(page: Page, check: Callable[[], bool]) -> bool:
    """Poll the check, which reads ``searches``; return whether it holds within ten seconds.

    Playwright records a request only while it is called.
    """
    for _ in range(500):
        if check():
            return True
        page.wait_for_timeout(20)
    return False


def shows(page: Page, count: str) -> None:
    expect(page.locator("#count")).to_have_text(count)


def names(page: Page) -> list[str]:
    return page.locator("#hits .name").all_inner_texts()


def asked(page: Page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def search(page: Page, words: str) -> None:
    page.get_by_role("searchbox").fill(words)
    page.keyboard.press("Enter")


def drop(page: Page, picture: Path) -> None:
    carried = page.evaluate_handle(TRANSFER, [list(picture.read_bytes()), ""])
    page.dispatch_event("body", "dragenter", {"dataTransfer": carried})
    page.dispatch_event("#zone-sample", "drop", {"dataTransfer": carried})


@pytest.mark.real_network
def test_words_find_pictures_and_a_picture_refines_them(
    shelf: Service, page: Page, real_embedder: Embedder, opened: Callable[..., Page]
) -> None:
    with DEFAULT_WEIGHTS.open("rb") as file:
        EncoderFiles(shelf.stores.objects).store(real_embedder.model_version, file)
    shelf.client.post("/search", data={"text": "cup"})  # the first search loads the words
    search(page, "cup of coffee")
    shows(page, "12 results")
    assert {name.split()[0] for name in names(page)[:4]} == {"coffee"}
    expect(page.locator("#hits .score").first).to_have_text(re.compile(r"^\d+\.\d$"))
    expect(page.get_by_role("button", name=re.compile("Compare with"))).to_have_count(0)
    expect(page.locator("#advice")).to_be_empty()
    expect(page).to_have_title("cup of coffee · Lookalike")
    other = opened(page.url)  # a link shows the same
    shows(other, "12 results")
    assert names(other) == names(page)
    expect(other.get_by_role("searchbox")).to_have_value("cup of coffee")

    search(page, "qwrtz plmkn")
    advice = page.get_by_role("status").filter(has_text="The built-in words may not know this text")
    expect(advice).to_contain_text(COMMAND)
    shows(page, "12 results")  # all the same
    search(page, "cat")
    expect(advice).to_have_count(0)
    assert {name.split()[0] for name in names(page)[:4]} == {"chelsea"}
    page.get_by_role("button", name="Find similar to rocket 0.jpg").press("Enter")
    expect(page.locator("#hits .name").first).to_have_text(re.compile("rocket|chelsea"))
    assert asked(page)["text"] == "cat"
    slider = page.get_by_role("slider", name="Balance between words and picture")
    slider.press("End")  # the picture alone counts
    expect(page.locator("#hits .name").first).to_have_text("rocket 0.jpg")
    slider.press("Home")
    expect(page.locator("#hits .name").first).to_have_text(re.compile("chelsea"))


def test_a_search_that_overtakes_the_first_listing_stays(wordy: Service, page: Page) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/masters?*", hold)
    with page.expect_request("**/masters?*"):
        page.reload()
    search(page, "dog")
    shows(page, "12 results")
    with page.expect_response("**/collections"):  # the page polls the number of pictures
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.evaluate("fetch('/livez').then((answer) => answer.text())")
    assert len(held) == 1  # the listing was not requested again
    shows(page, "12 results")


def test_words_work_with_filters_collections_and_further_results(
    wordy: Service, page: Page, searches: list[dict[str, str]]
) -> None:
    page.reload()
    search(page, " red dog ")
    shows(page, "12 results")
    assert searches.pop() == {
        "collection": "default",
        "text": "red dog",
        "facets": "subject",
        "k": "60",
        "offset": "0",
    }
    page.get_by_role("button", name="Filter").click()
    page.locator("#filters label").filter(has_text="coffee").check()
    shows(page, "4 results")
    assert {name.split()[0] for name in names(page)} == {"coffee"}
    page.get_by_role("button", name="Remove the filter subject: coffee").click()
    shows(page, "12 results")
    slider = page.get_by_role("slider", name="Maximum distance")
    slider.press("Home")
    expect(page.locator("#count")).to_have_text(re.compile(r"^\d of 12 results"))
    page.go_back()
    page.go_back()
    page.go_back()
    shows(page, "12 pictures")
    expect(page.get_by_role("searchbox")).to_have_value("")
    page.go_forward()
    shows(page, "12 results")
    expect(page.get_by_role("searchbox")).to_have_value("red dog")


def test_a_picture_is_dropped_on_words_and_either_is_removed(
    wordy: Service, page: Page, sample: Path, searches: list[dict[str, str]]
) -> None:
    page.reload()
    box = page.get_by_role("searchbox")
    box.fill("red dog")  # without Enter
    drop(page, sample)
    shows(page, "12 results")
    expect(page.locator("#picture img")).to_have_attribute("data-state", "shown")
    assert {"text": "red dog", "text_weight": "0.5"}.items() <= searches[-1].items()
    page.get_by_role("slider", name="Balance between words and picture").press("ArrowRight")
    expect(page).to_have_url(re.compile("weight=0.45"))
    assert sent(page, lambda: searches[-1].get("text_weight") == "0.45")
    page.get_by_role("switch", name="Include mirrored").check()
    assert sent(page, lambda: searches[-1].get("mirror") == "true")

    page.get_by_role("button", name="Remove the picture from the search").click()
    expect(box).to_be_focused()
    expect(page.locator("#stage")).to_be_hidden()
    assert sent(page, lambda: "text_weight" not in searches[-1])
    assert "mirror" not in searches[-1]
    assert asked(page) == {"text": "red dog"}
    shows(page, "12 results")

    page.locator("#hits .card").nth(2).hover()
    page.get_by_role("button", name=re.compile("Find similar to")).nth(2).click()
    assert sent(page, lambda: {"text", "master_id"} <= searches[-1].keys())
    page.get_by_role("button", name="Remove the words").click()
    assert sent(page, lambda: "text" not in searches[-1])
    expect(page.locator("#hits .score").first).to_contain_text("same file")
    expect(page.locator("#weight-row")).to_be_hidden()
    page.get_by_role("button", name="Remove the picture from the search").click()
    shows(page, "12 pictures")
    assert asked(page) == {}


def test_words_and_a_picture_are_searched_with_by_keyboard_alone(
    wordy: Service, page: Page, sample: Path
) -> None:
    def tab_to(selector: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("(s) => document.activeElement.matches(s)", selector):
                return
        pytest.fail(f"Tab does not lead to {selector}")

    page.on("filechooser", lambda chooser: chooser.set_files(sample))
    page.reload()
    shows(page, "12 pictures")
    tab_to("#words")
    page.keyboard.type("red dog")
    page.keyboard.press("Enter")
    shows(page, "12 results")
    expect(page.locator("#announcer")).to_have_text("12 results")  # for screen readers
    tab_to("#choose")
    page.keyboard.press("Enter")
    expect(page.locator("#sample-image")).to_have_attribute("data-state", "shown")
    tab_to("#weight")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#weight")).to_have_attribute("aria-valuetext", "55 % words, 45 % picture")
    expect(page).to_have_url(re.compile("weight=0.55"))
    for _ in range(20):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("() => document.activeElement.id") == "words":
            break
    page.keyboard.press("Escape")  # removes the words
    expect(page.locator("#weight-row")).to_be_hidden()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")  # removes the picture
    shows(page, "12 pictures")
    expect(page.get_by_role("searchbox")).to_be_focused()


def test_a_picture_is_pasted_into_the_search_box_but_text_stays_text(
    shelf: Service, page: Page, sample: Path
) -> None:
    box = page.get_by_role("searchbox")
    both = page.evaluate_handle(TRANSFER, [list(sample.read_bytes()), "a text"])
    box.evaluate(PASTE, both)  # the browser inserts the text
    shows(page, "12 pictures")
    alone = page.evaluate_handle(TRANSFER, [list(sample.read_bytes()), ""])
    box.evaluate(PASTE, alone)
    shows(page, "12 results")


def test_the_space_is_chosen_where_there_are_several(
    wordy: Service, page: Page, sample: Path, searches: list[dict[str, str]]
) -> None:
    page.reload()
    search(page, "red dog")
    shows(page, "12 results")
    choice = page.get_by_role("combobox", name="Space")
    expect(choice.get_by_role("option")).to_have_text(["Automatic", "look", "words"])
    choice.select_option("look")  # whose tiny network has no words
    expect(page.locator("#nothing")).to_contain_text("Words need an encoder")
    expect(page.locator("#advice")).to_contain_text(COMMAND)
    assert (searches[-1]["space"], asked(page)["space"]) == ("look", "look")
    page.get_by_role("button", name="Remove the words").click()
    shows(page, "12 pictures")
    page.set_input_files("#choose", sample)
    shows(page, "12 results")
    choice.select_option("words")
    assert sent(page, lambda: searches[-1].get("space") == "words")
    page.goto("/?text=red&space=gone")
    expect(page.locator("#nothing")).to_contain_text("gone")
    choice.select_option("Automatic")
    shows(page, "12 results")


def test_the_box_shows_when_words_need_an_encoder(shelf: Service, page: Page, sample: Path) -> None:
    space = {"name": "look", "model_version": "v", "dimension": 512, "text": None}
    page.route("**/spaces", lambda route: route.fulfill(json={"spaces": [space]}))
    page.reload()
    box = page.get_by_role("searchbox")
    expect(box).to_have_attribute("placeholder", "Words need an encoder")
    expect(box).to_have_attribute("title", re.compile(COMMAND))
    expect(page.get_by_role("combobox", name="Space")).to_be_hidden()
    drop(page, sample)  # pictures work as before
    shows(page, "12 results")
    search(page, "dog")
    expect(page.locator("#nothing")).to_contain_text("Words need an encoder")
    page.get_by_role("button", name="Remove the words").click()
    shows(page, "12 results")
    expect(page.locator("#advice")).to_be_empty()


def answer_unsure(route: Route) -> None:
    """Answer a search by words as if they were hardly understood."""
    if b"filename" in (route.request.post_data_buffer or b""):
        route.continue_()
        return
    answer: dict[str, Any] = route.fetch().json()
    route.fulfill(json=answer | {"understood": 0.1})


@pytest.mark.parametrize(("width", "scheme"), [(320, "dark"), (390, "light"), (1280, "dark")])
def test_words_fit_and_are_accessible_at_any_width(
    wordy: Service, opened: Callable[..., Page], sample: Path, width: int, scheme: str
) -> None:
    page = opened(
        viewport={"width": width, "height": 844}, color_scheme=scheme, reduced_motion="reduce"
    )
    page.route("**/search", answer_unsure)

    def check(what: str) -> None:
        fits = "() => document.documentElement.scrollWidth <= innerWidth"
        assert page.evaluate(fits), what
        rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
        found = Axe().run(page, options=rules).response["violations"]
        assert [(rule["id"], json.dumps(rule["nodes"])[:300]) for rule in found] == [], what

    search(page, "red dog")
    shows(page, "12 results")
    expect(page.locator("#advice")).to_contain_text("The built-in words may not know this text")
    check("words")
    page.set_input_files("#choose", sample)
    expect(page.locator("#weight-row")).to_be_visible()
    expect(page.locator("#sample-image")).to_have_attribute("data-state", "shown")
    shows(page, "12 results")
    check("words and a picture")
    head = page.locator("header").bounding_box()
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    box = page.locator("#search").bounding_box()  # still in the window
    assert head
    assert box
    assert 0 <= box["y"] < head["height"]
