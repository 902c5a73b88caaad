"""A price book that parses may still be doubtful; the lint says where."""

from __future__ import annotations

import pytest

from tokenbudget.formats.price_lint import Finding, lint_price_book

HEAD = 'schema = 1\nprovider = "acme"\n'


def lint(body: str) -> list[Finding]:
    """Give the findings in one file."""
    return lint_price_book({"acme.toml": HEAD + body})


def lint_rows(*rows: str) -> list[tuple[str, str]]:
    """Give rule and detail of what is found in one model with these rows."""
    findings = lint('[model."m"]\nprice = [\n' + ",\n".join(rows) + "\n]\n")
    assert all((finding.file, finding.model) == ("acme.toml", "m") for finding in findings)
    return [(finding.rule, finding.detail) for finding in findings]


def test_a_sound_book_has_no_findings() -> None:
    assert (
        lint_rows(
            "{ input = 3, audio_hour = 0.04, output = 15 }",
            "{ above = 200000, input = 6, output = 30 }",
            "{ tier = 'batch', input = 1.5, output = 7.5 }",
            "{ region = 'eu', times = 1.1 }",
            "{ region = 'eu', above = 200000, times = 1.2 }",
            "{ region = 'us', above = 200000, input = 7, output = 31 }",
            "{ hours = ['01:00-02:00'], input = 1, output = 2 }",
            "{ from = 2026-01-01, input = 2, output = 10 }",
            "{ from = 2026-02-01, to = 2026-03-01, input = 1, output = 10 }",
            "{ from = 2026-03-01, input = 2, output = 10 }",
        )
        == []
    )


@pytest.mark.parametrize(
    ("rows", "rule", "detail"),
    [
        (["{ input = 0.0000001 }"], "rate_finer_than_pico", "since ever, tier standard"),
        (
            [
                "{ input = 1 }",
                "{ from = 2026-02-01, input = 2 }",
                "{ from = 2026-01-01, input = 3 }",
            ],
            "rows_not_ascending",
            "from 2026-01-01T00:00:00Z, tier standard",
        ),
        (
            ["{ to = 2026-02-01, input = 1 }", "{ from = 2026-01-01, input = 2 }"],
            "rows_overlap",
            "since ever, tier standard",
        ),
        (
            ["{ input = 1 }", "{ tier = 'batch', above = 200000, input = 2 }"],
            "base_row_missing",
            "since ever, tier batch, above 200000",
        ),
        (
            [
                "{ from = 2026-01-01, input = 1 }",
                "{ region = 'eu', hours = ['01:00-02:00'], input = 2 }",
            ],
            "base_row_missing",
            "since ever, tier standard, region eu, daily hours",
        ),
        (["{ times = 2 }"], "base_row_missing", "since ever, tier any"),
        (
            ["{ output = 1, cached = 2 }"],
            "child_without_parent",
            "since ever, tier standard: cached_input_tokens without input_tokens",
        ),
        (["{ input = 1, pin = true }"], "pin_without_note", "since ever, tier standard"),
    ],
)
def test_a_doubtful_row_is_found(rows: list[str], rule: str, detail: str) -> None:
    assert lint_rows(*rows) == [(rule, detail)]


@pytest.mark.parametrize(
    ("facts", "finding"),
    [
        ("pin = true", ("pin_without_note", "the model")),
        ("sunset = 2027-01-01", ("sunset_without_source", "sunset_src is missing")),
    ],
)
def test_what_a_model_claims_needs_a_reason(facts: str, finding: tuple[str, str]) -> None:
    reasons = 'note = "agreed by phone"\nsunset_src = "a page"\n'

    findings = lint(f"[model.m]\n{facts}\nprice = [{{ input = 1 }}]\n")
    reasoned = lint(f"[model.m]\n{facts}\n{reasons}price = [{{ input = 1 }}]\n")

    assert [(each.rule, each.detail) for each in findings] == [finding]
    assert reasoned == []


def test_two_models_with_one_name_are_found() -> None:
    findings = lint(
        '[model.a]\nmatch = ["x"]\nprice = [{ input = 1 }]\n'
        '[model.b]\nmatch = ["x", "b"]\nprice = [{ input = 1 }]\n'
    )

    assert findings == [Finding("acme.toml", "b", "name_claimed_twice", "x belongs to a too")]


def test_a_pattern_that_an_earlier_one_hides_is_found() -> None:
    findings = lint(
        '[model.a]\nmatch = ["gpt-5*", "/^o3/"]\nprice = [{ input = 1 }]\n'
        '[model.b]\nmatch = ["gpt-5-mini*", "gpt-4*", "/^gpt-5/"]\nprice = [{ input = 1 }]\n'
    )

    assert findings == [
        Finding("acme.toml", "b", "pattern_never_reached", "gpt-5-mini* is hidden by a")
    ]
