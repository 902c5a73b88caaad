"""What follows from names is found out once, and no sender can fill the memory with names."""

from __future__ import annotations

from tokenbudget.formats.otlp.fields import Fields
from tokenbudget.formats.otlp.layouts import (
    MAX_CHARACTERS,
    MAX_LAYOUTS,
    MAX_NAMES,
    Layouts,
    Names,
)


class Asked:
    """Notes for which names it was asked, and gives how many there are."""

    def __init__(self) -> None:
        self.names: list[Names] = []

    def __call__(self, names: Names) -> int:
        self.names.append(names)
        return len(names)


def test_the_same_names_are_looked_at_once() -> None:
    asked = Asked()
    layouts = Layouts(asked)

    found = [layouts.of({"a": 1, "b": 2}), layouts.of({"a": 3, "b": None}), layouts.of({"b": 1})]

    assert found == [2, 2, 1]
    assert asked.names == [("a", "b"), ("b",)]


def test_what_follows_from_no_name_is_remembered_as_well() -> None:
    asked = Asked()
    layouts = Layouts(asked)

    assert [layouts.of({}), layouts.of({})] == [0, 0]
    assert asked.names == [()]


def test_too_many_names_and_too_long_ones_are_not_remembered() -> None:
    asked = Asked()
    layouts = Layouts(asked)
    many = {str(number): 0 for number in range(MAX_NAMES + 1)}
    long = {"x" * (MAX_CHARACTERS + 1): 0}

    assert [layouts.of(each) for each in (many, many, long, long)] == [len(many)] * 2 + [1] * 2
    assert len(asked.names) == 4


def test_no_more_than_so_many_sets_of_names_are_remembered() -> None:
    asked = Asked()
    layouts = Layouts(asked)

    for number in range(MAX_LAYOUTS + 1):
        layouts.of({str(number): 0})

    layouts.of({str(MAX_LAYOUTS): 0})
    assert len(asked.names) == MAX_LAYOUTS + 1
    layouts.of({"0": 0})
    assert asked.names[-1] == ("0",)
    assert len(asked.names) == MAX_LAYOUTS + 2


def test_an_empty_value_of_a_known_layout_gives_way_to_the_next_name() -> None:
    names = ("gen_ai.response.model", "llm.model_name")

    found = [
        Fields(dict(zip(names, values, strict=True))).get("response_model")
        for values in (("a", "b"), ("", "b"), (None, "b"), ("a", ""))
    ]

    assert found == ["a", "b", "b", "a"]
