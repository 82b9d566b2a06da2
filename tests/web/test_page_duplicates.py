"""The view of duplicates: the scan, its groups, and what the user decides about them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from tests.support.images import encoded, photograph
from tests.support.page import asked, shows
from tests.support.service import Service, eventually

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
FITS = "() => document.documentElement.scrollWidth <= document.documentElement.clientWidth"
PATH = "/collections/default/duplicates"
VIEW = "/?view=duplicates"


def put(service: Service, name: str, percent: int, **attributes: Any) -> None:
    """Upload a whole photograph in another size."""
    whole = photograph(name)
    small = whole.resize((whole.width * percent // 100, whole.height * percent // 100))
    content = encoded(small, quality=90)
    service.put_master(content, f"{name} {percent}.jpg", attributes=json.dumps(attributes))


@pytest.fixture
def _permanent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKALIKE_UNDO_HOURS", "0")


@pytest.fixture
def twins(service: Service) -> Service:
    """A service with one group of three pictures, two of two, and a complete scan."""
    put(service, "astronaut", 80, shop="A")
    put(service, "astronaut", 100)
    put(service, "astronaut", 90)
    for name in ("coffee", "chelsea"):
        put(service, name, 80, shop="B")
        put(service, name, 100)
    put(service, "rocket", 100)
    compare(service)
    return service


def compare(service: Service) -> None:
    service.client.post(PATH, json={"max_distance": 2})  # the network of the tests is random

    def is_complete() -> bool:
        return bool(service.client.get(PATH).json()["scan"]["state"] == "complete")

    assert eventually(is_complete, 30)


def names(service: Service) -> set[str]:
    return {each["name"] for each in service.client.get("/masters").json()["masters"]}


def groups(page: Page) -> Locator:
    return page.locator("#groups > li")


def current(page: Page) -> Locator:
    """Return the picture that has the focus."""
    return page.locator(".member:focus")


def test_a_scan_is_started_and_ended_on_the_page(service: Service, page: Page) -> None:
    put(service, "astronaut", 80)
    put(service, "coffee", 100)
    page.reload()
    shows(page, "2 pictures")
    page.get_by_role("link", name="Duplicates").click()
    assert asked(page) == {"view": "duplicates"}
    shows(page, "Duplicates")
    page.get_by_role("button", name="Find duplicates").click()
    expect(page.locator("#scan-text")).to_contain_text("2 pictures compared, 0 pairs found")
    expect(page.locator("#dup-empty")).to_have_text("No duplicates.")
    expect(page.locator("#scan-bar")).to_be_hidden()
    page.get_by_role("button", name="Stop comparing").click()
    page.get_by_role("button", name="Stop and forget").click()
    expect(page.get_by_role("button", name="Find duplicates")).to_be_visible()
    assert service.client.get(PATH).status_code == 404
    page.get_by_role("button", name="Back to pictures").click()
    shows(page, "2 pictures")
    assert asked(page) == {}


def test_groups_are_shown_side_by_side_with_what_tells_them_apart(
    twins: Service, opened: Callable[..., Page]
) -> None:
    page = opened(VIEW)
    expect(groups(page)).to_have_count(3)
    first = groups(page).first
    expect(first.get_by_role("heading")).to_have_text("3 pictures")
    expect(first.locator(".group-head")).to_contain_text("matching points")
    shown = first.locator(".member .name").all_inner_texts()
    assert shown[0] == "astronaut 100.jpg"
    assert sorted(shown[1:]) == ["astronaut 80.jpg", "astronaut 90.jpg"]
    best = first.locator(".member").first
    expect(best.locator(".fate")).to_have_text("Keep")
    expect(best).to_contain_text("Suggested")
    expect(best.locator("b")).to_contain_text(["512 × 512 px", "KB"])
    expect(first.locator(".member").filter(has_text="80.jpg")).to_contain_text("shop: A")
    expect(first.locator(".fate")).to_have_text(["Keep", "Delete", "Delete"])
    expect(first.locator("img[data-state=shown]")).to_have_count(3)
    page.get_by_label("Order of the groups").select_option("Most certain first")
    expect(groups(page)).to_have_count(3)
    page.get_by_role("button", name="Open astronaut 80.jpg").click()
    expect(page.locator("#detail-title")).to_have_text("astronaut 80.jpg")
    page.keyboard.press("Escape")
    expect(groups(page)).to_have_count(3)


def test_groups_are_decided_about_by_keyboard_and_undone(
    twins: Service, opened: Callable[..., Page]
) -> None:
    page = opened(VIEW)
    expect(current(page)).to_contain_text("astronaut 100.jpg")
    page.keyboard.press("ArrowRight")
    expect(current(page)).not_to_contain_text("astronaut 100.jpg")
    page.keyboard.press("k")
    expect(current(page).locator(".fate")).to_have_text("Keep")
    page.keyboard.press("ArrowDown")
    name = current(page).locator(".name").inner_text()
    page.keyboard.press("x")
    expect(groups(page)).to_have_count(2)
    expect(page.locator("#toasts")).to_contain_text("Marked as different pictures.")
    decisions = twins.client.get("/duplicates/decisions").json()["decisions"]
    assert [each["decision"] for each in decisions] == ["different"]
    page.keyboard.press("u")
    expect(groups(page)).to_have_count(3)
    expect(current(page)).to_contain_text(name)
    assert twins.client.get("/duplicates/decisions").json()["decisions"] == []
    page.keyboard.press("Shift+X")
    expect(groups(page)).to_have_count(2)
    decisions = twins.client.get("/duplicates/decisions").json()["decisions"]
    assert [each["decision"] for each in decisions] == ["keep"]
    page.reload()
    expect(groups(page)).to_have_count(2)
    page.locator(".member").first.focus()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    assert len(names(twins)) == 8


def test_further_pages_are_loaded_and_new_groups_are_offered(
    twins: Service, opened: Callable[..., Page]
) -> None:
    page = opened(VIEW)
    expect(groups(page)).to_have_count(3)
    put(twins, "rocket", 90)
    page.get_by_role("button", name="Show newly found groups").click(timeout=40_000)
    expect(groups(page)).to_have_count(4)


def test_two_collections_are_compared(service: Service, page: Page) -> None:
    service.client.post("/collections", json={"name": "archive"})
    put(service, "astronaut", 100)
    content = encoded(photograph("astronaut").resize((400, 400)))
    service.put_master(content, "copy.jpg", collection="archive")
    service.client.post(PATH, json={"with": "archive", "max_distance": 2})
    page.goto(VIEW)
    page.get_by_label("Which pictures are compared").select_option("With archive")
    assert asked(page) == {"view": "duplicates", "with": "archive"}
    expect(groups(page)).to_have_count(1, timeout=40_000)  # once the worker has found it
    expect(groups(page).locator(".member").first).to_contain_text("in default")
    expect(groups(page).locator(".member").last).to_contain_text("in archive")
    page.get_by_role("button", name="Keep 1, delete 1").click()
    expect(page.locator("#toasts")).to_contain_text("1 picture deleted.")
    assert names(service) == {"astronaut 100.jpg"}
    found = service.client.get("/masters", params={"collection": "archive"}).json()
    assert found["total"] == 0


def test_the_view_of_a_missing_collection_says_so(
    service: Service, opened: Callable[..., Page]
) -> None:
    page = opened("/?collection=nowhere&view=duplicates")
    expect(page.locator("#nothing")).to_contain_text("There is no collection")
    expect(page.locator("#scan")).to_be_hidden()


def test_a_search_leaves_the_view(
    twins: Service, opened: Callable[..., Page], sample: Path
) -> None:
    page = opened(VIEW)
    expect(groups(page)).to_have_count(3)
    page.set_input_files("#choose", sample)
    shows(page, "8 results")
    expect(page.locator("#duplicates")).to_be_hidden()
    page.go_back()
    expect(groups(page)).to_have_count(3)


def test_a_different_picture_is_taken_out_of_its_group(
    twins: Service, opened: Callable[..., Page]
) -> None:
    page = opened(VIEW)
    expect(current(page)).to_contain_text("astronaut 100.jpg")
    first = groups(page).first
    page.keyboard.press("d")
    expect(first.locator(".member")).to_have_count(2)
    expect(first).not_to_contain_text("astronaut 100.jpg")
    expect(current(page)).to_contain_text("astronaut 90.jpg")
    decisions = twins.client.get("/duplicates/decisions").json()["decisions"]
    assert [each["decision"] for each in decisions] == ["different"] * 2
    page.keyboard.press("u")
    expect(first.locator(".member")).to_have_count(3)
    assert twins.client.get("/duplicates/decisions").json()["decisions"] == []
    page.get_by_role("button", name="Different from the others: astronaut 80.jpg").click()
    expect(first.locator(".member")).to_have_count(2)
    expect(first).not_to_contain_text("astronaut 80.jpg")


def test_a_group_is_resolved_and_undone(twins: Service, opened: Callable[..., Page]) -> None:
    page = opened(VIEW)
    expect(current(page)).to_contain_text("astronaut 100.jpg")
    page.keyboard.press("ArrowRight")
    kept = current(page).locator(".name").inner_text()
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    expect(page.locator("#toasts")).to_contain_text("2 pictures deleted.")
    expect(groups(page)).to_have_count(2)
    left = {name for name in names(twins) if name.startswith("astronaut")}
    assert left == {kept}
    page.keyboard.press("u")
    expect(groups(page)).to_have_count(3)
    expect(current(page)).to_contain_text(kept)
    assert len(names(twins)) == 8
    page.locator(".member:focus").press("Enter")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#toasts")).to_contain_text("2 pictures restored.")
    expect(groups(page)).to_have_count(3)


@pytest.mark.usefixtures("_permanent")  # before the service starts
def test_a_key_alone_never_deletes_for_good(twins: Service, opened: Callable[..., Page]) -> None:
    page = opened(VIEW)
    expect(current(page)).to_contain_text("astronaut 100.jpg")
    page.keyboard.press("Enter")
    button = groups(page).first.get_by_role("button", name="Keep 1, delete 2 permanently")
    expect(button).to_be_focused()
    expect(groups(page)).to_have_count(3)
    assert len(names(twins)) == 8
    page.keyboard.press("Enter")
    expect(page.locator("#toasts")).to_contain_text("2 pictures deleted.")
    assert len(names(twins)) == 6
    page.get_by_role("button", name="Resolve all").click()
    expect(page.get_by_role("button", name="Delete 2 pictures permanently")).to_be_enabled()


def test_all_groups_are_resolved_by_a_rule_after_a_preview_and_undone(
    twins: Service, opened: Callable[..., Page]
) -> None:
    page = opened(VIEW)
    expect(groups(page)).to_have_count(3)
    page.get_by_role("button", name="Resolve all").click()
    dialog = page.get_by_role("dialog", name="Resolve all groups")
    preview = dialog.locator("#resolve-preview")
    expect(preview).to_contain_text("Deletes 4 pictures of 3 groups and frees ")
    expect(preview).to_contain_text("3 kept pictures will get attributes of the others.")
    expect(dialog.locator("#resolve-examples li")).to_have_count(3)
    dialog.get_by_label("Merge attributes").uncheck()
    expect(preview).not_to_contain_text("attributes")
    dialog.get_by_label("Of each group").select_option("the most attributes")
    expect(dialog.locator(".kept")).to_have_text([re.compile("80")] * 3)
    dialog.get_by_role("button", name="Delete 4 pictures").click()
    expect(page.locator("#toasts")).to_contain_text("4 pictures deleted.")
    expect(dialog).to_be_hidden()
    expect(page.locator("#dup-empty")).to_have_text("No duplicates.")
    kept = {"astronaut 80.jpg", "coffee 80.jpg", "chelsea 80.jpg", "rocket 100.jpg"}
    assert names(twins) == kept
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#toasts")).to_contain_text("4 pictures restored.")
    assert len(names(twins)) == 8


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_view_is_accessible_and_fits(
    twins: Service, opened: Callable[..., Page], width: int, scheme: str
) -> None:
    page = opened(VIEW, viewport={"width": width, "height": 800}, color_scheme=scheme)

    def scan() -> None:
        found = Axe().run(page, options={"runOnly": RULES}).response["violations"]
        assert json.dumps(found) == "[]"
        assert page.evaluate(FITS)

    expect(current(page)).to_be_visible()
    scan()
    page.keyboard.press("?")
    scan()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Resolve all").click()
    expect(page.locator("#resolve-examples img[data-state=shown]")).to_have_count(7)
    scan()
