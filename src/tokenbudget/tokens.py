"""How many tokens a text has, offline. It owns the vocabularies, the families and the estimate.

It refuses the network, caches on disk and environment variables: the vocabularies travel inside
the package, are checked by digest and read once. It imports nothing else of ours, so the client
can count where the prompt is and the prompt never leaves its process. The families are those of
the package unless ``use_estimators`` was told better.
"""

from __future__ import annotations

import base64
import hashlib
import json
import lzma
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib import import_module
from importlib.resources import files
from threading import Lock
from typing import Any, Final

import tiktoken

BASIS_POINTS: Final = 10_000
MAX_TEXT_BYTES: Final = 4 * 1024 * 1024
BYTES_PER_TOKEN: Final = 4
BYTES_METHOD: Final = "bytes/4"
# A million blanks in a row exhaust tiktoken's regex stack (it panics), and long runs of anything
# count in more than linear time: texts are counted in pieces.
MAX_PIECE_CHARACTERS: Final = 32_768
MAX_CUT_ATTEMPTS: Final = 1_024
MAX_CONTENT_DEPTH: Final = 8

# What OpenAI's cookbook ("How to count tokens with tiktoken") adds for the chat format.
TOKENS_PER_MESSAGE: Final = 3
TOKENS_PER_NAME: Final = 1
TOKENS_PER_REPLY: Final = 3
PARTS_NOT_COUNTED: Final = "parts_not_counted"
MESSAGE_FIELDS: Final = ("role", "name", "content", "parts", "tool_calls", "refusal")
PART_FIELDS: Final = ("text", "content", "refusal", "name", "arguments", "input", "function")


ESTIMATORS_SCHEMA: Final = 1
MAX_BASIS_POINTS: Final = 100 * BASIS_POINTS
FAMILY_KEYS: Final = frozenset({"name", "match", "encoding", "multiplier", "band"})


class EstimatorsInvalid(ValueError):
    """A text is no file of estimators; the message names the family and the rule."""


class VocabularyDamaged(RuntimeError):
    """A vocabulary file of this installation is not the published one; reinstall the package."""


@dataclass(frozen=True, slots=True)
class TokenEstimate:
    """A token count and how it came about.

    ``method`` is the vocabulary counted with, or ``bytes/4``; ``counted`` is what it counted.
    ``multiplier`` and ``band`` are in basis points: what the count was scaled by to give
    ``tokens``, and how far the truth may lie on either side. ``flags`` names what was left out.
    """

    tokens: int
    counted: int
    method: str
    multiplier: int
    band: int
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EstimatorFamily:
    """How texts are counted for the models in whose lowered name ``match`` is found.

    ``encoding`` is the vocabulary; ``multiplier`` and ``band`` are in basis points.
    """

    name: str
    match: re.Pattern[str]
    encoding: str
    multiplier: int
    band: int


@dataclass(frozen=True, slots=True)
class _Vocabulary:
    """The public facts of one vocabulary; ``sha256`` is that of the uncompressed file."""

    sha256: str
    pattern: str
    special_tokens: Mapping[str, int]


_VOCABULARIES: Final = {
    "o200k_base": _Vocabulary(
        sha256="446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        pattern="|".join(
            [
                r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
                r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
                r"\p{N}{1,3}",
                r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
                r"\s*[\r\n]+",
                r"\s+(?!\S)",
                r"\s+",
            ]
        ),
        special_tokens={"<|endoftext|>": 199_999, "<|endofprompt|>": 200_018},
    ),
    "cl100k_base": _Vocabulary(
        sha256="223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        pattern=r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+"
        r"| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
        special_tokens={
            "<|endoftext|>": 100_257,
            "<|fim_prefix|>": 100_258,
            "<|fim_middle|>": 100_259,
            "<|fim_suffix|>": 100_260,
            "<|endofprompt|>": 100_276,
        },
    ),
}
_families_in_use: tuple[EstimatorFamily, ...] = ()
"""What ``use_estimators`` chose; empty means the package's, which are read on first use."""
_encodings: dict[str, tiktoken.Encoding] = {}
_encodings_lock: Final = Lock()


def count_tokens(text: str, model: str) -> TokenEstimate:
    """Give the tokens ``text`` has for ``model``, scaled by its family and rounded up.

    Special tokens in the text count as plain text. Above MAX_TEXT_BYTES a quarter of the bytes
    stands in for the count.
    """
    return _estimate([text], 0, family_of(model))


