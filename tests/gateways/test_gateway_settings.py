"""What the environment says of a gateway's client, and what it must not say."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tokenbudget.client import FailMode
from tokenbudget.gateways._settings import GatewayMisconfigured, client_of

URL = {"TOKENBUDGET_GATEWAY_URL": "http://127.0.0.1:8000"}


def test_a_client_is_made_as_the_environment_says(tmp_path: Path) -> None:
    client = client_of(
        {
            **URL,
            "TOKENBUDGET_GATEWAY_API_KEY": "key",
            "TOKENBUDGET_GATEWAY_TAGS": "environment=prod, region=eu,",
            "TOKENBUDGET_GATEWAY_TIMEOUT_SECONDS": "1.5",
            "TOKENBUDGET_GATEWAY_FAIL_MODE": "Closed",
            "TOKENBUDGET_GATEWAY_HOLD_SECONDS": "120",
            "TOKENBUDGET_GATEWAY_SPOOL_DIRECTORY": str(tmp_path),
        }
    )

    assert client.tags == {"environment": "prod", "region": "eu"}
    assert client.manner.fail_mode is FailMode.CLOSED
    assert (client.manner.timeout_seconds, client.manner.hold_seconds) == (1.5, 120)
    assert client.manner.source == "litellm-gateway"
    asyncio.run(client.close())


@pytest.mark.parametrize(
    ("name", "text", "rule"),
    [
        ("URL", "", "address"),
        ("URL", "ftp://x", "address"),
        ("TIMEOUT_SECONDS", "soon", "number of seconds"),
        ("TIMEOUT_SECONDS", "0", "number of seconds"),
        ("TIMEOUT_SECONDS", "nan", "number of seconds"),
        ("HOLD_SECONDS", "0.5", "number of seconds"),
        ("HOLD_SECONDS", "inf", "number of seconds"),
        ("FAIL_MODE", "perhaps", "open, closed, cached"),
        ("TAGS", "team", "name=value"),
    ],
)
def test_a_wrong_variable_is_named_with_its_rule(name: str, text: str, rule: str) -> None:
    variable = f"TOKENBUDGET_GATEWAY_{name}"

    with pytest.raises(GatewayMisconfigured, match=rule) as raised:
        client_of({**URL, variable: text})

    assert variable in str(raised.value)
