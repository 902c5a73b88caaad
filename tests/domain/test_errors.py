"""The error tree is as its module draws it, and every error can be answered and logged."""

from __future__ import annotations

import re
from http import HTTPStatus

import pytest

from tokenbudget.domain import errors
from tokenbudget.domain.errors import QueueFull, TokenbudgetError, Unavailable

DRAWN_LINE = re.compile(
    r"^    (?P<branch>[│├└─ ]*)(?P<name>[A-Z]\w+) +(?P<status>\d{3})  (?P<code>\w+)"
)
BRANCH_WIDTH = 4


def error_classes() -> list[type[TokenbudgetError]]:
    """Give every error class of the module, in the order written."""
    return [
        found
        for found in vars(errors).values()
        if isinstance(found, type) and issubclass(found, TokenbudgetError)
    ]


def drawn_tree(drawing: str) -> set[tuple[str, str | None, int, str]]:
    """Give (name, parent, status, code) of each class the drawing shows."""
    path: list[str] = []
    drawn = set()
    for line in drawing.splitlines():
        found = DRAWN_LINE.match(line)
        if found is None:
            continue
        depth = len(found["branch"]) // BRANCH_WIDTH
        path[depth:] = [found["name"]]
        parent = path[depth - 1] if depth else None
        drawn.add((found["name"], parent, int(found["status"]), found["code"]))
    return drawn


def test_the_drawing_in_the_module_equals_the_classes() -> None:
    in_code = {
        (
            error.__name__,
            None if error is TokenbudgetError else error.__bases__[0].__name__,
            error.status,
            error.code,
        )
        for error in error_classes()
    }

    assert drawn_tree(errors.__doc__ or "") == in_code


@pytest.mark.parametrize("error", error_classes())
def test_every_error_has_a_status_an_exit_code_and_a_title(error: type[TokenbudgetError]) -> None:
    assert HTTPStatus(error.status).value >= 400
    assert error.exit_code in (1, 2)
    assert error.title
    assert error.__doc__


def test_codes_are_unique() -> None:
    codes = [error.code for error in error_classes()]

    assert len(codes) == len(set(codes))


def test_an_error_keeps_its_detail_and_its_facts() -> None:
    error = TokenbudgetError("row 7: model is absent", row=7, file="events.csv")

    assert str(error) == error.detail == "row 7: model is absent"
    assert error.facts == {"row": 7, "file": "events.csv"}


def test_an_unavailable_service_says_when_to_come_back() -> None:
    assert Unavailable("the database does not answer").retry_after_seconds == 1
    assert QueueFull("20000 items wait", retry_after_seconds=3, limit=20_000).facts == {
        "limit": 20_000
    }
    assert QueueFull("20000 items wait", retry_after_seconds=3).retry_after_seconds == 3
