"""What the page says about files that lack their last bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect

from app.settings import Settings
from models.embedder import Embedder
from tests.support.images import CAT
from tests.support.service import Service, serving

NOTE = "This file is incomplete. The search used what is there."


def test_a_note_beside_the_sample_says_that_its_file_is_incomplete(
    shelf: Service, page: Page, tmp_path: Path
) -> None:
    cut, whole = tmp_path / "cut.jpg", tmp_path / "whole.jpg"
    cut.write_bytes(CAT[: int(len(CAT) * 0.995)])
    whole.write_bytes(CAT)
    page.set_input_files("#choose", cut)
    expect(page.get_by_text(NOTE)).to_be_visible()
    expect(page.locator("#count")).to_have_text("12 results")
    page.set_input_files("#choose", whole)
    expect(page.get_by_text(NOTE)).to_be_hidden()


def test_incomplete_uploads_are_counted(
    settings: Settings, embedder: Embedder, opened: Callable[..., Page], tmp_path: Path
) -> None:
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(CAT[: int(len(CAT) * 0.995)])
    accepting = settings.model_copy(
        update={"accept_truncated": True, "data_dir": tmp_path / "other data"}
    )
    with serving(accepting, embedder) as service:
        page = opened(str(service.client.base_url))
        page.click("#upload-open")
        page.set_input_files("#files", cut)
        expect(page.get_by_text("1 picture uploaded, 1 of them incomplete.")).to_be_visible()
        page.close()
