"""Column types that store what a value means in fewer bytes than its text has.

References are names that callers choose, mostly 128 random bits in one of few spellings; words are
those of a short list. It owns how both are stored; whoever hands values over sees text only.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64, hexlify, unhexlify
from collections.abc import Callable, Mapping
from hashlib import sha256
from itertools import product
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction
from sqlalchemy.types import TypeDecorator

from tokenbudget.domain.usage import Basis

ULID_MARK: Final = b"\xff"
DIGITS_MARK: Final = b"\xfe"
UUID_MARK: Final = b"\xfd"
SPAN_MARK: Final = b"\xfc"
LETTER_MARKS: Final = (b"\xf8", b"\xf9", b"\xfa", b"\xfb")
"""One for each number of letters that is left over when they are taken by four."""

LOWEST_MARK: Final = LETTER_MARKS[0][0]
"""UTF-8 never begins with any of the marks, so that text needs none."""

CROCKFORD: Final = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"
INT_DIGITS: Final = b"0123456789abcdefghijklmnopqrstuv"
NO_DIGIT: Final = ord("!")
AS_INT_DIGITS: Final = bytes(
    INT_DIGITS[CROCKFORD.index(code)] if code in CROCKFORD else NO_DIGIT for code in range(256)
)
PAIRS: Final = tuple(first + second for first, second in product(CROCKFORD.decode(), repeat=2))
PAIR_MASK: Final = len(PAIRS) - 1
PAIR_SHIFTS: Final = tuple(range(120, -1, -10))
"""How far the ten bits of each pair of letters of a ULID lie from the end."""

ULID_LENGTH: Final = 26
ULID_BYTES: Final = 16
TRACE_DIGITS: Final = 32
LETTERS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
AS_BASE_64: Final = bytes.maketrans(b"-_", b"+/")
AS_LETTERS: Final = bytes.maketrans(b"+/", b"-_")
FEWEST_LETTERS: Final = 20
"""Shorter names are mostly chosen by people, who like to find them in the database as they are."""

BUCKET_BYTES: Final = 2
BASIS_CODES: Final[Mapping[str, int]] = {
    # SQLite takes no room for 0 and 1.
    Basis.UNPRICED.value: 0,
    Basis.RATED.value: 1,
    Basis.ESTIMATED.value: 2,
    Basis.REPORTED.value: 3,
    Basis.INVOICED.value: 4,
}
BASIS_WORDS: Final[Mapping[int, str]] = {code: word for word, code in BASIS_CODES.items()}


class Reference(TypeDecorator[str]):
    """A text, stored as bytes: a mark and 16 where it spells 128 bits, else as UTF-8.

    Long texts of letters, digits, ``-`` and ``_`` alone take three bytes for four of them.

    Equal texts are stored alike and no others, so that it is compared by equality, never in part
    and never in order.
    """

    impl = sa.LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:
        """Give the stored bytes."""
        return None if value is None else stored_reference(value)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str | None:
        """Give the text."""
        return None if value is None else read_reference(value)


class BasisCode(TypeDecorator[str]):
    """What a charge rests on, as a small number. A word that is none of ``Basis`` is a KeyError."""

    impl = sa.SmallInteger
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> int | None:
        """Give the stored number."""
        return None if value is None else BASIS_CODES[value]

    def process_result_value(self, value: int | None, dialect: Dialect) -> str | None:
        """Give the word."""
        return None if value is None else BASIS_WORDS[value]


class ReferenceBucket(GenericFunction[bytes]):
    """What references are found by: themselves or, on PostgreSQL, 16 bits of their hash.

    References that share 16 bits share an entry of the index, which thereby takes half the room.
    """

    name = "reference_bucket"
    type = sa.LargeBinary()
    inherit_cache = True


def stored_reference(text: str) -> bytes:
    """Give the bytes that stand for a text."""
    content = text.encode()
    shorten = SHORTENED.get(len(content))
    short = None if shorten is None else shorten(content)
    return _shorten_letters(content) if short is None else short


def read_reference(stored: bytes) -> str:
    """Give the text that these bytes stand for."""
    mark = stored[0] if stored else 0
    if mark < LOWEST_MARK:
        return stored.decode()
    spell = SPELLED.get(mark)
    return _spell_letters(stored) if spell is None else spell(stored[1:])


def bucket_of(text: str) -> bytes:
    """Give the ``ReferenceBucket`` of a text on PostgreSQL."""
    return sha256(stored_reference(text)).digest()[:BUCKET_BYTES]


def _shorten_ulid(content: bytes) -> bytes | None:
    try:
        return ULID_MARK + int(content.translate(AS_INT_DIGITS), 32).to_bytes(ULID_BYTES)
    except (ValueError, OverflowError):
        return None


def _spell_ulid(packed: bytes) -> str:
    number = int.from_bytes(packed)
    return "".join([PAIRS[number >> shift & PAIR_MASK] for shift in PAIR_SHIFTS])


def _shorten_digits(content: bytes) -> bytes | None:
    packed = _packed(content)
    return None if packed is None else DIGITS_MARK + packed


def _shorten_uuid(content: bytes) -> bytes | None:
    if not content[8:9] == content[13:14] == content[18:19] == content[23:24] == b"-":
        return None
    packed = _packed(content.replace(b"-", b""))
    return None if packed is None or len(packed) != ULID_BYTES else UUID_MARK + packed


def _spell_uuid(packed: bytes) -> str:
    digits = packed.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _shorten_span(content: bytes) -> bytes | None:
    if content[TRACE_DIGITS] != ord(":"):
        return None
    packed = _packed(content[:TRACE_DIGITS] + content[TRACE_DIGITS + 1 :])
    return None if packed is None else SPAN_MARK + packed


def _spell_span(packed: bytes) -> str:
    digits = packed.hex()
    return f"{digits[:TRACE_DIGITS]}:{digits[TRACE_DIGITS:]}"


def _packed(digits: bytes) -> bytes | None:
    """Give the bytes of hexadecimal digits, None unless they are pairs of small ones."""
    try:
        packed = unhexlify(digits)
    except ValueError:
        return None
    return packed if hexlify(packed) == digits else None


def _shorten_letters(content: bytes) -> bytes:
    if len(content) < FEWEST_LETTERS or content.translate(None, LETTERS):
        return content
    left_over = len(content) % 4
    # The last group is filled up with what stands for zero.
    filled = content + b"A" * (-len(content) % 4)
    packed = a2b_base64(filled.translate(AS_BASE_64))
    return LETTER_MARKS[left_over] + packed[: (len(content) * 6 + 7) // 8]


def _spell_letters(stored: bytes) -> str:
    left_over, packed = stored[0] - LOWEST_MARK, stored[1:]
    filled = packed + bytes(-len(packed) % 3)
    count = len(packed) * 8 // 6
    letters = b2a_base64(filled, newline=False).translate(AS_LETTERS)
    return letters[: count - (count - left_over) % 4].decode()


SHORTENED: Final[Mapping[int, Callable[[bytes], bytes | None]]] = {
    16: _shorten_digits,
    ULID_LENGTH: _shorten_ulid,
    TRACE_DIGITS: _shorten_digits,
    36: _shorten_uuid,
    49: _shorten_span,
}
"""What may shorten a text of so many bytes; it gives None for what is not of its form."""

SPELLED: Final[Mapping[int, Callable[[bytes], str]]] = {
    ULID_MARK[0]: _spell_ulid,
    DIGITS_MARK[0]: bytes.hex,
    UUID_MARK[0]: _spell_uuid,
    SPAN_MARK[0]: _spell_span,
}


@compiles(ReferenceBucket, "postgresql")
def _hashed(element: ReferenceBucket, compiler: SQLCompiler, **options: Any) -> str:
    # In full and without parameters, as the server compares it with the index.
    inner = ", ".join(compiler.process(clause, **options) for clause in element.clauses)
    return f"substr(sha256({inner}), 1, {BUCKET_BYTES})"


@compiles(ReferenceBucket, "sqlite")
def _plain(element: ReferenceBucket, compiler: SQLCompiler, **options: Any) -> str:
    return ", ".join(compiler.process(clause, **options) for clause in element.clauses)
