"""Programs traced by stock instrumentations land in a running server with no code of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.instrumented.fake_provider import FakeProvider, providing
from tests.server_process import ServerProcess, serving

CLIENT_SECONDS = 60
PROGRAM = (sys.executable, "-m", "tests.instrumented.client_program")
RESOURCE = "team=support,deployment.environment.name=prod"


def run_client(instrumentation: str, provider: FakeProvider, server: ServerProcess) -> None:
    """Run the customer's program to its end; all that it is told are two addresses."""
    environment = {
        **os.environ,
        "OPENAI_BASE_URL": provider.url,
        "OPENAI_API_KEY": "not-checked",
        "OTEL_EXPORTER_OTLP_ENDPOINT": server.url,
        "OTEL_RESOURCE_ATTRIBUTES": RESOURCE,
        "OTEL_SERVICE_NAME": "tickets",
    }
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [*PROGRAM, instrumentation],
        env=environment,
        cwd=root,
        capture_output=True,
        text=True,
        timeout=CLIENT_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def costs_by_model(server: ServerProcess) -> list[dict[str, Any]]:
    """Give what the server counted today, by model and by who bears it."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    answer = httpx.get(
        f"{server.url}/v1/costs",
        params={
            "start": (today - timedelta(days=1)).isoformat(),
            "end": (today + timedelta(days=1)).isoformat(),
            "group_by": ["model", "team", "feature", "tenant", "environment"],
        },
    )
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["rows"]
    return rows


@pytest.mark.parametrize("instrumentation", ["official", "openllmetry"])
def test_a_traced_program_is_counted_with_its_tokens_model_and_tags(
    instrumentation: str, tmp_path: Path
) -> None:
    with providing() as provider, serving(tmp_path) as server:
        run_client(instrumentation, provider, server)
        rows = costs_by_model(server)

    told = [answered for answered in provider.truth if answered.is_usage_sent]
    asked = Counter(answered.model for answered in provider.truth)
    asked["does-not-exist"] += 1
    tokens = Counter[str]()
    for answered in told:
        tokens[answered.model] += answered.input_tokens + answered.output_tokens
    assert {row["model"]: row["requests"] for row in rows} == dict(asked)
    assert {row["model"]: row["tokens"] for row in rows if row["tokens"]} == dict(tokens)
    places = {(row["team"], row["feature"], row["tenant"], row["environment"]) for row in rows}
    assert places == {("support", "triage", "acme", "prod")}
    unknown = {row["model"]: row["unpriced_requests"] for row in rows if row["unpriced_requests"]}
    assert unknown == {"gpt-4o-mini": 1}
