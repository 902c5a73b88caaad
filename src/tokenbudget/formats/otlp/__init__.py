"""OTLP as usage: traces, logs and metrics of GenAI instrumentations, in both encodings.

What others need of this package, in the order of use:

    encoding_of, decode_spans, decode_log_records, decode_metric_points
        bytes to neutral values (``shapes``); MalformedBody for anything that is no OTLP, TooLarge
        for more spans and attributes than are ever sent at once (``bounds``)
    Reading, parse_tag_rules
        the operator's part: which attributes are tags, whose hosts are which provider, whether
        an emitter's guess counts as estimated
    read_spans, then join
        spans to usage events; the facts of all spans are to be remembered for a while, and those
        of the same traces given to ``join`` with the next request, which then tells what to record,
        which earlier calls get tags and which were no calls after all
    read_log_records
        the requests of coding agents among log records, as usage events
    read_metric_points
        totals to check the ledger by, never usage
    encode_success, encode_error
        the answer

An event's source is ``otlp:`` and the service's name, its reference trace and span id (``log:`` and
a digest for a log record), its witness OTLP. What was odd is in its flags (``span_usage``). Where
the emitter did not send usage ``quantities`` is None, where a provider refused the call it is zero.
"""

from __future__ import annotations

from tokenbudget.formats.otlp.agents import ReadRecords, read_log_records
from tokenbudget.formats.otlp.encoding import (
    Encoding,
    Signal,
    decode_log_records,
    decode_metric_points,
    decode_spans,
    encode_error,
    encode_success,
    encoding_of,
)
from tokenbudget.formats.otlp.joining import Enrichment, Joined, join
from tokenbudget.formats.otlp.metrics import MetricTotal, read_metric_points
from tokenbudget.formats.otlp.tags import DEFAULT_TAG_RULES, TagRules, parse_tag_rules
from tokenbudget.formats.otlp.traces import Call, Reading, ReadSpans, SpanFacts, read_spans

__all__ = [
    "DEFAULT_TAG_RULES",
    "Call",
    "Encoding",
    "Enrichment",
    "Joined",
    "MetricTotal",
    "ReadRecords",
    "ReadSpans",
    "Reading",
    "Signal",
    "SpanFacts",
    "TagRules",
    "decode_log_records",
    "decode_metric_points",
    "decode_spans",
    "encode_error",
    "encode_success",
    "encoding_of",
    "join",
    "parse_tag_rules",
    "read_log_records",
    "read_metric_points",
    "read_spans",
]
