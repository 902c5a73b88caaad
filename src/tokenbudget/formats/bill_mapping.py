"""Mapping files for bills: which columns of somebody's table make the lines of a bill.

It owns the TOML and its rules; ``bills/mapped.py`` reads a table by it. Everything but
``columns.day`` (or ``columns.start`` and ``columns.end``) and ``columns.amount`` may be left out::

    source = "contoso"            # what its lines are stored under, and replace by day

    [columns]                     # ours = "theirs"
    day = "Date"
    amount = "Cost"
    model = "Model"

    [constants]                   # what no column tells
    provider = "together"
    currency = "EUR"

    [formats]
    day = "%d/%m/%Y"              # of start and end too; UTC; without it 2026-09-01 is read
    decimal = ","                 # the mark of decimals
    thousands = "."               # what is left out between digits
    amount_unit = "0.01"          # amounts are cents; "-1" turns the sign
    quantity_unit = "1000"        # quantities are thousands

    [[category]]                  # the first rule that fits; usage where none does
    column = "Type"
    equals = "Mehrwertsteuer"     # or contains = "steuer"
    category = "tax"

    [tags]                        # tag = "column"
    cost_center = "Kostenstelle"
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.errors import BadFile, InvalidInput
from tokenbudget.formats.toml_files import load_toml

DEFAULT_SOURCE: Final = "mapped"
TABLES: Final = ("columns", "constants", "formats", "category", "tags")
FIELDS: Final = (
    "day",
    "start",
    "end",
    "amount",
    "listed",
    "currency",
    "provider",
    "account",
    "project",
    "api_key",
    "model",
    "usage_type",
    "description",
    "quantity",
    "unit",
    "invoice_ref",
    "month",
)
CONSTANTS: Final = (
    "currency",
    "provider",
    "account",
    "project",
    "api_key",
    "model",
    "usage_type",
    "description",
    "unit",
    "invoice_ref",
    "month",
)
FORMATS: Final = ("day", "decimal", "thousands", "amount_unit", "quantity_unit")
DECIMAL_MARKS: Final = (".", ",")
THOUSANDS_MARKS: Final = (".", ",", "'", "’", " ", "\u00a0", "\u202f", "_")
RULE_KEYS: Final = frozenset({"column", "equals", "contains", "category"})
MAX_FACTOR_DIGITS: Final = 30
ONE: Final = Decimal(1)


@dataclass(frozen=True, slots=True)
class CategoryRule:
    """What a cell must say, whole or in part and in any case, for a line to be of a category."""

    column: str
    category: ChargeCategory
    equals: str | None = None
    contains: str | None = None

    def fits(self, cell: str | None) -> bool:
        """Tell whether a cell says it."""
        text = (cell or "").casefold()
        if self.equals is not None:
            return text == self.equals.casefold()
        return (self.contains or "").casefold() in text


@dataclass(frozen=True, slots=True)
class BillMapping:
    """A mapping file and its text; ``columns`` and ``tags`` give a column by our field or tag."""

    path: Path
    text: str
    source: str
    columns: Mapping[str, str]
    constants: Mapping[str, str]
    tags: Mapping[str, str]
    rules: tuple[CategoryRule, ...] = ()
    day_format: str | None = None
    decimal_mark: str | None = None
    thousands_mark: str | None = None
    amount_unit: Decimal = ONE
    quantity_unit: Decimal = ONE

    @property
    def needed_columns(self) -> tuple[str, ...]:
        """Give every column that the file must have, each once."""
        named = (*self.columns.values(), *self.tags.values(), *(rule.column for rule in self.rules))
        return tuple(dict.fromkeys(named))


def load_bill_mapping(path: Path) -> BillMapping:
    """Give the mapping of a TOML file; raises BadFile naming the entry and the rule."""
    text, content = load_toml(path)
    try:
        return _mapping(path, text, content)
    except InvalidInput as error:
        raise BadFile(f"{path}: {error.detail}") from None


def _mapping(path: Path, text: str, content: Mapping[str, Any]) -> BillMapping:
    _require_known(content, ("source", *TABLES), "the file")
    columns = _texts(content, "columns", FIELDS)
    constants = _texts(content, "constants", CONSTANTS)
    formats = _texts(content, "formats", FORMATS)
    _require_whole(columns, constants)
    _require_marks(formats)
    source = content.get("source", DEFAULT_SOURCE)
    if not isinstance(source, str) or not source:
        raise InvalidInput("source: must be a text")
    return BillMapping(
        path=path,
        text=text,
        source=source,
        columns=columns,
        constants=constants,
        tags=_texts(content, "tags", None),
        rules=_rules(content.get("category", [])),
        day_format=formats.get("day"),
        decimal_mark=formats.get("decimal"),
        thousands_mark=formats.get("thousands"),
        amount_unit=_factor(formats, "amount_unit"),
        quantity_unit=_factor(formats, "quantity_unit"),
    )


def _texts(
    content: Mapping[str, Any], table: str, known: tuple[str, ...] | None
) -> Mapping[str, str]:
    entries = content.get(table, {})
    if not isinstance(entries, dict):
        raise InvalidInput(f"{table}: must be a table")
    if known is not None:
        _require_known(entries, known, table)
    for name, value in entries.items():
        if not isinstance(value, str) or not value:
            raise InvalidInput(f"{table}.{name}: must be a text")
    return entries


def _require_known(entries: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    unknown = sorted(entries.keys() - set(known))
    if unknown:
        raise InvalidInput(f"{where}: {unknown[0]!r} is not known; there are {', '.join(known)}")


def _require_whole(columns: Mapping[str, str], constants: Mapping[str, str]) -> None:
    has_day, has_bounds = "day" in columns, "start" in columns and "end" in columns
    if has_day == has_bounds or has_day == bool({"start", "end"} & columns.keys()):
        raise InvalidInput("columns: day, or both start and end, must be there")
    if "amount" not in columns:
        raise InvalidInput("columns.amount: must be there")
    for name in ("provider", "currency"):
        if name not in columns and name not in constants:
            raise InvalidInput(f"columns.{name} or constants.{name}: one must be there")
    doubled = sorted(columns.keys() & constants.keys())
    if doubled:
        raise InvalidInput(f"constants.{doubled[0]}: columns.{doubled[0]} tells it already")


def _require_marks(formats: Mapping[str, str]) -> None:
    if "%z" in formats.get("day", "").lower():
        raise InvalidInput("formats.day: times are UTC; no zone is read")
    decimal, thousands = formats.get("decimal"), formats.get("thousands")
    if decimal is not None and decimal not in DECIMAL_MARKS:
        raise InvalidInput("formats.decimal: must be a point or a comma")
    if thousands is not None and thousands not in THOUSANDS_MARKS:
        raise InvalidInput(f"formats.thousands: {thousands!r} is no mark between thousands")
    if thousands is not None and thousands == (decimal or "."):
        raise InvalidInput("formats.thousands: must differ from the mark of decimals")


def _factor(formats: Mapping[str, str], name: str) -> Decimal:
    text = formats.get(name, "1")
    try:
        factor = Decimal(text)
    except InvalidOperation:
        factor = Decimal(0)
    is_usable = factor.is_finite() and bool(factor) and abs(factor.adjusted()) < MAX_FACTOR_DIGITS
    if not is_usable or len(factor.as_tuple().digits) > MAX_FACTOR_DIGITS:
        raise InvalidInput(f"formats.{name}: {text!r} is no factor such as 0.01")
    return factor


def _rules(entries: object) -> tuple[CategoryRule, ...]:
    if not isinstance(entries, list):
        raise InvalidInput("category: must be a list of tables, [[category]]")
    return tuple(_rule(f"category {number}", entry) for number, entry in enumerate(entries, 1))


def _rule(where: str, entry: object) -> CategoryRule:
    if not isinstance(entry, dict) or not all(isinstance(each, str) for each in entry.values()):
        raise InvalidInput(f"{where}: must be a table of texts")
    _require_known(entry, tuple(sorted(RULE_KEYS)), where)
    if "column" not in entry or ("equals" in entry) == ("contains" in entry):
        raise InvalidInput(f"{where}: column and one of equals and contains must be there")
    try:
        category = ChargeCategory(entry.get("category", ""))
    except ValueError:
        known = ", ".join(ChargeCategory)
        raise InvalidInput(f"{where}: category must be one of {known}") from None
    return CategoryRule(entry["column"], category, entry.get("equals"), entry.get("contains"))
