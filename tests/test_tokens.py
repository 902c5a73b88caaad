"""Token estimates: what OpenAI publishes, what stands in for others, and that nothing leaves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tokenbudget import tokens
from tokenbudget.tokens import (
    MAX_TEXT_BYTES,
    EstimatorsInvalid,
    TokenEstimate,
    VocabularyDamaged,
    count_messages,
    count_tokens,
    family_of,
    use_estimators,
)

# The example of OpenAI's cookbook, "How to count tokens with tiktoken" (MIT); it states that the
# API counted 129 prompt tokens for gpt-4 and 124 for gpt-4o.
COOKBOOK_MESSAGES: list[dict[str, Any]] = [
    {
        "role": "system",
        "content": "You are a helpful, pattern-following assistant that translates corporate "
        "jargon into plain English.",
    },
    {
        "role": "system",
        "name": "example_user",
        "content": "New synergies will help drive top-line growth.",
    },
    {
        "role": "system",
        "name": "example_assistant",
        "content": "Things working well together will increase revenue.",
    },
    {
        "role": "system",
        "name": "example_user",
        "content": "Let's circle back when we have more bandwidth to touch base on opportunities "
        "for increased leverage.",
    },
    {
        "role": "system",
        "name": "example_assistant",
        "content": "Let's talk later when we're less busy about how to do better.",
    },
    {
        "role": "user",
        "content": "This late pivot means we don't have time to boil the ocean for the client "
        "deliverable.",
    },
]
# Counts with sockets gone, from many threads at once, and prints what was loaded to do so.
ISOLATED_COUNT = """
import socket, sys
from concurrent.futures import ThreadPoolExecutor
socket.socket = socket.create_connection = socket.getaddrinfo = None
from tokenbudget.tokens import count_tokens
with ThreadPoolExecutor(8) as threads:
    estimates = threads.map(count_tokens, ["2 + 2 = 4"] * 8, ["o3"] * 8)
    print({estimate.tokens for estimate in estimates})
