"""Files that are there as a whole or not at all. It refuses to know what they hold."""

from __future__ import annotations

from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

NEW_FILE_MODE: Final = 0o644


def replace_file(path: Path, content: bytes) -> None:
    """Put the content where the file is; a reader sees the old file or the new one.

    The permissions of a file that is there stay. Raises OSError, and leaves nothing behind then.
    """
    mode = path.stat().st_mode if path.exists() else NEW_FILE_MODE
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as unfinished:
        unfinished_path = Path(unfinished.name)
        try:
            unfinished.write(content)
            unfinished.flush()
            unfinished_path.chmod(mode)
            unfinished_path.replace(path)
        except OSError:
            unfinished_path.unlink(missing_ok=True)
            raise
