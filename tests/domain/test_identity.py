"""Keys of events and calls: equal for the same, different for everything else."""

from __future__ import annotations

from tokenbudget.domain.identity import (
    KEY_BYTES,
    event_key,
    has_lasting_ids,
    response_key,
    span_key,
)


def test_keys_of_different_things_differ() -> None:
    keys = {
        event_key("a", "bc", 0),
        event_key("ab", "c", 0),
        event_key("a", "bc", 1),
        response_key("a", "bc"),
        response_key("ab", "c"),
        span_key("a", "bc"),
    }

    assert len(keys) == 6
    assert {len(key) for key in keys} == {KEY_BYTES}
    assert event_key("a", "bc", 0) in keys


def test_response_ids_last_but_for_providers_that_number_from_a_thousand() -> None:
    assert has_lasting_ids("openai")
    assert not has_lasting_ids("ollama")
