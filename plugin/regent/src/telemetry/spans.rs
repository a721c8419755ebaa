//! Spans of this program, exported to an OpenTelemetry collector. Spans alone: events go to the log, because an
//! audit line names Secrets.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData, SpanExporter, SpanLimits,
};
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use tracing::{Level, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

use super::logs::OWN_TARGET;
use super::trace::TraceContext;
use crate::failure::{Failure, reason};

/// The way to the collector. Dropped, it sends what is left and waits for it, for [`LAST_WORDS`] at most.
pub(super) struct Spans {
    provider: SdkTracerProvider,
    /// Its own, so that it may start before the server's runtime and end after it.
    runtime: Option<Runtime>,
}

/// Longest wait for a collector's answer; spans that pile up meanwhile are bounded by the batch's queue.
const EXPORT: Duration = Duration::from_secs(10);
/// Longest wait at the end: a collector that is away must not hold up a pod that stops.
const LAST_WORDS: Duration = Duration::from_secs(2);

impl Spans {
    /// Exports to `HOST:PORT`. Connects when there is something to send; a collector that is away is logged.
    pub(super) fn to(collector: &str) -> Result<Self, Failure> {
        let address = collector.strip_prefix("http://").unwrap_or(collector);
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .ok()
            .filter(|endpoint| endpoint.uri().port().is_some() && !address.contains('/'))
            .ok_or_else(|| Failure::Usage(format!("`{collector}` is no collector's address; expects HOST:PORT")))?
            .connect_timeout(EXPORT)
            .timeout(EXPORT);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(|error| {
                Failure::World { what: "start", name: "the span exporter".to_owned(), reason: reason(&error) }
            })?;
        let channel = {
            let _inside = runtime.enter();
            endpoint.connect_lazy()
        };
        let exporter = Exporter {
            client: TraceServiceClient::new(channel),
            resource: ResourceAttributesWithSchema::default(),
            failing: AtomicBool::new(false),
        };
        // What the SDK would take from the environment is said here instead.
        let batch = BatchConfigBuilder::default()
            .with_max_queue_size(2048)
            .with_max_export_batch_size(512)
            .with_scheduled_delay(Duration::from_secs(5))
            .build();
        let resource = Resource::builder_empty()
            .with_service_name(OWN_TARGET)
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(batch).build())
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
            .with_span_limits(SpanLimits::default())
            .with_resource(resource)
            .build();
        Ok(Self { provider, runtime: Some(runtime) })
    }

    /// Hears of this program's spans, and of nothing else.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer(OWN_TARGET))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(|metadata| {
                metadata.is_span() && metadata.target().starts_with(OWN_TARGET) && *metadata.level() <= Level::INFO
            }))
    }
}

impl Drop for Spans {
    fn drop(&mut self) {
        // The exporter logged what it could not send.
        let _ = self.provider.shutdown_with_timeout(LAST_WORDS);
        if let Some(runtime) = self.runtime.take() {
            // Not waited for: this may be inside another runtime.
            runtime.shutdown_background();
        }
    }
}

