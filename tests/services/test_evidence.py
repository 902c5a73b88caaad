"""Evidence of single calls: it replaces what was metered, counts what nobody told, and once."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.builders import (
    CENT,
    broken_rules,
    contents,
    make_budget,
    rows_of,
    set_budgets,
    standings,
)
from tests.conftest import FrozenClock
from tests.formats.calls.call_cases import GENERATIONS, OBSERVATIONS, SPEND_LOGS, write_lines
from tests.price_builders import make_model, make_price, make_price_list
from tests.services.attribution_cases import set_rules, spent_by
from tests.services.witness_cases import SDK, effective_total, standing_nanos, tell
from tests.store_fixtures import make_services
from tokenbudget.bootstrap import Services, make_ledger
from tokenbudget.domain.errors import BadFile
from tokenbudget.domain.months import month_period
from tokenbudget.domain.prices import ProviderPrices
from tokenbudget.domain.true_up import EstimateFactor
from tokenbudget.services.evidence import CallImport, find_call_files, import_calls, open_door
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.true_up import true_up
from tokenbudget.store.db import Database
from tokenbudget.store.tables import ChargeRow, UsageRow

DAY = timedelta(days=1)
RATES = {"input_tokens": 1_000_000, "output_tokens": 2_000_000}
# Of openrouter's acme/plain a million input tokens cost one dollar.
PRICES = make_price_list(
    make_model(make_price(RATES, model="plain"), model="plain"),
    others=(
        ProviderPrices(
            provider="openrouter",
            names=("openrouter",),
            models=(
                make_model(
                    make_price(RATES, provider="openrouter", model="acme/plain"),
                    provider="openrouter",
                    model="acme/plain",
                ),
            ),
        ),
    ),
    version="evidence-prices",
)
TOLD = {"provider": "openrouter", "model": "acme/plain", "response_id": "gen-1"}
GENERATION = {
    "generation_id": "gen-1",
    "created_at": "2026-11-20 12:00:01.000",
    "cost_total": "0.05",
    "tokens_prompt": "30000",
    "tokens_completion": "0",
    "model_permaslug": "acme/plain",
    "api_key_name": "prod",
}


@pytest.fixture
def priced(database: Database, clock: FrozenClock, tmp_path: Path) -> Services:
    plain = make_services(database, clock, tmp_path)
    return Services(plain.settings, database, PRICES, clock)


@pytest.fixture
def ledger(priced: Services) -> Ledger:
    return make_ledger(priced)


def import_file(ledger: Ledger, path: Path, source: str | None = None) -> CallImport:
    door = open_door(ledger, DAY)
    return import_calls(ledger, find_call_files([path], source, door)[path], door)


def import_generations(ledger: Ledger, directory: Path, *rows: dict[str, Any]) -> CallImport:
    return import_file(ledger, write_lines(directory, *rows))


def test_a_figure_that_was_metered_is_replaced_by_the_providers(
    ledger: Ledger, database: Database, clock: FrozenClock, tmp_path: Path
) -> None:
    set_budgets(database, make_budget(), now=clock())
    tell(ledger, SDK, **TOLD, usage={"input_tokens": 20_000})

    imported = import_generations(ledger, tmp_path, GENERATION)

    assert imported.accepted == 1
    assert standing_nanos(database) == [("gen-1", 3 * CENT)]
    assert effective_total(database) == 3 * CENT
    assert standings(database, now=clock())["all",] == (3 * CENT, 0)
    # What the SDK told is kept, and so the difference can be seen.
    told = [(row["event_ref"], row["input_tokens"]) for row in rows_of(database, UsageRow)]
    assert told == [("app-1", 20_000), ("gen-1", 30_000)]


def test_an_estimate_is_replaced_and_keeps_the_tags_it_came_with(
    ledger: Ledger, database: Database, tmp_path: Path
) -> None:
    tell(ledger, SDK, **TOLD, usage=None, text="some words " * 100)

    import_generations(ledger, tmp_path, GENERATION)

    assert standing_nanos(database) == [("gen-1", 3 * CENT)]
    assert effective_total(database) == 3 * CENT
    assert {row["basis"] for row in rows_of(database, ChargeRow)[-1:]} == {"rated"}
    result = true_up(database, period=month_period(202611), price_list=PRICES)
    [row] = result.rows
    assert row.metered is not None
    assert (row.metered.input_tokens, row.metered.requests) == (30_000, 1)
    [factor] = result.factors
    estimated = rows_of(database, UsageRow)[0]["input_tokens"]
    assert factor == EstimateFactor(
        factor.family, 1, estimated, 30_000, round(30_000 * 10_000 / estimated), None
    )


def test_a_call_that_nobody_told_counts(ledger: Ledger, database: Database, tmp_path: Path) -> None:
    imported = import_generations(ledger, tmp_path, GENERATION)

    assert (imported.accepted, imported.duplicates) == (1, 0)
    assert standing_nanos(database) == [("gen-1", 3 * CENT)]


def test_a_call_that_nobody_told_belongs_to_whom_its_key_is_mapped(
    ledger: Ledger, database: Database, clock: FrozenClock, tmp_path: Path
) -> None:
    match = {"provider": "openrouter", "account": ["prod"]}
    set_rules(database, clock, mappings=[{"match": match, "tags": {"team": "search"}}])

    import_generations(ledger, tmp_path, GENERATION)

    assert spent_by(database) == {"search": 3 * CENT}


def test_evidence_that_came_first_still_counts_when_the_sdk_tells_it(
    ledger: Ledger, database: Database, tmp_path: Path
) -> None:
    import_generations(ledger, tmp_path, GENERATION)

    tell(ledger, SDK, **TOLD, usage={"input_tokens": 20_000})

    assert standing_nanos(database) == [("gen-1", 3 * CENT)]


@pytest.mark.parametrize(
    ("path", "calls", "unpriced"), [(GENERATIONS, 2, 2), (SPEND_LOGS, 3, 1), (OBSERVATIONS, 2, 2)]
)
def test_importing_a_file_again_changes_nothing(
    ledger: Ledger, database: Database, path: Path, calls: int, unpriced: int
) -> None:
    first = import_file(ledger, path)
    before = contents(database)

    again = import_file(ledger, path)

    assert (first.accepted, first.unpriced) == (calls, unpriced)
    assert (again.accepted, again.duplicates, again.differing) == (0, calls, 0)
    assert contents(database) == before
    assert broken_rules(database) == []


def test_a_call_told_otherwise_later_is_left_as_it_was(
    ledger: Ledger, database: Database, tmp_path: Path
) -> None:
    import_generations(ledger, tmp_path, GENERATION)

    again = import_generations(ledger, tmp_path, {**GENERATION, "tokens_prompt": "1"})

    assert (again.accepted, again.differing) == (0, 1)
    assert again.notes[0].startswith("calls.jsonl: row 1: event_id 'gen-1' of source")
    assert standing_nanos(database) == [("gen-1", 3 * CENT)]


def test_a_file_with_one_bad_row_tells_nothing(
    ledger: Ledger, database: Database, tmp_path: Path
) -> None:
    bad = {**GENERATION, "generation_id": "gen-2", "tokens_prompt": "many"}

    with pytest.raises(BadFile, match=r"calls\.jsonl: row 2, column tokens_prompt: 'many'"):
        import_generations(ledger, tmp_path, GENERATION, bad)

    assert rows_of(database, UsageRow) == []


@pytest.mark.parametrize("path", [GENERATIONS, SPEND_LOGS, OBSERVATIONS])
def test_a_file_that_was_cut_off_tells_nothing(
    ledger: Ledger, database: Database, tmp_path: Path, path: Path
) -> None:
    copy = Path(shutil.copy(path, tmp_path))
    copy.chmod(0o644)
    copy.write_bytes(path.read_bytes()[:-80])

    with pytest.raises(BadFile, match=path.name.replace(".", r"\.")):
        import_file(ledger, copy)

    assert rows_of(database, UsageRow) == []


def test_calls_are_told_in_batches_and_their_number_goes_along(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenbudget.services.evidence.CALLS_PER_WORK", 2)
    path = write_lines(tmp_path, *({**GENERATION, "generation_id": f"gen-{n}"} for n in range(3)))
    door = open_door(ledger, DAY)
    advanced: list[int] = []

    imported = import_calls(
        ledger, find_call_files([path], None, door)[path], door, advanced.append
    )

    assert (imported.call_count, imported.accepted, advanced) == (3, 3, [2, 1])


def test_files_of_bills_are_left_to_the_bills(ledger: Ledger) -> None:
    bill = GENERATIONS.with_name("openrouter-activity.csv")

    assert find_call_files([bill], None, open_door(ledger, DAY)) == {}
