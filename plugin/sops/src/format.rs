//! The stores: which format a file has, and the two things a file can be.

pub(crate) mod binary;
pub(crate) mod dotenv;
pub(crate) mod ini;
pub(crate) mod json;
pub(crate) mod yaml;

use crate::error::Error;
use crate::limits::Limits;
use crate::metadata;
use crate::opening::Sealed;
use crate::scalar::Dialect;
use crate::tree::Tree;

/// A store of SOPS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// YAML, several documents in a file.
    Yaml,
    /// JSON, one object.
    Json,
    /// `KEY=value` lines.
    Dotenv,
    /// Sections with `key = value` lines.
    Ini,
    /// Any bytes, kept as one value in a JSON file.
    Binary,
}

impl Format {
    /// Every format, in the order of help texts.
    pub const ALL: [Self; 5] = [Self::Yaml, Self::Json, Self::Dotenv, Self::Ini, Self::Binary];

    /// The format that `sops` assumes for a file of this name: `.yaml`, `.yml`, `.json`, `.env`,
    /// `.ini`, else binary.
    #[expect(clippy::case_sensitive_file_extension_comparisons, reason = "as `sops`: `x.YAML` is binary")]
    pub fn of_name(name: &str) -> Self {
        if name.ends_with(".yaml") || name.ends_with(".yml") {
            Self::Yaml
        } else if name.ends_with(".json") {
            Self::Json
        } else if name.ends_with(".env") {
            Self::Dotenv
        } else if name.ends_with(".ini") {
            Self::Ini
        } else {
            Self::Binary
        }
    }

    /// The name that `sops --input-type` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Yaml => "yaml",
            Self::Json => "json",
            Self::Dotenv => "dotenv",
            Self::Ini => "ini",
            Self::Binary => "binary",
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A parsed file: with or without a `sops` block.
pub enum Document {
    /// No `sops` block: typed as Kubernetes reads it.
    Clear(Tree),
    /// A `sops` block: typed as SOPS reads it, nothing decrypted.
    Sealed(Sealed),
}

impl Document {
    /// Parses a file of `format`. YAML and JSON files without a `sops` key are [`Document::Clear`];
    /// dotenv, INI and binary files without metadata are [`Error::MetadataAbsent`], and so is a YAML
    /// file whose first document has no `sops` key and a later one has.
    ///
    /// # Errors
    /// [`Error::TooLarge`] before anything is read, then what the format's parser and the `sops`
    /// block say.
    pub fn parse(bytes: &[u8], format: Format, limits: &Limits) -> Result<Self, Error> {
        if bytes.len() > limits.document {
            return Err(Error::TooLarge { limit: limits.document });
        }
        let mut tree = match format {
            Format::Yaml => {
                let untyped = yaml::parse(bytes, limits)?;
                // Who wrote the file decides how it is read: `yes` is a text for SOPS, and true for
                // Kubernetes.
                let sealed = untyped.has_top_level(metadata::BLOCK);
                untyped.into_tree(if sealed { Dialect::Sops } else { Dialect::Kubernetes })?
            }
            Format::Json => json::parse(bytes, limits)?,
            Format::Dotenv => dotenv::parse(bytes, limits)?,
            Format::Ini => ini::parse(bytes, limits)?,
            Format::Binary => binary::parse(bytes, limits)?,
        };
        match metadata::take(&mut tree, format, limits)? {
            Some(metadata) => Ok(Self::Sealed(Sealed::new(tree, metadata))),
            None => match format {
                Format::Yaml | Format::Json => Ok(Self::Clear(tree)),
                Format::Dotenv | Format::Ini | Format::Binary => Err(Error::MetadataAbsent),
            },
        }
    }
}
