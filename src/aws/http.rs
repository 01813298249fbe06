//! The HTTP client of all AWS clients of one session: HTTP/1.1 with connections that are kept and shared.
//!
//! It is here, and not the client that comes with the SDK, for one reason: it can open a connection before there is a
//! request to send. Each command calls one service and then another; with the second connection opened while the first
//! call is under way, a get takes four round trips and not six. Such a connection carries nothing until the call that
//! takes it, so that it needs no permission and leaves no record with AWS. TCP, proxies, TLS and HTTP themselves are
//! the libraries' work.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use tokio::task::JoinHandle;

use super::dial::Dialer;
use super::trust::Trust;
use crate::failure::Failure;

/// The most that is set aside for an answer before it comes, in bytes: more than a page of DynamoDB has, which is 1 MB of
/// rows and their names in JSON.
const LARGEST_PAGE: usize = 2 << 20;

/// The most that an answer may hold, in bytes: one without end must not take all memory.
const LARGEST_ANSWER: usize = 64 << 20;

/// How much of an answer a connection holds at a time, in bytes; for a long one it would be several times as much.
const READ_BUFFER: usize = 64 << 10;

/// The client: one pool of connections.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pool: Arc<Pool>,
}

#[derive(Debug)]
struct Pool {
    dialer: Dialer,
    idle: Mutex<HashMap<Origin, Vec<Idle>>>,
}

/// A scheme with a host and port.
type Origin = (Scheme, Authority);

type Connection = SendRequest<SdkBody>;

/// A connection that no request uses.
#[derive(Debug)]
enum Idle {
    Open(Connection),
    Opening(JoinHandle<Result<Connection, ConnectorError>>),
}

/// Marks a request that is not to be sent: it only opens a connection for the next one.
#[derive(Clone, Debug)]
struct OpenOnly;

/// Turns the request of any operation into one that opens a connection to its endpoint and is never sent.
pub(crate) fn into_opening(request: &mut HttpRequest) {
    request.add_extension(OpenOnly);
}

impl Client {
    pub(super) fn new(trust: Trust) -> Self {
        Self { pool: Arc::new(Pool { dialer: Dialer::new(trust), idle: Mutex::default() }) }
    }
}

impl HttpClient for Client {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(Connector { pool: Arc::clone(&self.pool), settings: settings.clone() })
    }
}

/// The client with the time limits of one call.
#[derive(Clone, Debug)]
struct Connector {
    pool: Arc<Pool>,
    settings: HttpConnectorSettings,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let connector = self.clone();
        HttpConnectorFuture::new(async move {
            let open_only = request.extension::<OpenOnly>().is_some();
            let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            let origin = origin(request.uri())?;
            if open_only {
                let opening = connector.clone().open(request.uri().clone());
                connector.pool.put_back(origin, Idle::Opening(tokio::spawn(opening)));
                return Ok(HttpResponse::new(200.try_into().map_err(other)?, SdkBody::empty()));
            }
            connector.exchange(origin, request).await
        })
    }
}

impl Connector {
    /// Sends a request and waits for the whole answer.
    async fn exchange(&self, origin: Origin, mut request: Request<SdkBody>) -> Result<HttpResponse, ConnectorError> {
        let uri = request.uri().clone();
        self.address(&mut request)?;
        loop {
            let idle = self.take_idle(&origin).await;
            let was_idle = idle.is_some();
            let mut connection = match idle {
                Some(connection) => connection,
                None => self.clone().open(uri.clone()).await?,
            };
            match self.in_time(connection.try_send_request(request)).await? {
                Ok(answer) => {
                    let answer = self.read(answer).await?;
                    if connection.ready().await.is_ok() {
                        self.pool.put_back(origin, Idle::Open(connection));
                    }
                    return answer.try_into().map_err(other);
                }
                // The server had closed the connection before it saw the request.
                Err(mut unsent) => match unsent.take_message().filter(|_| was_idle) {
                    Some(unsent) => request = unsent,
                    None => return Err(failed(unsent.into_error())),
                },
            }
        }
    }

    /// Gives a request the form in which it travels: its host in a header, and no more than the path where no proxy has
    /// to know the rest.
    fn address(&self, request: &mut Request<SdkBody>) -> Result<(), ConnectorError> {
        let uri = request.uri().clone();
        request.headers_mut().entry(HOST).or_insert(HeaderValue::from_str(&host(&uri)).map_err(other)?);
        match self.pool.dialer.forwarded(&uri) {
            Some(authorization) => {
                if let Some(authorization) = authorization {
                    request.headers_mut().insert(PROXY_AUTHORIZATION, authorization);
                }
            }
            None => {
                let path = uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
                *request.uri_mut() = Uri::from(path);
            }
        }
        Ok(())
    }

