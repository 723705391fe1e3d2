//! A collector within the test.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use adjutant_telemetry::Protocol;
use axum::{
    body::Bytes,
    http::{HeaderMap, StatusCode, Uri},
};
use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    metrics::v1::metric::Data,
    resource::v1::Resource,
    trace::v1::Span,
};
use prost::Message;
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

/// Keeps what it is sent, for as long as the test's runtime lives.
pub struct Collector {
    pub endpoint: String,
    kept: Kept,
}

#[derive(Clone, Default)]
struct Kept {
    traces: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    metrics: Arc<Mutex<Vec<ExportMetricsServiceRequest>>>,
    requests: Arc<Mutex<Vec<Received>>>,
    refuse: Arc<AtomicUsize>,
}

#[derive(Clone)]
pub struct Received {
    pub path: String,
    headers: HeaderMap,
}

impl Received {
    /// All values of a header.
    pub fn header(&self, name: &str) -> Vec<String> {
        let values = self.headers.get_all(name).iter();
        values.map(|it| it.to_str().unwrap().to_owned()).collect()
    }
}

/// All points of a histogram together.
#[derive(Default)]
pub struct Points {
    pub count: u64,
    pub sum: f64,
}

impl Collector {
    pub async fn start(protocol: Protocol) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let kept = Kept::default();
        match protocol {
            Protocol::Grpc => {
                let server = tonic::transport::Server::builder()
                    .add_service(TraceServiceServer::new(kept.clone()))
                    .add_service(MetricsServiceServer::new(kept.clone()))
                    .serve_with_incoming(TcpIncoming::from(listener));
                tokio::spawn(server);
            }
            Protocol::Http => {
                let keeper = kept.clone();
                let answer = move |uri: Uri, headers: HeaderMap, body: Bytes| async move {
                    keeper.take(uri.path(), headers, body)
                };
                let app = axum::Router::new().fallback(answer);
                tokio::spawn(async move { axum::serve(listener, app).await });
            }
        }
        Self { endpoint, kept }
    }

    /// Has no time for the next requests with traces.
    pub fn refuse(&self, requests: usize) {
        self.kept.refuse.store(requests, Ordering::SeqCst);
    }

    pub fn requests(&self) -> Vec<Received> {
        self.kept.requests.lock().unwrap().clone()
    }

    pub fn spans(&self) -> Vec<Span> {
        let traces = self.kept.traces.lock().unwrap();
        let resources = traces.iter().flat_map(|it| &it.resource_spans);
        let scopes = resources.flat_map(|it| &it.scope_spans);
        scopes.flat_map(|it| it.spans.clone()).collect()
    }

    pub fn resource(&self) -> Resource {
        let traces = self.kept.traces.lock().unwrap();
        traces[0].resource_spans[0].resource.clone().unwrap()
    }

    pub fn histograms(&self) -> HashMap<String, Points> {
        let all = self.kept.metrics.lock().unwrap();
        let mut found: HashMap<String, Points> = HashMap::new();
        // Figures are added up by the sender: the last message has them all.
        let resources = all.last().unwrap().resource_metrics.iter();
        let scopes = resources.flat_map(|it| &it.scope_metrics);
        for metric in scopes.flat_map(|it| &it.metrics) {
            if let Some(Data::Histogram(histogram)) = &metric.data {
                let points = found.entry(metric.name.clone()).or_default();
                for point in &histogram.data_points {
                    points.count += point.count;
                    points.sum += point.sum();
                }
            }
        }
        found
    }
}

impl Kept {
    fn note(&self, path: &str, headers: HeaderMap) {
        let path = path.to_owned();
        self.requests
            .lock()
            .unwrap()
            .push(Received { path, headers });
    }

    fn refuses(&self) -> bool {
        let less = |left: usize| left.checked_sub(1);
        let change = self
            .refuse
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        change.is_ok()
    }

    fn take(&self, path: &str, headers: HeaderMap, body: Bytes) -> StatusCode {
        self.note(path, headers);
        if path.ends_with("/v1/metrics") {
            let metrics = ExportMetricsServiceRequest::decode(body).unwrap();
            self.metrics.lock().unwrap().push(metrics);
        } else if path.ends_with("/v1/traces") {
            if self.refuses() {
                return StatusCode::SERVICE_UNAVAILABLE;
            }
            let traces = ExportTraceServiceRequest::decode(body).unwrap();
            self.traces.lock().unwrap().push(traces);
        } else {
            return StatusCode::NOT_FOUND;
        }
        StatusCode::OK
    }
}

#[tonic::async_trait]
impl TraceService for Kept {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.note("traces", request.metadata().clone().into_headers());
        if self.refuses() {
            return Err(Status::unavailable("busy"));
        }
        self.traces.lock().unwrap().push(request.into_inner());
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Kept {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.note("metrics", request.metadata().clone().into_headers());
        self.metrics.lock().unwrap().push(request.into_inner());
        Ok(Response::new(Default::default()))
    }
}

pub fn attribute<'a>(attributes: &'a [KeyValue], name: &str) -> Option<&'a AnyValue> {
    let found = attributes.iter().find(|it| it.key == name);
    found.and_then(|it| it.value.as_ref())
}

/// The text of this name, empty if there is none.
pub fn text(attributes: &[KeyValue], name: &str) -> String {
    match attribute(attributes, name).and_then(|it| it.value.clone()) {
        Some(Value::StringValue(text)) => text,
        _ => String::new(),
    }
}

/// The number of this name, -1 if there is none.
pub fn number(attributes: &[KeyValue], name: &str) -> i64 {
    match attribute(attributes, name).and_then(|it| it.value.clone()) {
        Some(Value::IntValue(number)) => number,
        _ => -1,
    }
}
