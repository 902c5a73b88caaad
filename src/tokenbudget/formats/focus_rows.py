"""Rows of a FOCUS file: which cell holds what of a usage or a charge.

It owns the meaning of FOCUS's columns for spend on models (FOCUS_Spec v1.2 to v1.4); it refuses to
work out amounts (``domain/focus.py``) and to write files (``formats/focus.py``). Every row has the
cells of all versions; the writer takes those of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import Final

from tokenbudget.domain.allocation import DimensionSet
from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.commitments import UNUSED
from tokenbudget.domain.focus import (
    ATTOS_PER_UNIT,
    COMMITMENT,
    OTHER_UNITS,
    ROUNDING,
    CostSource,
    ExportedCharge,
    ExportedUsage,
    Part,
    PriceTerms,
)
from tokenbudget.domain.months import month_at, month_period
from tokenbudget.domain.periods import Period
from tokenbudget.formats.focus_text import (
    count_text,
    decimal_text,
    end_text,
    id_text,
    instant_text,
    json_text,
    name_text,
)

Cells = dict[str, str | None]

MAX_REMEMBERED: Final = 50_000
MAX_MONTHS: Final = 256
NOTHING: Final = "0.0"
LONG_PURCHASE: Final = timedelta(days=1)
BILLING_ACCOUNT: Final = "Billing Account"
SUB_ACCOUNT: Final = "Account"
COMMITTED_CAPACITY: Final = "Committed Capacity"
CORRECTION: Final = "Correction"
TOKENS: Final = "Tokens"
REQUESTS: Final = "Requests"
PURCHASED_UNITS: Final = "Units"
UNPRICED_REMARK: Final = " (no price is known: the cost is unknown, not zero)"
METER_WORDS: Final = {
    OTHER_UNITS: "other units, which prices of tokens do not explain",
    ROUNDING: "rounding of single charges",
}
TAGGED_DIMENSIONS: Final = (
    "team",
    "feature",
    "tenant",
    "environment",
    "request_type",
    "prompt_version",
)
# Who sells, and what of it: FOCUS names companies, and one service has one category.
COMPANIES: Final[Mapping[str, tuple[str, str]]] = {
    "anthropic": ("Anthropic", "Claude API"),
    "aws": ("AWS", "AWS"),
    "aws.bedrock": ("AWS", "Amazon Bedrock"),
    "azure": ("Microsoft", "Azure OpenAI"),
    "azure.ai.inference": ("Microsoft", "Azure AI Foundry"),
    "azure.ai.openai": ("Microsoft", "Azure OpenAI"),
    "bedrock": ("AWS", "Amazon Bedrock"),
    "cohere": ("Cohere", "Cohere API"),
    "deepseek": ("DeepSeek", "DeepSeek API"),
    "fireworks_ai": ("Fireworks AI", "Fireworks API"),
    "gcp.gemini": ("Google Cloud", "Gemini API"),
    "gcp.vertex_ai": ("Google Cloud", "Vertex AI"),
    "google": ("Google Cloud", "Gemini API"),
    "google_cloud": ("Google Cloud", "Google Cloud"),
    "groq": ("Groq", "Groq API"),
    "microsoft": ("Microsoft", "Microsoft Azure"),
    "mistral": ("Mistral AI", "Mistral API"),
    "mistral_ai": ("Mistral AI", "Mistral API"),
    "openai": ("OpenAI", "OpenAI API"),
    "openrouter": ("OpenRouter", "OpenRouter API"),
    "perplexity": ("Perplexity", "Perplexity API"),
    "together_ai": ("Together AI", "Together API"),
    "x_ai": ("xAI", "xAI API"),
    "xai": ("xAI", "xAI API"),
}
CATEGORY: Final = {"ServiceCategory": "AI and Machine Learning"}
SUBCATEGORY: Final = {"ServiceSubcategory": "Generative AI"}
FREQUENCIES: Final = {
    ChargeCategory.USAGE: "Usage-Based",
    ChargeCategory.PURCHASE: "One-Time",
}


@dataclass(slots=True)
class RowBuilder:
    """Gives the cells of rows in the ledger's currency.

    What is the same for a dimension set, and what is the same for a class of tokens at a price, is
    worked out once and remembered.
    """

    currency: str
    _places: dict[tuple[str, str], Cells] = field(default_factory=dict)
    _classes: dict[tuple[str, str, str, CostSource], Cells] = field(default_factory=dict)

    def usage_row(self, usage: ExportedUsage) -> Cells:
        """Give the cells of one class of a day's usage."""
        part, day = usage.part, usage.day
        effective = decimal_text(part.effective)
        list_price, contracted_price = map(decimal_text, (part.list_price, part.contracted_price))
        quantity = count_text(part.quantity)
        row = {
            **self._place_cells(usage),
            **self._class_cells(usage),
            **_billing_cells(month_at(day.start)),
            "BilledCost": decimal_text(part.billed),
            "ChargePeriodEnd": instant_text(day.end),
            "ChargePeriodStart": instant_text(day.start),
            "ContractedCost": decimal_text(part.contracted_cost),
            "ContractedUnitPrice": contracted_price,
            "EffectiveCost": effective,
            "InvoiceId": id_text(usage.invoice_ref),
            "ListCost": decimal_text(part.list_cost),
            "ListUnitPrice": list_price,
            "PricingCurrencyContractedUnitPrice": contracted_price,
            "PricingCurrencyEffectiveCost": effective,
            "PricingCurrencyListUnitPrice": list_price,
            "PricingQuantity": decimal_text(part.priced),
            "PricingUnit": _unit_text(part),
            "x_ChargeKey": usage.key,
            "x_UnpricedEventCount": str(part.unpriced_requests),
            "x_UsageEventCount": str(part.requests),
        }
        if row["ConsumedUnit"] is not None:
            row["ConsumedQuantity"] = quantity
        if row["CommitmentDiscountUnit"] is not None:
            row["CommitmentDiscountQuantity"] = quantity
        return row

    def charge_row(self, charge: ExportedCharge) -> Cells:
        """Give the cells of a charge that no metered usage stands for."""
        period = _charge_period(charge)
        is_purchase = charge.category is ChargeCategory.PURCHASE
        effective = NOTHING if is_purchase else decimal_text(charge.billed)
        tags = dict(charge.tags)
        return {
            **_seller_cells(charge.provider),
            **_account_cells(charge.account or charge.provider, charge.project),
            **_billing_cells(charge.month),
            "BilledCost": decimal_text(charge.billed),
            "BillingCurrency": charge.currency,
            "ChargeCategory": charge.category.value.capitalize(),
            "ChargeClass": CORRECTION if charge.is_correction else None,
            "ChargeDescription": name_text(charge.description),
            "ChargeFrequency": _frequency(charge),
            "ChargePeriodEnd": end_text(period.start, period.end),
            "ChargePeriodStart": instant_text(period.start),
            "ContractedCost": decimal_text(charge.billed),
            "EffectiveCost": effective,
            "InvoiceId": id_text(charge.invoice_ref),
            "ListCost": decimal_text(charge.billed),
            "PricingCurrency": charge.currency,
            "PricingCurrencyEffectiveCost": effective,
            "Tags": json_text(tags),
            **(_purchase_cells(charge) if is_purchase and not charge.is_correction else {}),
            **(_allocation_cells(charge, tags) if charge.method else {}),
            "x_ChargeKey": id_text(charge.key),
            "x_CostSource": charge.source.value,
            "x_Model": id_text(charge.model),
            "x_Team": id_text(charge.team),
            "x_TokenType": id_text(charge.usage_type),
        }

    def _place_cells(self, usage: ExportedUsage) -> Cells:
        key = usage.key.split("/", 2)[1], usage.account
        found = self._places.get(key)
        if found is None:
            if len(self._places) >= MAX_REMEMBERED:
                self._places.clear()
            found = self._places[key] = _place_cells(usage, self.currency)
        return found

    def _class_cells(self, usage: ExportedUsage) -> Cells:
        dimensions = usage.dimensions
        price_and_meter = usage.key.split("/", 2)[2]
        key = dimensions.provider, dimensions.model, price_and_meter, usage.source
        found = self._classes.get(key)
        if found is None:
            if len(self._classes) >= MAX_REMEMBERED:
                self._classes.clear()
            found = self._classes[key] = _class_cells(usage)
        return found


