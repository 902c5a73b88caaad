"""The callback that a LiteLLM proxy loads: LiteLLM's hooks, routes and errors around the gate.

    from tokenbudget.gateways.litellm import handler

is the line of a file beside the proxy's configuration, which names that handler as a callback. It
owns what is LiteLLM's own and decides nothing. It is the only module that imports LiteLLM, and
refuses to load without the address of the service.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from typing import Any, Final

import litellm
from fastapi import HTTPException
from litellm.integrations.custom_logger import CustomLogger

from tokenbudget.client import CheckRefused, Permit, QuotaDenied, QuotaError, QuotaUnavailable
from tokenbudget.client._clock import utc_now
from tokenbudget.gateways._gate import Gate, Target
from tokenbudget.gateways._settings import client_of

PROXY_MODULE: Final = "litellm.proxy.proxy_server"
TOO_MANY_REQUESTS: Final = 429
BAD_GATEWAY: Final = 502
UNAVAILABLE: Final = 503
UNAVAILABLE_SECONDS: Final = 5
MAX_RETRY_SECONDS: Final = 31 * 24 * 3600
ANY_MODEL: Final = frozenset({"*", "all-proxy-models", "all-team-models"})
# Callers' SDKs would ask a denied call again at once, to be denied again.
NO_RETRY: Final = {"x-should-retry": "false"}


class LiteLLMRoutes:
    """What LiteLLM's running router knows; the first deployment of a name stands for all."""

    def target_of(self, name: str) -> Target:
        """Give whom a call of this name goes to first; LiteLLM's own guess for names it lacks."""
        for deployment in self._deployments(name):
            return self._target(deployment.get("litellm_params") or {}, name)
        return self._target({"model": name}, name)

    def name_of(self, target: Target, allowed: Callable[[str], bool]) -> str | None:
        """Give an allowed name of this model, of the same provider if there is one."""
        names: dict[str, str] = {}
        for deployment in self._deployments(None):
            name = deployment.get("model_name") or ""
            found = self._target(deployment.get("litellm_params") or {}, name)
            if found.model == target.model and allowed(name):
                names.setdefault(found.provider, name)
        return names.get(target.provider) or next(iter(names.values()), None)

    def _deployments(self, name: str | None) -> list[Any]:
        # The proxy makes its router after it has loaded its callbacks, and may replace it.
        router = getattr(sys.modules.get(PROXY_MODULE), "llm_router", None)
        return [] if router is None else router.get_model_list(model_name=name) or []

    def _target(self, parameters: Mapping[str, Any], name: str) -> Target:
        model = str(parameters.get("model") or name)
        most = parameters.get("max_tokens") or parameters.get("max_completion_tokens")
        try:
            model, provider, _, _ = litellm.get_llm_provider(
                model=model,
                custom_llm_provider=parameters.get("custom_llm_provider"),
                api_base=parameters.get("api_base"),
            )
        except litellm.BadRequestError:
            provider = "unknown"
        return Target(provider, model, most if isinstance(most, int) else None)


class TokenbudgetHandler(CustomLogger):  # type: ignore[misc]
    """LiteLLM's hooks, each handed to the gate; LiteLLM calls them by these names."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self.gate = gate

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        """Check a request before anything is sent; a denial is answered 429."""
        bounds = [getattr(user_api_key_dict, name, None) for name in ("models", "team_models")]

        def allowed(name: str) -> bool:
            return all(name in bound or ANY_MODEL & {*bound} for bound in bounds if bound)

        try:
            await self.gate.admit(data, call_type, allowed)
        except QuotaError as error:
            raise _http_error(error) from error
        return data

    async def async_pre_call_deployment_hook(
        self, kwargs: dict[str, Any], call_type: Any
    ) -> dict[str, Any]:
        """Count an attempt as it is sent."""
        self.gate.sending(kwargs, str(getattr(call_type, "value", call_type)))
        return kwargs

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: Any, response: Any, request_data: dict[str, Any]
    ) -> AsyncIterator[Any]:
        """Follow a stream to its end."""
        async for chunk in self.gate.follow(response, request_data):
            yield chunk

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: datetime, end_time: datetime
    ) -> None:
        """Tell what a call used."""
        self.gate.succeeded(kwargs)

    async def async_log_failure_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: datetime, end_time: datetime
    ) -> None:
        """Note how an attempt failed."""
        self.gate.attempt_failed(kwargs)

    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: Any,
        traceback_str: str | None = None,
    ) -> None:
        """Tell that a request has failed for good."""
        self.gate.request_failed(request_data, original_exception)


def _http_error(error: QuotaError) -> HTTPException:
    """Give the error that LiteLLM answers the caller with."""
    if isinstance(error, QuotaDenied):
        return _denial(error.permit)
    if isinstance(error, QuotaUnavailable):
        headers = {"Retry-After": str(UNAVAILABLE_SECONDS)}
        return _error(UNAVAILABLE, "quota_unavailable", str(error), headers)
    what = f"the quota check itself was refused: {error}"
    code = "check_refused" if isinstance(error, CheckRefused) else "check_failed"
    return _error(BAD_GATEWAY, code, what, dict(NO_RETRY))


def _denial(permit: Permit) -> HTTPException:
    code = permit.reasons[0].code if permit.reasons else "budget_exhausted"
    message = "; ".join(reason.detail for reason in permit.reasons) or "the quota is used up"
    headers = dict(NO_RETRY)
    facts: dict[str, Any] = {"reasons": [reason.code for reason in permit.reasons]}
    if permit.binding is not None:
        left = datetime.fromisoformat(permit.binding.resets_at) - utc_now()
        seconds = min(max(1, math.ceil(left.total_seconds())), MAX_RETRY_SECONDS)
        headers["Retry-After"] = str(seconds)
        facts |= {"budget": permit.binding.budget, "resets_at": permit.binding.resets_at}
    return _error(TOO_MANY_REQUESTS, code, message, headers, **facts)


def _error(
    status: int, code: str, message: str, headers: dict[str, str], **facts: Any
) -> HTTPException:
    error = HTTPException(status, {"error": message, "code": code, **facts}, headers)
    # LiteLLM writes it into the answer where OpenAI's errors have their type.
    error.type = code  # type: ignore[attr-defined]
    return error


handler: Final = TokenbudgetHandler(Gate(client_of(os.environ), LiteLLMRoutes()))
