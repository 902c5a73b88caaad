"""The page at ``/``: over HTTP, and in a browser that runs no script."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from playwright.sync_api import Page, sync_playwright
from sqlmodel import select

from tests.reporting import DOLLAR, make_services
from tests.rollup_builders import RolledUsage, make_usage, roll_up
from tokenbudget.api.access import require_scope
from tokenbudget.api.app import create_app
from tokenbudget.bootstrap import Services
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.formats.budgets import parse_budgets_toml
from tokenbudget.services.budgets import apply_budgets
from tokenbudget.services.keys import create_key
from tokenbudget.settings import packaged_path
from tokenbudget.store.db import insert_rows
from tokenbudget.store.tables import AlertRow, CounterRow, SourceRow, UsageRow
from tokenbudget.web.overview import build_overview
from tokenbudget.web.views import install_pages

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
BROWSER_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
START_SECONDS = 20


@pytest.fixture
def services(tmp_path: Path) -> Services:
    """Give services on an empty ledger that need no key."""
    return make_services(tmp_path, now=NOW)


def make_app(services: Services) -> FastAPI:
    """Give the API with its pages."""
    app = create_app(services)
    templates = packaged_path("reports")
    install_pages(app, services, templates=templates, guard=require_scope("read"))
    return app


@pytest.fixture
def client(services: Services) -> TestClient:
    """Give a client of the whole application."""
    return TestClient(make_app(services))


def spend(days_ago: int, dollars: int, **dimensions: str | None) -> RolledUsage:
    """Give usage of so many dollars, so many days before now."""
    return make_usage(
        NOW - timedelta(days=days_ago),
        measures={"effective_nanos": dollars * DOLLAR},
        **{"team": "growth", "feature": "summarise", **dimensions},
    )


def fill(services: Services) -> None:
    """Put spend into this month and the one before, with gaps and a hostile name."""
    unpriced = {"effective_nanos": 0, "unpriced_requests": 1}
    roll_up(
        services.database,
        [
            spend(0, 10),
            spend(3, 30, team="<script>alert(1)</script>"),
            spend(8, 20),
            spend(12, 4, team="unallocated", feature=None),
            spend(40, 500),
            make_usage(NOW, team="growth", model="gpt-6-preview", measures=unpriced),
        ],
    )
    with services.database.transaction() as session:
        insert_rows(session, SourceRow, [{"id": 1, "name": "tests"}])
        insert_rows(
            session,
            UsageRow,
            [
                {
                    "id": 1,
                    "source_id": 1,
                    "event_ref": "e-1",
                    "revision": 0,
                    "content_hash": 0,
                    "occurred_at": NOW,
                    "recorded_at": NOW,
                    "dimension_set_id": 1,
                    "attempt": 1,
                }
            ],
        )


def alert(services: Services) -> None:
    """Put a budget that is used up into the ledger, and the alert of its threshold."""
    text = '[[budget]]\nid = "growth-monthly"\nlimit = "50.00"\nwindow = "month"\n'
    drafts = parse_budgets_toml(text, file_name="budgets.toml", timezone="UTC")
    apply_budgets(services.database, drafts, now=NOW)
    with services.database.transaction() as session:
        counter_id = session.exec(select(CounterRow.id)).one()
        row = AlertRow(
            id="alert-1",
            budget_id="growth-monthly",
            budget_version=1,
            counter_id=counter_id or 0,
            threshold="0.8",
            kind="actual",
            split_key="[]",
            window_start=datetime(2026, 11, 1, tzinfo=UTC),
            window_end=datetime(2026, 12, 1, tzinfo=UTC),
            unit="money",
            measured=41 * DOLLAR,
            limit_quantity=50 * DOLLAR,
            raised_at=NOW,
        )
        session.add(row)


def test_an_empty_ledger_shows_the_first_steps(client: TestClient) -> None:
    answer = client.get("/")

    assert answer.status_code == 200
    assert "No usage yet: first steps" in answer.text
    assert "curl http://127.0.0.1:8000/v1/events" in answer.text
    assert "<svg" not in answer.text


def test_the_page_shows_where_the_money_went(client: TestClient, services: Services) -> None:
    fill(services)
    alert(services)

    html = client.get("/").text

    for text in (
        "$64.00",
        "Last 30 days: 1 request has no price yet and is in no amount.",
        "Last 30 days: 1 request names no team: $4.00, 6.2% of the spend.",
        "growth-monthly",
        "limit reached",
        "$41.00",
        "20 Nov 2026, 12:00",
        "no price list recorded",
    ):
        assert text in html


def test_names_from_tags_are_escaped(client: TestClient, services: Services) -> None:
    fill(services)

    html = client.get("/").text

    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_parts_add_to_the_total_and_last_days_are_compared_fairly(services: Services) -> None:
    fill(services)

    page = build_overview(services, days=30)

    assert page.teams.total.amount.cents == 6_400
    assert sum(line.amount.cents for line in page.features.lines) == 6_400
    assert page.daily.total_cents == 6_400
    assert page.teams.total.amount_before.cents == 50_000
    assert len(page.daily.days) == 30
    assert len(page.trends) == len(page.teams.lines)


def test_tiles_tell_the_month_and_the_last_week(services: Services) -> None:
    fill(services)

    tiles = build_overview(services, days=7).tiles

    assert [(tile.label, tile.value, tile.comparison, tile.change) for tile in tiles[::2]] == [
        ("November 2026 so far", "$64.00", "October 2026 $500.00", ""),
        ("Last 7 days", "$40.00", "7 days before $24.00", "+66.7%"),
    ]
    assert tiles[3].value == "3"
    assert tiles[1].value.startswith("$")


def test_a_budget_that_rolls_shows_the_sum_of_its_days(services: Services) -> None:
    fill(services)
    text = '[[budget]]\nid = "fortnight"\nlimit = "80.00"\nwindow = "rolling:14d"\n'
    drafts = parse_budgets_toml(text, file_name="budgets.toml", timezone="UTC")
    apply_budgets(services.database, drafts, now=NOW)

    [line] = build_overview(services, days=30).budgets.lines

    # Ten, thirty, twenty and four dollars lie within fourteen days, five hundred do not.
    assert (line.name, line.window, line.settled) == ("fortnight", "rolling:14d", "$64.00")
    assert (line.use, line.forecast) == ("80.0%", "")


def test_a_month_without_history_has_no_forecast(services: Services) -> None:
    assert build_overview(services, days=7).tiles[1].value == "–"


def test_usage_of_this_hour_alone_is_no_history(services: Services) -> None:
    roll_up(services.database, [spend(0, 1)])

    assert build_overview(services, days=7).tiles[1].value == "–"


def test_many_teams_share_a_rest_line_without_a_trend(services: Services) -> None:
    roll_up(services.database, [spend(1, 1, team=f"team-{number:02d}") for number in range(14)])

    page = build_overview(services, days=7)

    assert page.teams.lines[-1].merged == 4
    assert page.trends[-1].points == ""


def test_a_ledger_younger_than_the_comparison_says_so(
    client: TestClient, services: Services
) -> None:
    fill(services)

    html = client.get("/?days=30").text

    assert "The ledger begins on 11 Oct 2026, 12:00" in html
    assert "The ledger begins" not in client.get("/?days=7").text


@pytest.mark.parametrize("days", ["31", "x", "-7"])
def test_a_range_there_is_no_link_to_is_one_clear_error(client: TestClient, days: str) -> None:
    answer = client.get(f"/?days={days}")

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


def test_an_unknown_range_names_those_there_are(services: Services) -> None:
    with pytest.raises(InvalidInput, match="days 31 must be one of 7, 30, 90"):
        build_overview(services, days=31)


def test_the_page_forbids_scripts_and_is_not_kept(client: TestClient) -> None:
    answer = client.get("/")

    assert "default-src 'none'; style-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert "style=" not in answer.text
    assert "<script" not in answer.text


@pytest.mark.parametrize(
    ("name", "media_type"),
    [("base.css", "text/css"), ("page.css", "text/css"), ("icon.svg", "image/svg+xml")],
)
def test_style_sheets_come_from_this_server(client: TestClient, name: str, media_type: str) -> None:
    answer = client.get(f"/static/{name}")

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(media_type)


@pytest.mark.parametrize("name", ["weekly.css", "..%2Fviews.py", "nothing"])
def test_no_other_file_is_served(client: TestClient, name: str) -> None:
    assert client.get(f"/static/{name}").status_code == 404


def test_a_browser_is_asked_for_a_key_and_may_send_it_as_password(tmp_path: Path) -> None:
    services = make_services(tmp_path, now=NOW, auth="keys")
    reader = create_key(services.database, name="cfo", scopes=["read"], pinned_tags={}, now=NOW)
    client = TestClient(make_app(services))

    refused, shown = client.get("/"), client.get("/", auth=("", reader.secret))

    assert refused.status_code == 401
    assert "Basic" in refused.headers["www-authenticate"]
    assert shown.status_code == 200
    assert client.get("/", params={"key": reader.secret}).status_code == 401


@pytest.fixture
def address(services: Services) -> Iterator[str]:
    """Give the address of a server with usage in its ledger."""
    fill(services)
    alert(services)
    server = uvicorn.Server(uvicorn.Config(make_app(services), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + START_SECONDS
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def page(browser_path: str) -> Iterator[Page]:
    """Give a page of a browser that runs no script."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=browser_path, args=list(BROWSER_ARGUMENTS)
        )
        yield browser.new_context(java_script_enabled=False).new_page()
        browser.close()


def test_the_page_works_without_scripts(address: str, page: Page) -> None:
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text))
    page.on("requestfailed", lambda request: faults.append(request.url))

    page.goto(address)
    shown_first = page.get_by_role("heading", name="Spend a day, last 30 days").is_visible()
    page.get_by_role("link", name="7 days").click()

    assert shown_first
    assert page.url == f"{address}/?days=7"
    assert page.get_by_role("heading", name="Spend a day, last 7 days").is_visible()
    assert page.get_by_role("link", name="7 days").get_attribute("aria-current") == "page"
    page.get_by_text("Show as a table").click()
    assert page.get_by_role("columnheader", name="growth").is_visible()
    assert faults == []


def test_the_page_fits_a_narrow_screen(address: str, page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 800})

    page.goto(address)

    body = page.locator("body").bounding_box()
    assert body is not None
    assert body["width"] <= 390
    assert page.locator(".tiles").bounding_box() is not None
