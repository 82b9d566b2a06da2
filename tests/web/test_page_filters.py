"""The filter form of the page offers what every picture has, and what its file says."""

from __future__ import annotations

from playwright.sync_api import Page, Route, expect

from tests.support.images import encoded, part_of
from tests.support.page import asked, bar, filter_of, lists, open_filter, shows
from tests.support.service import Service


def test_the_filter_form_offers_what_the_pictures_have(album: Service, page: Page) -> None:
    open_filter(page)
    tick = page.locator("#filters label").filter
    tick(has_text="Canon EOS R5").locator("input").check()
    lists(page, "south", "June 1", "May 31", "May 1")
    expect(tick(has_text="Canon EOS R5").locator(".hint")).to_have_text("4")
    tick(has_text="cat").locator("input").check()
    lists(page, "May 1")
    tick(has_text="cat").locator("input").uncheck()
    page.get_by_label("ISO: from").fill("101")
    shows(page, "0 pictures")
    page.get_by_role("button", name="Clear filters").click()
    shows(page, "6 pictures")
    page.get_by_label("Aperture: to").fill("2")
    lists(page, "phone")
    page.get_by_label("Aperture: to").fill("")
    shows(page, "6 pictures")
    tick(has_text="4 stars").locator("input").check()
    lists(page, "May 1")
    page.get_by_role("button", name="Remove the filter Rating: 4 stars").click()
    page.get_by_label("Width: from").fill("321")
    shows(page, "0 pictures")
    page.get_by_label("Width: from").fill("320")
    shows(page, "6 pictures")
    page.get_by_label("Size: to").fill("0.001")
    shows(page, "0 pictures")
    assert {"size": {"$lte": 1000}} in filter_of(page)["$and"]
    page.get_by_label("Size: to").fill("1")
    shows(page, "6 pictures")


def test_a_number_can_be_typed_while_the_form_is_drawn_again(album: Service, page: Page) -> None:
    open_filter(page)
    page.locator("#filters label").filter(has_text="4 stars").locator("input").check()
    lists(page, "May 1")
    waiting: list[Route] = []

    def hold(route: Route) -> None:
        waiting.append(route)

    page.route("**/attributes", hold)
    with page.expect_request("**/attributes"):
        page.get_by_role("button", name="Remove the filter Rating: 4 stars").click()
    width = page.get_by_label("Width: from")
    width.focus()
    old = width.element_handle()
    waiting[0].continue_()
    page.wait_for_function("(old) => !old.isConnected", arg=old)
    page.keyboard.type("321")
    expect(width).to_have_value("321")
    shows(page, "0 pictures")


def test_the_filter_form_takes_days(album: Service, page: Page) -> None:
    open_filter(page)
    page.get_by_label("Taken: from").fill("2024-05-01")
    lists(page, "phone", "June 1", "May 31", "May 1")
    page.get_by_label("Taken: to").fill("2024-05-31")
    lists(page, "phone", "May 31", "May 1")
    expect(page.locator(".chip")).to_have_text("Taken: May 2024")
    expect(bar(page, "May 2024: 3 pictures")).to_have_attribute("aria-pressed", "true")
    page.reload()
    open_filter(page)
    expect(page.get_by_label("Taken: to")).to_have_value("2024-05-31")
    page.locator(".chip").click()
    shows(page, "6 pictures")
    page.get_by_label("Uploaded: to").fill("2020-01-01")
    shows(page, "0 pictures")
    page.get_by_label("Uploaded: to").fill("")
    page.get_by_label("Uploaded: from").fill("2020-01-01")
    shows(page, "6 pictures")


def test_the_filter_form_takes_parts_of_names(album: Service, page: Page) -> None:
    album.put_master(encoded(part_of("coffee", 20)), "50% of May_1.jpg")
    page.reload()
    open_filter(page)
    name = page.locator("#filters").get_by_label("Name", exact=True)
    name.fill("May")
    lists(page, "50% of May_1", "May 31", "May 1")
    page.get_by_label("How Name compares").select_option("begins with")
    lists(page, "May 31", "May 1")
    assert filter_of(page) == {"name": {"$prefix": "May"}}
    page.get_by_label("How Name compares").select_option("contains")
    name.fill("0% of")
    lists(page, "50% of May_1")
    page.get_by_label("How Name compares").select_option("matches")
    name.fill("%May_1.%")
    lists(page, "50% of May_1", "May 1")
    expect(page.locator(".chip")).to_have_text("Name matches %May_1.%")
    page.reload()
    open_filter(page)
    expect(name).to_have_value("%May_1.%")


def test_the_filter_form_takes_a_box_on_the_globe(album: Service, page: Page) -> None:
    open_filter(page)
    for side, degrees in (("West", "5"), ("South", "45"), ("East", "20")):
        page.get_by_label(side, exact=True).fill(degrees)
    page.get_by_label("North", exact=True).fill("40")
    expect(page.get_by_text("South is greater than north.")).to_be_visible()
    assert asked(page) == {}
    page.get_by_label("North", exact=True).fill("60")
    lists(page, "phone")
    assert filter_of(page) == {"capture.gps": {"$within": [5, 45, 20, 60]}}
    expect(page.locator(".chip")).to_have_text("Place: 45° N, 5° E to 60° N, 20° E")
    for side in ("West", "South", "East", "North"):
        page.get_by_label(side, exact=True).fill("")
    shows(page, "6 pictures")


def test_an_attribute_comes_before_the_field_of_its_name(album: Service, page: Page) -> None:
    album.put_master(encoded(part_of("coffee", 30)), "sized.jpg", attributes='{"size": "XL"}')
    page.reload()
    open_filter(page)
    expect(page.locator("#filters legend").filter(has_text="size")).to_have_count(1)
    page.locator("#filters label").filter(has_text="XL").locator("input").check()
    lists(page, "sized")
