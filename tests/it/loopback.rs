//! A DynamoDB and a KMS inside this process, which count what they are asked: what measures speed runs against them.
//!
//! They are a measuring device and never an oracle of correctness. There is one table, whatever name it is given; no
//! signature and no context is checked, and a data key lies open in its wrapped key. What is right and what is wrong
//! is tested against DynamoDB Local and moto.
//!
//! # The clock
//!
//! A connection is open [`Settings::set_up`] round trips after it was accepted. A request is answered one round trip
//! after it arrived, or after its connection was open. [`Counts::round_trips`] is the time in which at least one set-up
//! or request was outstanding by these nominal times, as a multiple of the round trip: how many of them the program
//! waited for one after the other. Where the machine is late, or the program computes, nothing is outstanding, so the
//! figure hardly depends on the machine or on its load. What nobody waits for is not counted: connections that carry no
//! call.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::sleep;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use credstash::{Attributes, DataKey, Digest, Secret, Suite, WrappedKey, seal};
use serde_json::{Map, Value, json};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::task::spawn_blocking;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

/// What a Query or Scan reads before it ends its page.
const PAGE: usize = 1 << 20;

/// How long a data key of 64 bytes is when KMS has wrapped it.
const WRAPPED_LEN: usize = 216;

// --- what is asked of it --------------------------------------------------------------------------------------------

/// How the services behave.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Settings {
    /// How long a request takes.
    pub(crate) round_trip: Duration,
    /// How many round trips it takes to open a connection.
    pub(crate) set_up: u32,
    /// Speak TLS.
    pub(crate) tls: bool,
    /// Calls that KMS answers; it refuses those beyond.
    pub(crate) kms_limit: Option<Limit>,
    /// Every so many calls KMS fails.
    pub(crate) kms_fails_every: Option<u64>,
    /// Every so many calls DynamoDB fails.
    pub(crate) dynamodb_fails_every: Option<u64>,
}

/// A token bucket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub(crate) calls_per_second: u32,
    pub(crate) burst: u32,
}

/// A service, which has an address of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Service {
    DynamoDb,
    Kms,
}

// --- what it counts -------------------------------------------------------------------------------------------------

/// What was asked since the start, or since the last [`Loopback::reset`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    operations: BTreeMap<String, Operation>,
    connections: [usize; 2],
    most_in_flight: [usize; 2],
    /// How many calls were throttled.
    pub(crate) refused: usize,
    /// When a set-up or request was outstanding.
    outstanding: Vec<(Instant, Instant)>,
    round_trip: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Operation {
    calls: usize,
    first_asked: Instant,
    last_answered: Instant,
}

impl Counts {
    /// How often each operation was called, by name.
    pub(crate) fn operations(&self) -> Vec<(&str, usize)> {
        self.operations.iter().map(|(name, operation)| (name.as_str(), operation.calls)).collect()
    }

    /// How often `operation` was called.
    pub(crate) fn calls(&self, operation: &str) -> usize {
        self.operations.get(operation).map_or(0, |operation| operation.calls)
    }

    /// How many calls there were.
    pub(crate) fn all_calls(&self) -> usize {
        self.operations.values().map(|operation| operation.calls).sum()
    }

    /// Whether the first call of one operation came before the last answer of the other.
    pub(crate) fn overlap(&self, first: &str, last: &str) -> bool {
        self.operations[first].first_asked < self.operations[last].last_answered
    }

    /// How many connections were opened.
    pub(crate) fn connections(&self, service: Service) -> usize {
        self.connections[service as usize]
    }

    /// How many calls were waiting for their answers at the same time, at most.
    pub(crate) fn most_in_flight(&self, service: Service) -> usize {
        self.most_in_flight[service as usize]
    }

    /// How many round trips there were one after the other.
    pub(crate) fn round_trips(&self) -> f64 {
        let mut intervals = self.outstanding.clone();
        intervals.sort_unstable();
        let (mut total, mut covered) = (Duration::ZERO, None);
        for (start, end) in intervals {
            let start = covered.map_or(start, |covered| start.max(covered));
            total += end.saturating_duration_since(start);
            covered = covered.max(Some(end));
        }
        total.div_duration_f64(self.round_trip)
    }
}

// --- the server -----------------------------------------------------------------------------------------------------

/// The two services; they end when this is dropped.
pub(crate) struct Loopback {
    dynamodb: String,
    kms: String,
    /// The certificate that clients must trust, with [`Settings::tls`].
    pub(crate) certificate: Option<String>,
    state: Arc<Mutex<State>>,
    _runtime: Runtime,
}