    /// A connection that waits for a request, or will in a moment; `None` when there is none that is alive.
    async fn take_idle(&self, origin: &Origin) -> Option<Connection> {
        loop {
            let idle = self.pool.idle().get_mut(origin).and_then(Vec::pop)?;
            match idle {
                Idle::Open(connection) if connection.is_closed() => {}
                Idle::Open(connection) => return Some(connection),
                // What goes wrong goes wrong again for the request itself, which says so.
                Idle::Opening(opening) => {
                    if let Ok(Ok(connection)) = opening.await {
                        return Some(connection);
                    }
                }
            }
        }
    }

    async fn open(self, uri: Uri) -> Result<Connection, ConnectorError> {
        let opening = async {
            let stream = self.pool.dialer.open(&uri).await.map_err(unopened)?;
            let (connection, work) =
                http1::Builder::new().max_buf_size(READ_BUFFER).handshake(stream).await.map_err(failed)?;
            // What goes wrong on the connection, its requests are told.
            tokio::spawn(work);
            Ok(connection)
        };
        match self.settings.connect_timeout() {
            Some(limit) => within(limit, "connection", opening).await?,
            None => opening.await,
        }
    }

    /// Reads the body, of which each piece must come in time.
    async fn read(&self, answer: Response<Incoming>) -> Result<Response<SdkBody>, ConnectorError> {
        let (head, mut incoming) = answer.into_parts();
        let announced = incoming.size_hint().exact().and_then(|length| usize::try_from(length).ok());
        let mut body = Vec::with_capacity(announced.unwrap_or_default().min(LARGEST_PAGE));
        while let Some(frame) = self.in_time(incoming.frame()).await? {
            body.extend_from_slice(&frame.map_err(failed)?.into_data().unwrap_or_default());
            if body.len() > LARGEST_ANSWER {
                return Err(other(Endless));
            }
        }
        Ok(Response::from_parts(head, SdkBody::from(body)))
    }

    async fn in_time<T>(&self, answer: impl Future<Output = T>) -> Result<T, ConnectorError> {
        match self.settings.read_timeout() {
            Some(limit) => within(limit, "answer", answer).await,
            None => Ok(answer.await),
        }
    }
}

impl Pool {
    fn put_back(&self, origin: Origin, idle: Idle) {
        self.idle().entry(origin).or_default().push(idle);
    }

    /// The lists are whole at any time, so a poisoned lock is as good as any.
    fn idle(&self) -> MutexGuard<'_, HashMap<Origin, Vec<Idle>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn origin(uri: &Uri) -> Result<Origin, ConnectorError> {
    let origin = uri.scheme().cloned().zip(uri.authority().cloned());
    origin.ok_or_else(|| ConnectorError::user(format!("the endpoint {uri} is no URL with a host").into()))
}

/// The host as it is signed: with its port, unless that is the one of the scheme.
fn host(uri: &Uri) -> String {
    let host = uri.host().unwrap_or_default();
    match (uri.scheme_str(), uri.port_u16()) {
        (_, None) | (Some("http"), Some(80)) | (Some("https"), Some(443)) => host.to_owned(),
        (_, Some(port)) => format!("{host}:{port}"),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no {what} within {} s", limit.as_secs_f64())]
struct TooLate {
    what: &'static str,
    limit: Duration,
}

#[derive(Debug, thiserror::Error)]
#[error("more than {} MiB came, and no end of it", LARGEST_ANSWER >> 20)]
struct Endless;

async fn within<T>(limit: Duration, what: &'static str, work: impl Future<Output = T>) -> Result<T, ConnectorError> {
    tokio::time::timeout(limit, work).await.map_err(|_| ConnectorError::timeout(TooLate { what, limit }.into()))
}

/// A connection that could not be opened: trying again helps, unless it is this machine that is set up wrongly.
fn unopened(error: BoxError) -> ConnectorError {
    match error.is::<Failure>() {
        true => ConnectorError::user(error),
        false => ConnectorError::io(error),
    }
}

/// A request that got no whole answer: as far as this client knows, the connection broke.
fn failed(error: hyper::Error) -> ConnectorError {
    match error.is_user() {
        true => ConnectorError::user(error.into()),
        false => ConnectorError::io(error.into()),
    }
}

fn other(error: impl Into<BoxError>) -> ConnectorError {
    ConnectorError::other(error.into(), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_has_no_port_that_goes_without_saying() {
        for (uri, expected) in [
            ("https://kms.us-east-1.amazonaws.com/", "kms.us-east-1.amazonaws.com"),
            ("https://kms.local:443/", "kms.local"),
            ("https://kms.local:80/", "kms.local:80"),
            ("http://127.0.0.1:8000/", "127.0.0.1:8000"),
            ("http://127.0.0.1:80/", "127.0.0.1"),
            ("http://user@[::1]:8000/", "[::1]:8000"),
        ] {
            assert_eq!(host(&uri.parse().expect("a URL")), expected, "{uri}");
        }
    }
}
