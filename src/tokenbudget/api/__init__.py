"""The HTTP surface: routers, wire shapes and the one error handler."""
