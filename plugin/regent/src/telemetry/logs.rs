//! The log: a line an event on standard error, written before the event is over. A buffer would lose the audit
//! lines of a process that is killed.

use std::io::{self, Write};

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::{LookupSpan, Registry};

#[cfg(feature = "otlp")]
use super::spans::Spans;
use crate::cli::LogFormat;
use crate::failure::{Failure, one_line};

/// Flushes exported spans when it goes.
#[must_use]
pub(crate) struct LogGuard {
    #[cfg(feature = "otlp")]
    _spans: Option<Spans>,
}

/// Starts logging to standard error; `level` is `error`, `warn`, `info`, `debug` or `trace`. Returned is what has
/// to live until the end, so that nothing is lost.
pub(crate) fn start_logs(format: LogFormat, level: &str) -> Result<LogGuard, Failure> {
    start(lines(format, parse(level)?, stderr))?;
    Ok(LogGuard {
        #[cfg(feature = "otlp")]
        _spans: None,
    })
}

/// As [`start_logs`], and exports spans to an OpenTelemetry collector: `HOST:PORT`, OTLP over gRPC, no TLS.
#[cfg(feature = "otlp")]
pub(crate) fn start_logs_and_spans(format: LogFormat, level: &str, collector: &str) -> Result<LogGuard, Failure> {
    let level = parse(level)?;
    let spans = Spans::to(collector)?;
    start(lines(format, level, stderr).with(spans.layer()))?;
    Ok(LogGuard { _spans: Some(spans) })
}

fn start(subscriber: impl Subscriber + Send + Sync) -> Result<(), Failure> {
    // A second start in one process.
    tracing::subscriber::set_global_default(subscriber).map_err(|_| Failure::Bug)
}

/// Where this program's own events come from: every module path of it begins so.
pub(super) const OWN_TARGET: &str = "regent";

fn parse(level: &str) -> Result<LevelFilter, Failure> {
    match level {
        "error" => Ok(LevelFilter::ERROR),
        "warn" => Ok(LevelFilter::WARN),
        "info" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        "trace" => Ok(LevelFilter::TRACE),
        _other => Err(Failure::Usage(format!("`{level}` is no log level; error, warn, info, debug and trace are"))),
    }
}

/// Everything that logs a line an event. In JSON an event's fields stand beside `timestamp`, `level`, `target` and
/// `message`, so none may have one of these names.
fn lines<W>(
    format: LogFormat,
    level: LevelFilter,
    writer: impl Fn() -> OneLine<W> + Send + Sync + 'static,
) -> impl Subscriber + for<'span> LookupSpan<'span> + Send + Sync
where
    W: Write + 'static,
    OneLine<W>: Write,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
    let layer = match format {
        // Spans repeat what an event says, or belong to a tracing system.
        LogFormat::Json => layer.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
        LogFormat::Text => layer.boxed(),
    };
    // HTTP/2 and gRPC libraries tell headers and frames at debug, which may hold what must not be logged; so
    // whatever is asked for, of others no more than warnings.
    let levels = Targets::new().with_default(level.min(LevelFilter::WARN)).with_target(OWN_TARGET, level);
    Registry::default().with(layer.with_filter(levels))
}

fn stderr() -> OneLine<io::Stderr> {
    OneLine(io::stderr())
}

