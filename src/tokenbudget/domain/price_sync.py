"""How a price book and a source of prices differ, and what may be added to the book for it.

It owns the comparison. It refuses to translate a source (``formats/price_sources``), to write a
file (``formats/price_writer.py``) and to choose where two sources disagree.

Rows are never edited. A price that changed gets a further row, from the day the source states or,
where it states none, from the day of the comparison. What the source tells otherwise about the
past is a conflict: only a person can say whether it is a fix; a source that dates nothing tells
nothing about the past. Rows entered by hand (their source
begins with ``manual``) and pinned ones are reported and left alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from tokenbudget.domain.price_differences import (
    AddModel,
    AddNames,
    AddProvider,
    AddRow,
    Change,
    Difference,
    DifferenceKind,
    have_same_rates,
    is_kept,
    package_of,
)
from tokenbudget.domain.prices import (
    SINCE_EVER,
    ModelPrices,
    Price,
    ProviderPrices,
    Selector,
    describe_row,
    normalise_word,
)


@dataclass(frozen=True, slots=True)
class PriceSource:
    """The prices of a package or file, as rows of ours.

    ``label`` names it with its version. A source that ``is_whole`` holds every provider it ever
    held; of another one, absent providers mean nothing.
    """

    label: str
    providers: tuple[ProviderPrices, ...]
    is_whole: bool = True
    packages: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Derive which packages its rows name."""
        rows = (row for each in self.providers for model in each.models for row in model.prices)
        packages = frozenset({package_of(self.label), *(package_of(row.source) for row in rows)})
        object.__setattr__(self, "packages", packages)

    def owns(self, price: Price) -> bool:
        """Tell whether a row of the book came from this source, in any version of it."""
        return package_of(price.source) in self.packages


def compare_with_source(
    book: Sequence[ProviderPrices], source: PriceSource, *, today: datetime
) -> list[Difference]:
    """Give the differences, provider by provider in the order of the book, then new providers.

    ``today`` is midnight UTC of the day from which undated changes hold.
    """
    theirs = {normalise_word(prices.provider): prices for prices in source.providers}
    found: list[Difference] = []
    for mine in book:
        word = next((word for name in mine.names if (word := normalise_word(name)) in theirs), None)
        if word is not None:
            found.extend(_compare_provider(mine, theirs.pop(word), source, today))
        elif source.is_whole:
            found.extend(_compare_provider(mine, replace(mine, models=()), source, today))
    for prices in theirs.values():
        change = AddProvider(replace(prices, provider=normalise_word(prices.provider)))
        detail = f"{len(prices.models)} models"
        facts = DifferenceKind.NEW_PROVIDER, prices.provider, ""
        found.append(Difference(*facts, reason=detail, change=change))
    return found


def _reason(price: Price) -> str:
    return price.note or price.source


def _compare_provider(
    mine: ProviderPrices, theirs: ProviderPrices, source: PriceSource, today: datetime
) -> Iterator[Difference]:
    offers = {model.model: model for model in theirs.models}
    claimed = _claims(mine)
    for model in mine.models:
        offer = offers.get(model.model)
        if offer is None:
            yield _missing_model(model, source)
        elif model.is_pinned:
            yield from _pinned_model(model, offer)
        else:
            yield from _compare_names(claimed, model, offer)
            yield from _compare_rows(model, offer, source, today)
    yield from _new_models(mine, theirs, claimed)


def _missing_model(model: ModelPrices, source: PriceSource) -> Difference:
    row = next((row for row in model.prices if source.owns(row)), None)
    if model.is_pinned:
        kind, reason = DifferenceKind.PINNED, model.note
    elif row is None or is_kept(row):
        kind, reason = DifferenceKind.ONLY_HERE, _reason(model.prices[0])
    else:
        kind, reason = DifferenceKind.GONE, f"{source.label} no longer has it"
    return Difference(kind, model.provider, model.model, reason=reason)


def _pinned_model(model: ModelPrices, offer: ModelPrices) -> Iterator[Difference]:
    mine, theirs = _by_selector(model.prices), _by_selector(offer.prices)
    is_same = mine.keys() == theirs.keys() and all(
        _tell_the_same(rows, theirs[key]) for key, rows in mine.items()
    )
    if not is_same:
        yield Difference(DifferenceKind.PINNED, model.provider, model.model, reason=model.note)


