"""The client library: a check before each call, its usage behind it, in one line each.

    client = Client("http://127.0.0.1:8000", api_key=…, tags={"team": "growth"})
    with client.operation(feature="summarise", tenant="acme") as op:
        with op.call(provider="openai", model="gpt-5.2", input_tokens=1200) as call:
            call.usage(response)
    openai = client.wrap(OpenAI(), feature="summarise")

It stands alone: it needs httpx and nothing else of tokenbudget, and never sends the text of a
prompt or an answer.
"""

from tokenbudget.client._async_client import AsyncClient, AsyncOperation
from tokenbudget.client._baggage import baggage_of, tags_from_baggage
from tokenbudget.client._calls import RunningCall
from tokenbudget.client._client import Client, Operation
from tokenbudget.client._errors import CheckRefused, QuotaDenied, QuotaError, QuotaUnavailable
from tokenbudget.client._lease_terms import LeaseTerms, leased
from tokenbudget.client._manner import Manner
from tokenbudget.client._models import Binding, Call, Decision, FailMode, Permit, Reason
from tokenbudget.client._tags import current_tags, tagged
from tokenbudget.client._transports import AsyncTransport, Transport

__all__ = [
    "AsyncClient",
    "AsyncOperation",
    "AsyncTransport",
    "Binding",
    "Call",
    "CheckRefused",
    "Client",
    "Decision",
    "FailMode",
    "LeaseTerms",
    "Manner",
    "Operation",
    "Permit",
    "QuotaDenied",
    "QuotaError",
    "QuotaUnavailable",
    "Reason",
    "RunningCall",
    "Transport",
    "baggage_of",
    "current_tags",
    "leased",
    "tagged",
    "tags_from_baggage",
]
