"""What the tables of agreements share: names, bounds, exact numbers, and faults that say where.

It refuses to own a table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Final, TypeVar

import msgspec

from tokenbudget.domain.errors import BadFile, InvalidInput
from tokenbudget.domain.patterns import pattern_expression
from tokenbudget.domain.rollups import quarter_hour_at
from tokenbudget.formats.price_rates import RATE_KEYS
from tokenbudget.formats.wire import plain_fault

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][\w.:-]*$")]
Word = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Currency = Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")]
BOUNDS: Final = {"valid_from": "from", "valid_to": "to"}

TableT = TypeVar("TableT")


class Shape(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, rename=BOUNDS):
    """A table that is named and dated; times are TOML's own and told apart further in."""

    id: Name
    valid_from: Any = None
    valid_to: Any = None


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Turn a fault of the block into one that says where it is."""
    try:
        yield
    except InvalidInput as error:
        raise BadFile(f"{where}: {error.detail}") from None


def convert(entry: object, shape_type: type[TableT]) -> TableT:
    """Give the entry as its shape; raises InvalidInput naming the field."""
    try:
        return msgspec.convert(entry, shape_type)
    except msgspec.ValidationError as error:
        raise InvalidInput(plain_fault(error, "table")) from None


def exact_rates(rates: Mapping[str, Decimal]) -> dict[str, Fraction]:
    """Give the price of one unit by unit, in units of the currency."""
    exact: dict[str, Fraction] = {}
    for key, value in rates.items():
        unit = rate_unit(key, "rates")
        if unit in exact:
            raise InvalidInput(f"rates: {unit} has two rates")
        exact[unit] = exact_number(value, f"rates.{key}") / RATE_KEYS[key].per
    return exact


def rate_unit(key: str, field: str) -> str:
    """Give the unit that a rate key prices; raises InvalidInput for another word."""
    if key not in RATE_KEYS:
        raise InvalidInput(f"{field}: {key!r} is no rate; rates are {', '.join(RATE_KEYS)}")
    return RATE_KEYS[key].unit


def exact_number(value: Decimal | None, field: str) -> Fraction:
    """Give the number exactly; raises InvalidInput for an infinite or negative one."""
    if value is None or not value.is_finite() or value < 0:
        raise InvalidInput(f"{field} {value} must be a number of at least zero")
    return Fraction(value)


def checked_pattern(pattern: str, field: str) -> str:
    """Give the pattern; raises InvalidInput when it is a regular expression that is none."""
    expression = pattern_expression(pattern)
    if expression is not None:
        try:
            re.compile(expression)
        except re.error as error:
            raise InvalidInput(f"{field} {pattern!r} is no regular expression: {error}") from None
    return pattern


def quarter_hours(shape: Shape) -> tuple[datetime, datetime | None]:
    """Give the bounds of what is shared by quarter-hours."""
    valid_from, valid_to = bounds(shape)
    if valid_from is None:
        raise InvalidInput("from is needed: costs begin with it")
    for field, bound in (("from", valid_from), ("to", valid_to)):
        if bound is not None and bound != quarter_hour_at(bound):
            raise InvalidInput(f"{field} {bound} must lie on a quarter-hour")
    return valid_from, valid_to


def bounds(shape: Shape) -> tuple[datetime | None, datetime | None]:
    """Give start and end of validity in UTC; a date is its midnight."""
    valid_from, valid_to = _instant(shape.valid_from, "from"), _instant(shape.valid_to, "to")
    if valid_from is not None and valid_to is not None and valid_to <= valid_from:
        raise InvalidInput("to must be later than from")
    return valid_from, valid_to


def _instant(value: object, field: str) -> datetime | None:
    if value is None:
        return None
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime.combine(value, time(), tzinfo=UTC)
    raise InvalidInput(f"{field} must be a date, or a time with its offset")
