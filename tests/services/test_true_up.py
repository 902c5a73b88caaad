"""True-up through the ledger: rollups beside what providers report, estimates beside evidence."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from tests.builders import rows_of
from tests.conftest import FrozenClock
from tests.services.witness_cases import GATEWAY, PROVIDER, SDK, tell
from tokenbudget.bootstrap import Services
from tokenbudget.domain.months import month_period
from tokenbudget.domain.true_up import Quantities, TrueUpRow
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.true_up import TrueUp, true_up
from tokenbudget.store.bills import append_import
from tokenbudget.store.db import Database, insert_rows
from tokenbudget.store.tables import ProviderUsageRow, UsageRow

NOVEMBER = month_period(202611)
DAY = datetime(2026, 11, 20, tzinfo=UTC)
TEXT = "some words of a prompt " * 60


def report(database: Database, *lines: dict[str, Any], source: str = "acme-usage") -> None:
    """Store what a provider says was used on the day of the tests."""
    import_id = f"import-{source}"
    imported = {
        "id": import_id,
        "source": source,
        "file_name": "usage.json",
        "sha256": source,
        "line_count": len(lines),
        "imported_at": DAY,
    }
    usual = {
        "import_id": import_id,
        "source": source,
        "provider": "acme",
        "account": "",
        "model": "plain",
        "period_start": DAY,
        "period_end": datetime(2026, 11, 21, tzinfo=UTC),
        "project": None,
        "api_key": None,
        "input_tokens": None,
        "output_tokens": None,
        "requests": None,
        "other_units": {},
        "tags": {},
        "superseded_by": None,
    }
    rows = [{**usual, "row_number": number, **line} for number, line in enumerate(lines, 1)]
    with database.transaction() as session:
        append_import(session, imported)
        insert_rows(session, ProviderUsageRow, rows)


def compare(services: Services, provider: str | None = None) -> TrueUp:
    return true_up(
        services.database, period=NOVEMBER, price_list=services.price_list, provider=provider
    )


def sides_of(rows: Sequence[TrueUpRow]) -> list[tuple[str, Quantities | None, Quantities | None]]:
    return [(row.key.account, row.metered, row.reported) for row in rows]


def test_daily_rollups_stand_beside_what_is_in_force(
    services: Services, ledger: Ledger, database: Database
) -> None:
    tell(ledger, SDK, account="key-1")
    tell(ledger, SDK, account="key-1", event_id="app-2", response_id=None)
    report(
        database,
        {"api_key": "key-1", "input_tokens": 25_000, "output_tokens": 10_000, "requests": 3},
        {"api_key": "key-2", "input_tokens": 7},
        {"api_key": "key-2", "input_tokens": 99, "superseded_by": "import-acme-usage"},
        {"api_key": "key-2", "period_start": datetime(2026, 10, 31, tzinfo=UTC), "requests": 1},
        {"other_units": {"images": 3}},
    )

    result = compare(services)

    assert sides_of(result.rows) == [
        ("key-1", Quantities(20_000, 10_000, 2), Quantities(25_000, 10_000, 3)),
        ("key-2", None, Quantities(7, 0, None)),
    ]
    assert result.rows[0].key.day == DAY
    assert result.factors == ()


def test_what_meters_tell_is_left_out(services: Services, database: Database) -> None:
    report(database, {"input_tokens": 1}, source="litellm-daily")
    report(database, {"input_tokens": 2}, source="anthropic-claude-code")

    assert compare(services).rows == ()


def test_hours_of_a_day_are_one_row(services: Services, database: Database) -> None:
    hours = (datetime(2026, 11, 20, hour, tzinfo=UTC) for hour in (1, 23))
    report(database, *({"period_start": hour, "requests": 1} for hour in hours))

    assert sides_of(compare(services).rows) == [("", None, Quantities(0, 0, 2))]


def test_one_provider_may_be_asked_for_however_it_is_spelt(
    services: Services, database: Database
) -> None:
    report(database, {"requests": 1}, {"requests": 2, "provider": "reseller"})

    assert [row.key.provider for row in compare(services, "Reseller").rows] == ["reseller"]
    assert len(compare(services).rows) == 2


def test_an_estimate_is_held_against_the_best_measurement(
    services: Services, ledger: Ledger, database: Database
) -> None:
    tell(ledger, SDK, usage=None, text=TEXT)
    tell(ledger, GATEWAY, usage={"input_tokens": 500})
    tell(ledger, PROVIDER, usage={"input_tokens": 600})

    [factor] = compare(services).factors

    estimated = rows_of(database, UsageRow)[0]["input_tokens"]
    assert (factor.call_count, factor.estimated_tokens, factor.reported_tokens) == (
        1,
        estimated,
        600,
    )


def test_a_revision_that_measures_what_was_estimated_tells_too(
    services: Services, ledger: Ledger
) -> None:
    tell(ledger, SDK, usage=None, text=TEXT)
    tell(ledger, SDK, usage={"input_tokens": 700}, revision=1)

    [factor] = compare(services).factors

    assert factor.reported_tokens == 700


def test_calls_that_were_never_estimated_or_never_measured_tell_nothing_of_estimates(
    services: Services, ledger: Ledger, clock: FrozenClock
) -> None:
    tell(ledger, SDK, response_id="resp_a", event_id="a")
    tell(ledger, GATEWAY, response_id="resp_a", event_id="b")
    tell(ledger, SDK, response_id="resp_c", event_id="c", usage=None, text=TEXT)
    tell(ledger, GATEWAY, response_id="resp_c", event_id="d", usage=None)
    tell(ledger, SDK, response_id="resp_e", event_id="e", usage=None, text=TEXT)
    tell(ledger, SDK, response_id="resp_e", event_id="e", usage=None, void=True, revision=1)

    assert compare(services).factors == ()
