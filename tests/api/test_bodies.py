"""Bodies of the routes that read one JSON object."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"7",
        b"{",
        b"\xff",
        b'{"limit": 1e9999999999999999999}',
        b'{"a":' * 100_000,
        b'{"limit": ' + b"9" * 5_000 + b"}",
    ],
)
def test_what_is_no_object_is_malformed(client: TestClient, body: bytes) -> None:
    answer = client.post("/v1/budgets", content=body)

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_body")
