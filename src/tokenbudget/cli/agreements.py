"""The commands ``agreements list`` and ``agreements share``. They print; the services decide."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

import typer

from tokenbudget.bootstrap import make_ledger, open_price_list
from tokenbudget.cli.console import print_rows
from tokenbudget.cli.start import started
from tokenbudget.domain.agreements import Contract
from tokenbudget.domain.commitments import Commitment
from tokenbudget.domain.money import format_nanos
from tokenbudget.domain.periods import format_instant
from tokenbudget.services.commitments import list_days_due, share_days
from tokenbudget.settings import load_settings

app = typer.Typer(help="Contracts, commitments and hosts.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
EVERYTHING: Final = "everything"


@app.command("list")
def list_agreements(as_json: AsJson = False) -> None:
    """List the contracts, commitments and hosts that the operator's files hold."""
    agreements = open_price_list(load_settings()).agreements
    rows = [_contract_row(contract) for contract in agreements.contracts]
    rows.extend(_commitment_row(commitment) for commitment in agreements.commitments)
    print_rows(f"{len(rows)} agreements", rows, as_json=as_json)


@app.command()
def share(as_json: AsJson = False) -> None:
    """Share what commitments cost on finished days, as a server does by itself."""
    services = started()
    commitments = services.price_list.agreements.commitments
    days = list_days_due(services.database, commitments, now=services.clock())
    rows = [
        {
            "commitment": sharing.commitment_id,
            "day": sharing.day.start.date().isoformat(),
            "fixed_cost": "" if sharing.fixed is None else format_nanos(sharing.fixed),
            "unused_cost": format_nanos(sharing.unused),
            "spilled_cost": format_nanos(sharing.spilled),
            "posted": _outcome(sharing.fixed, is_changed=sharing.is_changed),
        }
        for sharing in share_days(days, make_ledger(services).apply)
    ]
    print_rows(f"{len(rows)} days of commitments", rows, as_json=as_json)


def _outcome(fixed: int | None, *, is_changed: bool) -> str:
    if fixed is None:
        return "waits for an exchange rate"
    return "yes" if is_changed else "no change"


def _contract_row(contract: Contract) -> dict[str, str]:
    conditions = {name: getattr(contract, name) for name in ("model", "account", "tier", "region")}
    terms = f"{contract.times} x list cost"
    if contract.rates:
        terms = f"own rates of {', '.join(contract.rates)}"
    elif contract.applies:
        terms += f" of {', '.join(sorted(contract.applies))}"
    return {
        "kind": "contract",
        "id": contract.id,
        "provider": contract.provider or EVERYTHING,
        "covers": _conditions({name: value for name, value in conditions.items() if value}),
        "from": _instant(contract.valid_from),
        "to": _instant(contract.valid_to),
        "terms": terms,
    }


def _commitment_row(commitment: Commitment) -> dict[str, str]:
    amount = format_nanos(round(commitment.nanos_per_time))
    covers = {name: "|".join(patterns) for name, patterns in commitment.covers.items()}
    return {
        "kind": "commitment",
        "id": commitment.id,
        "provider": commitment.provider,
        "covers": _conditions(covers),
        "from": _instant(commitment.valid_from),
        "to": _instant(commitment.valid_to),
        "terms": f"{amount} {commitment.currency} per {commitment.per}, by {commitment.share}",
    }


def _conditions(conditions: dict[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in conditions.items()) or EVERYTHING


def _instant(instant: datetime | None) -> str:
    return format_instant(instant) if instant else ""
