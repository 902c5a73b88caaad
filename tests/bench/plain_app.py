"""The yardstick of the quota check: an endpoint that validates the same body and does nothing.

FastAPI, served by uvicorn as the product is; ``python -m tests.bench.plain_app`` listens on
TOKENBUDGET_PORT.
"""

from __future__ import annotations

import os
from decimal import Decimal
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, Field

from tokenbudget.cli.serve import BACKLOG

app = FastAPI()


Words = Annotated[str, Field(max_length=256)]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Tokens = Annotated[int, Field(ge=0, le=10**8)]
Seconds = Annotated[int, Field(ge=1, le=31 * 86_400)]


class Check(BaseModel, extra="forbid"):
    """The body of a quota check, under the rules of the real one."""

    tags: dict[Name, Words | None] = {}
    provider: Name | None = None
    model: Name | None = None
    input_tokens: Tokens | None = None
    max_output_tokens: Tokens | None = None
    text: str | None = None
    messages: list[dict[str, Any]] | None = None
    service_tier: Words | None = None
    estimate: Decimal | None = None
    ttl_seconds: Seconds | None = None
    idempotency_key: Name | None = None
    dry_run: bool = False


class Answer(BaseModel):
    """The least that can be answered."""

    decision: str


@app.post("/v1/quota/check")
async def check(body: Check) -> Answer:
    """Allow everything."""
    return Answer(decision="allow")


@app.get("/healthz")
async def show_health() -> dict[str, str]:
    """Tell that the process answers."""
    return {"status": "ok"}


if __name__ == "__main__":
    uvicorn.run(
        "tests.bench.plain_app:app",
        host="127.0.0.1",
        port=int(os.environ["TOKENBUDGET_PORT"]),
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        lifespan="on",
    )
