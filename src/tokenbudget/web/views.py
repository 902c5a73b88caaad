"""The pages for browsers.

It owns routes, headers and the template environment; it refuses figures and scripts.

A page holds no script and its policy forbids any; style sheets come from this server.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Depends, FastAPI
from starlette.responses import FileResponse, HTMLResponse

from tokenbudget.bootstrap import Services
from tokenbudget.domain.errors import NotFound
from tokenbudget.services.rendering import make_environment
from tokenbudget.web.overview import USUAL_RANGE, build_overview

PACKAGE: Final = Path(__file__).parent
PAGE_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
STATIC_HEADERS: Final = {"Cache-Control": "max-age=300", "X-Content-Type-Options": "nosniff"}


def install_pages(
    app: FastAPI, services: Services, *, templates: Path, guard: Callable[..., Any]
) -> None:
    """Add the pages and their style sheets to the application.

    ``templates`` holds the blocks shared with reports; ``guard`` is the dependency that lets a
    reader in or raises. Style sheets hold no figures and are open to all.
    """
    environment = make_environment(PACKAGE / "templates", templates)
    files = {
        "base.css": templates / "base.css",
        "page.css": PACKAGE / "static" / "page.css",
        "icon.svg": PACKAGE / "static" / "icon.svg",
    }
    router = APIRouter(include_in_schema=False)

    @router.get("/", dependencies=[Depends(guard)])
    def show_overview(days: int = USUAL_RANGE) -> HTMLResponse:
        page = build_overview(services, days=days)
        html = environment.get_template("overview.html.j2").render(page=page)
        return HTMLResponse(html, headers=PAGE_HEADERS)

    @router.get("/static/{name}")
    def send_static(name: str) -> FileResponse:
        if name not in files:
            raise NotFound(f"there is no file {name!r}")
        return FileResponse(files[name], headers=STATIC_HEADERS)

    app.include_router(router)
