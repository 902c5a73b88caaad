"""The yardstick of the quota check: an endpoint that validates the same body and does nothing.

FastAPI, served by uvicorn as the product is; ``python -m tests.bench.plain_app`` listens on
TOKENBUDGET_PORT.
"""

from __future__ import annotations

import os

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from tokenbudget.cli.serve import BACKLOG

app = FastAPI()


class Check(BaseModel):
    """The body of a quota check."""

    tags: dict[str, str | None] = {}
    provider: str | None = None
    model: str | None = None
    input_tokens: int | None = None
    max_output_tokens: int | None = None
    service_tier: str | None = None
    estimate: str | None = None
    ttl_seconds: int | None = None
    idempotency_key: str | None = None
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
        backlog=BACKLOG,
        lifespan="on",
    )