def count_messages(messages: Sequence[Mapping[str, Any]], model: str) -> TokenEstimate:
    """Give the tokens of chat messages, with the chat format's own tokens and those of the reply.

    Text is counted wherever the common chat formats put it: contents, text parts, names, tool
    calls and tool results. Parts without text (images, audio, files) are left out and flagged
    ``parts_not_counted``.
    """
    texts: list[str] = []
    flags: tuple[str, ...] = ()
    overhead = TOKENS_PER_REPLY
    for message in messages:
        overhead += TOKENS_PER_MESSAGE + (TOKENS_PER_NAME if "name" in message else 0)
        for text in _field_texts(message, MESSAGE_FIELDS, 0):
            if text is None:
                flags = (PARTS_NOT_COUNTED,)
            else:
                texts.append(text)
    return _estimate(texts, overhead, family_of(model), flags)


def _estimate(
    texts: Sequence[str], overhead: int, family: EstimatorFamily, flags: tuple[str, ...] = ()
) -> TokenEstimate:
    # A lone half of a surrogate pair is not encodable; a question mark stands in for it.
    encoded = [text.encode(errors="replace") for text in texts]
    byte_count = sum(map(len, encoded))
    if byte_count > MAX_TEXT_BYTES:
        method = BYTES_METHOD
        counted = -(-byte_count // BYTES_PER_TOKEN)
    else:
        method = family.encoding
        counted = _count_exactly([content.decode() for content in encoded], method)
    counted += overhead
    tokens = -(-counted * family.multiplier // BASIS_POINTS)
    return TokenEstimate(tokens, counted, method, family.multiplier, family.band, flags)


def _count_exactly(texts: Sequence[str], encoding_name: str) -> int:
    pieces = [piece for text in texts for piece in _pieces(text)]
    fast_counter = _fast_counter()
    if fast_counter is not None:
        return sum(fast_counter(pieces, encoding_name, 1))
    encoding = _encoding(encoding_name)
    return sum(len(encoding.encode_ordinary(piece)) for piece in pieces)


def _pieces(text: str) -> Iterator[str]:
    """Give the text in pieces of at most MAX_PIECE_CHARACTERS that together count like the whole.

    Only a stretch that long without any safe place may count a token more for its cut.
    """
    start = 0
    while len(text) - start > MAX_PIECE_CHARACTERS:
        cut = _cut_before(text, start, start + MAX_PIECE_CHARACTERS)
        yield text[start:cut]
        start = cut
    yield text[start:]


def _cut_before(text: str, start: int, end: int) -> int:
    """Give the last place up to ``end`` where no token spans the cut, or ``end`` without one.

    No pattern goes on from a non-blank to a space, so a cut between the two changes no count.
    """
    cut = end
    for _ in range(MAX_CUT_ATTEMPTS):
        cut = text.rfind(" ", start + 1, cut)
        if cut < 0:
            break
        if not text[cut - 1].isspace():
            return cut
    return end


def _field_texts(
    part: Mapping[str, Any], fields: Sequence[str], depth: int
) -> Iterator[str | None]:
    """Give the texts in these fields of a message or part; None stands for one without text."""
    present = [field for field in fields if part.get(field) is not None]
    if not present:
        yield None
    for field in present:
        value = part[field]
        if field == "input" and not isinstance(value, str):
            yield json.dumps(value, ensure_ascii=False, default=str)
        else:
            yield from _texts_in(value, depth)


def _texts_in(value: object, depth: int) -> Iterator[str | None]:
    if isinstance(value, str):
        yield value
    elif depth >= MAX_CONTENT_DEPTH:
        yield None
    elif isinstance(value, Mapping):
        yield from _field_texts(value, PART_FIELDS, depth + 1)
    elif isinstance(value, Sequence):
        for item in value:
            yield from _texts_in(item, depth + 1)
    else:
        yield None


def family_of(model: str) -> EstimatorFamily:
    """Give the first family that the model's name matches; the last one matches every name."""
    lowered = model.lower()
    families = _families_in_use or _packaged_families()
    return next(family for family in families if family.match.search(lowered))


def use_estimators(text: str) -> None:
    """Count from now on, in this process, by the families of ``text`` and those of the package.

    ``text`` is TOML like ``vocabularies/estimators.toml``. A family of the same name as one of the
    package takes its place and need not repeat what stays; others are asked first. An empty text
    goes back to the package's. Raises EstimatorsInvalid, and then nothing changes.
    """
    global _families_in_use
    packaged = _packaged_families()
    _families_in_use = _parse_families(text, packaged) if text else packaged


@cache
def _packaged_families() -> tuple[EstimatorFamily, ...]:
    return _parse_families(_packaged_bytes("estimators.toml").decode(), ())


def _parse_families(text: str, known: Sequence[EstimatorFamily]) -> tuple[EstimatorFamily, ...]:
    """Give the known families with those of the text in their place or before them."""
    try:
        document = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise EstimatorsInvalid(f"this is no TOML: {error}") from None
    entries = document.get("family")
    if document.get("schema") != ESTIMATORS_SCHEMA or not isinstance(entries, list):
        raise EstimatorsInvalid(f"a file needs schema = {ESTIMATORS_SCHEMA} and [[family]] tables")
    known_by_name = {family.name: family for family in known}
    stated: dict[str, EstimatorFamily] = {}
    for entry in entries:
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or name in stated:
            raise EstimatorsInvalid(f"family {name!r}: every family needs a name of its own")
        stated[name] = _parse_family(entry, known_by_name.get(name))
    first = (family for name, family in stated.items() if name not in known_by_name)
    return (*first, *(stated.get(family.name, family) for family in known))


def _parse_family(entry: Mapping[str, Any], known: EstimatorFamily | None) -> EstimatorFamily:
    """Give one family; what the entry leaves out is the known one's."""
    name = entry["name"]
    complete = {**(_describe_family(known) if known else {}), **entry}
    if complete.keys() != FAMILY_KEYS:
        faulty = ", ".join(sorted(complete.keys() ^ FAMILY_KEYS))
        raise EstimatorsInvalid(f"family {name!r}: {faulty}: unknown or missing")
    return _build_family(name, complete)


def _build_family(name: str, entry: Mapping[str, Any]) -> EstimatorFamily:
    if entry["encoding"] not in _VOCABULARIES:
        raise EstimatorsInvalid(f"family {name!r}: encoding must be one of {[*_VOCABULARIES]}")
    try:
        match = re.compile(entry["match"])
    except (TypeError, re.error) as error:
        raise EstimatorsInvalid(f"family {name!r}: match is no pattern: {error}") from None
    return EstimatorFamily(
        name=name,
        match=match,
        encoding=entry["encoding"],
        multiplier=_basis_points(entry, "multiplier", least=1),
        band=_basis_points(entry, "band", least=0),
    )


def _describe_family(family: EstimatorFamily) -> dict[str, Any]:
    return {
        "match": family.match.pattern,
        "encoding": family.encoding,
        "multiplier": Decimal(family.multiplier) / BASIS_POINTS,
        "band": Decimal(family.band) / BASIS_POINTS,
    }


def _basis_points(entry: Mapping[str, Any], key: str, *, least: int) -> int:
    value = entry[key]
    if isinstance(value, int | Decimal) and Decimal(value).is_finite():
        points = Decimal(value) * BASIS_POINTS
        if least <= points <= MAX_BASIS_POINTS and points == int(points):
            return int(points)
    raise EstimatorsInvalid(
        f"family {entry['name']!r}: {key} must be a number with four decimals,"
        f" at most {MAX_BASIS_POINTS // BASIS_POINTS}"
    )


@cache
def _fast_counter() -> Callable[[Sequence[str], str, int], Sequence[int]] | None:
    """Give toktok's counter (extra ``fast``), which counts exactly alike, or None without it."""
    try:
        counter: Callable[[Sequence[str], str, int], Sequence[int]]
        counter = import_module("toktok").batch_count
    except (ImportError, AttributeError):
        return None
    return counter


def _encoding(name: str) -> tiktoken.Encoding:
    """Give the encoding, read and built on first use, once for all threads."""
    with _encodings_lock:
        if name not in _encodings:
            vocabulary = _VOCABULARIES[name]
            _encodings[name] = tiktoken.Encoding(
                name,
                pat_str=vocabulary.pattern,
                mergeable_ranks=_read_ranks(name, vocabulary.sha256),
                special_tokens=dict(vocabulary.special_tokens),
            )
        return _encodings[name]


def _read_ranks(name: str, sha256: str) -> dict[bytes, int]:
    try:
        content = lzma.decompress(_packaged_bytes(f"{name}.tiktoken.xz"))
    except (OSError, lzma.LZMAError) as error:
        raise VocabularyDamaged(f"the vocabulary {name} cannot be read: {error}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise VocabularyDamaged(f"the vocabulary {name} does not have the published digest")
    pairs = (line.split() for line in content.splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


def _packaged_bytes(name: str) -> bytes:
    return files("tokenbudget").joinpath("vocabularies", name).read_bytes()
