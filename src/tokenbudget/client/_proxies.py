"""Stand-ins that look like what they stand for: an SDK's client, resource, response or stream.

Everything that is not looked after is the target's own, under its own type, so that annotations and
``isinstance`` hold. Nothing of the SDK is changed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any, TypeVar

from tokenbudget.client._families import COPIES, MODES, Family, Method, Path, method_at

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


class Proxy:
    """An object that gives its target's attributes."""

    __slots__ = ("__weakref__", "_tokenbudget_target")

    _tokenbudget_target: Any

    def __init__(self, target: object) -> None:
        object.__setattr__(self, "_tokenbudget_target", target)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """Give the target's class, which ``isinstance`` asks for."""
        return type(self._tokenbudget_target)

    def __getattr__(self, name: str) -> Any:
        """Give an attribute of the target."""
        return getattr(self._tokenbudget_target, name)

    def __setattr__(self, name: str, value: object) -> None:
        """Set an attribute, of the target unless it is the proxy's own."""
        if name.startswith("_tokenbudget_"):
            object.__setattr__(self, name, value)
        else:
            setattr(self._tokenbudget_target, name, value)

    def __dir__(self) -> list[str]:
        """Give the target's attributes."""
        return dir(self._tokenbudget_target)

    def __repr__(self) -> str:
        """Give the target's own words."""
        return repr(self._tokenbudget_target)


class Branch(Proxy):
    """A client or resource of an SDK; on the way to a method that costs it hands out proxies.

    ``bind`` gives the function that stands for such a method.
    """

    __slots__ = (
        "_tokenbudget_bind",
        "_tokenbudget_family",
        "_tokenbudget_mode",
        "_tokenbudget_path",
    )

    _tokenbudget_bind: Callable[[Method], Callable[..., Any]]
    _tokenbudget_family: Family
    _tokenbudget_mode: str | None
    _tokenbudget_path: Path

    def __init__(
        self,
        target: object,
        family: Family,
        bind: Callable[[Method], Callable[..., Any]],
        *,
        path: Path = (),
        mode: str | None = None,
    ) -> None:
        super().__init__(target)
        self._tokenbudget_family = family
        self._tokenbudget_bind = bind
        self._tokenbudget_path = path
        self._tokenbudget_mode = mode

    def __getattr__(self, name: str) -> Any:
        """Give an attribute of the target, looked after if it costs or leads to what does."""
        value = getattr(self._tokenbudget_target, name)
        if name in MODES:
            return self._tokenbudget_at(value, self._tokenbudget_path, name)
        if name in COPIES and not self._tokenbudget_path:
            return self._tokenbudget_copies(value)
        path = (*self._tokenbudget_path, name)
        endpoint = self._tokenbudget_family.endpoints.get(path)
        if endpoint is not None:
            method = method_at(self._tokenbudget_target, name, endpoint, self._tokenbudget_mode)
            return named_like(self._tokenbudget_bind(method), value)
        if self._tokenbudget_family.leads_on(path):
            return self._tokenbudget_at(value, path, self._tokenbudget_mode)
        return value

    def __enter__(self) -> Any:
        """Enter the target, and give this in its place."""
        entered = self._tokenbudget_target.__enter__()
        return self if entered is self._tokenbudget_target else entered

    def __exit__(self, *error: Any) -> Any:
        """Leave the target."""
        return self._tokenbudget_target.__exit__(*error)

    async def __aenter__(self) -> Any:
        """Enter the target, and give this in its place."""
        entered = await self._tokenbudget_target.__aenter__()
        return self if entered is self._tokenbudget_target else entered

    async def __aexit__(self, *error: Any) -> Any:
        """Leave the target."""
        return await self._tokenbudget_target.__aexit__(*error)

    def _tokenbudget_at(self, target: object, path: Path, mode: str | None) -> Branch:
        return Branch(
            target, self._tokenbudget_family, self._tokenbudget_bind, path=path, mode=mode
        )

    def _tokenbudget_copies(self, make: Callable[..., Any]) -> Callable[..., Branch]:
        def copy(*arguments: Any, **options: Any) -> Branch:
            return self._tokenbudget_at(make(*arguments, **options), (), self._tokenbudget_mode)

        return named_like(copy, make)


class WatchedRaw(Proxy):
    """A raw response whose stream is followed when it is parsed."""

    __slots__ = ("_tokenbudget_stream",)

    _tokenbudget_stream: Any

    def __init__(self, target: Any, stream: Any) -> None:
        super().__init__(target)
        self._tokenbudget_stream = stream

    def parse(self, **options: Any) -> Any:
        """Give the stream; in another form it is the SDK's own, and its usage stays unknown."""
        return self._tokenbudget_target.parse(**options) if options else self._tokenbudget_stream


def unwrapped(thing: Any) -> Any:
    """Give what a wrapper stands for, so that nothing is counted twice; else the thing itself."""
    return thing._tokenbudget_target if type(thing) is Branch else thing


def named_like(function: FunctionT, original: object) -> FunctionT:
    """Give the function with the name, text and signature of what it stands for."""
    return update_wrapper(function, original)  # type: ignore[arg-type, return-value]
