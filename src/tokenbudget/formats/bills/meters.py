"""Which sources of usage are meters: programs that count or work out what others bill.

What a meter tells of is told by the provider's own report too. It owns that list alone.
"""

from __future__ import annotations

from typing import Final

from tokenbudget.formats.bills import claude_code, litellm_daily

METER_SOURCES: Final = frozenset({claude_code.SOURCE, litellm_daily.SOURCE})
"""Sources whose usage must never be added to that of a provider."""