def _place_cells(usage: ExportedUsage, currency: str) -> Cells:
    """Give the cells that all usage of a dimension set has."""
    dimensions = usage.dimensions
    region = id_text(dimensions.region)
    return {
        **_seller_cells(dimensions.provider),
        **_account_cells(usage.account, dimensions.account),
        "BillingCurrency": currency,
        "PricingCurrency": currency,
        "RegionId": region,
        "RegionName": region,
        "Tags": json_text(_tags_of(dimensions)),
        "x_Model": id_text(dimensions.model),
        "x_Team": id_text(dimensions.team),
    }


def _class_cells(usage: ExportedUsage) -> Cells:
    """Give the cells that a class of a model's tokens has at a price, whoever used them."""
    dimensions, terms, part = usage.dimensions, usage.terms, usage.part
    is_unused = part.meter == COMMITMENT and dimensions.model == UNUSED
    unit = TOKENS if part.is_of_tokens else REQUESTS
    return {
        **_commitment_cells(terms.commitment, is_unused=is_unused),
        **_sku_cells(dimensions, terms, part.meter),
        "ChargeCategory": "Usage",
        "ChargeDescription": name_text(_describe(usage)),
        "ChargeFrequency": FREQUENCIES[ChargeCategory.USAGE],
        "ConsumedUnit": None if is_unused else unit,
        "PricingCategory": _pricing_category(usage),
        "x_CostSource": usage.source.value,
        "x_TokenType": part.meter,
    }


