"""``/v1/budgets``: the same model as ``budgets.toml``. POST creates, PUT makes a new version."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request, Response

from tokenbudget.api.access import ServicesIn, require_scope
from tokenbudget.api.bodies import OBJECT_BODY, ObjectBody, idempotency_key_of
from tokenbudget.domain.budgets import Budget, BudgetStanding
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.periods import format_instant
from tokenbudget.formats.budgets import (
    describe_budget,
    format_quantity,
    parse_budget,
    require_rolled_up,
)
from tokenbudget.formats.raises import RaiseView, describe_raise, parse_raise
from tokenbudget.formats.replay import describe_replay, parse_replay
from tokenbudget.services.budgets import (
    BudgetChange,
    apply_budgets,
    create_budget,
    get_budget,
    list_budgets,
    list_standings,
    list_versions,
)
from tokenbudget.services.keys import KeyFacts
from tokenbudget.services.raises import Asker, create_raise, end_raise, list_budget_raises
from tokenbudget.services.replay import replay_budgets

router = APIRouter(prefix="/v1/budgets", tags=["budgets"])
READ = [Depends(require_scope("read"))]
ADMIN = [Depends(require_scope("admin"))]
AdminKey = Annotated[KeyFacts, Depends(require_scope("admin"))]

MAX_REPLAYED_REQUESTS: Final = 2_000_000
"""How much history one request may replay: some twenty seconds of one processor."""


@router.get("", dependencies=READ, operation_id="list_budgets")
def show_budgets(services: ServicesIn) -> dict[str, Any]:
    """Give the version in force of every budget, by id."""
    budgets = list_budgets(services.database)
    return {"budgets": [_describe_version(budget) for budget in budgets], "next": None}


@router.post(
    "", dependencies=ADMIN, status_code=201, operation_id="create_budget", openapi_extra=OBJECT_BODY
)
def add_budget(
    body: ObjectBody, response: Response, services: ServicesIn, strict: bool = False
) -> dict[str, Any]:
    """Create a budget and say how it stands; the same content again is 200, other content 409.

    Children that exceed their parent are warned of, and refused with 409 if ``strict``.
    """
    draft = parse_budget(body, where="budget", timezone=services.settings.timezone)
    require_rolled_up([draft], services.settings.unrolled_tags)
    change = create_budget(services.database, draft, now=services.clock(), strict=strict)
    if change.action == "unchanged":
        response.status_code = 200
    return _describe_change(change)


@router.post("/replay", dependencies=READ, operation_id="replay_budgets", openapi_extra=OBJECT_BODY)
def replay(body: ObjectBody, services: ServicesIn) -> dict[str, Any]:
    """Tell what proposed budgets would have done together to the calls of a period.

    The body has ``budgets``, and ``from`` and ``to`` (excluded): times of RFC 3339 or days of the
    service's zone, on quarter-hours. Nothing is stored. Budgets that are in force take no part
    unless they are among those named; what a call used stands for its estimate.
    """
    settings = services.settings
    drafts, period = parse_replay(body, timezone=settings.timezone)
    require_rolled_up(drafts, settings.unrolled_tags)
    told = replay_budgets(services.database, drafts, period, max_requests=MAX_REPLAYED_REQUESTS)
    return describe_replay(told, currency=settings.currency, timezone=settings.timezone)


@router.get("/{budget_id}", dependencies=READ, operation_id="get_budget")
def show_budget(budget_id: str, services: ServicesIn) -> dict[str, Any]:
    """Give the version in force."""
    return _describe_version(get_budget(services.database, budget_id))


@router.put(
    "/{budget_id}", dependencies=ADMIN, operation_id="put_budget", openapi_extra=OBJECT_BODY
)
def put_budget(
    budget_id: str, body: ObjectBody, services: ServicesIn, strict: bool = False
) -> dict[str, Any]:
    """Make a new version of a budget, or the first one.

    Children that exceed their parent are warned of, and refused with 409 if ``strict``.
    """
    draft = parse_budget(
        {"id": budget_id, **body}, where="budget", timezone=services.settings.timezone
    )
    if draft.id != budget_id:
        raise InvalidInput(f"id {draft.id!r} differs from the path's {budget_id!r}", field="id")
    require_rolled_up([draft], services.settings.unrolled_tags)
    changes = apply_budgets(services.database, [draft], now=services.clock(), strict=strict)
    return _describe_change(changes[0])


@router.get("/{budget_id}/status", dependencies=READ, operation_id="get_budget_status")
def show_status(budget_id: str, services: ServicesIn) -> dict[str, Any]:
    """Give how every counter of the current window stands."""
    budget = get_budget(services.database, budget_id)
    standings = list_standings(services.database, now=services.clock(), budget_id=budget_id)
    return {
        "budget": budget.id,
        "version": budget.version,
        "currency": services.settings.currency,
        "standings": [describe_standing(standing) for standing in standings],
    }


@router.post(
    "/{budget_id}/raises",
    status_code=201,
    operation_id="create_raise",
    openapi_extra=OBJECT_BODY,
)
def add_raise(
    budget_id: str,
    body: ObjectBody,
    request: Request,
    response: Response,
    services: ServicesIn,
    key: AdminKey,
) -> dict[str, Any]:
    """Raise the limit of every counter of a budget for a time.

    The body has ``amount``, ``valid_to``, ``reason`` and perhaps ``valid_from``. The same
    ``Idempotency-Key`` gives the same raise again (200).
    """
    draft = parse_raise(body, get_budget(services.database, budget_id).unit)
    asker = Asker(key.key_id, idempotency_key_of(request))
    now = services.clock()
    view, is_new = create_raise(services.database, budget_id, draft, asker=asker, now=now)
    if not is_new:
        response.status_code = 200
    return _describe_raise(view, services)


@router.get("/{budget_id}/raises", dependencies=READ, operation_id="list_raises")
def show_raises(budget_id: str, services: ServicesIn) -> dict[str, Any]:
    """Give all raises there ever were of a budget, by their begin."""
    views = list_budget_raises(services.database, budget_id)
    return {"raises": [_describe_raise(view, services) for view in views], "next": None}


@router.delete("/{budget_id}/raises/{raise_id}", operation_id="end_raise")
def stop_raise(
    budget_id: str, raise_id: str, services: ServicesIn, key: AdminKey
) -> dict[str, Any]:
    """End a raise now and give it; one that is over stays as it is."""
    view = end_raise(
        services.database, budget_id, raise_id, asker=Asker(key.key_id), now=services.clock()
    )
    return _describe_raise(view, services)


@router.get("/{budget_id}/history", dependencies=READ, operation_id="get_budget_history")
def show_history(budget_id: str, services: ServicesIn) -> dict[str, Any]:
    """Give every version, oldest first."""
    versions = list_versions(services.database, budget_id)
    return {"versions": [_describe_version(version) for version in versions]}


def describe_standing(standing: BudgetStanding) -> dict[str, Any]:
    """Give the wire form of a standing; quantities in the budget's unit."""
    unit = standing.budget.unit
    forecast = standing.forecast
    operation = {} if standing.operation_ref is None else {"operation_id": standing.operation_ref}
    return {
        "budget": standing.budget.id,
        "split": dict(zip(standing.budget.split_by, standing.split, strict=True)),
        **operation,
        "unit": unit.value,
        "limit": format_quantity(standing.budget.limit, unit),
        "carry": format_quantity(standing.carry, unit),
        "raised": format_quantity(standing.raised, unit),
        "settled": format_quantity(standing.settled, unit),
        "held": format_quantity(standing.held, unit),
        "headroom": format_quantity(standing.headroom, unit),
        "forecast": None if forecast is None else format_quantity(forecast, unit),
        "window_start": format_instant(standing.period.start),
        "resets_at": format_instant(standing.period.end),
    }


def _describe_version(budget: Budget) -> dict[str, Any]:
    wire = describe_budget(budget)
    thresholds = [float(threshold) for threshold in wire["thresholds"]]
    return {**wire, "thresholds": thresholds, "version": budget.version}


def _describe_change(change: BudgetChange) -> dict[str, Any]:
    return {
        **_describe_version(change.budget),
        "action": change.action,
        "changed_fields": list(change.changed_fields),
        "standings": [describe_standing(standing) for standing in change.standings],
        "warnings": [{"code": notice.code, "detail": notice.detail} for notice in change.warnings],
    }


def _describe_raise(view: RaiseView, services: ServicesIn) -> dict[str, Any]:
    described = describe_raise(view, services.clock())
    return {**described, "currency": services.settings.currency}
