"""The OpenAPI document says of every operation what it does, who may do it and how it refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.reference import endpoints, openapi_document
from tokenbudget.api.openapi import error_types

ENDPOINTS = endpoints()
OPEN_PATHS = frozenset({"/healthz", "/readyz"})
PROTECTED = {key: value for key, value in ENDPOINTS.items() if key[0] not in OPEN_PATHS}
OTLP_SIGNALS = ("/traces", "/logs", "/metrics")
PROBLEM = {"application/problem+json"}
OTLP = {"application/json", "application/x-protobuf"}


def test_every_reference_leads_somewhere_and_every_schema_is_used() -> None:
    document = openapi_document()
    schemas = document["components"]["schemas"]

    used = {name.rpartition("/")[2] for name in _references(document)}

    assert used == set(schemas)
    assert all(name.startswith("#/components/schemas/") for name in _references(document))


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for operation in ENDPOINTS.values()]

    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)+", name) for name in names)


@pytest.mark.parametrize("key", sorted(ENDPOINTS))
def test_an_operation_says_in_a_line_what_it_does(key: tuple[str, str]) -> None:
    operation = ENDPOINTS[key]

    assert 10 < len(operation["summary"]) < 100
    assert operation["summary"][0].isupper()
    assert len(operation["tags"]) == 1


@pytest.mark.parametrize("key", sorted(PROTECTED))
def test_an_operation_says_how_it_refuses_and_wants_a_key(key: tuple[str, str]) -> None:
    operation = PROTECTED[key]

    assert set(operation["responses"]) & {"4XX", "5XX"} == {"4XX", "5XX"}
    for statuses in ("4XX", "5XX"):
        content = operation["responses"][statuses]["content"]
        # OTLP has errors of its own, in the encoding of the request.
        assert set(content) == (OTLP if key[0].endswith(OTLP_SIGNALS) else PROBLEM)
    assert [set(way) for way in operation["security"]] == [{"key"}, {"password"}]


def test_the_placeholders_of_a_path_are_parameters() -> None:
    for (path, _), operation in ENDPOINTS.items():
        named = {each["name"] for each in operation.get("parameters", []) if each["in"] == "path"}

        assert named == set(re.findall(r"{(\w+)}", path))


def test_a_problem_names_every_code() -> None:
    codes = openapi_document()["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]

    assert set(codes) == {each.code for each in error_types()} | {"method_not_allowed"}
    assert len(codes) == len(set(codes))


def test_the_shapes_of_the_hot_paths_are_those_that_are_read() -> None:
    schemas = openapi_document()["components"]["schemas"]

    assert schemas["EventShape"]["required"] == ["provider", "model", "occurred_at"]
    assert schemas["EventShape"]["additionalProperties"] is False
    assert schemas["BudgetShape"]["required"] == ["id", "limit", "window"]
    assert set(ENDPOINTS["/v1/events", "post"]["requestBody"]["content"]) == {
        "application/cloudevents+json",
        "application/cloudevents-batch+json",
        "application/json",
        "application/jsonl",
        "application/x-ndjson",
    }


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)