impl Loopback {
    /// Starts them on free ports, with no rows.
    pub(crate) fn start(settings: Settings) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let (certificate, tls) = settings.tls.then(identity).unzip();
        let state = Arc::new(Mutex::new(State::new(settings)));
        let scheme = if settings.tls { "https" } else { "http" };
        let [dynamodb, kms] = [Service::DynamoDb, Service::Kms].map(|service| {
            let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
            let address = listener.local_addr().expect("it is bound");
            runtime.spawn(accept(listener, service, tls.clone(), Arc::clone(&state)));
            format!("{scheme}://{address}")
        });
        Self { dynamodb, kms, certificate, state, _runtime: runtime }
    }

    /// The variables with which a program finds the services.
    pub(crate) fn environment(&self) -> [(&'static str, &str); 5] {
        [
            ("AWS_ENDPOINT_URL_DYNAMODB", &self.dynamodb),
            ("AWS_ENDPOINT_URL_KMS", &self.kms),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ]
    }

    /// Stores `versions` versions of `names` credentials; gives how many bytes their rows have.
    pub(crate) fn load(&self, names: usize, versions: usize) -> usize {
        let mut state = lock(&self.state);
        let mut bytes = 0;
        for name in (0..names).map(name) {
            for version in 1..=versions {
                let item = state.sealed_item(&name, version);
                bytes += size(&item);
                state.rows.insert((name.clone(), text(&item["version"])), item);
            }
        }
        bytes
    }

    /// How many rows there are.
    pub(crate) fn rows(&self) -> usize {
        lock(&self.state).rows.len()
    }

    /// Counts from nothing again.
    pub(crate) fn reset(&self) {
        lock(&self.state).reset();
    }

    /// What was asked so far.
    pub(crate) fn counts(&self) -> Counts {
        lock(&self.state).counts.clone()
    }
}

/// The name of the credential that [`Loopback::load`] stores as number `index`.
pub(crate) fn name(index: usize) -> String {
    format!("svc.secret-{index:06}")
}

/// What it stores as this version: 48 bytes.
pub(crate) fn value(name: &str, version: usize) -> String {
    format!("{:x<48}", format!("{name}:v{version}:"))
}

/// A certificate for this machine, and TLS with it.
fn identity() -> (String, TlsAcceptor) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .expect("the key is that of the certificate");
    (made.cert.pem(), TlsAcceptor::from(Arc::new(config)))
}

// --- HTTP -----------------------------------------------------------------------------------------------------------

async fn accept(listener: TcpListener, service: Service, tls: Option<TlsAcceptor>, state: Arc<Mutex<State>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let connection = lock(&state).connect(service);
        stream.set_nodelay(true).expect("TCP has it");
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        // A client that goes away in the middle is its own affair.
        tokio::spawn(async move {
            let Some(tls) = tls else { return converse(stream, connection, &state).await };
            wait_until(connection.open).await;
            converse(tls.accept(stream).await?, connection, &state).await
        });
    }
}

/// Answers one request after the other.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    mut connection: Connection,
    state: &Mutex<State>,
) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(request) = Request::read(&mut stream).await? {
        let arrived = Instant::now().max(connection.open);
        let (answer, due) = lock(state).call(&mut connection, &request.operation, &request.body, arrived);
        let answer = response(answer);
        wait_until(due).await;
        lock(state).in_flight[connection.service as usize] -= 1;
        stream.write_all(answer.as_bytes()).await?;
        stream.flush().await?;
    }
    Ok(())
}

/// The runtime's own timers are late by up to a millisecond, which is much of a short round trip.
async fn wait_until(moment: Instant) {
    let left = moment.saturating_duration_since(Instant::now());
    if !left.is_zero() {
        spawn_blocking(move || sleep(left)).await.expect("sleeping does not fail");
    }
}

fn response(answer: Result<Value, Refusal>) -> String {
    let (status, body) = match answer {
        Ok(body) => (200, body),
        Err(Refusal { status, code }) => (status, json!({"__type": code, "message": "as the measurement asks"})),
    };
    let body = body.to_string();
    let head = format!("HTTP/1.1 {status} -\r\nContent-Type: application/x-amz-json-1.0\r\n");
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())
}

struct Request {
    /// Such as `Query`.
    operation: String,
    body: Value,
}

impl Request {
    /// The next request; `None` when the client has closed the connection.
    async fn read(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Self>> {
        let (mut operation, mut length) = (String::new(), 0);
        let mut line = String::new();
        loop {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(None);
            }
            match line.trim_end().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("x-amz-target") => {
                    operation = value.rsplit('.').next().unwrap_or_default().to_owned();
                }
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.parse().map_err(io::Error::other)?;
                }
                None if line == "\r\n" => break,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        Ok(Some(Self { operation, body: serde_json::from_slice(&body)? }))
    }
}

// --- the services ---------------------------------------------------------------------------------------------------

type Item = Map<String, Value>;

struct Connection {
    service: Service,
    accepted: Instant,
    open: Instant,
    carried_a_call: bool,
}

