"""Agreements are read strictly: what is wrong is one error that names file, table and field."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest

from tests.price_builders import NOON, day, make_model, make_price, make_price_list
from tokenbudget.domain.agreements import Agreements, Contract
from tokenbudget.domain.commitments import Commitment, Per, Share
from tokenbudget.domain.errors import BadFile
from tokenbudget.domain.exchange import MAX_AGE
from tokenbudget.domain.rating import RatingFacts, rate
from tokenbudget.formats.agreements import build_agreements, load_agreements
from tokenbudget.settings import packaged_path

CONTRACT = """
[[contract]]
id = "acme-2026"
provider = "ACME-AI"
model = "M-*"
account = "org-123"
tier = "on-demand"
region = "EU"
from = 2026-01-01
to = 2027-01-01T01:00:00+01:00
percent_off = 12.5
applies = ["input", "audio_hour"]
stack = true
priority = 3
"""
COMMITMENT = """
[[commitment]]
id = "ptu"
provider = "acme"
covers = { deployment = "prod", model = ["M", "n-*"], "tag:zone" = "a" }
units = 100
rate = 1.25
per = "unit-month"
currency = "EUR"
from = 2026-11-01T00:15:00Z
share = "tokens"
tokens_per_minute = 5_000
spill = "list"
"""
HOST = """
[[host]]
id = "rack-1"
models = ["Llama-70b"]
gpu = "H200"
gpus = 8
rate = 3.6
from = 2026-11-01
"""
FX = """
[fx]
base = "EUR"
source = "treasury"
quotes = [{ day = 2026-11-03, USD = 1.25 }, { day = 2026-11-02, USD = 1.2, CNY = 8 }]
"""


def build(*texts: str) -> Agreements:
    """Give the agreements of files named ``0.toml`` and so on."""
    return build_agreements(
        {f"{number}.toml": text for number, text in enumerate(texts)}, make_price_list()
    )


def test_a_contract_is_read_with_all_its_conditions() -> None:
    [contract] = build(CONTRACT).contracts

    assert contract == Contract(
        id="acme-2026",
        provider="acme",
        model="m-*",
        account="org-123",
        tier="standard",
        region="eu",
        valid_from=day("2026-01-01"),
        valid_to=day("2027-01-01"),
        times=Fraction(7, 8),
        applies=frozenset({"input_tokens", "audio_seconds"}),
        stacks=True,
        priority=3,
    )


@pytest.mark.parametrize(
    ("terms", "times", "rates"),
    [
        ("times = 0.9", Fraction(9, 10), {}),
        ("percent_off = 100", Fraction(0), {}),
        (
            "rates = { input = 2.6, audio_hour = 0.04 }",
            Fraction(1),
            {"input_tokens": Fraction(2_600_000), "audio_seconds": Fraction(10**8, 9)},
        ),
    ],
)
def test_a_contract_multiplies_or_has_rates_of_its_own(
    terms: str, times: Fraction, rates: dict[str, Fraction]
) -> None:
    [contract] = build(f'[[contract]]\nid = "c"\n{terms}').contracts

    assert (contract.times, contract.rates) == (times, rates)


def test_a_commitment_is_what_all_its_units_cost() -> None:
    [commitment] = build(COMMITMENT).commitments

    assert commitment == Commitment(
        id="ptu",
        provider="acme",
        covers={"deployment": ("prod",), "model": ("m", "n-*"), "zone": ("a",)},
        nanos_per_time=Fraction(125_000_000_000),
        per=Per.MONTH,
        valid_from=day("2026-11-01").replace(minute=15),
        currency="EUR",
        share=Share.TOKENS,
        tokens_per_minute=5_000,
        spills=True,
    )


def test_a_host_is_a_commitment_and_a_price_by_gpu_second() -> None:
    agreements = build(HOST)

    [commitment] = agreements.commitments
    price_list = make_price_list().with_agreements(agreements)
    facts = RatingFacts("self_hosted", "llama-70b", day("2026-11-02"))
    charge = rate({"input_tokens": 900, "gpu_seconds": 10}, facts, price_list)
    assert (commitment.id, commitment.provider) == ("rack-1", "self_hosted")
    assert commitment.covers == {"model": ("llama-70b",)}
    assert commitment.nanos_per_time == 28_800_000_000
    assert commitment.share is Share.GPU_SECONDS
    # A GPU-second is a tenth of a cent; tokens have no price of their own.
    assert charge.list_nanos == 10_000_000
    assert rate({"input_tokens": 900}, facts, price_list).list_nanos == 0
    assert rate({"images": 1}, facts, price_list).list_nanos is None


def test_a_host_may_weigh_tokens_by_rates() -> None:
    terms = 'share = "weighted-tokens"\nrates = { input = 0.2, output = 0.6 }'
    price_list = make_price_list().with_agreements(build(f"{HOST}{terms}"))
    facts = RatingFacts("self-hosted", "llama-70b", day("2026-11-02"))

    usage = {"input_tokens": 1_000_000, "output_tokens": 1_000_000, "gpu_seconds": 60}

    assert rate(usage, facts, price_list).list_nanos == 800_000_000


def test_a_model_may_move_from_host_to_host() -> None:
    first = f"{HOST}to = 2026-12-01"
    second = HOST.replace("rack-1", "rack-2").replace("2026-11-01", "2026-12-01")

    agreements = build(second, first)

    [provider] = agreements.hosted
    assert [price.source for price in provider.models[0].prices] == ["host rack-1", "host rack-2"]
    with pytest.raises(BadFile, match="is on host rack-1 and host rack-2 at one time"):
        build(HOST, second)


def test_quotes_come_in_order_of_day_whatever_the_file() -> None:
    own = FX.replace("treasury", "own").replace("1.25", "1.5")

    exchange = build(FX, own).exchange

    assert [(quote.day.isoformat(), quote.source) for quote in exchange.quotes] == [
        ("2026-11-02", "treasury"),
        ("2026-11-02", "own"),
        ("2026-11-03", "treasury"),
        ("2026-11-03", "own"),
    ]
    conversion = exchange.conversion_at("EUR", "USD", day("2026-11-04"))
    assert conversion is not None
    assert conversion.ratio == Fraction(3, 2)


def test_the_version_follows_the_texts_and_not_where_they_lie() -> None:
    texts = {"a/x.toml": CONTRACT, "a/y.toml": FX}
    moved = {"b/x.toml": CONTRACT, "b/y.toml": FX}
    changed = {"a/x.toml": CONTRACT.replace("12.5", "12.6"), "a/y.toml": FX}

    versions = [
        build_agreements(sources, make_price_list()).version for sources in (texts, moved, changed)
    ]

    assert versions[0] == versions[1] != versions[2]


def test_commitments_are_asked_in_order_of_their_conditions() -> None:
    broad = COMMITMENT.replace('"ptu"', '"broad"').replace('deployment = "prod", ', "")

    assert [item.id for item in build(broad, COMMITMENT, HOST).commitments] == [
        "ptu",
        "broad",
        "rack-1",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("id =", "0.toml: this is no TOML"),
        ("[[contrat]]", "0.toml: unknown key 'contrat'"),
        ("[contract]", "0.toml: a contract is a [[contract]] table, with two brackets"),
        ("[[contract]]\npercent_off = 1", "0.toml: contract 1: .*missing required field `id`"),
        (CONTRACT + "ends = 1", "0.toml: contract 1: .*unknown field `ends`"),
        (CONTRACT + "times = 2", "contract 'acme-2026': a contract has one of percent_off, times"),
        (CONTRACT.replace("12.5", '"x"'), "contract 1: .*percent_off"),
        (CONTRACT.replace("12.5", "-1"), "percent_off -1 must be a number of at least zero"),
        (CONTRACT.replace("12.5", "nan"), "percent_off NaN must be a number of at least zero"),
        (CONTRACT.replace("12.5", "100.1"), "percent_off 100.1 is more than everything"),
        (CONTRACT.replace("ACME-AI", "x"), "provider 'x' is no provider of the price book"),
        (CONTRACT.replace('"M-*"', '"/(/"'), "model '/\\(/' is no regular expression"),
        (CONTRACT.replace('"input"', '"in"'), "applies: 'in' is no rate; rates are input,"),
        (CONTRACT.replace("2026-01-01", "2028-01-01"), "to must be later than from"),
        (CONTRACT.replace("2026-01-01", "2026-01-01T00:00:00"), "from must be a date, or a time"),
        (CONTRACT.replace("percent_off = 12.5", "rates = { input = 1 }"), "stack and applies are"),
        (CONTRACT + CONTRACT, "contract 'acme-2026' is written twice"),
        ('[[contract]]\nid = "c"', "contract 'c': a contract has one of percent_off"),
        (
            '[[contract]]\nid = "c"\nrates = { gpu_hour = 1, gpu_second = 1 }',
            "rates: gpu_seconds has two rates",
        ),
        (COMMITMENT.replace("from = 2026-11-01T00:15:00Z", ""), "'ptu': from is needed"),
        (COMMITMENT.replace("00:15:00", "00:16:00"), "must lie on a quarter-hour"),
        (COMMITMENT.replace("tokens_per_minute = 5_000", ""), "spill needs tokens_per_minute"),
        (COMMITMENT.replace("5_000", "0"), "commitment 1: .*tokens_per_minute"),
        (COMMITMENT.replace("deployment", "provider"), "covers: the provider is a key of"),
        (COMMITMENT.replace('"prod"', "[]"), "covers.deployment needs at least one value"),
        (COMMITMENT.replace("unit-month", "fortnight"), "commitment 1: .*per"),
        (COMMITMENT + HOST.replace("rack-1", "ptu"), "commitment or host 'ptu' is written twice"),
        (HOST + 'provider = "acme"', "provider 'acme' has published prices"),
        (HOST + "rates = { input = 1 }", "share 'weighted-tokens' needs them, alone"),
        (HOST + 'share = "weighted-tokens"', "share 'weighted-tokens' needs them, alone"),
        (FX.replace('"EUR"', '"euro"'), "0.toml: fx: .*base"),
        (FX.replace("2026-11-03", '"today"'), "0.toml: fx: quote 1: day must be a date"),
        (FX.replace("CNY", "yuan"), "0.toml: fx: quote 2: yuan must be a currency code"),
        (FX.replace("1.25", "0"), "0.toml: fx: quote 1: USD must be a currency code with a rate"),
    ],
)
def test_what_is_wrong_is_named(text: str, fault: str) -> None:
    with pytest.raises(BadFile, match=fault.replace("[[contract]]", r"\[\[contract\]\]")):
        build(text)


def test_the_exchange_rates_that_ship_price_a_book_in_yuan() -> None:
    price_list = make_price_list(make_model(make_price(currency="CNY")))
    shipped = load_agreements(packaged_path("pricing"), None, price_list)

    facts = RatingFacts("acme", "m", NOON)
    charge = rate({"input_tokens": 1_000_000}, facts, price_list.with_agreements(shipped))

    # On 2 March 2026 a euro was worth 1.1698 dollars or 8.0512 yuan.
    assert charge.flags == ("fx:CNY@2026-03-02",)
    assert charge.list_nanos == 145_295_111


def test_the_exchange_rates_that_ship_leave_no_gap_and_reach_far() -> None:
    exchange = load_agreements(packaged_path("pricing"), None, make_price_list()).exchange

    days = [quote.day for quote in exchange.quotes]

    assert all(later - earlier < MAX_AGE for earlier, later in pairwise(days))
    assert days[0].isoformat() <= "2023-01-02"
    assert days[-1].isoformat() >= "2026-10-30"


def test_a_directory_that_is_missing_or_unreadable_is_named(tmp_path: Path) -> None:
    price_list = make_price_list()
    (tmp_path / "bad.toml").write_bytes(b"\xff")

    with pytest.raises(BadFile, match="there is no such directory of agreements"):
        load_agreements(tmp_path, tmp_path / "none", price_list)
    with pytest.raises(BadFile, match="the agreements cannot be read"):
        load_agreements(tmp_path, tmp_path, price_list)