def _tell_the_same(mine: Sequence[Price], theirs: Sequence[Price]) -> bool:
    return all(
        (here is None and there is None)
        or (here is not None and there is not None and have_same_rates(here, there))
        for here, there in (
            (_row_at(mine, instant), _row_at(theirs, instant))
            for instant in _boundaries([*mine, *theirs])
        )
    )


def _new_models(
    mine: ProviderPrices, theirs: ProviderPrices, claimed: Mapping[str, str]
) -> Iterator[Difference]:
    known = {model.model for model in mine.models}
    followers = [model.model for model in theirs.models]
    for place, offer in enumerate(theirs.models):
        if offer.model in known:
            continue
        free = tuple(name for name in offer.patterns if name not in claimed)
        if not free:
            yield Difference(
                DifferenceKind.CONFLICT,
                mine.provider,
                offer.model,
                reason=f"a new model, but {claimed[offer.patterns[0]]} answers to all its names",
            )
            continue
        model = _belonging_to(replace(offer, patterns=free), mine.provider)
        before = next((name for name in followers[place + 1 :] if name in known), None)
        yield Difference(
            DifferenceKind.NEW_MODEL,
            mine.provider,
            offer.model,
            reason=f"{len(offer.prices)} rows",
            change=AddModel(model, before),
        )


def _belonging_to(model: ModelPrices, provider: str) -> ModelPrices:
    rows = tuple(replace(row, provider=provider) for row in model.prices)
    return replace(model, provider=provider, prices=rows)


def _claims(prices: ProviderPrices) -> dict[str, str]:
    """Give who answers to each name."""
    claimed = {name: model.model for model in prices.models for name in model.patterns}
    return claimed | dict.fromkeys(prices.aliases, "a moving name")


def _compare_names(
    claimed: Mapping[str, str], model: ModelPrices, offer: ModelPrices
) -> Iterator[Difference]:
    missing = [name for name in offer.patterns if name not in model.patterns]
    free = tuple(name for name in missing if name not in claimed and name != model.model.lower())
    if free:
        yield Difference(
            DifferenceKind.NEW_NAME,
            model.provider,
            model.model,
            reason=", ".join(free),
            change=AddNames(model.model, (*model.patterns, *free)),
        )
    for name in (name for name in missing if name in claimed):
        yield Difference(
            DifferenceKind.ONLY_HERE,
            model.provider,
            model.model,
            place=f"name {name}",
            reason=f"the name is taken by {claimed[name]}",
        )


def _compare_rows(
    model: ModelPrices, offer: ModelPrices, source: PriceSource, today: datetime
) -> Iterator[Difference]:
    mine = _by_selector(model.prices)
    theirs = _by_selector(_belonging_to(offer, model.provider).prices)
    for key in (*mine, *(key for key in theirs if key not in mine)):
        if key not in theirs:
            yield from (_untold_row(row, source) for row in mine[key])
        elif key not in mine:
            for row in theirs[key]:
                yield _found(DifferenceKind.NEW_ROW, row, change=AddRow(row), after=row)
        else:
            yield from _Timeline(mine[key], theirs[key], source, today).differences()


def _by_selector(prices: Iterable[Price]) -> dict[tuple[Selector, bool], list[Price]]:
    rows: dict[tuple[Selector, bool], list[Price]] = defaultdict(list)
    for price in sorted(prices, key=_start):
        rows[price.selector, price.times is None].append(price)
    return rows


def _untold_row(row: Price, source: PriceSource) -> Difference:
    if source.owns(row) and not is_kept(row):
        return _found(DifferenceKind.GONE, row, reason=f"{source.label} no longer has the row")
    return _found(DifferenceKind.ONLY_HERE, row, reason=_reason(row))


def _found(
    kind: DifferenceKind,
    row: Price,
    *,
    reason: str = "",
    change: Change | None = None,
    before: Price | None = None,
    after: Price | None = None,
) -> Difference:
    return Difference(
        kind, row.provider, row.model, describe_row(row), reason, change, before, after
    )


def _start(price: Price) -> datetime:
    return price.valid_from or SINCE_EVER


def _boundaries(prices: Iterable[Price]) -> list[datetime]:
    instants = {_start(price) for price in prices}
    return sorted(instants.union(price.valid_to for price in prices if price.valid_to is not None))


