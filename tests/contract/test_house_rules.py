"""The house rules hold in the whole tree, and each rule catches what it forbids."""

from __future__ import annotations

import re
from textwrap import dedent

import pytest

from tests.contract import rules
from tests.contract.source_files import (
    PACKAGE,
    REPOSITORY,
    Rule,
    SourceFile,
    committed_texts,
    python_files,
)

ALL_RULES: tuple[Rule, ...] = (
    rules.module_says_what_it_owns,
    rules.file_is_short,
    rules.functions_are_short,
    rules.functions_take_few_parameters,
    rules.functions_nest_little,
    rules.money_is_never_a_float,
    rules.clock_is_injected,
    rules.only_transactions_commit,
    rules.intervals_are_half_open,
    rules.few_loops_catch_everything,
    rules.imports_stand_at_the_top,
    rules.migrations_stand_alone,
    rules.public_names_use_our_words,
    rules.nothing_is_left_unfinished,
)
# Spelled in pieces, so that this file does not break its own rule.
INDEX_HOSTS = re.compile("|".join(["py" + r"pi\.org", "python" + r"hosted\.org"]))

BAD_SNIPPETS: list[tuple[Rule, str, str]] = [
    (rules.module_says_what_it_owns, "domain/x.py", "VALUE = 1"),
    (rules.file_is_short, "domain/x.py", "\n" * 501),
    (rules.functions_are_short, "x.py", "def long():\n" + "    step = 1\n" * 60),
    (rules.functions_take_few_parameters, "x.py", "def wide(a, b, c, *, d, e, f, g): ..."),
    (
        rules.functions_nest_little,
        "x.py",
        """
        def deep():
            for a in b:
                if a:
                    with c:
                        while d:
                            pass
        """,
    ),
    (
        rules.functions_nest_little,
        "x.py",
        """
        async def deep():
            try:
                pass
            except ValueError:
                match a:
                    case 1:
                        async for b in c:
                            if d:
                                pass
        """,
    ),
    (rules.money_is_never_a_float, "domain/x.py", "RATE = 0.5"),
    (rules.money_is_never_a_float, "formats/x.py", "def read(cost: float): ..."),
    (rules.money_is_never_a_float, "formats/bills/x.py", "cost = float('1')"),
    (rules.money_is_never_a_float, "store/x.py", "column = sqlalchemy.Numeric(12, 2)"),
    (rules.clock_is_injected, "services/x.py", "now = datetime.now(UTC)"),
    (rules.clock_is_injected, "services/x.py", "now = datetime.datetime.utcnow()"),
    (rules.clock_is_injected, "jobs.py", "now = time.time()"),
    (rules.only_transactions_commit, "store/x.py", "session.commit()"),
    (rules.intervals_are_half_open, "store/x.py", "query = column.between(start, end)"),
    (rules.few_loops_catch_everything, "api/x.py", "try: f()\nexcept Exception: pass"),
    (rules.few_loops_catch_everything, "api/x.py", "try: f()\nexcept: pass"),
    (rules.few_loops_catch_everything, "api/x.py", "try: f()\nexcept (OSError, Exception): pass"),
    (rules.imports_stand_at_the_top, "api/x.py", "def late():\n    from tokenbudget import api"),
    (rules.imports_stand_at_the_top, "api/x.py", "async def late():\n    import polars.io"),
    (rules.public_names_use_our_words, "services/x.py", "class BudgetManager: ..."),
    (rules.public_names_use_our_words, "services/x.py", "def usage_info(): ..."),
    (rules.public_names_use_our_words, "services/x.py", "PROMPT_TOKENS: int = 1"),
    (rules.public_names_use_our_words, "services/utils.py", ""),
    (rules.nothing_is_left_unfinished, "x.py", "x = 1  # TO" + "DO: later"),
]

GOOD_SNIPPETS: list[tuple[Rule, str, str]] = [
    (rules.module_says_what_it_owns, "domain/__init__.py", ""),
    (rules.functions_take_few_parameters, "x.py", "def method(self, a, b, c, d, e, f): ..."),
    (
        rules.functions_nest_little,
        "x.py",
        """
        def flat():
            if a:
                for b in c:
                    with d:
                        pass
            elif e:
                pass
            elif f:
                pass
            elif g:
                pass
            else:
                pass
        """,
    ),
    (rules.money_is_never_a_float, "api/x.py", "SHARE = 0.5"),
    (rules.clock_is_injected, "bootstrap.py", "now = datetime.now(UTC)"),
    (rules.clock_is_injected, "services/x.py", "elapsed = time.monotonic()"),
    (rules.only_transactions_commit, "store/db.py", "session.commit()"),
    (rules.few_loops_catch_everything, "jobs.py", "try: f()\nexcept Exception: pass"),
    (rules.few_loops_catch_everything, "api/x.py", "try: f()\nexcept ValueError: pass"),
    (rules.imports_stand_at_the_top, "store/x.py", "def connect():\n    import psycopg"),
    (rules.public_names_use_our_words, "services/x.py", "def _read_data(metadata): ..."),
    (rules.public_names_use_our_words, "formats/bills/x.py", "def read_line_item(): ..."),
]


def broken(rule: Rule, file: SourceFile) -> list[str]:
    return [str(violation) for violation in rule(file)]


@pytest.mark.parametrize("rule", ALL_RULES, ids=lambda rule: rule.__name__)
def test_the_rule_holds_everywhere(rule: Rule) -> None:
    violations = [
        line for file in python_files("src", "tests", "alembic") for line in broken(rule, file)
    ]

    assert violations == []


@pytest.mark.parametrize(("rule", "name", "text"), BAD_SNIPPETS)
def test_the_rule_catches_a_violation(rule: Rule, name: str, text: str) -> None:
    assert broken(rule, SourceFile(PACKAGE + name, dedent(text)))


@pytest.mark.parametrize(("rule", "name", "text"), GOOD_SNIPPETS)
def test_the_rule_lets_good_code_pass(rule: Rule, name: str, text: str) -> None:
    assert not broken(rule, SourceFile(PACKAGE + name, dedent(text)))


def test_a_migration_that_imports_our_code_is_caught() -> None:
    migration = SourceFile("alembic/versions/x.py", "from tokenbudget.domain import money")

    assert broken(rules.migrations_stand_alone, migration)


def test_every_rule_has_been_seen_to_catch_something() -> None:
    shown = {rule for rule, _, _ in BAD_SNIPPETS} | {rules.migrations_stand_alone}

    assert shown == set(ALL_RULES)


def test_the_migrations_folder_never_hides_the_library() -> None:
    assert not (REPOSITORY / "alembic" / "__init__.py").exists()


def test_no_committed_file_names_a_package_index() -> None:
    naming = [path for path, text in committed_texts() if INDEX_HOSTS.search(text)]

    assert naming == []


def test_the_index_rule_catches_a_host() -> None:
    assert INDEX_HOSTS.search("--index-url https://py" + "pi.org/simple")
