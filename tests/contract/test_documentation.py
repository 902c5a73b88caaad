"""What users rely on is written down: each setting, command, endpoint and code, nothing else."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import takewhile

import pytest
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Route

from tests.builders import PRICES
from tests.contract import reference
from tests.contract.source_files import REPOSITORY, SourceFile, python_files
from tokenbudget.api.openapi import METHOD_NOT_ALLOWED, error_types
from tokenbudget.asgi import make_server
from tokenbudget.bootstrap import Services, utc_now
from tokenbudget.gateways._settings import VARIABLES as GATEWAY_VARIABLES
from tokenbudget.settings import Settings, variable_name
from tokenbudget.store.db import Database

FIRST_CELL = re.compile(r"^\| `([^`]+)`", re.MULTILINE)
RENEW = "run: python -m tests.contract.reference"
# Where the code stands among the arguments of what carries one.
CODE_PLACES = {"Rejection": 2, "UsageFault": 0, "Notice": 0}


GATEWAY_PATH = "/v1/quota/authorize/{path:path}"
OF_TESTS = {
    "TOKENBUDGET_BULK_EVENTS",
    "TOKENBUDGET_FAULT_EVENTS",
    "TOKENBUDGET_REQUIRE_SERVICES",
    "TOKENBUDGET_TEST_POSTGRES_URL",
}
"""What tests and benches read from the environment."""


def section(title: str) -> str:
    """Give the text of one section of the committed reference."""
    text = reference.REFERENCE_FILE.read_text(encoding="utf-8")
    return text.partition(f"## {title}\n")[2].partition("\n## ")[0]


def listed(title: str) -> list[str]:
    """Give what the first column of a section lists."""
    return FIRST_CELL.findall(section(title))


@pytest.mark.parametrize(
    ("path", "render"),
    [
        (reference.REFERENCE_FILE, reference.render_reference),
        (reference.OPENAPI_FILE, reference.render_openapi),
    ],
    ids=["reference.md", "openapi.json"],
)
def test_the_committed_reference_is_what_the_code_says(
    path: object, render: Callable[[], str]
) -> None:
    committed = (REPOSITORY / str(path)).read_text(encoding="utf-8")

    assert committed.splitlines() == render().splitlines(), RENEW


def test_every_setting_is_listed_and_nothing_else() -> None:
    assert listed("Settings") == [variable_name(name) for name in Settings.model_fields]


def test_every_command_is_listed_and_nothing_else() -> None:
    told = {
        " ".join(takewhile(re.compile(r"[a-z][a-z-]*$").match, line.split()[1:]))
        for line in listed("Commands")
    }

    assert told == set(reference.commands())


def test_every_endpoint_is_listed_and_nothing_else() -> None:
    rows = re.findall(r"^\| ([A-Z]+) \| `([^`]+)`", section("Endpoints"), re.MULTILINE)

    assert set(rows) == set(_served_endpoints())
    assert len(rows) == len(set(rows))


def test_every_error_code_is_listed_and_nothing_else() -> None:
    told = re.findall(r"^\| \d+ \| `([^`]+)`", section("Error codes"), re.MULTILINE)

    assert set(told) == {each.code for each in error_types()} | {METHOD_NOT_ALLOWED}


def test_every_code_of_a_rejection_or_notice_is_listed_and_nothing_else() -> None:
    used = {code for file in python_files("src") for code in _codes_in(file)}

    assert used == {*listed("Codes of rejected events"), *listed("Codes of quota decisions")}


def test_every_environment_variable_in_the_documents_exists() -> None:
    known = {variable_name(name) for name in Settings.model_fields}
    documents = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]

    named = {
        name
        for document in documents
        for name in re.findall(r"TOKENBUDGET_[A-Z_]+[A-Z]", document.read_text(encoding="utf-8"))
    }

    assert named <= known | OF_TESTS | set(GATEWAY_VARIABLES)


def test_every_variable_of_a_gateway_is_documented() -> None:
    listed_ones = FIRST_CELL.findall((REPOSITORY / "docs" / "gateways.md").read_text("utf-8"))

    assert {name for name in listed_ones if name.isupper()} == set(GATEWAY_VARIABLES)


def test_every_command_in_the_readme_exists() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"(?:^|`)tokenbudget ((?:[a-z]+ ?)+)", text, re.MULTILINE)

    unknown = [
        words
        for words in named
        if not any(f"{words} ".startswith(f"{command} ") for command in reference.commands())
    ]

    assert named
    assert unknown == []


def test_the_scan_for_codes_finds_literals_constants_and_chosen_ones() -> None:
    file = SourceFile(
        "src/tokenbudget/formats/x.py",
        'UNKNOWN = "from_a_constant"\n'
        'first = UsageFault("literal", "x")\n'
        'second = Rejection(0, None, UNKNOWN, "x")\n'
        'def choose():\n    code = "chosen"\n',
    )

    assert set(_codes_in(file)) == {"from_a_constant", "literal", "chosen"}


def _served_endpoints() -> Iterator[tuple[str, str]]:
    url = reference.UNUSED_DATABASE
    server = make_server(Services(Settings(database_url=url), Database(url), PRICES, utc_now))
    for route in _flat(server.routes):
        # Gateways put the path of their own request behind ours; the answer is the same.
        if route.path == GATEWAY_PATH:
            continue
        for method in route.methods or ():
            if method != "HEAD":
                # How a placeholder is read is not said.
                yield method, route.path.replace(":path}", "}")


def _flat(routes: Sequence[BaseRoute]) -> Iterator[Route | APIRoute]:
    """Give the routes, and instead of a router that was included those that it has."""
    for route in routes:
        if isinstance(route, Route | APIRoute):
            yield route
        else:
            yield from _flat(getattr(route, "original_router").routes)  # noqa: B009


def _codes_in(file: SourceFile) -> Iterator[str]:
    constants = {
        target.id: node.value.value
        for node in file.tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    for function in file.functions:
        for node in ast.walk(function):
            yield from _chosen_codes(node)
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            place = CODE_PLACES.get(node.func.id, len(node.args))
            for argument in node.args[place : place + 1]:
                yield from _literal(argument, constants)


def _chosen_codes(node: ast.AST) -> Iterator[str]:
    """Give the literal that a variable named code is set to."""
    match node:
        case ast.Assign(targets=[ast.Name(id="code")], value=ast.Constant(value=chosen)):
            yield str(chosen)


def _literal(argument: ast.expr, constants: Mapping[str, object]) -> Iterator[str]:
    if isinstance(argument, ast.Constant):
        yield str(argument.value)
    elif isinstance(argument, ast.Name) and argument.id in constants:
        yield str(constants[argument.id])
