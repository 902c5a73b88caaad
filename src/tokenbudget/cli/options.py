"""Commands with many options: they take them as one dataclass instead of many parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any, TypeVar, get_type_hints

OptionsT = TypeVar("OptionsT")


def with_options(
    options: type[OptionsT],
) -> Callable[[Callable[[OptionsT], None]], Callable[..., None]]:
    """Give the decorator that turns the fields of a dataclass into options of a command.

    The fields are annotated like the parameters of any other command; a field without a default is
    an argument that must be given.
    """
    hints = get_type_hints(options, include_extras=True)
    parameters = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(options)  # type: ignore[arg-type]
    ]

    def decorate(command: Callable[[OptionsT], None]) -> Callable[..., None]:
        def run(**given: Any) -> None:
            command(options(**given))

        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__annotations__ = hints
        setattr(run, "__signature__", inspect.Signature(parameters))  # noqa: B010
        return run

    return decorate
