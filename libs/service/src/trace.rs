//! Traces across processes and through the log, in the W3C form `traceparent`.

use opentelemetry::Context;
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The metadata and record header that carries it.
pub const HEADER: &str = "traceparent";

/// The `traceparent` of the current span; none outside of a trace.
pub fn current() -> Option<String> {
    of(&Span::current())
}

/// The `traceparent` of `span`; none when it belongs to no trace.
pub fn of(span: &Span) -> Option<String> {
    let context = span.context();
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| {
        format!(
            "00-{}-{}-{:02x}",
            span.trace_id(),
            span.span_id(),
            span.trace_flags() & TraceFlags::SAMPLED
        )
    })
}

/// Makes `span` a child of `traceparent`, which may be anything: nonsense changes nothing. To be
/// called before the span is entered.
pub fn set_parent(span: &Span, traceparent: &str) {
    if let Some(parent) = parse(traceparent) {
        // Fails when no trace layer is installed, and then there is no trace to continue.
        span.set_parent(Context::new().with_remote_span_context(parent))
            .ok();
    }
}

/// Links `span` to the span of `traceparent`, which may be anything: nonsense changes nothing.
pub fn add_link(span: &Span, traceparent: &str) {
    if let Some(linked) = parse(traceparent) {
        span.add_link(linked);
    }
}

/// Reads `version-trace id-span id-flags`; later versions may carry more behind it.
fn parse(text: &str) -> Option<SpanContext> {
    let mut parts = text.split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let lowercase = |text: &str| {
        text.bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let sizes = [version, trace, span, flags].map(str::len) == [2, 32, 16, 2];
    let known = version != "ff" && (version != "00" || parts.next().is_none());
    if !sizes || !known || ![version, trace, span, flags].into_iter().all(lowercase) {
        return None;
    }
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED,
        true,
        TraceState::NONE,
    );
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_no_traceparent() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = parse(good).unwrap();
        assert!(context.is_sampled() && context.is_remote());
        assert_eq!(
            context.trace_id().to_string(),
            "0af7651916cd43dd8448eb211c80319c"
        );
        for wrong in [
            "",
            "00",
            &good.to_uppercase(),
            &good.replace("00-0", "ff-0"),
            &format!("{good}-more"),
            &good.replace('b', "+"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319é-b7ad6b7169203331-01",
        ] {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
        assert!(parse(&format!("{}-more", good.replace("00-0", "01-0"))).is_some());
    }
}
