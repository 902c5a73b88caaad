"""Operating the service: health, readiness, self-check, alerts."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Response

from tokenbudget.api.access import ServicesIn, require_scope
from tokenbudget.domain.budgets import Unit
from tokenbudget.domain.errors import TokenbudgetError
from tokenbudget.domain.periods import format_instant
from tokenbudget.formats.budgets import format_quantity
from tokenbudget.services.alerts import list_alerts
from tokenbudget.services.health import is_ready
from tokenbudget.services.selfcheck import selfcheck

router = APIRouter(tags=["operation"])
MAX_ALERTS: Final = 500


@router.get("/healthz", operation_id="get_health")
def show_health() -> dict[str, str]:
    """Tell that the process answers."""
    return {"status": "ok"}


@router.get("/readyz", operation_id="get_readiness")
def show_readiness(services: ServicesIn, response: Response) -> dict[str, str]:
    """Tell whether requests can be served: the database answers."""
    try:
        is_ready(services.database)
    except TokenbudgetError:
        response.status_code = 503
        return {"status": "unavailable"}
    return {"status": "ok"}


@router.get(
    "/v1/selfcheck",
    operation_id="get_selfcheck",
    dependencies=[Depends(require_scope("read"))],
)
def show_selfcheck(services: ServicesIn) -> dict[str, Any]:
    """Compare every derived figure with the rows it is derived from; this scans the ledger."""
    findings = selfcheck(services.database)
    return {
        "ok": all(finding.holds for finding in findings),
        "findings": [
            {"rule": item.rule, "ok": item.holds, "checked": item.checked, "broken": item.broken}
            for item in findings
        ],
    }


@router.get("/v1/alerts", operation_id="list_alerts", dependencies=[Depends(require_scope("read"))])
def show_alerts(
    services: ServicesIn, limit: Annotated[int, Query(ge=1, le=MAX_ALERTS)] = 100
) -> dict[str, Any]:
    """Give the latest alerts, newest first."""
    return {
        "alerts": [
            {
                "id": alert.id,
                "budget": alert.budget_id,
                "budget_version": alert.budget_version,
                "kind": alert.kind,
                "threshold": alert.threshold,
                "unit": alert.unit,
                "measured": format_quantity(alert.measured, Unit(alert.unit)),
                "limit": format_quantity(alert.limit_quantity, Unit(alert.unit)),
                "window_start": format_instant(alert.window_start),
                "window_end": format_instant(alert.window_end),
                "raised_at": format_instant(alert.raised_at),
                "resolved_at": format_instant(alert.resolved_at) if alert.resolved_at else None,
            }
            for alert in list_alerts(services.database, limit=limit)
        ],
        "currency": services.settings.currency,
        "next": None,
    }
