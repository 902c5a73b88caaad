"""A statement's PDF, by the typesetter of the extra ``pdf``.

It owns the choice of fonts and the call; it refuses layout (``reports/statement.typ``). Nothing is
fetched, and no date of making goes into the file: the same context gives the same bytes, except
where names need fonts of the system.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from tokenbudget.domain.errors import ConfigurationError
from tokenbudget.formats.statement_report import StatementReport
from tokenbudget.formats.statement_typeset import typeset_statement

TEMPLATE: Final = "statement.typ"


def render_pdf(report: StatementReport, *, templates: Path) -> bytes:
    """Give the statement as PDF.

    Raises ConfigurationError where the extra is not installed.
    """
    try:
        import typst
    except ImportError:
        raise ConfigurationError(
            "PDF needs the extra pdf: pip install 'tokenbudget[pdf]'"
        ) from None
    told = typeset_statement(report)
    if told.is_spelled_out:
        families = typst.Fonts(include_system_fonts=True, include_embedded_fonts=False).families()
        told = typeset_statement(report, families)
    pdf = typst.compile(
        (templates / TEMPLATE).read_bytes(),
        format="pdf",
        ignore_system_fonts=not told.fonts,
        sys_inputs={"report": told.text, "fonts": json.dumps(told.fonts)},
    )
    if not isinstance(pdf, bytes):
        raise TypeError("the typesetter gives a PDF as one file")
    return pdf
