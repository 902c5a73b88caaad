"""Writes ``docs/reference.md`` and ``docs/openapi.json`` from the code.

Run it by ``python -m tests.contract.reference``. It owns what is said about codes that have no
class. A test compares the committed files with what this module renders.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import typer

from tests.builders import PRICES
from tests.contract.source_files import REPOSITORY
from tokenbudget.api.app import create_app
from tokenbudget.api.openapi import METHOD_NOT_ALLOWED, error_types, scope_of
from tokenbudget.bootstrap import Services, utc_now
from tokenbudget.cli import app
from tokenbudget.settings import Settings, describe_settings
from tokenbudget.store.db import Database

REFERENCE_FILE: Final = REPOSITORY / "docs" / "reference.md"
OPENAPI_FILE: Final = REPOSITORY / "docs" / "openapi.json"
UNUSED_DATABASE: Final = "postgresql+psycopg://nobody@localhost/nothing"

ITEM_CODES: Final = {
    "cloudevent_invalid": "the envelope is no CloudEvent 1.0",
    "conflict": "the event is recorded with other content, or its revision does not follow",
    "invalid_field": "a field has the wrong type, length or range",
    "malformed_json": "the line or item is not JSON",
    "meter_unknown": "the event is no usage of a model that we know how to read (set aside)",
    "missing_field": "a field that is needed is not there",
    "naive_timestamp": "`occurred_at` has no UTC offset",
    "occurred_in_future": "`occurred_at` is further ahead of now than the service tolerates",
    "recording_failed": "the writer failed on this record (set aside, to be tried again)",
    "tag_required": "the key demands a tag that no step gave",
    "unknown_field": "a field or unit that the service does not know",
    "usage_inconsistent": "a part exceeds its total, or the total is absent",
    "usage_invalid": "not exactly one of `usage`, `provider_usage`, `text`, or unreadable",
    "usage_negative": "a count is negative",
    "usage_out_of_range": "a count exceeds 100,000,000",
    "void_without_event": "a void at revision 0, which has nothing to take back",
}
NOTICE_CODES: Final = {
    "budget_not_checked": (
        "warning",
        "the database did not answer and the budgets fail open; nothing is held",
    ),
    "budget_exceeded": ("warning", "a soft budget would be exceeded"),
    "budget_exhausted": ("reason", "a hard budget has no room for this call"),
    "children_exceed_parent": (
        "warning",
        "budgets just written allow more together than their parent (not of a check)",
    ),
    "feature_deprecated": ("warning", "the feature is registered as deprecated"),
    "feature_retired": ("reason or warning", "the feature is registered as retired"),
    "model_not_allowed": ("reason or warning", "a policy does not allow the model"),
    "model_sunset": (
        "reason or warning",
        "the model is no longer served, or will not be within 30 days",
    ),
    "operation_unknown": (
        "warning",
        "no `operation_id` was given, so hard budgets for each operation were not checked",
    ),
    "output_bound_assumed": ("warning", "no `max_output_tokens` was given and a bound was assumed"),
    "owner_missing": ("reason or warning", "a policy demands an owner, and nobody is registered"),
    "rate_exceeded": ("reason", "a hard budget a minute has no room for this call"),
    "unpriced_model": ("reason or warning", "no price is known for the model"),
}
# Routes the OpenAPI document leaves out: they are for people.
PAGES: Final = {
    "/": ("read", "The dashboard"),
    "/docs": ("none", "The API for people, to try out"),
    "/openapi.json": ("none", "The API for machines"),
    "/static/{name}": ("none", "Style sheets and icon of the pages"),
}
INTRODUCTION: Final = """\
# Reference

