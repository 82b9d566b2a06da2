"""How results are arranged: grouped, folded, and narrowed by the values that they have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Route, expect

from tests.support.images import encoded, part_of
from tests.support.page import asked, filter_of, shows
from tests.support.service import Service, eventually

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
FITS = "() => document.documentElement.scrollWidth <= document.documentElement.clientWidth"


def names(page: Page) -> list[str]:
    return page.locator("#hits .name").all_inner_texts()


def search(page: Page, sample: Path, count: str = "12 results") -> None:
    page.set_input_files("#choose", sample)
    shows(page, count)


def test_results_are_grouped_by_a_value_and_a_group_opens(
    shelf: Service, page: Page, sample: Path
) -> None:
    search(page, sample)
    expect(page.locator("#arranging")).to_be_visible()
    page.get_by_label("Group results").select_option("subject")
    shows(page, "3 groups")
    assert asked(page)["group"] == "subject"
    assert len(names(page)) == 3
    nearest = names(page)[0]
    assert nearest.startswith("coffee")
    page.get_by_role("button", name=f"Show 3 more like {nearest}").click()
    expect(page.locator("#hits .name")).to_have_count(6)
    assert all(name.startswith("coffee") for name in names(page)[:4])
    hide = page.get_by_role("button", name=f"Hide 3 more like {nearest}")
    expect(hide).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#hits .name")).to_have_count(3)
    page.get_by_label("Group results").select_option("Not grouped")
    shows(page, "12 results")


def test_a_link_groups_the_results(shelf: Service, opened: Callable[..., Page]) -> None:
    first = shelf.client.get("/masters").json()["masters"][0]["id"]
    page = opened(f"/?like={first}&group=subject")
    shows(page, "3 groups")
    expect(page.get_by_label("Group results")).to_have_value("subject")


def test_near_identical_results_are_folded_and_shown(
    service: Service, page: Page, sample: Path
) -> None:
    for quality in (95, 90, 85):
        content = encoded(part_of("coffee", 1), quality=quality)
        service.put_master(content, f"coffee {quality}.jpg")
    service.put_master(encoded(part_of("rocket", 1)), "rocket.jpg")
    page.reload()
    search(page, sample, "4 results")
    fold = page.get_by_role("button", name="Fold near-identical")
    fold.click()
    shows(page, "2 results")
    expect(fold).to_have_attribute("aria-pressed", "true")
    assert asked(page)["fold"] == "1"
    page.get_by_role("button", name="Show 2 near-identical").click()
    expect(page.locator("#hits .name")).to_have_count(4)
    expect(page.locator("#hits .under")).to_have_count(2)
    folded = page.locator("#hits .under").first
    expect(folded).to_contain_text("near-identical")
    name = folded.locator(".name").inner_text()
    folded.locator(".opens").focus()
    page.keyboard.press("Delete")  # a deletion that can be undone
    expect(page.locator("#toasts")).to_contain_text(name)
    page.get_by_role("button", name="Undo").click()
    fold.click()
    shows(page, "4 results")


def test_values_of_the_results_are_counted_and_narrow_the_search(
    shelf: Service, page: Page, sample: Path
) -> None:
    search(page, sample)
    row = page.get_by_role("group", name="subject", exact=True)
    expect(row.get_by_role("button")).to_have_text(["chelsea4", "coffee4", "rocket4"])
    row.get_by_role("button", name="rocket").click()
    shows(page, "4 results")
    assert filter_of(page) == {"subject": {"$in": ["rocket"]}}
    chosen = row.get_by_role("button", name="rocket")
    expect(chosen).to_have_attribute("aria-pressed", "true")
    expect(row.get_by_role("button")).to_have_count(1)
    numbers = page.get_by_role("group", name="number", exact=True)
    expect(numbers.get_by_role("button")).to_have_text(["01", "11", "21", "31"])
    chosen.click()
    shows(page, "12 results")
    assert filter_of(page) is None


def test_values_are_counted_only_while_they_are_shown(
    shelf: Service, page: Page, sample: Path
) -> None:
    sent: list[bool] = []

    def watch(route: Route) -> None:
        sent.append(b'name="facets"' in (route.request.post_data_buffer or b""))
        route.continue_()

    page.route("**/search", watch)
    search(page, sample)
    assert sent == [True]
    page.locator("#facets summary").click()
    page.get_by_label("Group results").select_option("subject")
    shows(page, "3 groups")
    assert sent == [True, False]
    page.locator("#facets summary").click()
    expect(page.get_by_role("group", name="subject", exact=True)).to_be_visible()
    assert eventually(lambda: sent == [True, False, True])
    page.click("#end-search")
    shows(page, "12 pictures")
    expect(page.locator("#facets")).to_be_hidden()
    expect(page.locator("#arranging")).to_be_hidden()


def test_refined_results_are_arranged_too(shelf: Service, page: Page, sample: Path) -> None:
    search(page, sample)
    page.locator("#hits .card").first.hover()
    page.get_by_role("button", name="More like").first.click()
    expect(page.locator("#refinements button")).to_have_count(1)
    page.get_by_label("Group results").select_option("subject")
    shows(page, "3 groups")
    expect(page.get_by_role("group", name="subject", exact=True)).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_arranged_results_are_accessible_and_fit(
    shelf: Service, opened: Callable[..., Page], sample: Path, width: int, scheme: str
) -> None:
    page = opened(viewport={"width": width, "height": 800}, color_scheme=scheme)
    shows(page, "12 pictures")
    search(page, sample)
    page.get_by_label("Group results").select_option("subject")
    shows(page, "3 groups")
    page.get_by_role("button", name="Show 3 more").first.click()
    if width < 640:
        page.locator("#facets summary").click()
    row = page.get_by_role("group", name="subject", exact=True)
    row.get_by_role("button", name="coffee").click()
    shows(page, "1 group")
    found = Axe().run(page, options={"runOnly": RULES}).response["violations"]
    assert json.dumps(found) == "[]"
    assert page.evaluate(FITS)
