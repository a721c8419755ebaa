//! Git's smart HTTP (gitprotocol-http) over the project's own TLS: one GET for the list of references, then a POST a
//! question. Credentials go to the server in the address, and nowhere else.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::{Buf as _, Bytes};
use git2::transport::{Service, SmartSubtransport, SmartSubtransportStream};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, USER_AGENT};
use http::{HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use regent_core::remote::{Access, Address};
use zeroize::Zeroizing;

use super::{RemoteProblem, Session};
use crate::config;
use crate::failure::{Failure, innermost};
use crate::tls::{self, Roots};

/// What the server is told, and whom it is believed to be. No Debug: it holds a token.
pub(super) struct Credentials {
    header: Option<HeaderValue>,
    /// As they could come back in words: the token, and its header.
    secrets: Vec<Zeroizing<String>>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Credentials {
    /// Reads the files.
    pub(super) fn read(access: &Access) -> Result<Self, Failure> {
        let tls = tls::client(&Roots::file_or_system(access.ca_file.as_deref()), None)?;
        let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(1).build(https);
        let Some(file) = &access.token_file else { return Ok(Self { header: None, secrets: Vec::new(), client }) };
        let token = config::one_line_of(file)?;
        let written = match &access.username {
            Some(user) => {
                let pair = Zeroizing::new(format!("{user}:{}", token.as_str()));
                Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(pair.as_bytes())))
            }
            None => Zeroizing::new(format!("Bearer {}", token.as_str())),
        };
        let mut header = HeaderValue::from_str(&written).map_err(|_| config::no_line(file))?;
        header.set_sensitive(true);
        let (_, encoded) = written.split_once(' ').unwrap_or_default();
        let secrets = vec![Zeroizing::new(encoded.to_owned()), token];
        Ok(Self { header: Some(header), secrets, client })
    }

    /// Whether words hold a credential.
    pub(super) fn are_in(&self, words: &str) -> bool {
        self.secrets.iter().any(|secret| words.contains(secret.as_str()))
    }
}

/// Redirects of one question; servers use one, to add `.git`.
const MAX_REDIRECTS: usize = 3;
/// Git's servers tell clients apart by how this begins.
const AGENT: &str = concat!("git/2.0 (regent ", env!("CARGO_PKG_VERSION"), ")");
/// What follows a repository's address where its references are asked for.
const REFERENCES: &str = "/info/refs?service=git-upload-pack";

/// libgit2's connection: each question is one exchange.
pub(super) struct Transport {
    session: Arc<Session>,
    /// The path that answered: a redirect of the first question counts for those that follow.
    path: Arc<Mutex<String>>,
}

impl Transport {
    pub(super) fn new(session: Arc<Session>) -> Self {
        let path = match &session.address {
            Address::Http { path, .. } => path.clone(),
            Address::Ssh { .. } => String::new(),
        };
        Self { session, path: Arc::new(Mutex::new(path)) }
    }
}

impl SmartSubtransport for Transport {
    fn action(&self, _url: &str, service: Service) -> Result<Box<dyn SmartSubtransportStream>, git2::Error> {
        let kind = match service {
            Service::UploadPackLs => Kind::References,
            Service::UploadPack => Kind::Pack,
            Service::ReceivePackLs | Service::ReceivePack => {
                return Err(git2::Error::from_str("nothing is ever pushed"));
            }
        };
        let (session, path) = (Arc::clone(&self.session), Arc::clone(&self.path));
        Ok(Box::new(Exchange { session, path, kind, question: Vec::new(), answer: None, part: Bytes::new() }))
    }

    fn close(&self) -> Result<(), git2::Error> {
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    References,
    Pack,
}

impl Kind {
    /// The type of a right answer: anything else is another server's, or a page for people.
    fn answer_type(self) -> &'static str {
        match self {
            Self::References => "application/x-git-upload-pack-advertisement",
            Self::Pack => "application/x-git-upload-pack-result",
        }
    }
}

/// A question, which is sent once libgit2 begins to read, and its answer.
struct Exchange {
    session: Arc<Session>,
    path: Arc<Mutex<String>>,
    kind: Kind,
    question: Vec<u8>,
    answer: Option<Incoming>,
    part: Bytes,
}

impl Write for Exchange {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.question.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Read for Exchange {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.next_part().map_err(|problem| self.session.fail(problem))?;
        let taken = into.len().min(self.part.len());
        self.part.copy_to_slice(&mut into[..taken]);
        Ok(taken)
    }
}

impl Exchange {
    /// Waits until there is something to read, or nothing more.
    fn next_part(&mut self) -> Result<(), RemoteProblem> {
        let session = Arc::clone(&self.session);
        let answer = match &mut self.answer {
            Some(answer) => answer,
            none => none.insert(session.wait(ask(&session, &self.path, self.kind, &self.question))?),
        };
        while self.part.is_empty() {
            let frame = session.wait(async { Ok(answer.frame().await) })?;
            let Some(frame) = frame else { return Ok(()) };
            let frame = frame.map_err(|error| RemoteProblem::Unreachable(innermost(&error)))?;
            self.part = frame.into_data().unwrap_or_default();
            session.count(self.part.len())?;
            if self.kind == Kind::References {
                session.note(&self.part)?;
            }
        }
        Ok(())
    }
}

