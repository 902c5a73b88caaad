"""Server-rendered pages: views, typed contexts, templates and vendored static files."""
