//! A record's trace goes on behind the log: a span of its own, with a link to the batch.

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry::{Context, KeyValue};
use tracing::{Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::apply::Applied;

/// Whether whoever appended the record decided to keep its trace.
pub(crate) fn is_sampled(traceparent: &str) -> bool {
    parse(traceparent).is_some_and(|context| context.is_sampled())
}

/// Makes the span of one record, child of `traceparent`, linked with the span of its batch.
pub(crate) fn continue_in(traceparent: &str, batch: &Span, applied: &Applied) {
    let Some(parent) = parse(traceparent) else {
        return;
    };
    let span = info_span!(
        parent: None,
        "apply record",
        record_id = %applied.record.id,
        stream = %applied.record.stream,
        "type" = %applied.record.type_name,
        partition = %applied.position.partition,
        offset = applied.position.offset,
    );
    if span
        .set_parent(Context::new().with_remote_span_context(parent))
        .is_err()
    {
        return; // no trace is collected in this process
    }
    let attributes = vec![KeyValue::new("runledger.link", "batch")];
    span.add_link_with_attributes(batch.context().span().span_context().clone(), attributes);
    span.in_scope(|| tracing::trace!("applied in a batch"));
}

/// Reads a W3C `traceparent` of version 00.
fn parse(text: &str) -> Option<SpanContext> {
    let mut parts = text.split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if version != "00"
        || parts.next().is_some()
        || trace.len() != 32
        || span.len() != 16
        || flags.len() != 2
    {
        return None;
    }
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?),
        true,
        TraceState::default(),
    );
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::is_sampled;

    #[test]
    fn only_a_sampled_traceparent_is_continued() {
        assert!(is_sampled(
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        ));
        for text in [
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-zz-zz-01",
            "",
        ] {
            assert!(!is_sampled(text), "{text}");
        }
    }
}
