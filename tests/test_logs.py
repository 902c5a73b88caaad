"""Log lines have one shape and never carry a secret."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from tokenbudget.logs import (
    QUIET_LOGGERS,
    REROUTED_LOGGERS,
    configure_logging,
    get_logger,
)


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Put the root logger back after each test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in (*QUIET_LOGGERS, *REROUTED_LOGGERS):
        logging.getLogger(name).setLevel(logging.NOTSET)


def lines(captured: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Give the JSON lines written to standard error."""
    return [json.loads(line) for line in captured.readouterr().err.splitlines()]


def test_a_json_line_carries_time_level_logger_and_facts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging("info", "json")

    get_logger("tokenbudget.jobs").info("hold sweep ended", expired=3)

    [line] = lines(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "hold sweep ended",
        "level": "info",
        "logger": "tokenbudget.jobs",
        "expired": 3,
    }


def test_a_console_line_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "console")

    get_logger("tokenbudget.jobs").info("hold sweep ended", expired=3)

    printed = capsys.readouterr().err
    assert "hold sweep ended" in printed
    assert "expired=3" in printed


def test_lines_below_the_level_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("warning", "json")

    get_logger("tokenbudget").info("quiet")
    logging.getLogger("uvicorn.error").info("quiet too")

    assert lines(capsys) == []


@pytest.mark.parametrize("name", REROUTED_LOGGERS)
def test_lines_of_libraries_are_written_once_and_alike(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logging.getLogger(name).addHandler(logging.StreamHandler())
    configure_logging("info", "json")

    logging.getLogger(name).warning("job %s is late", "sweep", extra={"late_seconds": 4})

    [line] = lines(capsys)
    assert line["event"] == "job sweep is late"
    assert line["late_seconds"] == 4


@pytest.mark.parametrize("name", QUIET_LOGGERS)
def test_addresses_of_outgoing_requests_are_not_logged(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("info", "json")

    logging.getLogger(name).info("HTTP Request: POST https://hooks.example/secret-path")

    assert lines(capsys) == []


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_secrets_and_prompts_are_masked(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("info", log_format)

    get_logger("tokenbudget").info(
        "connecting to postgresql://root:hunter2@db/ledger",
        webhook_secret="hunter2",
        openai_api_key="hunter2",
        Authorization="hunter2",
        prompt="hunter2",
        header="Bearer hunter2",
        input_tokens=12,
    )

    printed = capsys.readouterr().err
    assert "hunter2" not in printed
    assert "root:[masked]@db/ledger" in printed
    assert "12" in printed


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_an_exception_keeps_its_trace_and_loses_its_secrets(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("info", log_format)

    try:
        raise ValueError("no answer from https://key:hunter2@hooks.example")
    except ValueError:
        get_logger("tokenbudget").exception("delivery failed")

    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert "hunter2" not in printed
