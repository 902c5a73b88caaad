"""``GET /v1/exports/focus``: parameters in, a FOCUS file out, streamed from disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, BinaryIO, Final

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from tokenbudget.api.access import ServicesIn, require_scope
from tokenbudget.api.costs import CSV_TYPE, PARQUET_TYPE, choose_media_type
from tokenbudget.formats.focus import FileKind, parse_days, parse_kind
from tokenbudget.formats.focus_columns import DEFAULT_VERSION
from tokenbudget.services.focus_export import FocusExport, FocusQuestion, export_focus

MEDIA_TYPES: Final = {FileKind.CSV: CSV_TYPE, FileKind.PARQUET: PARQUET_TYPE}
CHUNK_BYTES: Final = 1 << 18

router = APIRouter(tags=["exports"], dependencies=[Depends(require_scope("read"))])


class FocusParameters(BaseModel):
    """What may be asked."""

    model_config = ConfigDict(extra="forbid")

    first: str = Field(alias="from", description="First UTC day, such as 2026-09-01")
    to: str = Field(description="UTC day after the last, such as 2026-10-01")
    version: str = Field(default=DEFAULT_VERSION, description="1.2, 1.3 or 1.4")
    format: str | None = Field(
        default=None, description="csv or parquet; without it Accept chooses, and CSV is usual"
    )


@router.get(
    "/v1/exports/focus",
    response_class=StreamingResponse,
    responses={200: {"content": {CSV_TYPE: {}, PARQUET_TYPE: {}}}},
)
def export_focus_file(
    request: Request, parameters: Annotated[FocusParameters, Query()], services: ServicesIn
) -> StreamingResponse:
    """Give a FOCUS cost and usage file of whole UTC days, as CSV or Parquet.

    404 when nothing was used or invoiced in them.
    """
    period = parse_days(parameters.first, parameters.to)
    kind = _kind(parameters.format, request)
    question = FocusQuestion(period, kind, parameters.version)
    with TemporaryDirectory(prefix="tokenbudget-focus-") as directory:
        path = Path(directory, f"focus.{kind.value}")
        export = export_focus(services.database, question, path, price_list=services.price_list)
        # The file is open when its directory goes, and gone for good when it is closed.
        file = path.open("rb")
    name = f"focus-{parameters.version}-{parameters.first}-{parameters.to}.{kind.value}"
    headers = _headers(export, name, services.settings.currency, os.fstat(file.fileno()).st_size)
    return StreamingResponse(_chunks(file), media_type=MEDIA_TYPES[kind], headers=headers)


def _kind(name: str | None, request: Request) -> FileKind:
    if name is not None:
        return parse_kind(name)
    accepted = choose_media_type(request.headers.get("accept", ""))
    return FileKind.PARQUET if accepted == PARQUET_TYPE else FileKind.CSV


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _headers(export: FocusExport, name: str, currency: str, size: int) -> dict[str, str]:
    return {
        "content-disposition": f'attachment; filename="{name}"',
        "content-length": str(size),
        "vary": "accept",
        "x-currency": currency,
        "x-invoiced": "true" if export.is_invoiced else "false",
        "x-row-count": str(export.rows),
        "x-unpriced-requests": str(export.unpriced_requests),
    }
