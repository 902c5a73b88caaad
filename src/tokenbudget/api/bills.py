"""``/v1/bills``: importing providers' bills, looking at them, and taking an import back."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from tokenbudget.api.access import ServicesIn, require_scope
from tokenbudget.api.bodies import OBJECT_BODY, ObjectBody, read_pieces
from tokenbudget.api.paging import link_next
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.formats.bill_views import (
    describe_import,
    describe_line,
    describe_totals,
    parse_withdrawal,
)
from tokenbudget.services.bill_records import MAX_PAGE, get_import, list_imports, list_lines
from tokenbudget.services.bill_withdrawals import withdraw_import
from tokenbudget.services.bills import Delivery, import_delivery
from tokenbudget.services.keys import KeyFacts

MAX_BILL_BYTES: Final = 2 * 1024**3
"""The largest bill that is taken over the network, after decompression of the body."""

MAX_FILE_NAME: Final = 200
UNNAMED: Final = "bill"
ANY_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}

READ: Final = [Depends(require_scope("read"))]
ADMIN: Final = [Depends(require_scope("admin"))]
AdminKey = Annotated[KeyFacts, Depends(require_scope("admin"))]
Cursor = Annotated[str | None, Query(description="The cursor of the page before")]
Limit = Annotated[int, Query(description=f"Most items of the answer, up to {MAX_PAGE}")]


class BillParameters(BaseModel):
    """What the file does not tell."""

    model_config = ConfigDict(extra="forbid")

    source: str | None = Field(
        default=None, description="Where it is from, when its content does not show it"
    )
    account: str = Field(default="", description="The account that lines without one belong to")
    file_name: str = Field(
        default=UNNAMED, max_length=MAX_FILE_NAME, description="Its name in lists and errors"
    )
    part_of: list[str] = Field(
        default=[], description="Earlier imports that are parts of the same delivery"
    )


router = APIRouter(prefix="/v1/bills", tags=["bills"])


@router.post(
    "",
    dependencies=ADMIN,
    operation_id="import_bill",
    openapi_extra=ANY_BODY,
    responses={201: {"description": "Imported"}},
)
async def add_bill(
    request: Request,
    response: Response,
    parameters: Annotated[BillParameters, Query()],
    services: ServicesIn,
) -> dict[str, Any]:
    """Import one bill: the body is the file as it is; the same bytes are imported once.

    Answers 201 for a new one and 200 for one that was imported before. It replaces what earlier
    files said of the days or months it covers, but for those it is a part of. ``warnings`` name
    days that seem to count twice, under two names of one account.
    """
    name = _file_name(parameters.file_name)
    with TemporaryDirectory(prefix="tokenbudget-upload-") as directory:
        path = Path(directory) / name
        with path.open("wb") as file:
            async for piece in read_pieces(request, limit=MAX_BILL_BYTES):
                file.write(piece)
        delivery = Delivery(
            [path],
            source=parameters.source,
            account=parameters.account,
            part_of=tuple(parameters.part_of),
        )
        [imported] = await run_in_threadpool(
            import_delivery, services.database, delivery, now=services.clock()
        )
    response.status_code = 201 if imported.is_new else 200
    record = await run_in_threadpool(get_import, services.database, imported.import_id)
    return {
        **describe_import(record.row, superseded_lines=record.superseded_lines),
        "is_new": imported.is_new,
        "replaced_lines": imported.superseded_lines,
        "totals": describe_totals(imported.totals),
        "warnings": list(imported.warnings),
    }


@router.get("", dependencies=READ, operation_id="list_bills")
def show_bills(
    request: Request,
    response: Response,
    services: ServicesIn,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> dict[str, Any]:
    """Give the imports of bills, newest first."""
    page = list_imports(services.database, cursor=cursor, limit=limit)
    link_next(request, response, page.next_cursor)
    described = [
        describe_import(each.row, superseded_lines=each.superseded_lines) for each in page.records
    ]
    return {"bills": described, "next": page.next_cursor}


@router.get("/{bill_id}", dependencies=READ, operation_id="get_bill")
def show_bill(bill_id: str, services: ServicesIn) -> dict[str, Any]:
    """Give one import of a bill."""
    record = get_import(services.database, bill_id)
    return describe_import(record.row, superseded_lines=record.superseded_lines)


@router.get("/{bill_id}/lines", dependencies=READ, operation_id="list_bill_lines")
def show_lines(
    bill_id: str,
    request: Request,
    response: Response,
    services: ServicesIn,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> dict[str, Any]:
    """Give the lines of one bill in the order of the file, those no longer in force too."""
    page = list_lines(services.database, bill_id, cursor=cursor, limit=limit)
    link_next(request, response, page.next_cursor)
    return {"lines": [describe_line(each) for each in page.lines], "next": page.next_cursor}


@router.post("/{bill_id}/withdrawal", operation_id="withdraw_bill", openapi_extra=OBJECT_BODY)
def withdraw_bill(
    bill_id: str, body: ObjectBody, services: ServicesIn, key: AdminKey
) -> dict[str, Any]:
    """Take an import back: ``{"reason": "..."}``; again, it changes nothing.

    Its lines are no longer in force, and those it replaced are again, but for what a later import
    replaces. Nothing is deleted, and the same bytes may be imported again.
    """
    withdrawn = withdraw_import(
        services.database,
        bill_id,
        reason=parse_withdrawal(body),
        now=services.clock(),
        by=key.key_id or None,
    )
    record = get_import(services.database, bill_id)
    return {
        **describe_import(record.row, superseded_lines=record.superseded_lines),
        "is_new": withdrawn.is_new,
        "withdrawn_lines": withdrawn.withdrawn_lines,
        "restored_lines": withdrawn.restored_lines,
    }


def _file_name(text: str) -> str:
    name = PurePosixPath(text.replace("\\", "/")).name
    if name in ("", "..") or not name.isprintable():
        raise InvalidInput("file_name must be the name of a file", field="file_name")
    return name
