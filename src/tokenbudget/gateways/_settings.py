"""What a gateway's module reads from its environment, and the client that this makes.

It owns the names and units of these variables. It refuses to guess the service's address.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tokenbudget.client import AsyncClient, FailMode, Manner

PREFIX: Final = "TOKENBUDGET_GATEWAY_"
VARIABLES: Final[Mapping[str, str]] = {
    f"{PREFIX}URL": "address of the service; required",
    f"{PREFIX}API_KEY": "key of the service with the scopes quota and ingest",
    f"{PREFIX}TAGS": "tags of every call, where nobody nearer gives one: `name=value,name=value`",
    f"{PREFIX}SOURCE": "source of the events (`litellm-gateway`)",
    f"{PREFIX}TIMEOUT_SECONDS": "seconds that a check may take (`0.5`)",
    f"{PREFIX}FAIL_MODE": "`open`, `closed` or `cached`; without it the budgets' own mode",
    f"{PREFIX}HOLD_SECONDS": "seconds that a call may take before its hold runs out (`600`)",
    f"{PREFIX}SPOOL_DIRECTORY": "directory of the events that wait to be sent",
}
SOURCE: Final = "litellm-gateway"


class GatewayMisconfigured(ValueError):
    """A variable of the environment is missing or wrong; the message names it and the rule."""


def client_of(environment: Mapping[str, str]) -> AsyncClient:
    """Give a client as these variables want it. Raises GatewayMisconfigured."""
    given = {name: environment.get(name, "").strip() for name in VARIABLES}
    url = given[f"{PREFIX}URL"]
    if not url.startswith(("http://", "https://")):
        raise GatewayMisconfigured(f"{PREFIX}URL must be an http or https address of the service")
    defaults = Manner()
    manner = Manner(
        source=given[f"{PREFIX}SOURCE"] or SOURCE,
        timeout_seconds=_above_zero(given, "TIMEOUT_SECONDS", defaults.timeout_seconds),
        fail_mode=_fail_mode(given[f"{PREFIX}FAIL_MODE"]),
        hold_seconds=int(_above_zero(given, "HOLD_SECONDS", defaults.hold_seconds)),
        spool_directory=given[f"{PREFIX}SPOOL_DIRECTORY"] or None,
    )
    api_key = given[f"{PREFIX}API_KEY"] or None
    return AsyncClient(url, api_key=api_key, tags=_tags(given[f"{PREFIX}TAGS"]), manner=manner)


def _above_zero(given: Mapping[str, str], name: str, default: float) -> float:
    text = given[PREFIX + name]
    try:
        value = float(text) if text else float(default)
    except ValueError:
        value = 0.0
    # Written so that what is not a number fails, too; a second is the shortest hold.
    if not (0 < value < float("inf")) or (name == "HOLD_SECONDS" and value < 1):
        raise GatewayMisconfigured(f"{PREFIX}{name} must be a number of seconds above zero")
    return value


def _fail_mode(text: str) -> FailMode | None:
    if not text:
        return None
    try:
        return FailMode(text.lower())
    except ValueError:
        modes = ", ".join(FailMode)
        raise GatewayMisconfigured(f"{PREFIX}FAIL_MODE must be one of {modes}") from None


def _tags(text: str) -> dict[str, str]:
    tags = {}
    for member in filter(str.strip, text.split(",")):
        name, separator, value = member.partition("=")
        if not (separator and name.strip() and value.strip()):
            raise GatewayMisconfigured(f"{PREFIX}TAGS must be of the form name=value,name=value")
        tags[name.strip()] = value.strip()
    return tags