def _seller_cells(provider: str) -> Cells:
    company, service = COMPANIES.get(provider, (provider, provider))
    name = id_text(company)
    return {
        **CATEGORY,
        **SUBCATEGORY,
        "HostProviderName": name,
        "InvoiceIssuerName": name,
        "ProviderName": name,
        "PublisherName": name,
        "ServiceName": id_text(service),
        "ServiceProviderName": name,
    }


def _account_cells(account: str, sub_account: str | None) -> Cells:
    return {
        "BillingAccountId": id_text(account),
        "BillingAccountName": name_text(account),
        "BillingAccountType": BILLING_ACCOUNT,
        "SubAccountId": id_text(sub_account),
        "SubAccountName": name_text(sub_account),
        "SubAccountType": SUB_ACCOUNT if sub_account else None,
    }


@lru_cache(maxsize=MAX_MONTHS)
def _billing_cells(month: int) -> Mapping[str, str]:
    period = month_period(month)
    return {
        "BillingPeriodEnd": instant_text(period.end),
        "BillingPeriodStart": instant_text(period.start),
    }


def _commitment_cells(commitment: str | None, *, is_unused: bool) -> Cells:
    if commitment is None:
        return {"CommitmentDiscountUnit": None}
    return {
        "CommitmentDiscountCategory": "Usage",
        "CommitmentDiscountId": id_text(commitment),
        "CommitmentDiscountName": name_text(commitment),
        "CommitmentDiscountStatus": "Unused" if is_unused else "Used",
        "CommitmentDiscountType": COMMITTED_CAPACITY,
        "CommitmentDiscountUnit": TOKENS,
    }


