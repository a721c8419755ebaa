//! `regent open`: one encrypted file, for the key holder. No rule, no authority, no front door.

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use regent_core::files::Content;
use regent_sops::envelope::{self, Envelope};
use regent_sops::{Document, Format, Keyring, Limits, Opened, Plaintext, Reveal};

use crate::cli::{FormatArg, OpenArgs};
use crate::failure::Failure;
use crate::source::dir::read_bounded;
use crate::{keys, output};

pub(super) fn run(args: &OpenArgs) -> Result<ExitCode, Failure> {
    let file = Input::read(&args.file)?;
    let identities = keys::load(&args.keys)?;
    let reveal = if args.reveal { Reveal::Values } else { Reveal::Redacted };
    let opened = match file.envelope(args.input_type) {
        Some((kind, inner)) => open_envelope(&file, kind, inner, args, &identities.keyring, reveal),
        None => open_document(&file, args.input_type, args, &identities.keyring, reveal),
    };
    let written = identities.told(opened)?;
    output::parts("", &[written], "")?;
    Ok(ExitCode::SUCCESS)
}

/// A file with a `sops` block.
fn open_document(
    file: &Input,
    input_type: Option<FormatArg>,
    args: &OpenArgs,
    keys: &Keyring,
    reveal: Reveal,
) -> Result<Plaintext, Failure> {
    let format = match input_type {
        Some(format) => Format::from(format),
        None if file.is_stdin() => {
            return Err(Failure::Usage("standard input has no name: `--input-type` says what it is".to_owned()));
        }
        None => Format::of_name(&file.name),
    };
    let sealed = match Document::parse(&file.bytes, format, &Limits::default()).map_err(|error| file.failed(error))? {
        Document::Sealed(sealed) => sealed,
        Document::Clear(_) => return Err(file.failed(regent_sops::Error::MetadataAbsent)),
    };
    if sealed.mac_only_encrypted() {
        output::note(format_args!("{}: its MAC covers the encrypted values alone", file.name));
    }
    let opened = sealed.open(keys).map_err(|error| file.failed(error))?;
    emit(file, &opened, args.output_type.map_or(format, Format::from), reveal)
}

/// A file encrypted as a whole, and the format of what is inside.
fn open_envelope(
    file: &Input,
    kind: Envelope,
    inner: Format,
    args: &OpenArgs,
    keys: &Keyring,
    reveal: Reveal,
) -> Result<Plaintext, Failure> {
    let limits = Limits::default();
    let output = args.output_type.map_or(inner, Format::from);
    let manifests = match inner {
        Format::Yaml => Some("inner.yaml"),
        Format::Json => Some("inner.json"),
        Format::Dotenv | Format::Ini | Format::Binary => None,
    };
    // Revealed in its own format, the file leaves as it is: byte for byte.
    if let Some(name) = manifests.filter(|_| reveal == Reveal::Redacted || output != inner) {
        let opened = envelope::open_manifests(&file.bytes, kind, name, keys, &limits).map_err(|e| file.failed(e))?;
        return emit(file, &opened, output, reveal);
    }
    if output != inner && output != Format::Binary {
        return Err(Failure::Usage(format!(
            "{} is encrypted as a whole, and its name does not say that YAML or JSON is inside: `--input-type` does",
            file.name
        )));
    }
    let plaintext = envelope::open(&file.bytes, kind, keys, &limits).map_err(|error| file.failed(error))?;
    Ok(match reveal {
        Reveal::Values => plaintext,
        Reveal::Redacted => Plaintext::new(format!("<redacted file, {} bytes>\n", plaintext.len()).into_bytes()),
    })
}

fn emit(file: &Input, opened: &Opened, format: Format, reveal: Reveal) -> Result<Plaintext, Failure> {
    opened.emit(format, reveal).map_err(|error| file.failed(error))
}

/// The file that was named.
struct Input {
    name: String,
    bytes: Vec<u8>,
}

impl Input {
    fn read(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let limit = Limits::default().document;
        if path == Path::new("-") {
            let mut bytes = Vec::new();
            // One byte more than the bound tells that there is more.
            std::io::stdin().lock().take(limit as u64 + 1).read_to_end(&mut bytes).map_err(|error| Failure::World {
                what: "read",
                name: "standard input".to_owned(),
                reason: error.to_string(),
            })?;
            let input = Self { name: "-".to_owned(), bytes };
            if input.bytes.len() > limit {
                return Err(input.failed(regent_sops::Error::TooLarge { limit }));
            }
            return Ok(input);
        }
        let content = read_bounded(path, limit).map_err(|error| Failure::World {
            what: "read",
            name: name.clone(),
            reason: error.to_string(),
        })?;
        match content {
            Content::Bytes(bytes) => Ok(Self { name, bytes }),
            Content::TooLarge { .. } | Content::BadLink | Content::Special | Content::NotRead => {
                Err(Failure::Open { file: name, error: regent_sops::Error::TooLarge { limit } })
            }
        }
    }

    fn is_stdin(&self) -> bool {
        self.name == "-"
    }

    /// How the file is encrypted as a whole, if it is, and what is inside: by its first bytes, else by its name
    /// (binary PGP has no first bytes of its own). `--input-type` says what is inside.
    fn envelope(&self, input_type: Option<FormatArg>) -> Option<(Envelope, Format)> {
        let starts = |text: &str| self.bytes.starts_with(text.as_bytes());
        let seen = if starts("age-encryption.org/") || starts("-----BEGIN AGE ENCRYPTED FILE-----") {
            Some(Envelope::Age)
        } else {
            starts("-----BEGIN PGP MESSAGE-----").then_some(Envelope::Pgp)
        };
        let named = Envelope::of_name(&self.name);
        let inner = |name: &str| input_type.map_or_else(|| Format::of_name(name), Format::from);
        match (seen, named) {
            (Some(kind), named) => Some((kind, inner(named.map_or(self.name.as_str(), |(_, inner)| inner)))),
            // A name alone does not outweigh a person's word: SOPS files may be called anything.
            (None, Some((kind, name))) if input_type.is_none() => Some((kind, inner(name))),
            (None, Some(_) | None) => None,
        }
    }

    fn failed(&self, error: regent_sops::Error) -> Failure {
        let file = if self.is_stdin() { "standard input".to_owned() } else { self.name.clone() };
        Failure::Open { file, error }
    }
}

impl From<FormatArg> for Format {
    fn from(arg: FormatArg) -> Self {
        match arg {
            FormatArg::Yaml => Self::Yaml,
            FormatArg::Json => Self::Json,
            FormatArg::Dotenv => Self::Dotenv,
            FormatArg::Ini => Self::Ini,
            FormatArg::Binary => Self::Binary,
        }
    }
}
