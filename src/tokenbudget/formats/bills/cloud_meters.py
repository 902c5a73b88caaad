"""Models and units in the names that clouds give to what they meter.

Nobody documents those names: they are read as far as they go, and None says that nothing is known.
It owns the words of AWS usage types, Azure meters and Google SKUs; it refuses money. Sources of the
shapes: AWS price lists and CUR 2.0, Azure meter names, Cloud Billing SKU descriptions (2025-2026).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

CACHED_NAMES: Final = 4_096
CACHE_STORAGE: Final = "cache_storage"

# "USE1-", "EUW2-", "EU-": where it was metered, which is no region's id.
AWS_PLACE: Final = re.compile(r"^(?:[A-Z]{2,4}\d?-)(?=.)")
AWS_NATIVE: Final = re.compile(
    r"(?P<model>.+?)-(?:mantle-)?(?P<unit>(?:cache-(?:read|write)-)?(?:input|output)-token[a-z-]*)"
    r"(?P<rest>.*)$"
)
AWS_MARKET: Final = re.compile(r"MP:[A-Z]{2,4}\d?_(?P<unit>\w+)-Units$")
AWS_EDITION: Final = re.compile(r"(?P<name>.+?) \(Amazon Bedrock Edition\)")
CLAUDE: Final = re.compile(r"claude[ -](?P<words>[a-z0-9 .-]+?)$")
NOVA: Final = re.compile(r"nova-?(?P<size>micro|lite|pro|premier|canvas|reel)")
# Anthropic's models carry a day in their ids, which display names leave out.
CLAUDE_DAYS: Final = {
    "opus-4": "20250514",
    "sonnet-4": "20250514",
    "opus-4-1": "20250805",
    "sonnet-4-5": "20250929",
    "haiku-4-5": "20251001",
}

AZURE_NOISE: Final = frozenset(
    {
        "inp",
        "in",
        "inpt",
        "input",
        "outp",
        "opt",
        "out",
        "output",
        "cchd",
        "cd",
        "cached",
        "glbl",
        "gl",
        "global",
        "dz",
        "dzone",
        "data",
        "zone",
        "regnl",
        "rgnl",
        "regional",
        "reg",
        "batch",
        "pp",
        "priority",
        "flex",
        "tokens",
        "token",
        "1k",
        "1m",
        "wr",
        "write",
        "cache",
        "ch",
    }
)
GOOGLE_NOISE: Final = frozenset(
    {
        "ga",
        "global",
        "text",
        "audio",
        "image",
        "video",
        "input",
        "output",
        "thinking",
        "predictions",
        "batch",
        "priority",
        "flex",
        "caching",
        "cached",
        "tokens",
        "token",
        "count",
        "storage",
        "per",
        "hour",
        "-",
        "generate",
        "content",
        "long",
        "context",
        "for",
    }
)
GOOGLE_GENERATE: Final = re.compile(r"^generate(?:_| )content .*? count (?=gemini)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Meter:
    """What a name tells: the model as the price book knows it, and a unit of the ledger."""

    model: str | None = None
    usage_type: str | None = None


NOTHING: Final = Meter()


@lru_cache(CACHED_NAMES)
def read_usage_type(text: str) -> str | None:
    """Give the unit of the ledger that words such as ``cache-read input tokens`` mean."""
    words = set(re.findall(r"[a-z]+|\d+[a-z]+", _spaced(text)))
    is_cached = words & {"cached", "cchd", "cd", "caching", "read"} or (
        "cache" in words and not words & {"write", "creation", "wr"}
    )
    if "storage" in words:
        return CACHE_STORAGE
    if words & {"write", "creation", "wr"}:
        lifetime = "5m_" if "5m" in words else "1h_" if "1h" in words else ""
        return f"cache_write_{lifetime}tokens"
    if words & {"reasoning", "thinking"}:
        return "reasoning_tokens"
    kind = "audio_" if words & {"audio", "aud"} else "image_" if "image" in words else ""
    if words & {"output", "outp", "opt", "out"}:
        return f"output_{kind}tokens"
    if is_cached:
        return f"cached_input_{kind}tokens"
    return f"input_{kind}tokens" if words & {"input", "inp", "inpt", "in"} else None


@lru_cache(CACHED_NAMES)
def read_aws(usage_type: str, product_name: str) -> Meter:
    """Give what a Bedrock usage type tells, with the product's name for Marketplace models."""
    market = AWS_MARKET.search(usage_type)
    if market is not None:
        is_global = "global" in market["unit"].lower()
        edition = AWS_EDITION.search(product_name)
        name = None if edition is None else edition["name"]
        return Meter(_bedrock_model(name, is_global=is_global), read_usage_type(market["unit"]))
    native = AWS_NATIVE.fullmatch(AWS_PLACE.sub("", usage_type))
    if native is None:
        return NOTHING
    is_global = "global" in native["unit"] + native["rest"]
    model = _bedrock_model(native["model"], is_global=is_global)
    return Meter(model, read_usage_type(native["unit"]))


def _bedrock_model(name: str | None, *, is_global: bool) -> str | None:
    if name is None:
        return None
    lowered = name.lower()
    nova = NOVA.fullmatch(lowered)
    if nova is not None:
        return f"amazon.nova-{nova['size']}-v1:0"
    claude = CLAUDE.fullmatch(lowered)
    if claude is None:
        return name
    version = re.sub(r"[ .]+", "-", claude["words"])
    day = f"-{CLAUDE_DAYS[version]}" if version in CLAUDE_DAYS else ""
    return f"{'global.' if is_global else ''}anthropic.claude-{version}{day}-v1:0"


@lru_cache(CACHED_NAMES)
def read_azure(meter_name: str) -> Meter:
    """Give what a meter of Azure OpenAI tells: ``gpt 4.1 cchd Inp glbl Tokens``."""
    usage_type = read_usage_type(meter_name)
    words = [word for word in meter_name.lower().split() if word not in AZURE_NOISE]
    if usage_type is None or not words:
        return Meter(None, usage_type)
    name = "-".join(words)
    return Meter(f"gpt-{name}" if name[0].isdigit() else name, usage_type)


@lru_cache(CACHED_NAMES)
def read_google(sku: str) -> Meter:
    """Give what a SKU of Vertex AI or the Gemini API tells: ``Gemini 2.5 Flash GA Text Input``."""
    usage_type = read_usage_type(sku)
    words = GOOGLE_GENERATE.sub("", sku).lower().split()
    known = [word for word in words if word not in GOOGLE_NOISE]
    if usage_type is None or not known or known[0] not in ("gemini", "claude"):
        return Meter(None, usage_type)
    name = "-".join(known)
    return Meter(name.replace(".", "-") if known[0] == "claude" else name, usage_type)


def _spaced(text: str) -> str:
    """Give the words of ``CacheReadInputTokenCount_5m`` apart and small."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    apart = re.sub(r"(?<=[a-z])(?=\d[a-z])", " ", apart)
    return re.sub(r"(?<=\d[hm])(?=[A-Z])", " ", apart).lower().replace("_", " ").replace("-", " ")
