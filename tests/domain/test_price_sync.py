"""A source is compared with the book: what is new is added, what is there is never edited."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from tests.price_builders import day, make_model, make_price
from tokenbudget.domain.price_differences import (
    AddModel,
    AddNames,
    AddProvider,
    AddRow,
    Difference,
    DifferenceKind,
    find_alarms,
)
from tokenbudget.domain.price_sync import PriceSource, compare_with_source
from tokenbudget.domain.prices import AliasTarget, ModelPrices, Price, ProviderPrices

LABEL = "book-package 2.0"
OLDER_LABEL = "book-package 1.0"
TODAY = day("2026-11-21")
SPRING = day("2026-03-01")
AUTUMN = day("2026-09-01")
WINTER = day("2027-01-01")


def row(rate: int, start: datetime | None = None, **overrides: Any) -> Price:
    """Give a row the package told, ``rate`` for a million tokens in."""
    fields = {"source": OLDER_LABEL, "valid_from": start, **overrides}
    return make_price({"input_tokens": rate}, **fields)


def acme(*models: ModelPrices, **overrides: Any) -> ProviderPrices:
    """Give the provider ``acme``, also known as ``acme-ai``, with these models."""
    fields: dict[str, Any] = {"provider": "acme", "names": ("acme", "acme-ai"), **overrides}
    return ProviderPrices(models=models, **fields)


def compare(
    mine: ProviderPrices, theirs: ProviderPrices, *, is_whole: bool = True
) -> list[Difference]:
    """Give how the book of one provider differs from a source with one."""
    source = PriceSource(LABEL, (theirs,), is_whole=is_whole)
    return compare_with_source([mine], source, today=TODAY)


def compare_rows(mine: list[Price], theirs: list[Price]) -> list[Difference]:
    """Give how the rows of one model differ from those of a source."""
    return compare(acme(make_model(*mine)), acme(make_model(*theirs)))


def kinds(differences: list[Difference]) -> list[str]:
    """Give the kinds in order."""
    return [difference.kind.value for difference in differences]


def added(differences: list[Difference]) -> list[tuple[int, datetime | None]]:
    """Give rate and beginning of the rows that would be added."""
    changes = [each.change for each in differences if isinstance(each.change, AddRow)]
    return [(change.price.rates["input_tokens"], change.price.valid_from) for change in changes]


def test_equal_books_do_not_differ() -> None:
    assert compare_rows([row(3), row(2, SPRING)], [row(3), row(2, SPRING)]) == []


def test_rates_that_a_row_takes_from_a_parent_are_no_difference() -> None:
    spelled_out = make_price({"input_tokens": 6, "cached_input_tokens": 6}, divisor=2)

    assert compare_rows([row(3)], [spelled_out]) == []


def test_a_change_with_a_day_is_added_from_that_day() -> None:
    found = compare_rows([row(3)], [row(3), row(2, AUTUMN), row(4, WINTER)])

    assert kinds(found) == ["changed_rate", "changed_rate"]
    assert added(found) == [(2, AUTUMN), (4, WINTER)]
    assert found[0].place == "from 2026-09-01T00:00:00Z, tier standard"
    assert found[0].before == row(3)
    assert found[1].before is not None
    assert found[1].before.rates == {"input_tokens": 2}


def test_a_price_that_returns_to_what_it_was_is_added_too() -> None:
    found = compare_rows([row(3)], [row(3), row(2, AUTUMN), row(3, WINTER)])

    assert added(found) == [(2, AUTUMN), (3, WINTER)]


def test_a_row_that_repeats_its_forerunner_is_not_added() -> None:
    assert compare_rows([row(3)], [row(3), row(3, AUTUMN)]) == []


def test_a_change_without_a_day_holds_from_the_day_of_the_sync() -> None:
    found = compare_rows([row(3)], [row(2), row(5, WINTER)])

    assert kinds(found) == ["changed_rate", "changed_rate"]
    assert added(found) == [(2, TODAY), (5, WINTER)]
    assert found[0].reason == "book-package 2.0 states no day; it holds from the day of the sync"


def test_another_past_is_a_conflict_and_never_written() -> None:
    found = compare_rows([row(3), row(2, SPRING)], [row(4), row(2, SPRING)])

    assert kinds(found) == ["conflict"]
    assert found[0].reason == "book-package 2.0 tells the past otherwise than book-package 1.0"
    assert added(found) == []


def test_a_past_that_the_book_does_not_have_is_a_conflict() -> None:
    assert kinds(compare_rows([row(3, SPRING)], [row(4), row(3, SPRING)])) == ["conflict"]


@pytest.mark.parametrize("rate", [2, 5])
def test_a_source_without_days_tells_nothing_about_the_past(rate: int) -> None:
    mine = [row(3), row(2, SPRING)]

    found = compare_rows(mine, [row(rate)])

    assert (found[0].kind.value, found[0].place) == ("only_here", "since ever, tier standard")
    assert found[0].reason == "book-package 2.0 states no day for its price"
    assert added(found) == ([] if rate == 2 else [(5, TODAY)])


def test_a_price_the_book_dates_and_the_source_does_not_is_no_conflict() -> None:
    assert kinds(compare_rows([row(3, SPRING)], [row(3)])) == ["only_here"]


def test_a_price_that_is_over_at_the_source_is_no_change_of_today() -> None:
    found = compare_rows([row(3)], [row(4), row(5, AUTUMN)])

    assert kinds(found) == ["conflict", "changed_rate"]
    assert added(found) == [(5, AUTUMN)]


def test_a_row_of_another_package_is_not_overruled() -> None:
    found = compare_rows([row(3, source="other 1.0")], [row(4)])

    assert kinds(found) == ["conflict"]
    assert found[0].reason == "book-package 2.0 tells the past otherwise than other 1.0"


@pytest.mark.parametrize(
    ("kept", "reason"),
    [
        ({"source": "manual: https://acme.test/prices"}, "manual: https://acme.test/prices"),
        ({"is_pinned": True, "note": "agreed by phone"}, "agreed by phone"),
    ],
)
def test_rows_by_hand_and_pinned_ones_are_reported_and_left_alone(
    kept: dict[str, Any], reason: str
) -> None:
    undated = compare_rows([row(3, **kept)], [row(4)])
    dated = compare_rows([row(3, **kept)], [row(3), row(4, AUTUMN)])
    earlier = compare_rows([row(3, SPRING, **kept)], [row(4), row(3, SPRING)])

    for found in (undated, dated, earlier):
        assert kinds(found) == ["pinned"]
        assert found[0].reason == reason
        assert not found[0].is_open
        assert found[0].change is None


def test_a_past_told_only_here_is_kept_and_named() -> None:
    found = compare_rows([row(3, note="assumed before autumn")], [row(3, AUTUMN)])

    assert kinds(found) == ["only_here"]
    assert found[0].reason == "assumed before autumn"


def test_a_price_that_ends_at_the_source_has_to_be_ended_by_hand() -> None:
    over = row(3, valid_to=AUTUMN)

    found = compare_rows([row(3)], [over])
    pinned = compare_rows([row(3, is_pinned=True, note="ours")], [over])

    assert kinds(found) == ["conflict"]
    assert found[0].reason == "book-package 2.0 ends it on 2026-09-01; state that with to = by hand"
    assert kinds(pinned) == ["pinned"]


def test_a_price_that_ended_in_both_and_begins_again_is_a_new_row() -> None:
    over = row(3, valid_to=SPRING)

    found = compare_rows([over], [over, row(3, AUTUMN, valid_to=WINTER)])

    assert kinds(found) == ["new_row"]
    assert added(found) == [(3, AUTUMN)]
    assert found[0].after is not None
    assert found[0].after.valid_to == WINTER


def test_a_selector_the_book_lacks_is_added_with_its_own_history() -> None:
    batch = [row(2, tier="batch"), row(1, SPRING, tier="batch")]

    found = compare_rows([row(3)], [row(3), *batch])

    assert kinds(found) == ["new_row", "new_row"]
    assert added(found) == [(2, None), (1, SPRING)]
    assert [each.place for each in found] == [
        "since ever, tier batch",
        "from 2026-03-01T00:00:00Z, tier batch",
    ]


def test_a_multiplier_is_compared_as_rates_are() -> None:
    def multiplier(times: tuple[int, int]) -> Price:
        return make_price({}, times=times, tier=None, region="eu", source=OLDER_LABEL)

    same = compare_rows([row(3), multiplier((11, 10))], [row(3), multiplier((11, 10))])
    other = compare_rows([row(3), multiplier((11, 10))], [row(3), multiplier((6, 5))])

    assert same == []
    assert kinds(other) == ["changed_rate"]


def test_a_selector_the_source_lacks_is_gone_or_only_here() -> None:
    batch = row(1, tier="batch")
    flex = row(2, tier="flex", source="other 1.0")

    found = compare_rows([row(3), batch, flex], [row(3)])

    assert [(each.kind.value, each.reason) for each in found] == [
        ("gone", "book-package 2.0 no longer has the row"),
        ("only_here", "other 1.0"),
    ]


def test_rows_of_a_provider_with_another_name_carry_ours() -> None:
    theirs = acme(
        make_model(row(4, provider="acme-ai"), provider="acme-ai"),
        provider="acme-ai",
        names=("acme-ai",),
    )

    found = compare(acme(make_model(row(3))), theirs)

    assert found[0].after is not None
    assert (found[0].provider, found[0].after.provider) == ("acme", "acme")


def test_a_new_model_stands_where_the_source_has_it() -> None:
    mine = acme(make_model(row(3), model="a"), make_model(row(3), model="c"))
    theirs = acme(*(make_model(row(3), model=name) for name in "abcd"))

    found = compare(mine, theirs)

    changes = [each.change for each in found]
    assert kinds(found) == ["new_model", "new_model"]
    assert [(c.prices.model, c.before) for c in changes if isinstance(c, AddModel)] == [
        ("b", "c"),
        ("d", None),
    ]


def test_a_new_model_gets_the_names_that_nobody_has() -> None:
    mine = acme(
        make_model(row(3), model="a", patterns=("a", "b-old")),
        aliases={"b-latest": (AliasTarget(None, "a"),)},
    )
    new = make_model(row(3), model="b", patterns=("b", "b-old", "b-latest"))
    nameless = make_model(row(3), model="c", patterns=("b-old",))

    found = compare(mine, acme(mine.models[0], new, nameless))

    assert kinds(found) == ["new_model", "conflict"]
    assert isinstance(found[0].change, AddModel)
    assert found[0].change.prices.patterns == ("b",)
    assert found[1].reason == "a new model, but a answers to all its names"


def test_new_names_of_a_model_are_added_unless_they_are_taken() -> None:
    mine = acme(
        make_model(row(3), model="a", patterns=("a-1",)),
        make_model(row(3), model="b"),
        aliases={"a-latest": (AliasTarget(None, "b"),)},
    )
    known = make_model(row(3), model="a", patterns=("a", "a-1", "a-2", "b", "a-latest"))

    found = compare(mine, acme(known, mine.models[1]))

    assert [(each.kind.value, each.reason) for each in found] == [
        ("new_name", "a-2"),
        ("only_here", "the name is taken by b"),
        ("only_here", "the name is taken by a moving name"),
    ]
    assert found[0].change == AddNames("a", ("a-1", "a-2"))


@pytest.mark.parametrize(
    ("model", "kind", "reason"),
    [
        (make_model(row(3)), "gone", "book-package 2.0 no longer has it"),
        (make_model(row(3, source="other 1.0")), "only_here", "other 1.0"),
        (make_model(row(3, is_pinned=True, note="ours")), "only_here", "ours"),
        (make_model(row(3), is_pinned=True, note="ours"), "pinned", "ours"),
    ],
)
def test_a_model_the_source_lacks(model: ModelPrices, kind: str, reason: str) -> None:
    (found,) = compare(acme(model), acme())

    assert (found.kind.value, found.reason, found.place) == (kind, reason, "")


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        ([row(3)], []),
        ([row(4)], ["pinned"]),
        ([row(3), row(1, tier="batch")], ["pinned"]),
        ([row(3, valid_to=AUTUMN)], ["pinned"]),
    ],
)
def test_a_pinned_model_is_named_once_when_the_source_says_otherwise(
    theirs: list[Price], expected: list[str]
) -> None:
    mine = make_model(row(3), is_pinned=True, note="ours")

    assert kinds(compare(acme(mine), acme(make_model(*theirs)))) == expected


def test_a_provider_that_vanished_from_a_whole_source_takes_its_models_along() -> None:
    other = acme(provider="other", names=("other",))

    whole = compare(acme(make_model(row(3))), other)
    part = compare(acme(make_model(row(3))), other, is_whole=False)

    assert kinds(whole) == ["gone", "new_provider"]
    assert kinds(part) == ["new_provider"]
    assert part[0].change == AddProvider(other)


def test_one_model_in_five_may_vanish_without_an_alarm() -> None:
    book = [acme(*(make_model(row(3), model=str(number)) for number in range(10)))]

    def alarms(left: int) -> list[str]:
        source = PriceSource(LABEL, (acme(*book[0].models[:left]),))
        return find_alarms(book, compare_with_source(book, source, today=TODAY))

    assert alarms(8) == []
    assert alarms(7) == ["3 of 10 models vanish, more than one in five"]


@pytest.mark.parametrize(
    ("old", "new", "is_alarming"),
    [(3, 30, False), (30, 3, False), (3, 31, True), (31, 3, True), (3, 0, True), (0, 0, False)],
)
def test_a_rate_may_move_ten_times_without_an_alarm(old: int, new: int, is_alarming: bool) -> None:
    mine = [acme(make_model(row(old)))]
    source = PriceSource(LABEL, (acme(make_model(row(new))),))

    alarms = find_alarms(mine, compare_with_source(mine, source, today=TODAY))

    expected = ["acme m: input_tokens moves by more than 10 times"] if is_alarming else []
    assert alarms == expected


def test_a_multiplier_that_leaps_is_an_alarm() -> None:
    def regional(factor: int) -> list[ProviderPrices]:
        times = make_price({}, times=(factor, 1), tier=None, region="eu", source=OLDER_LABEL)
        return [acme(make_model(row(3), times))]

    source = PriceSource(LABEL, tuple(regional(12)))

    alarms = find_alarms(regional(1), compare_with_source(regional(1), source, today=TODAY))

    assert alarms == ["acme m: times moves by more than 10 times"]


def test_neither_new_rows_nor_what_is_not_written_are_alarms() -> None:
    new = row(3)
    differences = [
        Difference(DifferenceKind.CONFLICT, "acme", "m", before=row(1), after=row(100)),
        Difference(DifferenceKind.NEW_ROW, "acme", "m", change=AddRow(new), after=new),
    ]

    assert find_alarms([], differences) == []