print(sorted(name for name in sys.modules if name.startswith("tokenbudget")))
"""


@pytest.fixture
def _without_a_remembered_counter() -> Iterator[None]:
    tokens._fast_counter.cache_clear()
    yield
    tokens._fast_counter.cache_clear()
    sys.modules.pop("toktok", None)


@pytest.mark.parametrize(
    ("text", "cl100k_count", "o200k_count"),
    [
        ("antidisestablishmentarianism", 6, 6),
        ("2 + 2 = 4", 7, 7),
        ("お誕生日おめでとう", 9, 8),
        ("", 0, 0),
    ],
)
def test_counts_are_those_openai_publishes(text: str, cl100k_count: int, o200k_count: int) -> None:
    older = count_tokens(text, "gpt-4")
    newer = count_tokens(text, "gpt-4o")

    assert older == TokenEstimate(
        cl100k_count, cl100k_count, "cl100k_base", multiplier=10_000, band=0
    )
    assert newer == TokenEstimate(o200k_count, o200k_count, "o200k_base", multiplier=10_000, band=0)


def test_special_tokens_in_a_text_count_as_plain_text() -> None:
    estimate = count_tokens("<|endoftext|>", "gpt-4o")

    assert estimate.tokens == 7


def test_half_a_surrogate_pair_is_counted_and_not_an_error() -> None:
    estimate = count_tokens("\ud800 lone", "gpt-4o")

    assert estimate.tokens == 2


@pytest.mark.parametrize(
    ("model", "method", "multiplier", "band"),
    [
        ("gpt-4-32k", "cl100k_base", 10_000, 0),
        ("gpt-3.5-turbo", "cl100k_base", 10_000, 0),
        ("gpt-35-turbo", "cl100k_base", 10_000, 0),
        ("ft:gpt-3.5-turbo:acme", "cl100k_base", 10_000, 0),
        ("text-embedding-3-small", "cl100k_base", 10_000, 0),
        ("openai/gpt-4o-mini", "o200k_base", 10_000, 0),
        ("gpt-4.1", "o200k_base", 10_000, 0),
        ("GPT-5.6-sol", "o200k_base", 10_000, 0),
        ("gpt-oss-120b", "o200k_base", 10_000, 0),
        ("o4-mini", "o200k_base", 10_000, 0),
        ("anthropic.claude-v2:1", "o200k_base", 12_000, 2_500),
        ("claude-instant-1.2", "o200k_base", 12_000, 2_500),
        ("claude-3-5-sonnet-20241022", "o200k_base", 12_000, 2_500),
        ("claude-opus-4-20250514", "o200k_base", 12_000, 2_500),
        ("claude-opus-4-1-20250805", "o200k_base", 12_000, 2_500),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "o200k_base", 12_000, 2_500),
        ("anthropic/claude-opus-4.6", "o200k_base", 12_000, 2_500),
        ("claude-4-sonnet", "o200k_base", 12_000, 2_500),
        ("claude-opus-4-7", "o200k_base", 15_000, 2_500),
        ("anthropic/claude-opus-4.8", "o200k_base", 15_000, 2_500),
        ("claude-opus-4-10", "o200k_base", 15_000, 2_500),
        ("claude-sonnet-5", "o200k_base", 15_000, 2_500),
        ("claude-opus-latest", "o200k_base", 15_000, 2_500),
        ("gemini-2.5-pro", "o200k_base", 10_500, 2_500),
        ("deepseek-chat", "o200k_base", 10_600, 2_500),
        ("Qwen/Qwen3-235B-A22B", "o200k_base", 10_600, 2_500),
        ("mistral-large-latest", "o200k_base", 10_000, 2_500),
        ("foo1", "o200k_base", 10_000, 2_500),
        ("", "o200k_base", 10_000, 2_500),
    ],
)
def test_the_model_decides_the_vocabulary_and_the_multiplier(
    model: str, method: str, multiplier: int, band: int
) -> None:
    estimate = count_tokens("x", model)

    assert (estimate.method, estimate.multiplier, estimate.band) == (method, multiplier, band)


def test_a_scaled_count_is_rounded_up() -> None:
    estimate = count_tokens("2 + 2 = 4", "claude-opus-4-6")

    # 7 tokens × 1.20 = 8.4
    assert estimate.tokens == 9


def test_a_text_cut_into_pieces_counts_like_the_whole() -> None:
    estimate = count_tokens(" lorem" * 50_000, "gpt-4o")

    assert estimate.tokens == 50_000 * count_tokens(" lorem", "gpt-4o").tokens


def test_a_text_without_a_place_to_cut_is_counted_all_the_same() -> None:
    estimate = count_tokens("中" * 100_000, "gpt-4o")

    assert estimate.tokens == 100_000


def test_a_million_blanks_do_not_exhaust_the_tokenizer() -> None:
    """tiktoken 0.14 panics on them in one piece."""
    estimate = count_tokens(" " * 1_000_000, "gpt-4o")

    # One token holds 128 blanks: 1,000,000 / 128 = 7,812.5, cut 30 times.
    assert estimate.tokens == 7_813


def test_a_text_above_the_bound_is_a_quarter_of_its_bytes() -> None:
    at_bound = count_tokens("é" * (MAX_TEXT_BYTES // 2), "gpt-4o")
    above_bound = count_tokens("é" * (MAX_TEXT_BYTES // 2) + "x", "gpt-4o")

    assert at_bound.method == "o200k_base"
    assert above_bound.method == "bytes/4"
    assert above_bound.tokens == MAX_TEXT_BYTES // 4 + 1


def test_the_bound_is_scaled_by_the_family_as_well() -> None:
    estimate = count_tokens("x" * (MAX_TEXT_BYTES + 4), "claude-sonnet-5")

    # (4,194,304 + 4) / 4 = 1,048,577; × 1.50 = 1,572,865.5
    assert estimate.tokens == 1_572_866


def test_messages_count_as_openai_documents() -> None:
    older = count_messages(COOKBOOK_MESSAGES, "gpt-4")
    newer = count_messages(COOKBOOK_MESSAGES, "gpt-4o")

    assert (older.tokens, older.flags) == (129, ())
    assert (newer.tokens, newer.flags) == (124, ())


def test_text_parts_count_like_the_same_text_and_pictures_are_flagged() -> None:
    plain = [{"role": "user", "content": "2 + 2 = 4"}]
    parts = [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "2 + 2 = 4"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            ],
        }
    ]

    counted_parts = count_messages(parts, "gpt-4o")

    assert counted_parts.tokens == count_messages(plain, "gpt-4o").tokens
    assert counted_parts.flags == ("parts_not_counted",)


@pytest.mark.parametrize(
    "message",
    [
        {"content": None, "tool_calls": [{"id": "c1", "function": {"arguments": "2 + 2 = 4"}}]},
        {"content": [{"type": "tool_result", "content": [{"type": "text", "text": "2 + 2 = 4"}]}]},
        {"content": [{"type": "custom_tool_call", "input": "2 + 2 = 4"}]},
        {"parts": [{"text": "2 + 2 = 4"}]},
    ],
)
def test_text_is_counted_where_the_chat_formats_put_it(message: dict[str, Any]) -> None:
    estimate = count_messages([message], "gpt-4o")

    # 7 for the text, 3 for the message, 3 for the reply
    assert (estimate.tokens, estimate.flags) == (13, ())


def test_the_arguments_of_a_tool_call_count_as_their_json() -> None:
    message = {"content": [{"type": "tool_use", "name": "add", "input": {"a": 2}}]}

    estimate = count_messages([message], "gpt-4o")

    # {"a": 2} is 6 tokens, the name 1, the message 3, the reply 3
    assert (estimate.tokens, estimate.flags) == (13, ())


@pytest.mark.parametrize("content", [7, [[[[[[[[[["deep"]]]]]]]]]], [{"type": "audio"}]])
def test_a_part_without_readable_text_is_flagged(content: object) -> None:
    estimate = count_messages([{"content": content}], "gpt-4o")

    assert (estimate.tokens, estimate.flags) == (6, ("parts_not_counted",))


def test_counting_needs_no_network_and_nothing_else_of_ours() -> None:
    finished = subprocess.run(
        [sys.executable, "-c", ISOLATED_COUNT], capture_output=True, text=True, check=True
    )

    assert finished.stdout.splitlines() == ["{7}", "['tokenbudget', 'tokenbudget.tokens']"]


def test_a_vocabulary_with_another_digest_is_refused() -> None:
    with pytest.raises(VocabularyDamaged, match="cl100k_base does not have the published digest"):
        tokens._read_ranks("cl100k_base", sha256="0" * 64)


def test_a_vocabulary_that_is_not_there_is_refused() -> None:
    with pytest.raises(VocabularyDamaged, match="p50k_base cannot be read"):
        tokens._read_ranks("p50k_base", sha256="0" * 64)


@pytest.mark.usefixtures("_without_a_remembered_counter")
def test_the_fast_counter_is_used_when_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = "def batch_count(texts, encoding, threads):\n    return [100 for _ in texts]\n"
    (tmp_path / "toktok.py").write_text(stand_in, encoding="utf-8")
    monkeypatch.delitem(sys.modules, "toktok", raising=False)
    monkeypatch.syspath_prepend(tmp_path)

    estimate = count_tokens("2 + 2 = 4", "gpt-4o")

    assert (estimate.tokens, estimate.method) == (100, "o200k_base")


@pytest.mark.parametrize("encoding_name", ["o200k_base", "cl100k_base"])
@pytest.mark.parametrize(
    "text",
    [
        "The quick brown fox.\n\n\t{'a': [1, 22, 333, 4444]}  ",
        "Größe, naïve, Ёлка, 你好世界。 お誕生日おめでとう 안녕하세요 🎉👩‍👩‍👧",
        "<|endoftext|> it's we'LL\r\n   \u00a0\u3000x",
    ],
)
def test_the_fast_counter_counts_like_tiktoken(encoding_name: str, text: str) -> None:
    toktok = pytest.importorskip("toktok")

    fast = toktok.batch_count([text], encoding_name, 1)

    assert list(fast) == [len(tokens._encoding(encoding_name).encode_ordinary(text))]


@pytest.fixture
def _packaged_families() -> Iterator[None]:
    yield
    use_estimators("")


@pytest.mark.usefixtures("_packaged_families")
def test_an_operators_family_takes_the_place_of_the_packaged_one_and_keeps_what_it_leaves_out() -> (
    None
):
    before = family_of("claude-opus-4-8")

    use_estimators('schema = 1\n[[family]]\nname = "claude from 4.7"\nmultiplier = 1.4321\n')

    after = family_of("claude-opus-4-8")
    assert (before.multiplier, after.multiplier) == (15_000, 14_321)
    assert (after.band, after.encoding, after.match) == (before.band, before.encoding, before.match)
    # Its neighbour is still asked first.
    assert family_of("claude-sonnet-4").multiplier == 12_000


@pytest.mark.usefixtures("_packaged_families")
def test_a_family_of_the_operators_own_is_asked_before_the_packaged_ones() -> None:
    use_estimators(
        "schema = 1\n[[family]]\nname = 'house'\nmatch = '^claude-house'\n"
        "encoding = 'cl100k_base'\nmultiplier = 2\nband = 0.1\n"
    )

    house = count_tokens("one two", "claude-house-1")
    assert (house.method, house.multiplier, house.band) == ("cl100k_base", 20_000, 1_000)
    assert (house.counted, house.tokens) == (2, 4)
    assert family_of("claude-opus-4-8").name == "claude from 4.7"
    assert family_of("something else").name == "all others"


@pytest.mark.usefixtures("_packaged_families")
@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("schema =", "this is no TOML"),
        ("schema = 2\nfamily = []", "needs schema = 1"),
        ("schema = 1", "needs schema = 1"),
        ("schema = 1\nfamily = [1]", "every family needs a name of its own"),
        ("schema = 1\n[[family]]\nband = 0", "every family needs a name of its own"),
        (
            "schema = 1\n[[family]]\nname = 'gemini'\n[[family]]\nname = 'gemini'",
            "'gemini': every family needs a name of its own",
        ),
        ("schema = 1\n[[family]]\nname = 'mine'\nmatch = 'x'", "band, encoding, multiplier:"),
        ("schema = 1\n[[family]]\nname = 'gemini'\nrate = 1", "'gemini': rate: unknown"),
        ("schema = 1\n[[family]]\nname = 'gemini'\nencoding = 'p50k'", "encoding must be one of"),
        ("schema = 1\n[[family]]\nname = 'gemini'\nmatch = '('", "match is no pattern"),
        ("schema = 1\n[[family]]\nname = 'gemini'\nmultiplier = 0", "multiplier must be a number"),
        (
            "schema = 1\n[[family]]\nname = 'gemini'\nmultiplier = inf",
            "multiplier must be a number",
        ),
        ("schema = 1\n[[family]]\nname = 'gemini'\nband = 0.12345", "band must be a number"),
        ("schema = 1\n[[family]]\nname = 'gemini'\nband = '1'", "band must be a number"),
        ("schema = 1\n[[family]]\nname = 'gemini'\nband = 101", "at most 100"),
    ],
)
def test_a_text_that_is_no_file_of_estimators_is_refused_and_changes_nothing(
    text: str, rule: str
) -> None:
    with pytest.raises(EstimatorsInvalid, match=rule):
        use_estimators(text)

    assert family_of("gemini-3").multiplier == 10_500
