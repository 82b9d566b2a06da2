"""The page shows when, where and with what a picture was taken."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from tests.support.images import encoded, photograph
from tests.support.page import bar, lists, open_filter, shows
from tests.support.service import Service

# details


def fact(page: Page, term: str) -> Locator:
    return page.locator(f"#capture dt:text-is('{term}') + dd")


def test_the_details_show_what_the_camera_wrote(album: Service, page: Page) -> None:
    page.get_by_role("link", name="phone.jpg").click()
    expect(fact(page, "Taken")).to_contain_text("1 May 2024, 10:00:00 (UTC+02:00)")
    expect(fact(page, "Camera")).to_have_text("Apple iPhone 12")
    expect(fact(page, "Lens")).to_have_text("iPhone 12 back camera 4.2mm f/1.6")
    expect(fact(page, "Focal length")).to_have_text("4.2 mm")
    expect(fact(page, "Exposure")).to_have_text("1/121 s")
    expect(fact(page, "Aperture")).to_have_text("f/1.6")
    expect(fact(page, "ISO")).to_have_text("200")
    expect(fact(page, "Place")).to_contain_text("52.52° N, 13.41° E, 35 m")
    expect(fact(page, "Software")).to_have_text("17.4.1")
    link = page.get_by_role("link", name="Show on a map")
    assert "mlat=52.52&mlon=13.41" in str(link.get_attribute("href"))
    uploaded = page.locator("#facts dt:text-is('Uploaded') + dd")
    expect(uploaded).to_have_text(re.compile(r"\d+ [A-Z][a-z]+ \d{4}, [\d:]{8} \(UTC\)"))
    expect(page.locator("#facts dt:text-is('Type') + dd")).to_have_text("JPEG")
    page.keyboard.press("Escape")
    page.get_by_role("link", name="May 1.jpg").click()
    expect(fact(page, "Taken")).to_contain_text("1 May 2024, 08:00:00")
    expect(fact(page, "Taken")).not_to_contain_text("UTC")
    expect(fact(page, "Keywords").get_by_role("button")).to_have_text(["cat", "garden"])
    expect(fact(page, "Rating")).to_have_text("4 stars")
    page.keyboard.press("Escape")
    page.get_by_role("link", name="plain.jpg").click()
    expect(page.locator("#detail-title")).to_have_text("plain.jpg")
    expect(page.locator("#capture")).to_be_hidden()


def test_a_sample_that_the_browser_cannot_show_has_an_icon_in_the_search_box(
    album: Service, page: Page, tmp_path: Path
) -> None:
    (tmp_path / "sample.tif").write_bytes(encoded(photograph("coffee"), "TIFF"))
    page.set_input_files("#choose", tmp_path / "sample.tif")
    expect(page.locator("#hits li").first).to_be_visible()
    expect(page.locator("#picture .lost svg")).to_be_visible()
    expect(page.locator("#stage .lost")).to_be_visible()


@pytest.mark.parametrize(
    ("picture", "button", "found", "chip"),
    [
        ("phone", "Apple iPhone 12", ["phone"], "Camera: Apple iPhone 12"),
        (
            "June 1",
            "RF50mm F1.8 STM",
            ["south", "June 1", "May 31", "May 1"],
            "Lens: RF50mm F1.8 STM",
        ),
        ("May 1", "garden", ["May 1"], "Keywords: garden"),
        ("phone", "Same day", ["phone", "May 1"], "Taken: 1 May 2024 (UTC+02:00)"),
        ("May 31", "Same day", ["May 31"], "Taken: 31 May 2024"),
        ("phone", "Near here", ["phone"], "Place: 52.51° N, 13.39357° E to 52.53° N, 13.42643° E"),
    ],
)
def test_one_click_in_the_details_finds_the_same(
    album: Service, page: Page, picture: str, button: str, found: list[str], chip: str
) -> None:
    page.get_by_role("link", name=f"{picture}.jpg").click()
    page.locator("#capture").get_by_role("button", name=button).click()
    lists(page, *found)
    expect(page.locator("#detail")).to_be_hidden()
    expect(page.locator(".chip")).to_have_text(chip)
    page.locator(".chip").click()
    shows(page, "6 pictures")


# accessibility


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_accessibility_violation(
    album: Service, opened: Callable[..., Page], scheme: str
) -> None:
    page = opened(color_scheme=scheme, reduced_motion="reduce")

    def scan(what: str) -> None:
        rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
        violations = Axe().run(page, options={"runOnly": rules}).response["violations"]
        found = [
            (what, rule["id"], [node["target"] for node in rule["nodes"]][:3])
            for rule in violations
        ]
        assert found == []

    bar(page, "May 2024").click()
    shows(page, "3 pictures")
    scan("timeline")
    open_filter(page)
    page.get_by_label("How Name compares").select_option("matches")
    scan("filter form")
    page.select_option("#sort", label="Attribute")
    expect(page.locator("#sort-attribute")).to_be_visible()
    scan("sort by an attribute")
    page.get_by_role("link", name="phone.jpg").click()
    expect(page.locator("#detail-image")).to_have_attribute("data-state", "shown")
    scan("details")


@pytest.mark.parametrize("width", [320, 390, 1400])
def test_it_fits_from_phone_to_desktop(
    album: Service, opened: Callable[..., Page], width: int
) -> None:
    page = opened(viewport={"width": width, "height": 844})
    fits = "(element) => element.scrollWidth <= element.clientWidth"
    expect(page.locator("#timeline")).to_be_visible()
    open_filter(page)
    expect(page.locator("#filters fieldset").first).to_be_visible()
    page.select_option("#sort", label="Attribute")
    expect(page.locator("#sort-attribute")).to_be_visible()
    assert page.locator("html").evaluate(fits)
    assert page.locator("#filters").evaluate(fits)
    page.get_by_role("link", name="phone.jpg").click()
    expect(page.locator("#capture")).to_be_visible()
    assert page.locator("#detail").evaluate(fits)