struct Refusal {
    status: u16,
    code: &'static str,
}

struct State {
    settings: Settings,
    /// By name and version.
    rows: BTreeMap<(String, String), Item>,
    data_keys: u64,
    counts: Counts,
    in_flight: [usize; 2],
    /// The calls of each service, to tell which of them fail.
    calls: [u64; 2],
    /// What is left of the limit, and since when.
    tokens: (f64, Instant),
}

impl State {
    fn new(settings: Settings) -> Self {
        let mut state = Self {
            settings,
            rows: BTreeMap::new(),
            data_keys: 0,
            counts: Counts::default(),
            in_flight: [0; 2],
            calls: [0; 2],
            tokens: (0.0, Instant::now()),
        };
        state.reset();
        state
    }

    fn reset(&mut self) {
        self.counts = Counts { round_trip: self.settings.round_trip, ..Counts::default() };
        self.calls = [0; 2];
        self.tokens = (self.settings.kms_limit.map_or(0.0, |limit| limit.burst.into()), Instant::now());
    }

    fn connect(&mut self, service: Service) -> Connection {
        self.counts.connections[service as usize] += 1;
        let accepted = Instant::now();
        let open = accepted + self.settings.round_trip * self.settings.set_up;
        Connection { service, accepted, open, carried_a_call: false }
    }

    /// Counts a call and makes it; gives its answer, and when that is due.
    fn call(
        &mut self,
        connection: &mut Connection,
        operation: &str,
        body: &Value,
        arrived: Instant,
    ) -> (Result<Value, Refusal>, Instant) {
        let due = arrived + self.settings.round_trip;
        let Counts { operations, most_in_flight, outstanding, .. } = &mut self.counts;
        if !std::mem::replace(&mut connection.carried_a_call, true) {
            outstanding.push((connection.accepted, connection.open));
        }
        outstanding.push((arrived, due));
        let first = Operation { calls: 0, first_asked: arrived, last_answered: due };
        let counted = operations.entry(operation.to_owned()).or_insert(first);
        counted.calls += 1;
        counted.last_answered = due;
        let at = connection.service as usize;
        self.in_flight[at] += 1;
        most_in_flight[at] = most_in_flight[at].max(self.in_flight[at]);
        self.calls[at] += 1;
        (self.answer(connection.service, operation, body), due)
    }

    fn answer(&mut self, service: Service, operation: &str, body: &Value) -> Result<Value, Refusal> {
        let calls = self.calls[service as usize];
        let fail = |every: Option<u64>, code| match every {
            Some(every) if calls.is_multiple_of(every) => Err(Refusal { status: 500, code }),
            _ => Ok(()),
        };
        match service {
            Service::DynamoDb => {
                fail(self.settings.dynamodb_fails_every, "InternalServerError")?;
                self.dynamodb(operation, body)
            }
            Service::Kms => {
                self.throttle()?;
                fail(self.settings.kms_fails_every, "KMSInternalException")?;
                self.kms(operation, body)
            }
        }
    }

    fn throttle(&mut self) -> Result<(), Refusal> {
        let Some(Limit { calls_per_second, burst }) = self.settings.kms_limit else { return Ok(()) };
        let (tokens, since) = self.tokens;
        let now = Instant::now();
        let gained = (now - since).as_secs_f64() * f64::from(calls_per_second);
        let tokens = (tokens + gained).min(burst.into());
        self.tokens = (tokens, now);
        if tokens < 1.0 {
            self.counts.refused += 1;
            return Err(Refusal { status: 400, code: "ThrottlingException" });
        }
        self.tokens.0 -= 1.0;
        Ok(())
    }

    fn kms(&mut self, operation: &str, body: &Value) -> Result<Value, Refusal> {
        match operation {
            "GenerateDataKey" => {
                let (key, wrapped) = self.data_key();
                Ok(json!({
                    "KeyId": body["KeyId"],
                    "Plaintext": STANDARD.encode(key.expose()),
                    "CiphertextBlob": STANDARD.encode(wrapped.as_bytes()),
                }))
            }
            "Decrypt" => {
                let wrapped = STANDARD.decode(text(&body["CiphertextBlob"])).expect("base64");
                Ok(json!({"KeyId": "key", "Plaintext": STANDARD.encode(&wrapped[..KEY_LEN])}))
            }
            _ => Err(Refusal { status: 400, code: "UnknownOperationException" }),
        }
    }

    /// A new data key, which begins its wrapped key.
    fn data_key(&mut self) -> (DataKey, WrappedKey) {
        self.data_keys += 1;
        let mut wrapped = vec![0; WRAPPED_LEN];
        wrapped[..8].copy_from_slice(&self.data_keys.to_be_bytes());
        (DataKey::new(wrapped[..KEY_LEN].to_vec()), WrappedKey::new(wrapped))
    }

