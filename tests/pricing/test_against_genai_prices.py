"""``tokenbudget cost`` equals the exact sum of the published prices, to within half a nano-dollar.

The cases come from ``published_cases.py``. What differs on purpose is in
``test_faults_of_public_books.py``; models priced by the hour are in ``test_price_changes.py``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from shutil import which

import pytest
import typer
from genai_prices import Usage, calc_price
from typer.testing import CliRunner

from tests.conftest import require_service
from tests.pricing.published_cases import PublishedCase, build_cases
from tokenbudget.cli.cost import cost

HALF_A_NANO = Fraction(1, 2 * 10**9)
DECIMAL_NOISE = Fraction(1, 10**15)
SUBPROCESS_SECONDS = 120
LEAST_CASES = 5_000
LEAST_PROVIDERS = 40
LEAST_BY_KIND = {
    "standard": 2_000,
    "cached": 1_000,
    "cache_write": 300,
    "cache_write_5m": 300,
    "cache_write_1h": 70,
    "long_context_just_below": 150,
    "long_context_at": 150,
    "long_context_just_above": 150,
    "batch_standard": 100,
    "batch_long_context_just_above": 20,
    "flex_standard": 40,
    "priority_standard": 40,
    "fast_standard": 40,
    "audio_in": 20,
    "audio_out": 8,
    "cached_audio": 8,
    "audio_seconds": 15,
    "image_in": 10,
    "video_in": 4,
    "web_search": 100,
    "file_search": 50,
}
PACKAGE_WORDS = {
    "cached_input_tokens": "cache_read_tokens",
    "cached_audio_tokens": "cache_audio_read_tokens",
    "cached_image_tokens": "cache_image_read_tokens",
    "reasoning_tokens": "output_reasoning_tokens",
    "file_searches": "storage_searches",
    "pages": "input_document_pages",
}
WRITTEN = ("cache_write_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
WITHOUT_A_NETWORK = ("unshare", "--map-root-user", "--net")
REFUSE_SOCKETS = """
import sys
from tokenbudget.cli import main

def refuse(event, arguments):
    if event.startswith("socket."):
        raise RuntimeError(f"{event} {arguments}")

sys.addaudithook(refuse)
main()
"""

app = typer.Typer()
app.command()(cost)


@pytest.fixture(scope="module")
def cases_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a file with the event of every case on a line."""
    file = tmp_path_factory.mktemp("cases") / "cases.jsonl"
    lines = [json.dumps(case.event) for case in build_cases()]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def differences(printed: str) -> list[str]:
    """Give the cases whose printed cost is not the exact sum, or is not without a flag."""
    lines = [json.loads(line) for line in printed.splitlines()]
    found = []
    for case, line in zip(build_cases(), lines, strict=True):
        said = line["list_cost"]
        is_equal = said is not None and abs(Fraction(said) - case.expected) <= HALF_A_NANO
        if not is_equal or line["flags"] or line["event_id"] != case.event["event_id"]:
            found.append(f"{case.kind} {line} costs {case.expected}")
    return found


def run_cost(cases_file: Path, *, launcher: Sequence[str] = ()) -> str:
    """Give what ``tokenbudget cost`` prints in a process that refuses every socket."""
    command = [*launcher, sys.executable, "-c", REFUSE_SOCKETS, "cost", str(cases_file)]
    run = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=SUBPROCESS_SECONDS
    )
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout


def package_total(case: PublishedCase) -> Fraction:
    """Give the dollars that the package itself works out for the case."""
    counts = case.event["usage"]
    usage = {
        PACKAGE_WORDS.get(unit, unit): quantity
        for unit, quantity in counts.items()
        if unit != "requests"
    }
    # The package counts written tokens of both lifetimes in a total; ours has none.
    usage["cache_write_tokens"] = sum(counts.get(unit, 0) for unit in WRITTEN)
    answer = calc_price(
        Usage(**usage),
        case.offer.name,
        provider_id=case.offer.provider.id,
        genai_request_timestamp=case.offer.occurred_at,
        price_context=case.offer.context,
    )
    return Fraction(answer.total_price)


def test_the_cases_are_many_and_of_every_kind() -> None:
    kinds = Counter(case.kind for case in build_cases())
    providers = {case.offer.provider.id for case in build_cases()}

    assert len(build_cases()) >= LEAST_CASES
    assert len(providers) >= LEAST_PROVIDERS
    assert {kind: kinds[kind] for kind, least in LEAST_BY_KIND.items() if kinds[kind] < least} == {}
    assert all(case.expected > 0 for case in build_cases() if case.kind != "standard")


def test_the_cases_are_spread_over_the_providers() -> None:
    providers_by_kind = defaultdict(set)
    for case in build_cases():
        providers_by_kind[case.kind].add(case.offer.provider.id)
    spread = {kind: len(providers) for kind, providers in providers_by_kind.items()}

    assert spread["standard"] >= 45
    assert spread["cached"] >= 25
    assert spread["cache_write"] >= 8
    assert spread["long_context_just_above"] >= 8
    assert spread["batch_standard"] >= 6
    assert spread["web_search"] >= 5


def test_the_exact_sums_are_those_of_the_package_itself() -> None:
    differing = [
        (case.kind, case.event)
        for case in build_cases()
        if abs(package_total(case) - case.expected) > DECIMAL_NOISE
    ]

    assert differing == []


def test_every_case_costs_the_exact_sum_of_the_published_prices(cases_file: Path) -> None:
    result = CliRunner().invoke(app, [str(cases_file)])

    assert (result.exit_code, result.stderr) == (0, "")
    assert differences(result.stdout) == []


def test_the_command_itself_gives_the_same_with_every_socket_refused(cases_file: Path) -> None:
    assert differences(run_cost(cases_file)) == []


def test_the_command_works_where_there_is_no_network(cases_file: Path) -> None:
    require_service(
        "unshare", available=which("unshare") is not None, reason="it is not on the PATH"
    )
    probe = subprocess.run(
        [*WITHOUT_A_NETWORK, "true"], capture_output=True, text=True, check=False
    )
    if probe.returncode:
        pytest.skip(f"this machine gives no network namespace: {probe.stderr.strip()}")

    printed = run_cost(cases_file, launcher=WITHOUT_A_NETWORK)

    assert differences(printed) == []
