"""A statement's document in a browser that runs no script: desk, phone, dark, paper."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright
from pypdf import PdfReader

from tests.statement_reporting import CAT, sample_facts, sample_statement
from tests.web.test_overview import BROWSER_ARGUMENTS
from tokenbudget.domain.statements import StatementState
from tokenbudget.formats.statement_report import compose_statement
from tokenbudget.services.statement_documents import render_html
from tokenbudget.settings import packaged_path


@pytest.fixture
def address(tmp_path: Path) -> str:
    """Give where the document of a draft lies, with names in many scripts."""
    draft = sample_statement(state=StatementState.DRAFT, digest=None, closed_at=None)
    report = compose_statement(sample_facts(statement=draft))
    file = tmp_path / "statement.html"
    file.write_text(render_html(report, templates=packaged_path("reports")), encoding="utf-8")
    return file.as_uri()


@pytest.fixture
def page(browser_path: str) -> Iterator[Page]:
    """Give a page of a browser that runs no script."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=browser_path, args=list(BROWSER_ARGUMENTS)
        )
        yield browser.new_context(java_script_enabled=False).new_page()
        browser.close()


def test_the_document_shows_totals_and_leads_to_each_team(address: str, page: Page) -> None:
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text))
    page.on("requestfailed", lambda request: faults.append(request.url))

    page.goto(address)
    page.get_by_role("link", name=CAT).click()

    assert page.get_by_role("heading", name="October 2026 DRAFT").is_visible()
    assert page.locator(".grand").inner_text().split() == ["USD", "233.32"]
    assert "Ties to the cent" in page.locator(".tie").inner_text()
    assert page.get_by_role("heading", name=CAT).is_visible()
    assert page.locator(".by-team tfoot td").last.inner_text() == "233.32"
    assert faults == []


def test_the_document_fits_a_narrow_screen(address: str, page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 800})

    page.goto(address)

    for part in page.locator("body, .tiles, .by-team").all():
        box = part.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= 390
    assert not page.get_by_role("columnheader", name="Corrections").first.is_visible()


def test_the_document_is_dark_where_that_is_wanted(address: str, page: Page) -> None:
    page.emulate_media(color_scheme="dark")

    page.goto(address)

    dark = page.screenshot()
    page.emulate_media(color_scheme="light")
    assert page.screenshot() != dark


def test_on_paper_each_team_begins_a_page(address: str, page: Page) -> None:
    page.goto(address)

    pdf = PdfReader(io.BytesIO(page.pdf(prefer_css_page_size=True)))

    texts = [sheet.extract_text() for sheet in pdf.pages]
    assert len(texts) >= 7
    assert "233.32" in texts[0]
    assert sum("Features and models" in text or "came about" in text for text in texts) >= 6