def _sku_cells(dimensions: DimensionSet, terms: PriceTerms, meter: str) -> Cells:
    sku = f"{dimensions.provider}/{dimensions.model}/{meter}"
    above = None if terms.above is None else str(terms.above)
    details = {"x_ServiceTier": terms.tier, "x_Region": terms.region, "x_AboveInputTokens": above}
    parts = [sku, terms.tier]
    parts += [terms.region] if terms.region else []
    parts += [f"above-{above}"] if above else []
    return {
        "SkuId": id_text(sku),
        "SkuMeter": meter,
        "SkuPriceDetails": json_text(details),
        "SkuPriceId": id_text("/".join(parts)),
    }


def _purchase_cells(charge: ExportedCharge) -> Cells:
    """Give the price of a purchase: what was invoiced, once."""
    sku = f"{charge.provider}/{charge.usage_type or 'purchase'}"
    is_comparable = charge.billed * charge.listed >= 0
    listed = charge.listed if is_comparable else charge.billed
    sign = -1 if min(charge.billed, listed) < 0 else 1
    prices = decimal_text(abs(listed)), decimal_text(abs(charge.billed))
    return {
        "ContractedUnitPrice": prices[1],
        "ListCost": decimal_text(listed),
        "ListUnitPrice": prices[0],
        "PricingCategory": "Standard",
        "PricingCurrencyContractedUnitPrice": prices[1],
        "PricingCurrencyListUnitPrice": prices[0],
        "PricingQuantity": decimal_text(sign * ATTOS_PER_UNIT),
        "PricingUnit": PURCHASED_UNITS,
        "SkuId": id_text(sku),
        "SkuMeter": id_text(charge.usage_type) or "purchase",
        "SkuPriceId": id_text(f"{sku}/invoiced"),
    }


def _allocation_cells(charge: ExportedCharge, tags: Mapping[str, str]) -> Cells:
    """Give how a share came to its bearer: by columns of ours and, since 1.3, by FOCUS's own."""
    method = id_text(charge.method)
    details = {"x_Rule": charge.rule}
    return {
        "AllocatedMethodDetails": json_text(details),
        "AllocatedMethodId": method,
        "AllocatedTags": json_text(tags),
        "x_AllocationMethod": method,
        "x_AllocationRule": id_text(charge.rule),
    }


def _charge_period(charge: ExportedCharge) -> Period:
    """Give the charged time within its billing period, unless it corrects an earlier one."""
    billing = month_period(charge.month)
    if charge.is_correction:
        return charge.period
    start, end = max(charge.period.start, billing.start), min(charge.period.end, billing.end)
    return Period(start, end) if start < end else billing


def _frequency(charge: ExportedCharge) -> str:
    is_long = charge.period.end - charge.period.start > LONG_PURCHASE
    if charge.category is ChargeCategory.PURCHASE and is_long:
        return "Recurring"
    return FREQUENCIES.get(charge.category, "One-Time")


def _pricing_category(usage: ExportedUsage) -> str:
    if usage.terms.commitment is not None:
        return "Committed"
    return "Other" if usage.source is CostSource.UNPRICED else "Standard"


def _describe(usage: ExportedUsage) -> str:
    remark = UNPRICED_REMARK if usage.source is CostSource.UNPRICED else ""
    subject = usage.terms.commitment if usage.terms.is_share else usage.dimensions.model
    meter = usage.part.meter
    return f"{subject} {METER_WORDS.get(meter) or meter.replace('_', ' ')}{remark}"


def _unit_text(part: Part) -> str:
    unit = TOKENS if part.is_of_tokens else REQUESTS
    return unit if part.block == 1 else f"{part.block} {unit}"


def _tags_of(dimensions: DimensionSet) -> dict[str, str | None]:
    return {
        **{name: dimensions.value(name) for name in TAGGED_DIMENSIONS},
        **{name: dimensions.tags[name] for name in sorted(dimensions.tags)},
    }
