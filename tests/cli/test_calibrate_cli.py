"""``prices calibrate`` shows the fit, writes it to a file, and that file changes the counts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from tests.builders import check_work, make_check, make_event, record
from tokenbudget.bootstrap import choose_estimators, make_ledger, open_services, prepare_database
from tokenbudget.cli.calibrate import calibrate
from tokenbudget.domain.calibration import MIN_PAIRS
from tokenbudget.domain.errors import BadFile, ConfigurationError, NotFound
from tokenbudget.settings import Settings, load_settings
from tokenbudget.tokens import count_tokens, use_estimators

Run = Callable[..., Result]

GEMINI = "gemini-3.8-flash"
WORDS = "one ledger of record " * 50
COUNTED = count_tokens(WORDS, GEMINI).counted

app = typer.Typer()
app.command()(calibrate)


@pytest.fixture(autouse=True)
def _packaged_estimators() -> Iterator[None]:
    yield
    use_estimators("")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Give settings with a data directory of the test's own."""
    (tmp_path / "data").mkdir()
    return load_settings(data_dir=tmp_path / "data")


@pytest.fixture
def run(settings: Settings) -> Run:
    """Give a function that runs the command on this data directory."""

    def invoke(*arguments: str) -> Result:
        environment = {"TOKENBUDGET_DATA_DIR": str(settings.data_dir)}
        return CliRunner().invoke(app, arguments, env=environment)

    return invoke


def record_calls(settings: Settings, count: int) -> None:
    """Record so many calls whose provider reported a quarter more than was counted."""
    services = open_services(settings)
    prepare_database(services)
    ledger = make_ledger(services)
    said = {"provider": "google", "model": GEMINI}
    check = make_check(text=WORDS, input_tokens=None, **said)
    answers = ledger.apply([check_work(check) for _ in range(count)])
    hold_ids = [answer["hold_id"] for answer in answers if isinstance(answer, dict)]
    usage = {"input_tokens": COUNTED * 5 // 4}
    record(
        ledger,
        *(make_event(event_id=each, hold_id=each, usage=usage, **said) for each in hold_ids),
    )
    services.database.close()


def test_the_fit_is_shown_beside_what_is_used_now(run: Run, settings: Settings) -> None:
    record_calls(settings, MIN_PAIRS)

    result = run("--json")

    [row] = json.loads(result.stdout)
    assert result.exit_code == 0
    assert row["family"] == "gemini"
    assert (row["calls"], row["outcome"]) == (MIN_PAIRS, "fitted")
    assert (row["multiplier_now"], row["band_now"]) == ("1.0500", "0.2500")
    assert row["multiplier"].startswith("1.2")
    assert row["band"] == "0.0000"


def test_too_few_calls_say_how_many_are_missing(
    run: Run, settings: Settings, tmp_path: Path
) -> None:
    record_calls(settings, MIN_PAIRS - 10)

    shown = run("--json")
    refused = run("--write", str(tmp_path / "estimators.toml"))

    [row] = json.loads(shown.stdout)
    assert (row["multiplier"], row["outcome"]) == (None, "10 more calls are needed")
    assert isinstance(refused.exception, NotFound)
    assert not (tmp_path / "estimators.toml").exists()


def test_the_written_file_changes_what_a_text_counts(
    run: Run, settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "estimators.toml"
    record_calls(settings, MIN_PAIRS)
    before = count_tokens(WORDS, GEMINI)

    result = run("--write", str(file))
    choose_estimators(settings.model_copy(update={"estimators_file": file}))

    after = count_tokens(WORDS, GEMINI)
    assert result.exit_code == 0, result.output
    assert f"# {MIN_PAIRS} calls" in file.read_text("utf-8")
    assert (before.multiplier, before.counted) == (10_500, COUNTED)
    assert after.counted == COUNTED
    assert 12_400 < after.multiplier <= 12_500
    assert after.band == 0


def test_a_file_that_is_there_is_never_overwritten(
    run: Run, settings: Settings, tmp_path: Path
) -> None:
    record_calls(settings, MIN_PAIRS)
    file = tmp_path / "estimators.toml"
    file.write_text("ours\n", encoding="utf-8")

    result = run("--write", str(file))

    assert isinstance(result.exception, BadFile)
    assert "cannot be written: File exists" in str(result.exception)
    assert file.read_text("utf-8") == "ours\n"


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (None, "the estimators cannot be read"),
        ("schema = 2", "a file needs schema = 1"),
        (
            "schema = 1\n[[family]]\nname = 'gemini'\nmultiplier = 'x'",
            "family 'gemini': multiplier",
        ),
    ],
)
def test_a_file_of_estimators_that_is_not_one_stops_the_start_with_its_name(
    settings: Settings, tmp_path: Path, content: str | None, rule: str
) -> None:
    file = tmp_path / "mine.toml"
    if content is not None:
        file.write_text(content, encoding="utf-8")

    with pytest.raises(ConfigurationError, match=rule) as caught:
        choose_estimators(settings.model_copy(update={"estimators_file": file}))

    assert str(file) in caught.value.detail
    assert count_tokens(WORDS, GEMINI).multiplier == 10_500
