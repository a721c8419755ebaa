//! The least of a Vault's transit engine that `sops --decrypt` asks: one question, answered with wrapping keys.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use regent_sops::WrappingKeys;

/// Serves until the test program ends.
pub(crate) struct Transit {
    address: String,
    answered: Arc<AtomicU64>,
}

impl Transit {
    /// Unwraps with these keys what was wrapped under the name of the transit key as its context.
    pub(crate) fn serve(keys: WrappingKeys) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let answered = Arc::new(AtomicU64::new(0));
        let (keys, count) = (Arc::new(keys), Arc::clone(&answered));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (keys, count) = (Arc::clone(&keys), Arc::clone(&count));
                std::thread::spawn(move || answer(&stream.unwrap(), &keys, &count));
            }
        });
        Self { address, answered }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// How often a data key was given out.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
}

fn answer(mut stream: &TcpStream, keys: &WrappingKeys, count: &AtomicU64) {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if line == "\r\n" {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let header = |name: &str| {
        lines.iter().find_map(|line| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name)))
    };
    let length = header("Content-Length").map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let data_key = (|| {
        let (method, rest) = lines.first()?.split_once(' ')?;
        let key = rest.strip_prefix("/v1/regent/decrypt/")?.strip_suffix(" HTTP/1.1")?;
        header("X-Vault-Token")?;
        let body: serde_json::Value = serde_json::from_slice(&body).ok()?;
        let text = body.get("ciphertext")?.as_str()?;
        matches!(method, "PUT" | "POST").then_some(())?;
        keys.unwrap(text, key.as_bytes()).ok()
    })();
    let (status, body) = match data_key {
        Some(key) => {
            count.fetch_add(1, Ordering::Relaxed);
            ("200 OK", format!("{{\"data\":{{\"plaintext\":\"{}\"}}}}", STANDARD.encode(key.expose())))
        }
        None => ("403 Forbidden", "{\"errors\":[\"refused\"]}".to_owned()),
    };
    let length = body.len();
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
}
