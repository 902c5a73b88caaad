"""The recorded traces are replayed whole or thinned fairly, and their dirt is kept."""

from __future__ import annotations

import polars as pl
import pytest

from tokenbudget.demo.features import CLIENT_MODELS
from tokenbudget.demo.recordings import (
    HOUR_MICROS,
    REPLAY_HOURS,
    aider_requests,
    azure_requests,
    client_requests,
    mooncake_requests,
    read_sample,
    split_model_name,
)


def token_totals(requests: pl.DataFrame) -> tuple[int, int, int]:
    return (
        requests.height,
        int(requests["input_tokens"].sum()),
        int(requests["output_tokens"].sum()),
    )


def test_every_azure_code_request_is_replayed_with_its_tokens() -> None:
    requests = azure_requests("azure_llm_2023_code")

    assert token_totals(requests) == (7_148, 14_494_439, 196_339)


def test_every_azure_chat_request_is_replayed_with_its_tokens() -> None:
    requests = azure_requests("azure_llm_2023_conv")

    assert token_totals(requests) == (13_828, 16_633_328, 2_778_099)


def test_every_mooncake_request_is_replayed_with_its_prefix_hits() -> None:
    requests = mooncake_requests()

    assert token_totals(requests) == (7_851, 97_571_920, 2_724_903)
    assert requests["cached_input_tokens"].sum() == 34_896_689
    assert (requests["cached_input_tokens"] <= requests["input_tokens"]).all()


def test_every_aider_request_is_replayed_with_its_tokens() -> None:
    requests = aider_requests()

    assert token_totals(requests) == (4_045, 53_712_983, 2_067_075)


def test_the_dirty_aider_row_of_9990_dollars_is_kept_to_the_nano() -> None:
    requests = aider_requests()

    dearest = requests.filter(pl.col("reported_cost") == "9990.012528750")

    assert dearest.select("provider", "model", "input_tokens").rows() == [
        ("gcp.gemini", "gemini-2.5-pro-preview-03-25", 10_023)
    ]


def test_aider_rows_without_a_model_name_are_kept() -> None:
    models = aider_requests()["model"]

    assert (models == "None").sum() == 14
    assert (models == "REDACTED").sum() == 335


@pytest.mark.parametrize(
    ("name", "provider_and_model"),
    [
        ("gpt-5.2", ("openai", "gpt-5.2")),
        ("o3-mini", ("openai", "o3-mini")),
        ("claude-3-5-sonnet-20241022", ("anthropic", "claude-3-5-sonnet-20241022")),
        ("gemini/gemini-2.5-pro", ("gcp.gemini", "gemini-2.5-pro")),
        ("openrouter/anthropic/claude-3.7-sonnet", ("openrouter", "anthropic/claude-3.7-sonnet")),
        ("ollama/REDACTED", ("ollama", "REDACTED")),
        ("None", ("unknown", "None")),
    ],
)
def test_a_model_name_is_split_into_provider_and_model(
    name: str, provider_and_model: tuple[str, str]
) -> None:
    assert split_model_name(name) == provider_and_model


def test_requests_of_one_slice_keep_their_real_distance() -> None:
    requests = azure_requests("azure_llm_2023_code")

    # 18:17:03.979960, 18:17:04.031960 and 18:17:04.078149 in the file.
    assert requests["offset_micros"].head(3).to_list() == [0, 52_000, 98_189]


def test_the_next_slice_of_ten_seconds_begins_four_hours_later() -> None:
    offsets = mooncake_requests()["offset_micros"]
    recorded = read_sample("mooncake_conversation")["timestamp_ms"]

    first_of_next = recorded.to_list().index(12_000)

    assert offsets[first_of_next - 1] == 9_000_000
    assert offsets[first_of_next] == 4 * 3_600_000_000 + 2_000_000


def test_no_trace_is_longer_than_the_replay() -> None:
    traces = (
        azure_requests("azure_llm_2023_code"),
        azure_requests("azure_llm_2023_conv"),
        mooncake_requests(),
        aider_requests(),
        client_requests(CLIENT_MODELS),
    )

    spans = [trace.select(pl.col("offset_micros").max()).item() for trace in traces]

    assert max(spans) <= REPLAY_HOURS * HOUR_MICROS


def test_thinning_keeps_the_planned_number_of_requests_of_each_model() -> None:
    requests = client_requests(CLIENT_MODELS)

    assert dict(requests.group_by("trace_model").len().rows()) == {
        "m-large": 38_000,
        "m-mid": 16_000,
        "m-small": 18_000,
        "deepseek-r1": 9_000,
        "mm-image": 9_000,
    }


def test_thinning_keeps_each_client_its_share_of_its_model_to_within_one_request() -> None:
    kept = client_requests(CLIENT_MODELS).group_by("trace_model", "client_id").len("kept")
    recorded = read_sample("servegen_client_hours").group_by("model", "client_id")
    requests = pl.col("requests")
    planned = pl.col("model").replace_strict(
        {name: model.events for name, model in CLIENT_MODELS.items()}
    )

    compared = (
        recorded.agg(requests=pl.col("derived_requests").sum())
        .with_columns(due=requests * planned / requests.sum().over("model"))
        .join(
            kept,
            left_on=("model", "client_id"),
            right_on=("trace_model", "client_id"),
            how="left",
        )
        .with_columns(pl.col("kept").fill_null(0))
    )

    assert compared.height == 249
    assert compared.select((pl.col("kept") - pl.col("due")).abs().max()).item() <= 1


def test_thinning_keeps_the_shape_of_the_day_to_within_a_hundredth_of_the_traffic() -> None:
    recorded = read_sample("servegen_client_hours").filter(pl.col("model") == "m-large")
    kept = client_requests(CLIENT_MODELS).filter(pl.col("trace_model") == "m-large")
    requests = pl.col("derived_requests").sum()

    recorded_day = recorded.group_by(pl.col("hour") % 24).agg(requests).sort("hour")
    kept_hour = (pl.col("offset_micros") // HOUR_MICROS % 24).alias("hour")
    kept_day = kept.group_by(kept_hour).len().sort("hour")

    recorded_share = recorded_day["derived_requests"] / recorded_day["derived_requests"].sum()
    kept_share = kept_day["len"] / kept_day["len"].sum()
    assert max((recorded_share - kept_share).abs().to_list()) < 0.01


def test_reasoning_is_a_part_of_output_and_absent_where_the_trace_does_not_tell() -> None:
    requests = client_requests(CLIENT_MODELS)

    told = requests.filter(pl.col("reasoning_tokens").is_not_null())

    assert told["trace_model"].unique().to_list() == ["deepseek-r1"]
    assert told.height == 9_000
    assert (told["reasoning_tokens"] <= told["output_tokens"]).all()
