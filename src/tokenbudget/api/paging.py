"""Pages of lists: how an answer links to the next one (RFC 8288)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response


def next_link(request: Request, cursor: str) -> str:
    """Give the ``Link`` to the page that the cursor begins."""
    return f'<{request.url.include_query_params(cursor=cursor)}>; rel="next"'


def link_next(request: Request, response: Response, cursor: str | None) -> None:
    """Link the answer to the next page, if there is one."""
    if cursor is not None:
        response.headers["link"] = next_link(request, cursor)