/// Makes the span a child of the caller's, where spans are exported.
pub(super) fn follow(span: &tracing::Span, context: TraceContext) {
    let flags = if context.sampled { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
    let caller = SpanContext::new(
        TraceId::from_bytes(context.trace.to_be_bytes()),
        SpanId::from_bytes(context.parent.to_be_bytes()),
        flags,
        true,
        TraceState::default(),
    );
    // Without an exporter there is nothing to follow.
    let _ = span.set_parent(Context::new().with_remote_span_context(caller));
}

/// Sends spans by OTLP. Our own, because opentelemetry-otlp adds headers and more from the environment, which this
/// program does not read.
#[derive(Debug)]
struct Exporter {
    client: TraceServiceClient<Channel>,
    resource: ResourceAttributesWithSchema,
    /// The last batch was not taken; said once, not with every batch.
    failing: AtomicBool,
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        match self.client.clone().export(ExportTraceServiceRequest { resource_spans }).await {
            Ok(_) => {
                self.failing.store(false, Ordering::Relaxed);
                Ok(())
            }
            Err(status) => {
                if !self.failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!(reason = %status.code(), "spans were not taken by the collector");
                }
                Err(OTelSdkError::InternalFailure(status.code().to_string()))
            }
        }
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = resource.into();
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
    use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use tokio_stream::wrappers::TcpListenerStream;
    use tonic::{Request, Response, Status};
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::registry::Registry;

    use super::*;

    struct Collector(tokio::sync::mpsc::UnboundedSender<ExportTraceServiceRequest>);

    #[tonic::async_trait]
    impl TraceService for Collector {
        async fn export(
            &self,
            request: Request<ExportTraceServiceRequest>,
        ) -> Result<Response<ExportTraceServiceResponse>, Status> {
            self.0.send(request.into_inner()).unwrap();
            Ok(Response::new(ExportTraceServiceResponse::default()))
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_collector_gets_the_spans_of_this_program_as_children_of_the_callers() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, mut arrived) = tokio::sync::mpsc::unbounded_channel();
        let collector = tonic::transport::Server::builder().add_service(TraceServiceServer::new(Collector(sender)));
        tokio::spawn(collector.serve_with_incoming(TcpListenerStream::new(listener)));

        let spans = Spans::to(&address.to_string()).ok().unwrap();
        tracing::subscriber::with_default(Registry::default().with(spans.layer()), || {
            let span = tracing::info_span!("render", documents = 3);
            follow(&span, TraceContext { trace: 0xabc, parent: 0xdef, sampled: true });
            span.in_scope(|| {
                tracing::info!(secret = "app/db", "audit");
                tracing::info_span!(target: "h2", "frame").in_scope(|| {});
                tracing::debug_span!("detail").in_scope(|| {});
            });
            let unsampled = tracing::info_span!("unsampled");
            follow(&unsampled, TraceContext { trace: 1, parent: 1, sampled: false });
            unsampled.in_scope(|| {});
        });
        // What is left is sent at the end.
        tokio::task::spawn_blocking(move || drop(spans)).await.unwrap();

        let request = arrived.recv().await.unwrap();
        assert!(arrived.try_recv().is_err(), "one batch");
        let [resource] = &request.resource_spans[..] else { panic!("{request:?}") };
        let attributes = &resource.resource.as_ref().unwrap().attributes;
        let service = attributes.iter().find(|attribute| attribute.key == "service.name").unwrap();
        assert_eq!(
            service.value.as_ref().unwrap().value,
            Some(Value::StringValue("regent".to_owned())),
            "{attributes:?}"
        );
        let [span] = &resource.scope_spans[0].spans[..] else { panic!("{request:?}") };
        assert_eq!(span.name, "render");
        assert_eq!(span.trace_id, 0xabc_u128.to_be_bytes());
        assert_eq!(span.parent_span_id, 0xdef_u64.to_be_bytes());
        let keys: Vec<&str> = span.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
        assert_eq!(keys, ["documents"]);
        assert!(span.events.is_empty(), "an audit line stays in the log: {span:?}");
    }

    #[test]
    fn a_collector_that_is_away_holds_nothing_up() {
        // Bound, and nobody accepts.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let spans = Spans::to(&listener.local_addr().unwrap().to_string()).ok().unwrap();
        tracing::subscriber::with_default(Registry::default().with(spans.layer()), || {
            tracing::info_span!("render").in_scope(|| {});
        });
        let before = std::time::Instant::now();
        drop(spans);
        assert!(before.elapsed() < LAST_WORDS + Duration::from_secs(1), "{:?}", before.elapsed());
    }

    #[test]
    fn a_collector_is_host_and_port() {
        for collector in ["", "collector", "https://collector:4317", "collector:4317/v1/traces", "unix:///tmp/x:1"] {
            assert!(Spans::to(collector).is_err(), "{collector}");
        }
        assert!(Spans::to("http://collector:4317").is_ok());
    }
}
