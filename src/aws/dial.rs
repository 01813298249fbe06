//! Opening connections: TCP without Nagle's delay, through a proxy where the environment names one, and TLS.

use std::sync::{Arc, OnceLock};

use aws_smithy_runtime_api::box_error::BoxError;
use http::{HeaderValue, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use rustls::ClientConfig;
use tower_service::Service as _;

use super::settings::variable;
use super::trust::Trust;
use crate::failure::Failure;

/// An open connection.
pub(super) trait Stream: hyper::rt::Read + hyper::rt::Write + Unpin + Send {}

impl<T: hyper::rt::Read + hyper::rt::Write + Unpin + Send> Stream for T {}

/// Opens connections.
#[derive(Debug)]
pub(super) struct Dialer {
    trust: Trust,
    /// Made when the first `https://` endpoint is called: reading a file of certificates takes a millisecond.
    tls: OnceLock<Result<Arc<ClientConfig>, Failure>>,
    /// HTTPS_PROXY, HTTP_PROXY and NO_PROXY, in capitals or not.
    proxies: Matcher,
}

impl Dialer {
    pub(super) fn new(trust: Trust) -> Self {
        Self { trust, tls: OnceLock::new(), proxies: proxies() }
    }

    /// Opens a connection to the host of `uri`, or to a proxy that leads there.
    pub(super) async fn open(&self, uri: &Uri) -> Result<Box<dyn Stream>, BoxError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let Some(proxy) = self.proxies.intercept(uri) else {
            return match is_tls(uri) {
                true => Ok(Box::new(HttpsConnector::from((tcp, self.tls()?)).call(uri.clone()).await?)),
                false => Ok(Box::new(tcp.call(uri.clone()).await?)),
            };
        };
        // The proxy may want TLS of its own.
        let to_proxy = HttpsConnector::from((tcp, self.tls()?));
        if !is_tls(uri) {
            return Ok(Box::new({ to_proxy }.call(proxy.uri().clone()).await?));
        }
        let tunnel = Tunnel::new(proxy.uri().clone(), to_proxy);
        let tunnel = match proxy.basic_auth() {
            Some(auth) => tunnel.with_auth(auth.clone()),
            None => tunnel,
        };
        Ok(Box::new(HttpsConnector::from((tunnel, self.tls()?)).call(uri.clone()).await?))
    }

    /// Whether the requests for `uri` go to a proxy that reads them, since no tunnel hides them; and how this client
    /// shows that it may use the proxy.
    pub(super) fn forwarded(&self, uri: &Uri) -> Option<Option<HeaderValue>> {
        let proxy = self.proxies.intercept(uri).filter(|_| !is_tls(uri))?;
        Some(proxy.basic_auth().cloned())
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, Failure> {
        self.tls.get_or_init(|| self.trust.tls().map(Arc::new)).clone()
    }
}

/// Which proxy leads where.
fn proxies() -> Matcher {
    // The services that give a machine or a container its credentials, and this machine: a proxy would see the credentials.
    const OWN: &str = "localhost,127.0.0.0/8,::1,169.254.0.0/16,fd00:ec2::/32";
    let named = |name: &str| variable(name).or_else(|| variable(&name.to_lowercase())).unwrap_or_default();
    // A web server gives a program a visitor's header of this name (https://httpoxy.org).
    let http = if variable("REQUEST_METHOD").is_some() { String::new() } else { named("HTTP_PROXY") };
    Matcher::builder().http(http).https(named("HTTPS_PROXY")).no(format!("{},{OWN}", named("NO_PROXY"))).build()
}

fn is_tls(uri: &Uri) -> bool {
    uri.scheme_str() != Some("http")
}
