"""The files the house rules read, and what a rule answers. It owns finding them, not judging."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = "src/tokenbudget/"


@dataclass(frozen=True)
class SourceFile:
    """One Python file: its path from the repository's root, with slashes, and its text."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """Give the parsed file."""
        return ast.parse(self.text, filename=self.path)

    @property
    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """Give every function and method, nested ones too."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node

    def within(self, *folders: str) -> bool:
        """Tell whether the file lies in one of these folders (or is this file) of the package."""
        return self.path.startswith(tuple(PACKAGE + folder for folder in folders))


@dataclass(frozen=True)
class Violation:
    """One place where a rule is broken."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        """Give the place in the form editors jump to."""
        return f"{self.path}:{self.line}: {self.message}"


Rule: TypeAlias = Callable[[SourceFile], Iterator[Violation]]


def python_files(*folders: str) -> list[SourceFile]:
    """Give the Python files under these folders of the repository, in order."""
    paths = [path for folder in folders for path in sorted((REPOSITORY / folder).rglob("*.py"))]
    return [
        SourceFile(path.relative_to(REPOSITORY).as_posix(), path.read_text(encoding="utf-8"))
        for path in paths
    ]


def committed_texts() -> Iterator[tuple[str, str]]:
    """Give path and text of every text file that is committed or about to be."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listing.stdout.split("\0")):
        path = REPOSITORY / name
        content = path.read_bytes() if path.is_file() else b""
        if b"\0" not in content:
            yield name, content.decode("utf-8", errors="replace")
