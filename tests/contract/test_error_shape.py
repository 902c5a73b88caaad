"""Every error has one shape on the wire and one line in a terminal, whatever its kind."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from tests.contract.reference import openapi_document
from tokenbudget.api.openapi import error_types
from tokenbudget.api.problems import PROBLEM_TYPE, problem_of, problem_of_any
from tokenbudget.domain.errors import TokenbudgetError, Unauthenticated, Unavailable

MEMBERS = {"type", "title", "status", "detail", "code"}

every_error = pytest.mark.parametrize("error_type", error_types(), ids=lambda each: each.code)


@every_error
def test_an_error_is_a_problem_document(error_type: Callable[..., TokenbudgetError]) -> None:
    error = error_type("the field and the rule", field="limit")

    response = problem_of(error)

    document = json.loads(bytes(response.body))
    assert response.status_code == error.status
    assert response.media_type == PROBLEM_TYPE
    assert document == {
        "type": f"urn:tokenbudget:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": "the field and the rule",
        "code": error.code,
        "field": "limit",
    }


@every_error
def test_a_problem_has_the_members_the_document_demands(
    error_type: Callable[..., TokenbudgetError],
) -> None:
    schema = openapi_document()["components"]["schemas"]["Problem"]

    document = json.loads(bytes(problem_of(error_type("x")).body))

    assert set(schema["required"]) == set(document) == MEMBERS
    assert document["code"] in schema["properties"]["code"]["enum"]


@every_error
def test_an_error_has_a_stable_code_a_title_and_an_exit_code(
    error_type: type[TokenbudgetError],
) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", error_type.code)
    assert error_type.title[0].isupper()
    assert not error_type.title.endswith(".")
    assert error_type.exit_code in (1, 2)
    assert 400 <= error_type.status < 600


@every_error
def test_facts_never_replace_the_members_of_the_shape(
    error_type: Callable[..., TokenbudgetError],
) -> None:
    error = error_type("x", status=200, code="ok", title="Fine", type="none")

    document = json.loads(bytes(problem_of(error).body))

    assert (document["status"], document["code"]) == (error.status, error.code)
    assert (document["title"], document["type"]) == (
        error.title,
        f"urn:tokenbudget:problem:{error.code}",
    )


def test_what_is_wrong_for_now_says_when_to_try_again() -> None:
    response = problem_of(Unavailable("busy", retry_after_seconds=7))

    assert response.headers["retry-after"] == "7"


def test_who_is_unknown_is_told_how_to_say_who_it_is() -> None:
    assert problem_of(Unauthenticated("who?")).headers["www-authenticate"].startswith("Bearer")


def test_what_nobody_expected_is_told_without_its_cause() -> None:
    response = problem_of_any(ZeroDivisionError("the secret cause"))

    assert response.status_code == 500
    assert b"secret" not in bytes(response.body)
