//! W3C Trace Context, level 1: the trace that a request belongs to, out of its `traceparent` header.

use std::fmt;

/// W3C trace context out of a request's headers. Displayed is the trace's id, as tracing systems show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceContext {
    pub(crate) trace: u128,
    pub(crate) parent: u64,
    pub(crate) sampled: bool,
}

/// Bytes of `00-<32 hex>-<16 hex>-<2 hex>`; a higher version may go on after another dash.
const VERSION_00_BYTES: usize = 55;

impl TraceContext {
    /// Parses a `traceparent` header; `None` for what is none.
    pub(crate) fn parse(header: &str) -> Option<Self> {
        let (known, more) = header.split_at_checked(VERSION_00_BYTES)?;
        let mut fields = known.split('-');
        let mut field = |digits| fields.next().filter(|field| field.len() == digits).and_then(hex);
        let (version, trace, parent, flags) = (field(2)?, field(32)?, field(16)?, field(2)?);
        let ends_as_its_version_says = match version {
            0 => more.is_empty(),
            0xff => false,
            _later => more.is_empty() || more.starts_with('-'),
        };
        let parent = u64::try_from(parent).ok()?;
        (ends_as_its_version_says && trace != 0 && parent != 0).then_some(Self {
            trace,
            parent,
            sampled: flags & 1 == 1,
        })
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.trace)
    }
}

/// The span of one request, a child of the caller's where it named one; nothing where no spans are exported, because
/// the log does without them.
pub(crate) fn request_span(context: Option<TraceContext>) -> tracing::Span {
    #[cfg(feature = "otlp")]
    {
        let span = tracing::info_span!("generate_manifest");
        if let Some(context) = context {
            super::spans::follow(&span, context);
        }
        span
    }
    #[cfg(not(feature = "otlp"))]
    {
        let _ = context;
        tracing::Span::none()
    }
}

/// Lower-case digits alone: the specification allows no others, and `from_str_radix` would take a sign.
fn hex(digits: &str) -> Option<u128> {
    let lower = digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    lower.then(|| u128::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const PARENT: &str = "00f067aa0ba902b7";

    #[test]
    fn a_traceparent_is_read_as_the_specification_says() {
        let context = |sampled| Some((0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 0x00f0_67aa_0ba9_02b7, sampled));
        for (header, expected) in [
            (format!("00-{TRACE}-{PARENT}-01"), context(true)),
            (format!("00-{TRACE}-{PARENT}-00"), context(false)),
            // Of the flags only the lowest bit is known.
            (format!("00-{TRACE}-{PARENT}-ff"), context(true)),
            (format!("00-{TRACE}-{PARENT}-fe"), context(false)),
            // A later version is read as far as this one goes.
            (format!("01-{TRACE}-{PARENT}-01"), context(true)),
            (format!("cc-{TRACE}-{PARENT}-01-what-the-future-will-be-like"), context(true)),
            (format!("cc-{TRACE}-{PARENT}-01-"), context(true)),
            (format!("cc-{TRACE}-{PARENT}-01.what-the-future-will-not-be-like"), None),
            (format!("00-{TRACE}-{PARENT}-01-more"), None),
            (format!("00-{TRACE}-{PARENT}-01-"), None),
            (format!("00-{TRACE}-{PARENT}-011"), None),
            (format!("ff-{TRACE}-{PARENT}-01"), None),
            (format!("00-{}-{PARENT}-01", "0".repeat(32)), None),
            (format!("00-{TRACE}-{}-01", "0".repeat(16)), None),
            (format!("00-{}-{PARENT}-01", TRACE.to_uppercase()), None),
            (format!("00-{TRACE}-{}-01", PARENT.to_uppercase()), None),
            (format!("0A-{TRACE}-{PARENT}-01"), None),
            (format!("00-+{}-{PARENT}-01", &TRACE[1..]), None),
            (format!("00-{TRACE}_{PARENT}-01"), None),
            (format!("00{TRACE}-{PARENT}-0100"), None),
            (format!("00-{TRACE}{PARENT}--01"), None),
            (format!(" 00-{TRACE}-{PARENT}-01"), None),
            (format!("00-{TRACE}-{PARENT}-0"), None),
            (format!("00-{TRACE}-{PARENT}"), None),
            // Cut in the middle of a letter.
            (format!("00-{TRACE}-{PARENT}-0\u{e4}"), None),
            (String::new(), None),
        ] {
            let read = TraceContext::parse(&header).map(|context| (context.trace, context.parent, context.sampled));
            assert_eq!(read, expected, "{header}");
        }
    }

    #[test]
    fn a_trace_is_shown_with_all_its_digits() {
        let header = format!("00-{}1-{PARENT}-01", "0".repeat(31));
        assert_eq!(TraceContext::parse(&header).unwrap().to_string(), format!("{}1", "0".repeat(31)));
    }
}
