//! What a server tells of itself: metrics, logs, spans, and the HTTP endpoints of probes. Names of Secrets stand
//! in the audit log alone, values nowhere.

mod http;
mod logs;
mod metrics;
#[cfg(feature = "otlp")]
mod spans;
mod trace;

pub(crate) use http::serve;
#[cfg(feature = "otlp")]
pub(crate) use logs::start_logs_and_spans;
pub(crate) use logs::{LogGuard, start_logs};
pub(crate) use metrics::{Answer, InFlight, Metrics, Reload};
pub(crate) use trace::{TraceContext, request_span};
