"""What the load generator sends: quota checks and batches of events of one invented company.

Six teams with fifteen features, each on two of eight models, used by two hundred tenants and five
thousand users, some far more than others. Events happen one after the other, from the last
midnight on.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count, cycle, repeat
from random import Random

import msgspec

EVENTS_PER_BATCH = 500
EVENTS_PER_QUARTER_HOUR = 20_000
QUARTER_HOUR_SECONDS = 900
TEAMS, FEATURES, TENANTS, USERS = 6, 15, 200, 5_000
MODELS = (
    ("openai", "gpt-5.2"),
    ("openai", "gpt-5-mini"),
    ("openai", "gpt-4o"),
    ("anthropic", "claude-sonnet-4-5"),
    ("anthropic", "claude-haiku-4-5"),
    ("google", "gemini-2.5-pro"),
    ("google", "gemini-2.5-flash"),
    ("mistral", "mistral-large-latest"),
)
MODELS_PER_FEATURE = 2
PREPARED_BATCHES = 40
PREPARED_CHECKS = 400
NUMBER_MARK = b"@@@@@@@@@@"
TENANT_MARK = "tenant-@@@@@@"
CHECKED_TENANTS = 100_000
OTHER_BUDGETS = 996
TIME_MARK = b"2000-01-01T00:00:00Z"
START = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
SEED = 2026

BUDGETS = """
[[budget]]
id = "company"
limit = "90000000"
window = "month"

[[budget]]
id = "teams"
limit = "9000000"
window = "month"
mode = "hard"
split_by = ["team"]

[[budget]]
id = "features"
limit = "9000000"
window = "week"
mode = "hard"
split_by = ["feature"]

[[budget]]
id = "tenants"
limit = "900000"
window = "day"
mode = "hard"
split_by = ["tenant"]
"""


def check_bodies() -> Iterator[bytes]:
    """Give quota checks without end, in a fixed order, of CHECKED_TENANTS tenants."""
    random = Random(SEED)
    prepared = [msgspec.json.encode(_check(random, TENANT_MARK)) for _ in range(PREPARED_CHECKS)]
    for body in cycle(prepared):
        yield body.replace(TENANT_MARK.encode(), tenant_name(random.randrange(CHECKED_TENANTS)))


def hot_check_bodies() -> Iterator[bytes]:
    """Give one quota check without end."""
    yield from repeat(msgspec.json.encode(_check(Random(SEED), "tenant-0")))


def tenant_name(number: int) -> bytes:
    """Give the name of a tenant that checks are made for."""
    return f"tenant-{number:06d}".encode()


def budgets_for_checks() -> str:
    """Give a file of 1,000 budgets, of which four match every check."""
    others = (
        f"""
[[budget]]
id = "other-{number}"
limit = "100"
window = "month"
mode = "hard"
selector = {{ feature = "other-{number}" }}
"""
        for number in range(OTHER_BUDGETS)
    )
    return BUDGETS + "".join(others)


def batch_bodies(first: int) -> Iterator[bytes]:
    """Give batches of events without end, numbered from ``first``; no event id comes twice."""
    random = Random(SEED)
    prepared = [_batch(random) for _ in range(PREPARED_BATCHES)]
    for number in count(first):
        seconds = number * EVENTS_PER_BATCH * QUARTER_HOUR_SECONDS // EVENTS_PER_QUARTER_HOUR
        instant = START + timedelta(seconds=seconds)
        text = f"{instant:%Y-%m-%dT%H:%M:%SZ}".encode()
        body = prepared[number % PREPARED_BATCHES].replace(TIME_MARK, text)
        yield body.replace(NUMBER_MARK, f"{number:010d}".encode())


def _check(random: Random, tenant: str) -> dict[str, object]:
    provider, model, tags = call_of(random)
    return {
        "tags": {**tags, "tenant": tenant},
        "provider": provider,
        "model": model,
        "input_tokens": random.randrange(200, 4_000),
        "max_output_tokens": 800,
        "service_tier": "standard",
        "ttl_seconds": 3_600,
    }


def _batch(random: Random) -> bytes:
    return msgspec.json.encode([_event(random, index) for index in range(EVENTS_PER_BATCH)])


def _event(random: Random, index: int) -> dict[str, object]:
    provider, model, tags = call_of(random)
    input_tokens = random.randrange(50, 16_000)
    return {
        "event_id": f"{NUMBER_MARK.decode()}-{index:04d}",
        "source": "gateway",
        "occurred_at": TIME_MARK.decode(),
        "provider": provider,
        "model": model,
        "operation": "chat",
        "service_tier": "standard",
        "operation_id": f"op-{random.getrandbits(64):016x}",
        "trace_id": f"{random.getrandbits(128):032x}",
        "usage": {
            "input_tokens": input_tokens,
            "cached_input_tokens": random.choice((0, input_tokens // 2)),
            "output_tokens": random.randrange(5, 1_500),
            "reasoning_tokens": 0,
            "requests": 1,
        },
        "latency_ms": random.randrange(200, 9_000),
        "tags": {**tags, "user": f"u-{random.randrange(USERS)}"},
    }


def call_of(random: Random) -> tuple[str, str, dict[str, str]]:
    """Give the provider, the model and the tags of one call."""
    feature = random.randrange(FEATURES)
    tenant = min(random.randrange(TENANTS), random.randrange(TENANTS))
    used = (feature + random.randrange(MODELS_PER_FEATURE)) % len(MODELS)
    provider, model = MODELS[used]
    tags = {
        "team": f"team-{feature % TEAMS}",
        "feature": f"feature-{feature}",
        "tenant": f"tenant-{tenant}",
        "environment": "prod",
        "request_type": "production",
    }
    return provider, model, tags
