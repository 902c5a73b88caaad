"""Usage events with their exact cost, built from what genai-prices publishes.

``python -m tests.pricing.published_cases`` prints them as JSONL, one event a line with the exact
dollars in ``expected``, for use outside the tests.

A case starts from tokens that lie in one class each, so its cost is a plain sum; the totals of the
event are added up from the classes, which is the opposite of what rating has to do.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any, Final

from tests.pricing.published_rates import Offer, list_offers
from tokenbudget.domain.periods import format_instant


@dataclass(frozen=True, slots=True)
class UsageClass:
    """Where usage of one class is counted in an event, and which published keys price it."""

    counts: tuple[str, ...]
    keys: tuple[str, ...]


CLASSES: Final = {
    "text": UsageClass(("input_tokens",), ("input_mtok",)),
    "cached": UsageClass(
        ("input_tokens", "cached_input_tokens"), ("cache_read_mtok", "input_mtok")
    ),
    "write": UsageClass(("input_tokens", "cache_write_tokens"), ("cache_write_mtok",)),
    "write_5m": UsageClass(
        ("input_tokens", "cache_write_5m_tokens"), ("cache_write_5m_mtok", "cache_write_mtok")
    ),
    "write_1h": UsageClass(
        ("input_tokens", "cache_write_1h_tokens"), ("cache_write_1h_mtok", "cache_write_mtok")
    ),
    "audio": UsageClass(("input_tokens", "input_audio_tokens"), ("input_audio_mtok",)),
    "cached_audio": UsageClass(
        ("input_tokens", "cached_input_tokens", "input_audio_tokens", "cached_audio_tokens"),
        ("cache_audio_read_mtok",),
    ),
    "image": UsageClass(("input_tokens", "input_image_tokens"), ("input_image_mtok",)),
    "cached_image": UsageClass(
        ("input_tokens", "cached_input_tokens", "input_image_tokens", "cached_image_tokens"),
        ("cache_image_read_mtok",),
    ),
    "video": UsageClass(("input_tokens", "input_video_tokens"), ("input_video_mtok",)),
    "output": UsageClass(("output_tokens",), ("output_mtok",)),
    "reasoning": UsageClass(
        ("output_tokens", "reasoning_tokens"), ("output_reasoning_mtok", "output_mtok")
    ),
    "spoken": UsageClass(("output_tokens", "output_audio_tokens"), ("output_audio_mtok",)),
    "drawn": UsageClass(("output_tokens", "output_image_tokens"), ("output_image_mtok",)),
    "filmed": UsageClass(("output_tokens", "output_video_tokens"), ("output_video_mtok",)),
    "web_search": UsageClass(("web_searches",), ("web_searches_kcount",)),
    "file_search": UsageClass(("file_searches",), ("storage_searches_kcount",)),
    "request": UsageClass(("requests",), ("requests_kcount",)),
    "characters": UsageClass(("input_characters",), ("input_mchars",)),
    "pages": UsageClass(("pages",), ("input_document_kpages",)),
    "seconds": UsageClass(("audio_seconds",), ("audio_hours",)),
}

# Every amount is another prime, so that swapping two classes changes the sum.
PLAIN: Final = {"text": 15_733, "output": 419, "request": 1}
KINDS: Final[Mapping[str, Mapping[str, int]]] = {
    "standard": {},
    "cached": {"cached": 9_967},
    "cache_write": {"write": 3_571},
    "cache_write_5m": {"write_5m": 4_507, "cached": 1_009},
    "cache_write_1h": {"write_1h": 2_203, "write_5m": 1_511},
    "audio_in": {"audio": 1_237},
    "audio_out": {"spoken": 613},
    "cached_audio": {"cached_audio": 727, "audio": 331},
    "image_in": {"image": 2_087},
    "image_out": {"drawn": 1_291},
    "cached_image": {"cached_image": 541, "image": 199},
    "video_in": {"video": 5_021},
    "video_out": {"filmed": 2_671},
    "reasoning": {"reasoning": 1_873},
    "web_search": {"web_search": 3},
    "file_search": {"file_search": 7},
    "characters": {"characters": 4_999},
    "pages": {"pages": 11},
    "audio_seconds": {"seconds": 47},
}
"""What a kind of usage adds to PLAIN; it is built where its first class has a price of its own."""
AROUND: Final = {"just_below": -1, "at": 0, "just_above": 1}


@dataclass(frozen=True, slots=True)
class PublishedCase:
    """One usage event, and the exact dollars it costs by the published prices."""

    kind: str
    offer: Offer
    event: dict[str, Any]
    expected: Fraction

    @property
    def place(self) -> tuple[str, str]:
        """Give provider and model in the package's words."""
        return self.offer.provider.id, self.offer.model.id


@cache
def build_cases() -> tuple[PublishedCase, ...]:
    """Give every case, in the order of the package; the same at every call."""
    return tuple(
        _case(number, kind, offer, amounts)
        for number, (kind, offer, amounts) in enumerate(_plans(), start=1)
    )


def _plans() -> Iterator[tuple[str, Offer, dict[str, int]]]:
    for offer in list_offers():
        prefix = f"{offer.tier}_" if offer.tier else ""
        for kind, added in KINDS.items():
            if _is_published(kind, offer):
                yield prefix + kind, offer, _priced_amounts(offer, {**PLAIN, **added})
        for threshold in offer.thresholds:
            for word, step in AROUND.items():
                amounts = _priced_amounts(offer, {**PLAIN, "cached": 20_011})
                amounts["text"] = threshold + step - amounts.get("cached", 0)
                yield f"{prefix}long_context_{word}", offer, amounts


def _is_published(kind: str, offer: Offer) -> bool:
    if kind == "standard":
        return any(CLASSES[name].keys[0] in offer.prices for name in PLAIN)
    first = next(iter(KINDS[kind]))
    return CLASSES[first].keys[0] in offer.prices or (
        first == "write_5m" and "cache_write_mtok" in offer.prices
    )


def _priced_amounts(offer: Offer, amounts: Mapping[str, int]) -> dict[str, int]:
    return {
        name: amount
        for name, amount in amounts.items()
        if any(key in offer.prices for key in CLASSES[name].keys)
    }


def _case(number: int, kind: str, offer: Offer, amounts: Mapping[str, int]) -> PublishedCase:
    usage: dict[str, int] = defaultdict(int)
    for name, amount in amounts.items():
        for count in CLASSES[name].counts:
            usage[count] += amount
    total_input = usage.get("input_tokens", 0)
    expected = sum(
        (amount * offer.rate(CLASSES[name].keys, total_input) for name, amount in amounts.items()),
        start=Fraction(0),
    )
    event: dict[str, Any] = {
        "event_id": f"case-{number}",
        "provider": offer.provider.id,
        "model": offer.name,
        "occurred_at": format_instant(offer.occurred_at),
        "usage": dict(usage),
    }
    if offer.tier is not None:
        event["service_tier"] = offer.tier
    return PublishedCase(kind, offer, event, expected)


def main() -> None:
    """Print every case as a line of JSON; ``expected`` is a fraction of dollars."""
    for case in build_cases():
        line = {**case.event, "kind": case.kind, "expected": str(case.expected)}
        sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
