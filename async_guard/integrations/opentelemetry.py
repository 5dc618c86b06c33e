"""The ids of the span that is being recorded, for the event."""

from __future__ import annotations

from opentelemetry import trace


def current_ids() -> dict[str, str]:
    """Return ``trace_id``, ``span_id`` and ``trace_flags`` in hex, or nothing without a span."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {
        "trace_id": trace.format_trace_id(context.trace_id),
        "span_id": trace.format_span_id(context.span_id),
        "trace_flags": f"{context.trace_flags:02x}",
    }
