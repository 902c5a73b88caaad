"""``GET /v1/statements/{id}/document``: a statement as a file for finance."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from tokenbudget.api.access import ServicesIn, require_scope
from tokenbudget.bootstrap import make_surroundings
from tokenbudget.services.statement_documents import (
    CSV,
    FORMATS,
    GL,
    HTML,
    PDF,
    XLSX,
    make_documents,
    make_question,
)

MEDIA_TYPES: Final = {
    HTML: "text/html",
    PDF: "application/pdf",
    XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    CSV: "text/csv",
    GL: "text/csv",
}
BODIES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {media_type: {} for media_type in dict.fromkeys(MEDIA_TYPES.values())}}
}
# A page from here runs nothing and loads nothing, whatever names are in it.
POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
MAX_WARNINGS: Final = 20

router = APIRouter(
    prefix="/v1/statements", tags=["statements"], dependencies=[Depends(require_scope("read"))]
)


class DocumentParameters(BaseModel):
    """What may be asked."""

    model_config = ConfigDict(extra="forbid")

    format: str = Field(default=HTML, description=f"One of {', '.join(FORMATS)}")
    by: str = Field(
        default="team", description="What chapters are cut by: team, cost_center or tenant"
    )
    team: str | None = Field(default=None, description="Only what this team bears")
    cost_center: str | None = Field(default=None, description="Only what this cost centre bears")
    tenant: str | None = Field(default=None, description="Only what this tenant bears")


@router.get(
    "/{statement_id}/document",
    operation_id="get_statement_document",
    response_class=Response,
    responses=BODIES,
)
def show_document(
    statement_id: str, parameters: Annotated[DocumentParameters, Query()], services: ServicesIn
) -> Response:
    """Give a statement, or what one team, cost centre or tenant bears of it, as a file.

    ``gl`` is a balanced journal of a statement that was closed; ``x-warnings`` is a JSON array of
    what to look at before posting it, such as amounts on the suspense account.
    """
    question = make_question(
        statement_id,
        by=parameters.by,
        team=parameters.team,
        cost_center=parameters.cost_center,
        tenant=parameters.tenant,
    )
    surroundings = make_surroundings(services)
    document = make_documents(services.database, question, [parameters.format], surroundings)[0]
    place = "inline" if document.format == HTML else "attachment"
    return Response(
        document.content,
        media_type=MEDIA_TYPES[document.format],
        headers={
            "content-disposition": f'{place}; filename="{document.name}"',
            "content-security-policy": POLICY,
            "x-content-type-options": "nosniff",
            "x-warnings": json.dumps(document.warnings[:MAX_WARNINGS]),
        },
    )