Written from the code by `python -m tests.contract.reference`; a test keeps it complete.
The shapes of requests and answers are in [openapi.json](openapi.json).
"""


def render_reference() -> str:
    """Give the text of ``docs/reference.md``."""
    sections = [
        INTRODUCTION,
        _section("Settings", ("variable", "unit", "default", "meaning"), _setting_rows()),
        _section("Commands", ("command", "does"), _command_rows()),
        _section("Endpoints", ("method", "path", "scope", "does"), _endpoint_rows()),
        _section("Error codes", ("status", "code", "title", "exit code"), _error_rows()),
        _section("Codes of rejected events", ("code", "means"), _coded(ITEM_CODES.items())),
        _section(
            "Codes of quota decisions",
            ("code", "as", "means"),
            [(f"`{code}`", kind, text) for code, (kind, text) in sorted(NOTICE_CODES.items())],
        ),
    ]
    return "\n".join(sections)


def render_openapi() -> str:
    """Give the text of ``docs/openapi.json``."""
    return json.dumps(openapi_document(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def openapi_document() -> dict[str, Any]:
    """Give the OpenAPI document of the application; no database is asked for it."""
    settings = Settings(database_url=UNUSED_DATABASE)
    services = Services(settings, Database(UNUSED_DATABASE), PRICES, utc_now)
    return create_app(services).openapi()


def commands() -> dict[str, Any]:
    """Give every command that does something, by its words."""
    return dict(_leaves(typer.main.get_command(app), ()))


def endpoints() -> dict[tuple[str, str], dict[str, Any]]:
    """Give every described operation by path and method."""
    return {
        (path, method): operation
        for path, methods in openapi_document()["paths"].items()
        for method, operation in methods.items()
    }


def _setting_rows() -> Sequence[Sequence[str]]:
    rows = describe_settings()
    return [
        [f"`{row['variable']}`", row["unit"], _quoted(row["default"]), row["description"]]
        for row in rows
    ]


def _command_rows() -> list[Sequence[str]]:
    return [
        (
            f"`tokenbudget {' '.join([*words.split(), *_arguments(command)])}`",
            _one_line(command.help),
        )
        for words, command in commands().items()
    ]


def _endpoint_rows() -> list[Sequence[str]]:
    described = [
        (method.upper(), f"`{path}`", scope_of(operation) or "none", operation["summary"])
        for (path, method), operation in endpoints().items()
    ]
    pages = [("GET", f"`{path}`", scope, text) for path, (scope, text) in PAGES.items()]
    return [*described, *pages]


def _error_rows() -> Sequence[Sequence[str]]:
    rows = [
        (str(each.status), f"`{each.code}`", each.title, str(each.exit_code))
        for each in error_types()
    ]
    return sorted([*rows, ("405", f"`{METHOD_NOT_ALLOWED}`", "Method Not Allowed", "")])


def _coded(items: Iterable[tuple[str, str]]) -> list[Sequence[str]]:
    return [(f"`{code}`", meaning) for code, meaning in sorted(items)]


def _leaves(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield " ".join(words), command
        return
    for name, child in children.items():
        yield from _leaves(child, (*words, name))


def _arguments(command: Any) -> list[str]:
    """Give the arguments in capitals and the options in brackets, as a manual would."""
    shown = []
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            name = parameter.name.upper() + ("…" if parameter.nargs == -1 else "")
            shown.append(name if parameter.required else f"[{name}]")
        elif parameter.is_flag:
            shown.append(f"[{parameter.opts[0]}]")
        else:
            option = f"{parameter.opts[0]} {parameter.name.upper()}"
            shown.append(option if parameter.required else f"[{option}]")
    return shown


def _section(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    table = "".join("| " + " | ".join(map(_cell, cells)) + " |\n" for cells in lines)
    return f"## {title}\n\n{table}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("``", "`")


def _quoted(text: str) -> str:
    return f"`{text}`" if text else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    print(path.relative_to(REPOSITORY))  # noqa: T201


if __name__ == "__main__":
    _write(REFERENCE_FILE, render_reference())
    _write(OPENAPI_FILE, render_openapi())
