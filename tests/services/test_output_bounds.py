"""What output is assumed of a call: what such calls had, by counting usage once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from tests.builders import ask, make_event, record, rows_of
from tests.conftest import FrozenClock
from tokenbudget.bootstrap import Services, make_ledger
from tokenbudget.domain.output_bounds import OutputBound
from tokenbudget.jobs import Jobs
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.output_bounds import OutputShelf, count_outputs
from tokenbudget.store.db import Database
from tokenbudget.store.tables import OutputBoundRow, OutputCountRow, OutputProgressRow

ONE_DAY_SECONDS = 86_400
OPEN = {"max_output_tokens": None}


def use(ledger: Ledger, outputs: Sequence[int | None], prefix: str = "e", **overrides: Any) -> None:
    """Record a call for each of these outputs."""
    record(
        ledger,
        *(
            make_event(
                event_id=f"{prefix}{number}",
                usage={"input_tokens": 100} | ({} if tokens is None else {"output_tokens": tokens}),
                **overrides,
            )
            for number, tokens in enumerate(outputs)
        ),
    )


def learn(ledger: Ledger, clock: FrozenClock, **bounds: int) -> int:
    """Count what is new, a minute later, let the ledger know of it, and give how much was read."""
    clock.advance(seconds=61)
    count = count_outputs(ledger.database, now=clock(), **bounds)
    ledger.terms.outputs.refresh(ledger.database)
    return count


def known(ledger: Ledger, feature: str | None = "summarise") -> OutputBound | None:
    """Give what the ledger knows of ``acme/plain``."""
    return ledger.terms.outputs.find("acme", "plain", feature)


def test_a_check_without_a_maximum_is_bounded_by_what_95_of_100_calls_had(
    ledger: Ledger, clock: FrozenClock
) -> None:
    use(ledger, [10] * 19 + [900])
    learn(ledger, clock)

    answer = ask(ledger, **OPEN)

    assert answer["limits"]["max_output_tokens"] == 10
    # Ten thousand tokens in are a cent, ten out two thousandths of one.
    assert answer["estimate"] == "0.010020000"
    assert answer["warnings"] == [
        {
            "code": "output_bound_assumed",
            "detail": "no max_output_tokens was given; 10 were assumed (p95 of 20 calls in 7 days)",
        }
    ]


def test_too_few_calls_leave_it_to_the_setting(ledger: Ledger, clock: FrozenClock) -> None:
    use(ledger, [10] * 19)
    learn(ledger, clock)

    answer = ask(ledger, **OPEN)

    assert answer["limits"]["max_output_tokens"] == 4_096
    assert answer["warnings"][0]["detail"] == (
        "no max_output_tokens was given; 4096 were assumed (TOKENBUDGET_DEFAULT_MAX_OUTPUT_TOKENS)"
    )


def test_features_and_models_are_told_apart(ledger: Ledger, clock: FrozenClock) -> None:
    use(ledger, [10] * 20)
    use(ledger, [1_000] * 20, "f", tags={"team": "growth", "feature": "translate"})
    use(ledger, [7] * 20, "n", tags={"team": "growth"})
    use(ledger, [3] * 20, "m", model="dated")
    learn(ledger, clock)

    assert known(ledger) == OutputBound(10, 20)
    assert known(ledger, "translate") == OutputBound(1_024, 20)
    assert known(ledger, None) == OutputBound(7, 20)
    assert known(ledger, "unknown") is None
    assert ledger.terms.outputs.find("acme", "dated", "summarise") == OutputBound(3, 20)


def test_a_model_is_known_by_the_name_it_was_asked_by(ledger: Ledger, clock: FrozenClock) -> None:
    use(ledger, [10] * 20, model="plain-2026", request_model="plain")
    learn(ledger, clock)

    assert known(ledger) == OutputBound(10, 20)


@pytest.mark.parametrize(
    "overrides",
    [
        {"status": "error"},
        {"occurred_at": "2026-11-13T23:59:59Z"},
        {"usage": {"output_tokens": 10, "requests": 3}},
        {"usage": {"input_tokens": 10}},
    ],
    ids=["failed", "older than seven days", "several requests", "no output"],
)
def test_usage_that_tells_nothing_is_not_counted(
    ledger: Ledger, clock: FrozenClock, overrides: dict[str, Any]
) -> None:
    record(ledger, *(make_event(event_id=f"e{each}", **overrides) for each in range(20)))

    assert learn(ledger, clock) == 20
    assert known(ledger) is None


def test_no_output_at_all_is_a_figure_too(ledger: Ledger, clock: FrozenClock) -> None:
    use(ledger, [0] * 20)
    learn(ledger, clock)

    assert ask(ledger, **OPEN)["limits"]["max_output_tokens"] == 0


def test_usage_is_counted_once_whatever_the_pieces(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    use(ledger, [10] * 25)

    first = learn(ledger, clock, calls_per_piece=10)
    again = learn(ledger, clock, calls_per_piece=10)
    use(ledger, [10] * 5, "later")
    last = learn(ledger, clock, calls_per_piece=10)

    assert (first, again, last) == (25, 0, 5)
    assert [row["calls"] for row in rows_of(database, OutputCountRow)] == [30]
    assert known(ledger) == OutputBound(10, 30)


def test_usage_that_was_just_recorded_waits_for_what_is_recorded_beside_it(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    use(ledger, [10] * 20)

    assert count_outputs(database, now=clock()) == 0
    assert learn(ledger, clock) == 20


def test_corrections_are_not_counted_again(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    use(ledger, [10] * 20)
    record(ledger, make_event(event_id="e0", revision=1, usage={"output_tokens": 5_000}))

    assert learn(ledger, clock) == 21
    assert [row["up_to"] for row in rows_of(database, OutputCountRow)] == [10]


def test_days_gone_by_are_let_go_of(ledger: Ledger, database: Database, clock: FrozenClock) -> None:
    use(ledger, [10] * 20)
    learn(ledger, clock)
    clock.advance(seconds=6 * ONE_DAY_SECONDS)
    learn(ledger, clock)
    sixth_day = known(ledger)
    clock.advance(seconds=ONE_DAY_SECONDS)
    learn(ledger, clock)

    assert (sixth_day, known(ledger)) == (OutputBound(10, 20), None)
    assert rows_of(database, OutputCountRow) == []
    assert rows_of(database, OutputBoundRow) == []


def test_an_empty_ledger_has_no_bounds(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    assert learn(ledger, clock) == 0
    assert known(ledger) is None
    assert [row["last_usage_id"] for row in rows_of(database, OutputProgressRow)] == [0]


def test_a_shelf_reads_only_what_was_worked_out_anew(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    use(ledger, [10] * 20)
    learn(ledger, clock)
    shelf = OutputShelf()
    shelf.refresh(database)
    read = shelf.bounds

    shelf.refresh(database)
    same = shelf.bounds
    count_outputs(database, now=clock() + timedelta(hours=1))
    shelf.refresh(database)

    assert same is read
    assert shelf.bounds == read
    assert shelf.bounds is not read


def test_the_job_counts_for_the_workers(
    services: Services, ledger: Ledger, clock: FrozenClock
) -> None:
    use(ledger, [10] * 20)
    clock.advance(seconds=61)
    jobs = Jobs(services)

    jobs.count_outputs()
    jobs.forget_rates()
    jobs.http.close()

    worker = make_ledger(services)
    worker.terms.outputs.refresh(services.database)
    assert known(worker) == OutputBound(10, 20)
