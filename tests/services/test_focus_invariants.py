"""A FOCUS export holds what the validator does not look at: sums, products, periods, keys."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from tests.builders import CENT, rows_of
from tests.services.focus_cases import (
    OCTOBER,
    SEPTEMBER,
    FocusFile,
    export_file,
    fill_everything,
)
from tokenbudget.bootstrap import Services
from tokenbudget.domain.periods import Period
from tokenbudget.domain.rollups import DAY_SECONDS
from tokenbudget.formats import focus
from tokenbudget.formats.bills.focus import read
from tokenbudget.formats.focus_columns import VERSIONS, Kind, columns_of
from tokenbudget.services import focus_export
from tokenbudget.services.ledger import Ledger
from tokenbudget.store import focus as store
from tokenbudget.store.db import Database
from tokenbudget.store.tables import DimensionSetRow, RollupRow

BOTH = Period(SEPTEMBER.start, OCTOBER.end)
PERIODS = {"closed": SEPTEMBER, "open": OCTOBER, "both": BOTH}
NANO = Decimal("0.000000001")


@pytest.fixture
def everything(services: Services, ledger: Ledger) -> Database:
    """Give a ledger with something of everything."""
    fill_everything(services, ledger)
    return services.database


@pytest.fixture(params=PERIODS)
def exported(request: pytest.FixtureRequest, everything: Database, tmp_path: Path) -> FocusFile:
    """Give the CSV file of the closed month, of the open one and of both."""
    return export_file(everything, tmp_path / "focus.csv", period=PERIODS[request.param])


def product(row: Mapping[str, str | None], price: str) -> Decimal:
    return Decimal(row[price] or "") * Decimal(row["PricingQuantity"] or "")


def is_usage_of_ledger(row: Mapping[str, str | None]) -> bool:
    return row["x_CostSource"] in ("metered", "unpriced", "commitment")


def test_unit_price_times_quantity_is_the_cost_of_every_row(exported: FocusFile) -> None:
    priced = [row for row in exported.rows if row["PricingQuantity"] is not None]

    assert len(priced) >= 10
    for row in priced:
        assert product(row, "ListUnitPrice") == Decimal(row["ListCost"] or "")
        assert product(row, "ContractedUnitPrice") == Decimal(row["ContractedCost"] or "")


@pytest.mark.parametrize("version", VERSIONS)
def test_every_row_has_the_columns_of_the_version_and_what_they_demand(
    everything: Database, tmp_path: Path, version: str
) -> None:
    file = export_file(everything, tmp_path / "focus.csv", period=BOTH, version=version)

    columns = columns_of(version)
    assert list(file.rows[0]) == [column.name for column in columns]
    for row in file.rows:
        for column in columns:
            cell = row[column.name]
            assert cell is not None or not column.is_required, column.name
            assert cell is None or cell in (column.allowed_values or (cell,)), column.name
            assert cell is None or cell.isascii(), column.name
            is_unsigned = column.kind is Kind.DECIMAL and not column.is_signed
            assert not is_unsigned or Decimal(cell or 0) >= 0, column.name


def test_custom_columns_begin_with_x_and_come_last(exported: FocusFile) -> None:
    are_custom = [name.startswith("x_") for name in exported.rows[0]]

    assert len(are_custom) - sum(are_custom) == 57
    assert are_custom == sorted(are_custom)


def test_charges_lie_in_their_billing_period_unless_they_correct_another(
    exported: FocusFile,
) -> None:
    for row in exported.rows:
        start, end = row["ChargePeriodStart"] or "", row["ChargePeriodEnd"] or ""
        assert start < end
        if row["ChargeClass"] is None:
            assert (row["BillingPeriodStart"] or "") <= start
            assert end <= (row["BillingPeriodEnd"] or "")
        else:
            assert start < (row["BillingPeriodStart"] or "")


def test_no_row_comes_twice_and_each_has_a_key(exported: FocusFile) -> None:
    keys = Counter(row["x_ChargeKey"] for row in exported.rows)

    assert max(keys.values()) == 1


def test_a_price_is_of_one_sku_and_a_service_of_one_category(exported: FocusFile) -> None:
    skus: defaultdict[str | None, set[object]] = defaultdict(set)
    services: defaultdict[str | None, set[object]] = defaultdict(set)
    for row in exported.rows:
        skus[row["SkuPriceId"]].add(row["SkuId"])
        services[row["ServiceName"]].add((row["ServiceCategory"], row["ServiceSubcategory"]))

    assert all(len(found) == 1 for found in (*skus.values(), *services.values()))


def test_cells_that_a_category_may_not_have_are_empty(exported: FocusFile) -> None:
    priced = ("SkuId", "SkuPriceId", "ListUnitPrice", "PricingQuantity", "PricingCategory")
    for row in exported.rows:
        is_plain = row["ChargeClass"] is None
        has_price = row["ChargeCategory"] in ("Usage", "Purchase") and is_plain
        assert all((row[name] is not None) == has_price for name in priced)
        has_quantity = row["ChargeCategory"] == "Usage" and is_plain
        is_unused = row["CommitmentDiscountStatus"] == "Unused"
        assert (row["ConsumedQuantity"] is not None) == (has_quantity and not is_unused)
        assert (row["ConsumedUnit"] is None) == (row["ConsumedQuantity"] is None)
        assert (row["PricingUnit"] is None) == (row["PricingQuantity"] is None)


def test_costs_of_a_rollup_are_its_own_to_the_nano(everything: Database, tmp_path: Path) -> None:
    file = export_file(everything, tmp_path / "focus.csv", period=BOTH)
    rollups = {
        f"{row['starts_at']:%Y%m%d}/{row['dimension_set_id']}/{row['price_row_id']}": row
        for row in rows_of(everything, RollupRow)
        if row["grain_seconds"] == DAY_SECONDS
    }

    told: defaultdict[str, list[Decimal]] = defaultdict(lambda: [Decimal(0)] * 3)
    for row in filter(is_usage_of_ledger, file.rows):
        sums = told[(row["x_ChargeKey"] or "").rpartition("/")[0]]
        for place, name in enumerate(("ListCost", "ContractedCost", "EffectiveCost")):
            sums[place] += Decimal(row[name] or "")

    assert {key: [value / NANO for value in sums] for key, sums in told.items()} == {
        key: [row[f"{name}_nanos"] for name in ("list", "contracted", "effective")]
        for key, row in rollups.items()
    }


def test_costs_by_day_team_and_model_equal_the_ledger(everything: Database, tmp_path: Path) -> None:
    file = export_file(everything, tmp_path / "focus.csv", period=BOTH)
    places = {row["id"]: row for row in rows_of(everything, DimensionSetRow)}
    ledger: Counter[tuple[str, str, str, str]] = Counter()
    for rollup in rows_of(everything, RollupRow):
        if rollup["grain_seconds"] == DAY_SECONDS:
            place = places[rollup["dimension_set_id"]]
            day = f"{rollup['starts_at']:%Y-%m-%d}T00:00:00Z"
            team = place["team"].encode("ascii", "backslashreplace").decode()
            for name in ("list", "contracted", "effective"):
                ledger[day, team, place["model"], name] += rollup[f"{name}_nanos"]

    told: defaultdict[tuple[str, str, str, str], Decimal] = defaultdict(Decimal)
    for row in filter(is_usage_of_ledger, file.rows):
        where = (row["ChargePeriodStart"] or "", row["x_Team"] or "", row["x_Model"] or "")
        for name in ("list", "contracted", "effective"):
            told[*where, name] += Decimal(row[f"{name.capitalize()}Cost"] or "")

    assert {key: value / NANO for key, value in told.items()} == dict(ledger)
    assert sum(ledger.values()) > 10 * CENT


def test_requests_add_up_over_all_rows(everything: Database, tmp_path: Path) -> None:
    file = export_file(everything, tmp_path / "focus.csv")

    # Four events and a rollup of two requests.
    assert file.total("x_UsageEventCount") == 6
    assert file.total("x_UnpricedEventCount") == file.export.unpriced_requests == 1


def test_csv_and_parquet_hold_the_same(everything: Database, tmp_path: Path) -> None:
    csv_file = export_file(everything, tmp_path / "focus.csv", period=BOTH)
    parquet_file = export_file(everything, tmp_path / "focus.parquet", period=BOTH)

    assert csv_file.rows == parquet_file.rows
    kinds = {
        Kind.DECIMAL: pl.Decimal(38, 18),
        Kind.INSTANT: pl.Datetime("us", "UTC"),
        Kind.COUNT: pl.Int64(),
    }
    assert dict(pl.read_parquet_schema(parquet_file.path)) == {
        column.name: kinds.get(column.kind, pl.String()) for column in columns_of("1.2")
    }


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_small_bites_make_the_same_file(
    everything: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    whole = export_file(everything, tmp_path / f"whole.{kind}", period=BOTH)
    monkeypatch.setattr(focus, "ROWS_PER_BATCH", 3)
    monkeypatch.setattr(focus_export, "DAYS_AT_ONCE", 2)
    monkeypatch.setattr(focus_export, "MAX_KNOWN", 0)
    monkeypatch.setattr(store, "ROWS_PER_STATEMENT", 1)

    bites = export_file(everything, tmp_path / f"bites.{kind}", period=BOTH)

    assert bites.rows == whole.rows


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_our_own_importer_reads_the_same_totals_back(
    everything: Database, tmp_path: Path, kind: str
) -> None:
    file = export_file(everything, tmp_path / f"focus.{kind}", period=BOTH)

    totals: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for line in read(file.path):
        totals[line.currency, line.category.value.capitalize()] += line.billed

    for (currency, category), total in totals.items():
        told = file.total("BilledCost", BillingCurrency=currency, ChargeCategory=category)
        assert total == told
    assert set(totals) == {(row["BillingCurrency"], row["ChargeCategory"]) for row in file.rows}


def test_purchases_have_no_effective_cost_of_their_own(exported: FocusFile) -> None:
    purchases = exported.rows_with(ChargeCategory="Purchase")

    assert purchases
    assert {row["EffectiveCost"] for row in purchases} == {"0.0"}
    assert "Usage-Based" not in {row["ChargeFrequency"] for row in purchases}


def test_unpriced_usage_is_told_and_does_not_look_free(exported: FocusFile) -> None:
    unpriced = exported.rows_with(x_CostSource="unpriced")

    assert {row["x_Model"] for row in unpriced} == {"gpt-9-zeta"}
    assert {row["PricingCategory"] for row in unpriced} == {"Other"}
    assert all("unknown, not zero" in (row["ChargeDescription"] or "") for row in unpriced)


def test_tags_keep_what_is_not_ascii(exported: FocusFile) -> None:
    tags = [row["Tags"] or "" for row in exported.rows if "Suche" in (row["Tags"] or "")]

    assert tags
    assert all(r"Suche & Z\u00fcrich" in text for text in tags)


def test_parts_of_a_month_are_together_the_month(everything: Database, tmp_path: Path) -> None:
    whole = export_file(everything, tmp_path / "whole.csv", period=BOTH)
    cuts = [BOTH.start + timedelta(days=days) for days in (0, 3, 30, 33, 61)]

    parts = [
        export_file(everything, tmp_path / f"{start:%m%d}.csv", period=Period(start, end))
        for start, end in pairwise(cuts)
    ]

    told = [dict(row, InvoiceId=None) for part in parts for row in part.rows]
    key = "x_ChargeKey"
    assert sorted(told, key=lambda row: row[key] or "") == sorted(
        whole.rows, key=lambda row: row[key] or ""
    )