def _row_at(prices: Sequence[Price], instant: datetime) -> Price | None:
    asked = None if instant == SINCE_EVER else instant
    return next((price for price in prices if price.is_valid_at(asked)), None)


@dataclass(frozen=True, slots=True)
class _Timeline:
    """The rows of one selector, here and in the source, in order of time."""

    mine: Sequence[Price]
    theirs: Sequence[Price]
    source: PriceSource
    today: datetime

    def differences(self) -> Iterator[Difference]:
        """Give what differs up to the book's last row, then what the source adds after it."""
        yield from self._past()
        yield from self._later()

    @property
    def _last(self) -> Price:
        return max(self.mine, key=_start)

    def _past(self) -> Iterator[Difference]:
        for instant in _boundaries([*self.mine, *self.theirs]):
            if instant > _start(self._last):
                break
            here, there = _row_at(self.mine, instant), _row_at(self.theirs, instant)
            if here is not None and there is None:
                yield _found(DifferenceKind.ONLY_HERE, here, reason=_reason(here))
            elif there is not None and not (here is not None and have_same_rates(here, there)):
                yield self._told_otherwise(here, there)

    def _told_otherwise(self, here: Price | None, there: Price) -> Difference:
        concerned = here or self._next_of_mine(there)
        reason = _reason(concerned)
        if is_kept(concerned):
            kind, change = DifferenceKind.PINNED, None
        elif here is not self._last and self._keeps_no_past(there):
            kind, change = DifferenceKind.ONLY_HERE, None
            reason = f"{self.source.label} states no day for its price"
        elif self._is_changed_today(here, there):
            kind, change = DifferenceKind.CHANGED_RATE, AddRow(self._from_today(there))
            reason = f"{self.source.label} states no day; it holds from the day of the sync"
        else:
            kind, change = DifferenceKind.CONFLICT, None
            reason = f"{self.source.label} tells the past otherwise than {concerned.source}"
        return _found(kind, there, reason=reason, change=change, before=here, after=there)

    def _next_of_mine(self, there: Price) -> Price:
        return next((row for row in self.mine if _start(row) > _start(there)), self._last)

    def _keeps_no_past(self, there: Price) -> bool:
        """Tell whether the source has only this price and no day, up to the book's last row."""
        return there.valid_from is None and there.is_valid_at(self._last.valid_from)

    def _is_changed_today(self, here: Price | None, there: Price) -> bool:
        return (
            here is self._last
            and self.source.owns(here)
            and there.is_valid_at(self.today)
            and here.is_valid_at(self.today)
            and self.today > _start(here)
        )

    def _from_today(self, there: Price) -> Price:
        return replace(there, valid_from=self.today)

    def _later(self) -> Iterator[Difference]:
        last = self._last
        state: Price | None = self._believed_after_past()
        for instant in _boundaries([last, *self.theirs]):
            if instant <= _start(last):
                continue
            if state is last and last.valid_to is not None and last.valid_to <= instant:
                state = None
            there = _row_at(self.theirs, instant)
            if there is None:
                if state is last:
                    yield self._ended(instant)
                state = None
            elif state is None or not have_same_rates(state, there):
                yield self._further_row(replace(there, valid_from=instant), before=state)
                state = there

    def _believed_after_past(self) -> Price:
        there = _row_at(self.theirs, _start(self._last))
        is_moved = (
            there is not None
            and not have_same_rates(self._last, there)
            and not is_kept(self._last)
            and self._is_changed_today(self._last, there)
        )
        return there if there is not None and is_moved else self._last

    def _ended(self, instant: datetime) -> Difference:
        last = self._last
        if is_kept(last):
            return _found(DifferenceKind.PINNED, last, reason=_reason(last))
        reason = f"{self.source.label} ends it on {instant.date()}; state that with to = by hand"
        return _found(DifferenceKind.CONFLICT, last, reason=reason)

    def _further_row(self, row: Price, *, before: Price | None) -> Difference:
        last = self._last
        if is_kept(last):
            return _found(
                DifferenceKind.PINNED, row, reason=_reason(last), before=before, after=row
            )
        kind = DifferenceKind.NEW_ROW if before is None else DifferenceKind.CHANGED_RATE
        return _found(kind, row, change=AddRow(row), before=before, after=row)