/// One exchange, with the redirects of the first.
async fn ask(session: &Session, path: &Mutex<String>, kind: Kind, question: &[u8]) -> Result<Incoming, RemoteProblem> {
    for _ in 0..=MAX_REDIRECTS {
        let before = path.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let response = send(session, &before, kind, question).await?;
        match response.status().as_u16() {
            200 if response.headers().get(CONTENT_TYPE).is_some_and(|is| is == kind.answer_type()) => {
                return Ok(response.into_body());
            }
            200 => return Err(RemoteProblem::NotGit),
            // As Git does it: followed for the references alone, and what follows asks where those were.
            301 | 302 | 303 | 307 | 308 if kind == Kind::References => {
                let to = redirected(session, &response).ok_or(RemoteProblem::Redirected)?;
                *path.lock().unwrap_or_else(PoisonError::into_inner) = to;
            }
            300..=399 => return Err(RemoteProblem::Redirected),
            401 | 403 => {
                let Credentials { header, .. } = credentials(session)?;
                return Err(RemoteProblem::Unauthorized { given: header.is_some() });
            }
            404 => return Err(RemoteProblem::NotFound),
            status => return Err(RemoteProblem::Status(status)),
        }
    }
    Err(RemoteProblem::Redirected)
}

/// The repository's path in a redirect that stays with the server: same scheme, same host, same port.
fn redirected(session: &Session, response: &Response<Incoming>) -> Option<String> {
    let Address::Http { tls, server, .. } = &session.address else { return None };
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    let here = format!("http{}://{server}", if *tls { "s" } else { "" });
    same_server(location, &here)?.strip_suffix(REFERENCES).map(str::to_owned)
}

/// What follows the server in an address on it.
fn same_server<'l>(location: &'l str, server: &str) -> Option<&'l str> {
    let path = if location.starts_with('/') && !location.starts_with("//") {
        location
    } else {
        location.split_at_checked(server.len()).filter(|(place, _)| place.eq_ignore_ascii_case(server))?.1
    };
    path.starts_with('/').then_some(path)
}

async fn send(session: &Session, path: &str, kind: Kind, question: &[u8]) -> Result<Response<Incoming>, RemoteProblem> {
    let Address::Http { tls, server, .. } = &session.address else { return Err(RemoteProblem::NotGit) };
    let Credentials { header, client, .. } = credentials(session)?;
    let (method, rest) = match kind {
        Kind::References => (Method::GET, REFERENCES),
        Kind::Pack => (Method::POST, "/git-upload-pack"),
    };
    let uri = format!("http{}://{server}{path}{rest}", if *tls { "s" } else { "" });
    let uri: Uri = uri.parse().map_err(|_| RemoteProblem::Redirected)?;
    let mut request = Request::builder().method(method).uri(uri).header(USER_AGENT, AGENT);
    request = request.header(ACCEPT, kind.answer_type());
    if kind == Kind::Pack {
        request = request.header(CONTENT_TYPE, "application/x-git-upload-pack-request");
    }
    if let Some(header) = header {
        request = request.header(AUTHORIZATION, header);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(question)));
    let request = request.map_err(|error| RemoteProblem::Unreachable(innermost(&error)))?;
    client.request(request).await.map_err(|error| RemoteProblem::Unreachable(innermost(&error)))
}

fn credentials(session: &Session) -> Result<&Credentials, RemoteProblem> {
    match &session.credentials {
        super::Credentials::Http(credentials) => Ok(credentials),
        super::Credentials::Ssh(_) => Err(RemoteProblem::NotGit),
    }
}

#[cfg(test)]
mod tests {
    use super::same_server;

    #[test]
    fn a_redirect_is_followed_on_the_same_server_alone() {
        let path = |location| same_server(location, "https://git.example:8443");
        assert_eq!(path("https://git.example:8443/infra.git/x"), Some("/infra.git/x"));
        assert_eq!(path("HTTPS://Git.Example:8443/infra.git/x"), Some("/infra.git/x"));
        assert_eq!(path("/infra.git/x"), Some("/infra.git/x"));
        for elsewhere in [
            "http://git.example:8443/infra.git",
            "https://git.example/infra.git",
            "https://git.example:84430/infra.git",
            "https://git.example:8443.evil.example/infra.git",
            "https://git.example:8443@evil.example/infra.git",
            "//evil.example/infra.git",
            "infra.git",
            "",
        ] {
            assert_eq!(path(elsewhere), None, "{elsewhere}");
        }
    }
}
