"""TOML files that commands are given: it owns what is said when one cannot be read.

It refuses to know what they say.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from tokenbudget.domain.errors import BadFile


def load_toml(path: Path) -> tuple[str, dict[str, Any]]:
    """Give the text of a file and what it says; raises BadFile naming the file and the fault."""
    try:
        text = path.read_text("utf-8")
        return text, tomllib.loads(text)
    except OSError as error:
        raise BadFile(f"{path}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadFile(f"{path}: not readable TOML: {error}") from None