/// Takes a line a write, which is how the formatter calls it. No control character inside gets out, so no field can
/// begin a line of its own or steer a terminal; the text format leaves them as they are, and JSON some. A reader
/// that is gone is no error: the service matters more than its log.
struct OneLine<W>(W);

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let mut clean = one_line(text.strip_suffix('\n').unwrap_or(&text));
        clean.push('\n');
        // In one piece, so that lines of two threads do not mix.
        let _ = self.0.write_all(clean.as_bytes());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged meanwhile.
    fn logged(format: LogFormat, level: &str, events: impl FnOnce()) -> String {
        let page = Page::default();
        let pen = page.clone();
        let subscriber = lines(format, parse(level).ok().unwrap(), move || OneLine(pen.clone()));
        tracing::subscriber::with_default(subscriber, events);
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_is_one_flat_object_a_line() {
        let text = logged(LogFormat::Json, "info", || {
            let span = tracing::info_span!("request", trace = "4bf9");
            let _entered = span.enter();
            tracing::info!(app = "guestbook", secrets = 3, "rendered");
            tracing::warn!("again");
        });
        let [line, second] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        let mut keys: Vec<&str> = object.keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["app", "level", "message", "secrets", "target", "timestamp"], "{line}");
        assert_eq!((&object["level"], &object["message"]), (&"INFO".into(), &"rendered".into()));
        assert_eq!((&object["app"], &object["secrets"]), (&"guestbook".into(), &3.into()));
        let timestamp = object["timestamp"].as_str().unwrap();
        // 2025-01-31T12:00:00.000000Z
        assert!(timestamp.len() == 27 && timestamp.ends_with('Z') && timestamp.as_bytes()[10] == b'T', "{timestamp}");
        assert!(second.contains("\"level\":\"WARN\""), "{second}");
    }

    #[test]
    fn a_hostile_field_stays_on_its_line_and_steers_no_terminal() {
        let hostile = "a\nb\r\u{1b}[2J\u{9b}2J\u{7f}\u{0}";
        for format in [LogFormat::Json, LogFormat::Text] {
            let text = logged(format, "info", || {
                let span = tracing::info_span!("request", app = %hostile);
                let _entered = span.enter();
                tracing::info!(app = %hostile, debug = ?hostile, text = hostile, "{hostile}");
            });
            assert_eq!(text.lines().count(), 1, "{format:?} {text:?}");
            let line = text.strip_suffix('\n').unwrap();
            assert!(!line.contains(char::is_control), "{format:?} {line:?}");
        }
    }

    #[test]
    fn the_own_target_is_the_name_of_this_program() {
        assert!(module_path!().starts_with("regent::"), "{}", module_path!());
        let text = logged(LogFormat::Json, "info", || tracing::info!("here"));
        assert!(text.contains("\"target\":\"regent::telemetry::logs::tests\""), "{text}");
    }

    #[test]
    fn libraries_stay_quiet_whatever_is_asked_for() {
        for (level, own, others) in [("error", 1, 1), ("warn", 2, 2), ("info", 3, 2), ("debug", 4, 2), ("trace", 5, 2)]
        {
            let text = logged(LogFormat::Json, level, || {
                tracing::error!("own");
                tracing::warn!("own");
                tracing::info!("own");
                tracing::debug!("own");
                tracing::trace!("own");
                tracing::error!(target: "h2::codec", "other");
                tracing::warn!(target: "h2::codec", "other");
                tracing::info!(target: "tonic", "other");
                tracing::debug!(target: "hyper::proto", "other");
                tracing::trace!(target: "h2::hpack", "other");
            });
            assert_eq!(text.matches("\"message\":\"own\"").count(), own, "{level} {text}");
            assert_eq!(text.matches("\"message\":\"other\"").count(), others, "{level} {text}");
        }
    }

    #[test]
    fn a_level_is_one_of_five_words() {
        for level in ["", "INFO", "warn,h2=trace", "off", "regent=trace"] {
            assert!(parse(level).is_err(), "{level}");
        }
    }

    /// The reader of the log has gone.
    #[derive(Clone)]
    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn a_closed_standard_error_is_no_error() {
        let mut writer = OneLine(Closed);
        assert_eq!(writer.write(b"line\n").unwrap(), 5);
        let subscriber = lines(LogFormat::Text, LevelFilter::INFO, || OneLine(Closed));
        tracing::subscriber::with_default(subscriber, || tracing::info!("nobody reads this"));
    }
}
