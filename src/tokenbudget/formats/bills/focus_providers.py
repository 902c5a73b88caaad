"""Who and what a FOCUS row is about: the provider's service and the model it sold.

FOCUS names companies; OpenTelemetry, whose words the ledger uses, names their services. It owns
that translation; it refuses times and money.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tokenbudget.formats.bills.cloud_meters import (
    NOTHING,
    Meter,
    read_aws,
    read_azure,
    read_google,
    read_usage_type,
)
from tokenbudget.formats.bills.lines import Place, text_cell
from tokenbudget.formats.bills.tables import Cells

UNKNOWN_PROVIDER: Final = "unknown"
GENERATIVE: Final = "Generative AI"
MARKET_MARK: Final = "-MP:"
USAGE: Final = "Usage"

CLOUDS: Final[Mapping[str, str]] = {
    "aws": "aws",
    "amazon_web_services": "aws",
    "amazon_web_services,_inc.": "aws",
    "microsoft": "microsoft",
    "microsoft_azure": "microsoft",
    "azure": "microsoft",
    "google": "google_cloud",
    "google_cloud": "google_cloud",
    "google_cloud_platform": "google_cloud",
    "oracle": "oracle",
}
SERVICES: Final[Mapping[str, Mapping[str, str]]] = {
    "aws": {"bedrock": "aws.bedrock"},
    "microsoft": {"openai": "azure.ai.openai", "foundry": "azure.ai.inference"},
    "google_cloud": {"vertex": "gcp.vertex_ai", "gemini": "gcp.gemini", "generative": "gcp.gemini"},
}
PROVIDER_COLUMNS: Final = ("ProviderName", "ServiceProviderName", "InvoiceIssuerName")


def name_provider(row: Cells, place: Place) -> str:
    """Give the provider in the ledger's words: a cloud's AI service by its own, else the cloud."""
    names = (text_cell(row[column], place, column) for column in PROVIDER_COLUMNS)
    name = next((name for name in names if name is not None), None)
    if name is None:
        return UNKNOWN_PROVIDER
    word = name.strip().lower().replace(" ", "_")
    cloud = CLOUDS.get(word, word)
    known = SERVICES.get(cloud, {})
    service = " ".join(
        text_cell(row[column], place, column) or "" for column in ("ServiceName", "x_ServiceCode")
    ).lower()
    # Models sold on AWS's Marketplace have no service, only the meter.
    if cloud == "aws" and MARKET_MARK in (row["SkuMeter"] or "") and _aws(row).usage_type:
        return known["bedrock"]
    return next((known[part] for part in known if part in service), cloud)


def read_meter(row: Cells, provider: str, tags: Mapping[str, str], place: Place) -> Meter:
    """Give the model and the unit of a row, as far as its columns or the cloud's names tell."""
    model = text_cell(row["x_Model"], place, "x_Model")
    token_type = text_cell(row["x_TokenType"], place, "x_TokenType")
    meter_name = text_cell(row["SkuMeter"], place, "SkuMeter")
    read = _read_by_cloud(row, provider)
    if model is None and row["ServiceSubcategory"] == GENERATIVE:
        # LiteLLM has no column for it.
        model = tags.get("model") or None
    if token_type is not None:
        return Meter(model, read_usage_type(token_type) or token_type)
    usage_type = read.usage_type or read_usage_type(meter_name or "")
    is_of_cloud = (
        provider.partition(".")[0] in ("aws", "azure", "gcp") or provider in CLOUDS.values()
    )
    if model is None and not is_of_cloud and usage_type is None and row["ChargeCategory"] == USAGE:
        # Some name the model as the meter.
        model = meter_name
    return Meter(model or read.model, usage_type)


def _read_by_cloud(row: Cells, provider: str) -> Meter:
    if provider == "aws.bedrock":
        return _aws(row)
    name = row["SkuMeter"] or row["ChargeDescription"] or ""
    if provider.startswith("azure."):
        return read_azure(name)
    return read_google(name) if provider.startswith("gcp.") else NOTHING


def _aws(row: Cells) -> Meter:
    return read_aws(row["SkuMeter"] or "", row["ChargeDescription"] or "")
