"""The house rules as functions over syntax trees. Each gives the places where it is broken."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterable, Iterator
from io import StringIO
from itertools import pairwise

from tests.contract.source_files import SourceFile, Violation

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 6
MAX_NESTING = 3

EXACT_FOLDERS = ("domain/", "formats/", "store/")
INEXACT_NAMES = frozenset({"float", "Float", "Numeric", "Double", "REAL"})
# The client stands alone, so it has a clock of its own.
CLOCK_FILES = ("bootstrap.py", "client/_clock.py")
CLOCK_READS = frozenset(
    {
        ("datetime", "now"),
        ("datetime", "utcnow"),
        ("datetime", "today"),
        ("date", "today"),
        ("time", "time"),
        ("time", "time_ns"),
    }
)
COMMIT_FILE = "store/db.py"
LOOPS_THAT_SURVIVE = (
    "jobs.py",
    "services/group_commit.py",
    "cli/__init__.py",
    "api/app.py",
    "api/hot_protocol.py",
)
BROAD_ERRORS = frozenset({"Exception", "BaseException"})
OPTIONAL_LIBRARIES = frozenset({"genai_prices", "psycopg", "typst"})
MIGRATIONS = "alembic/versions/"

BANNED_WORDS = frozenset(
    {
        "manager",
        "helper",
        "helpers",
        "util",
        "utils",
        "processor",
        "data",
        "info",
        "vendor",
        "catalogue",
        "reservation",
        "reservations",
    }
)
BANNED_PAIRS = frozenset(
    {
        ("line", "item"),
        ("line", "items"),
        ("prompt", "tokens"),
        ("completion", "tokens"),
    }
)
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")

Function = ast.FunctionDef | ast.AsyncFunctionDef
NESTING_STATEMENTS = (
    ast.If,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.With,
    ast.AsyncWith,
    ast.Try,
    ast.TryStar,
    ast.Match,
)


def module_says_what_it_owns(file: SourceFile) -> Iterator[Violation]:
    """Every module of the package opens with a docstring."""
    if file.within("") and file.text.strip() and ast.get_docstring(file.tree) is None:
        yield Violation(file.path, 1, "module has no docstring")


def file_is_short(file: SourceFile) -> Iterator[Violation]:
    """No file is longer than the cap."""
    lines = len(file.text.splitlines())
    if lines > MAX_FILE_LINES and not file.path.startswith(MIGRATIONS):
        yield Violation(file.path, lines, f"{lines} lines, at most {MAX_FILE_LINES}")


def functions_are_short(file: SourceFile) -> Iterator[Violation]:
    """No function is longer than the cap, docstring included; a migration may list its steps."""
    if file.path.startswith(MIGRATIONS):
        return
    for function in file.functions:
        lines = (function.end_lineno or function.lineno) - function.lineno + 1
        if lines > MAX_FUNCTION_LINES:
            yield _at(file, function, f"{function.name} has {lines} lines")


def functions_take_few_parameters(file: SourceFile) -> Iterator[Violation]:
    """No function takes more parameters than the cap; self and cls do not count."""
    for function in file.functions:
        given = function.args
        named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
        counted = [argument for argument in named if argument.arg not in ("self", "cls")]
        if len(counted) > MAX_PARAMETERS:
            yield _at(file, function, f"{function.name} takes {len(counted)} parameters")


def functions_nest_little(file: SourceFile) -> Iterator[Violation]:
    """No function nests blocks deeper than the cap; elif does not deepen."""
    for function in file.functions:
        depth = _depth(function.body)
        if depth > MAX_NESTING:
            yield _at(file, function, f"{function.name} nests {depth} deep")


def money_is_never_a_float(file: SourceFile) -> Iterator[Violation]:
    """Where money is kept, no float literal, no ``float`` and no inexact column type appears."""
    if not file.within(*EXACT_FOLDERS):
        return
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, float):
            yield _at(file, node, f"float literal {node.value}")
        elif isinstance(node, ast.Name) and node.id in INEXACT_NAMES:
            yield _at(file, node, f"{node.id} is inexact")
        elif isinstance(node, ast.Attribute) and node.attr in INEXACT_NAMES:
            yield _at(file, node, f"{node.attr} is inexact")


def clock_is_injected(file: SourceFile) -> Iterator[Violation]:
    """Only the composition root reads the clock."""
    if not file.within("") or file.within(*CLOCK_FILES):
        return
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Attribute) and (_last_name(node.value), node.attr) in CLOCK_READS:
            yield _at(file, node, f"{_last_name(node.value)}.{node.attr} outside {CLOCK_FILES[0]}")


def only_transactions_commit(file: SourceFile) -> Iterator[Violation]:
    """Nothing commits but the transaction itself."""
    if not file.within("") or file.within(COMMIT_FILE):
        return
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Attribute) and node.attr == "commit":
            yield _at(file, node, f".commit outside {COMMIT_FILE}")


def intervals_are_half_open(file: SourceFile) -> Iterator[Violation]:
    """No query uses BETWEEN, which includes both ends."""
    if not file.within("store/", "services/"):
        return
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Attribute) and node.attr == "between":
            yield _at(file, node, "BETWEEN includes both ends")


def few_loops_catch_everything(file: SourceFile) -> Iterator[Violation]:
    """Only the loops that must survive catch every error."""
    if not file.within("") or file.within(*LOOPS_THAT_SURVIVE):
        return
    for node in ast.walk(file.tree):
        if isinstance(node, ast.ExceptHandler) and _is_broad(node):
            yield _at(file, node, "catches every error")


def imports_stand_at_the_top(file: SourceFile) -> Iterator[Violation]:
    """No function imports, unless the library is an optional extra."""
    if not file.within(""):
        return
    for function in file.functions:
        for node in ast.walk(function):
            if isinstance(node, ast.Import | ast.ImportFrom) and not _is_optional(node):
                yield _at(file, node, f"import inside {function.name}")


def migrations_stand_alone(file: SourceFile) -> Iterator[Violation]:
    """A migration imports nothing of ours: it must do tomorrow what it did yesterday."""
    if not file.path.startswith(MIGRATIONS):
        return
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and "tokenbudget" in _imported(node):
            yield _at(file, node, "a migration imports tokenbudget")


def public_names_use_our_words(file: SourceFile) -> Iterator[Violation]:
    """No public class, function, constant or module is named by a banned word.

    Translators may say ``line item`` or ``prompt tokens``: they name other people's fields.
    """
    if not file.within(""):
        return
    for name, line in _public_names(file):
        words = [word.lower() for word in WORD.findall(name)]
        pairs = set() if file.within("formats/") else set(pairwise(words))
        for banned in sorted(BANNED_WORDS.intersection(words)):
            yield Violation(file.path, line, f"{name}: say something better than {banned!r}")
        for banned_pair in sorted(BANNED_PAIRS & pairs):
            yield Violation(file.path, line, f"{name}: {' '.join(banned_pair)!r} is not our word")


def nothing_is_left_unfinished(file: SourceFile) -> Iterator[Violation]:
    """No comment promises work for later."""
    for token in tokenize.generate_tokens(StringIO(file.text).readline):
        if token.type == tokenize.COMMENT and UNFINISHED.search(token.string):
            yield Violation(file.path, token.start[0], "a promise of work for later")


def _at(file: SourceFile, node: ast.expr | ast.stmt | ast.ExceptHandler, why: str) -> Violation:
    return Violation(file.path, node.lineno, why)


def _depth(statements: Iterable[ast.AST]) -> int:
    return max((_depth_of(statement) for statement in statements), default=0)


def _depth_of(node: ast.AST) -> int:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return 0
    if not isinstance(node, NESTING_STATEMENTS):
        return _depth(child for child in ast.iter_child_nodes(node) if _holds_statements(child))
    if isinstance(node, ast.If) and len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If):
        return max(1 + _depth(node.body), _depth_of(node.orelse[0]))
    return 1 + _depth(child for child in ast.iter_child_nodes(node) if _holds_statements(child))


def _holds_statements(node: ast.AST) -> bool:
    return isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case)


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _is_broad(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(_last_name(error) in BROAD_ERRORS for error in caught)


def _imported(node: ast.Import | ast.ImportFrom) -> set[str]:
    """Give the top-level packages an import names."""
    if isinstance(node, ast.ImportFrom):
        return {(node.module or "").split(".")[0]}
    return {alias.name.split(".")[0] for alias in node.names}


def _is_optional(node: ast.Import | ast.ImportFrom) -> bool:
    return _imported(node) <= OPTIONAL_LIBRARIES


def _public_names(file: SourceFile) -> Iterator[tuple[str, int]]:
    stem = file.path.rsplit("/", 1)[-1].removesuffix(".py")
    if not stem.startswith("_"):
        yield stem, 1
    for node in ast.walk(file.tree):
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node.lineno
    for statement in file.tree.body:
        for target in _assigned(statement):
            if not target.id.startswith("_"):
                yield target.id, statement.lineno


def _assigned(statement: ast.stmt) -> list[ast.Name]:
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    else:
        return []
    return [target for target in targets if isinstance(target, ast.Name)]