    fn sealed_item(&mut self, name: &str, version: usize) -> Item {
        let (key, wrapped) = self.data_key();
        let secret = Secret::from(value(name, version).as_str());
        let sealed = seal(SUITE, &key, wrapped, &secret).expect("a data key of the right length");
        let Attributes { key, contents, hmac, digest, .. } = Attributes::from(&sealed);
        let attributes = [
            ("name", json!({"S": name})),
            ("version", json!({"S": format!("{version:019}")})),
            ("key", json!({"S": key})),
            ("contents", json!({"S": contents})),
            ("hmac", json!({"B": hmac.map(|hmac| STANDARD.encode(hmac))})),
            ("digest", json!({"S": digest})),
        ];
        attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn dynamodb(&mut self, operation: &str, body: &Value) -> Result<Value, Refusal> {
        match operation {
            "Scan" => Ok(match &body["ExclusiveStartKey"] {
                Value::Null => page(body, self.rows.values()),
                start => page(body, self.rows.range((Excluded(key(start)), Unbounded)).map(|(_, item)| item)),
            }),
            "Query" => Ok(self.query(body)),
            "GetItem" => Ok(match self.rows.get(&key(&body["Key"])) {
                Some(item) => json!({"Item": item}),
                None => json!({}),
            }),
            "PutItem" => {
                let item = body["Item"].as_object().expect("an item");
                let key = key(&body["Item"]);
                if self.rows.contains_key(&key) && body["ConditionExpression"].is_string() {
                    return Err(Refusal { status: 400, code: "ConditionalCheckFailedException" });
                }
                self.rows.insert(key, item.clone());
                Ok(json!({}))
            }
            "DeleteItem" => {
                self.rows.remove(&key(&body["Key"]));
                Ok(json!({}))
            }
            _ => Err(Refusal { status: 400, code: "UnknownOperationException" }),
        }
    }

    /// The rows of the one name that its condition has.
    fn query(&self, body: &Value) -> Value {
        let values = body["ExpressionAttributeValues"].as_object().expect("values");
        let name = text(values.values().next().expect("a name"));
        let of_name = self.rows.range((name.clone(), String::new())..).take_while(|((of, _), _)| *of == name);
        if body["ScanIndexForward"] == false {
            return page(body, of_name.collect::<Vec<_>>().into_iter().rev().map(|(_, item)| item));
        }
        let start = &body["ExclusiveStartKey"];
        page(body, of_name.skip_while(|(at, _)| !start.is_null() && **at <= key(start)).map(|(_, item)| item))
    }
}

/// As many of `items` as a page holds.
fn page<'a>(body: &Value, items: impl Iterator<Item = &'a Item>) -> Value {
    let limit = body["Limit"].as_u64().map_or(usize::MAX, |limit| usize::try_from(limit).expect("a small number"));
    let projection = projection(body);
    let (mut taken, mut bytes, mut last) = (Vec::new(), 0, None);
    for item in items {
        taken.push(Value::Object(match &projection {
            None => item.clone(),
            Some(names) => {
                names.iter().filter_map(|name| Some(((*name).to_owned(), item.get(*name)?.clone()))).collect()
            }
        }));
        bytes += size(item);
        if bytes >= PAGE || taken.len() == limit {
            last = Some(json!({"name": item["name"], "version": item["version"]}));
            break;
        }
    }
    let mut page = json!({"Count": taken.len(), "ScannedCount": taken.len()});
    page["Items"] = Value::Array(taken);
    if let Some(last) = last {
        page["LastEvaluatedKey"] = last;
    }
    page
}

/// The attributes that are asked for; all of them without a projection.
fn projection(body: &Value) -> Option<Vec<&str>> {
    let attribute = |name: &'_ str| body["ExpressionAttributeNames"][name].as_str();
    let names = body["ProjectionExpression"].as_str()?.split(',').map(str::trim);
    Some(names.map(|name| attribute(name).unwrap_or(name)).collect())
}

/// What DynamoDB counts of an item.
fn size(item: &Item) -> usize {
    let value_size = |value: &Value| value["S"].as_str().map_or_else(|| text_len(&value["B"]) / 4 * 3, str::len);
    item.iter().map(|(name, value)| name.len() + value_size(value)).sum()
}

fn text_len(value: &Value) -> usize {
    value.as_str().map_or(0, str::len)
}

fn key(item: &Value) -> (String, String) {
    (text(&item["name"]), text(&item["version"]))
}

/// A text, or an attribute that is one.
fn text(value: &Value) -> String {
    value.as_str().or(value["S"].as_str()).expect("a text").to_owned()
}

const SUITE: Suite = Suite::CtrHmac(Digest::Sha256);

const KEY_LEN: usize = 64;

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no panic while it is locked")
}
