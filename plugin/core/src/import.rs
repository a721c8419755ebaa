//! A document that was committed after the handover, on its way into Vault: the one way in which a document is opened once
//! Vault rules, and its values have one exit. No front door comes here.
//!
//! ```text
//! decide            record, witnesses, what was imported before   ->  nothing, a mirror, or an [`Importation`]
//! Draft::imported   the one document, opened; its values go to Vault as a handover's copies do
//! Imported          what is written beside the record then: `imported/<n>`, numbered without a gap
//! status.imported   the mirror of it, by which front doors know the document
//! ```
//! Value, entry, mirror: after each of them the next run knows how far the last one came.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};

use crate::authority::{self, AuthorityRefusal, Place, written};
use crate::bootstrap::Bootstrap;
use crate::evidence::{
    DocumentList, Evidence, Holder, ListedClass, ListedDocument, Reading, documents_from_json, documents_to_json,
};
use crate::handover::decide::Leave;
use crate::handover::plan::Plan;
use crate::handover::record::{Fields, Marked, RecordedKey, Site, head, keys_from_json, keys_to_json};
use crate::handover::tree::{hex, is_hex};
use crate::name::{AuthorityName, Epoch, FilePath, HandoverId, SecretName};

/// Leave to open one document while Vault rules, and to give its values to Vault. Only [`decide`] makes one.
#[derive(Debug)]
pub struct Importation {
    name: SecretName,
    kind: String,
    number: u32,
    known: BTreeSet<(FilePath, String)>,
    leave: Leave,
}

/// Everything that a decision is a function of.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// `regent.yaml`.
    pub bootstrap: &'a Bootstrap,
    /// Where its folder stands.
    pub place: &'a Place,
    /// What the witnesses say.
    pub evidence: &'a Evidence,
    /// Vault's record, as [`crate::handover::decide::decide`] found that the witnesses agree with it.
    pub marked: &'a Marked,
    /// The document's name.
    pub name: &'a SecretName,
    /// Its kind, as [`ListedDocument::kind`] has it.
    pub kind: &'a str,
    /// The documents that Vault lists beside the record, from `imported/1` on.
    pub in_vault: &'a [ListedDocument],
    /// Those of the Authority's status, by number.
    pub in_status: &'a BTreeMap<u32, ListedDocument>,
    /// How many the status lists of other epochs; they share its room.
    pub of_other_epochs: usize,
}

/// What is to be done next.
#[derive(Debug)]
pub enum Step {
    /// Nothing: it is listed, in Vault and in the witnesses.
    Done(Listed),
    /// Vault lists documents that the status does not: add them there.
    Mirror(BTreeMap<u32, ListedDocument>),
    /// Open it, bring its values to Vault, and write its entry.
    Copy(Importation),
}

/// How a document came into the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    /// By the handover.
    HandedOver,
    /// By an import, under this number.
    Imported(u32),
}

/// Why nothing is imported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportRefusal {
    /// P0..P6, everything but P2.
    #[error(transparent)]
    Authority(#[from] AuthorityRefusal),
    /// Git rules: it is handed over with all others, or rendered until then.
    #[error("the witnesses say {held}: Git rules, and {name} is handed over with everything else")]
    GitRules {
        /// K.
        held: String,
        /// The document.
        name: SecretName,
    },
    /// Nobody knows what was handed over.
    #[error("the list of what was handed over is not readable")]
    ListUnreadable,
    /// An older backup of Vault.
    #[error("the status lists {name} as imported/{number}, and Vault does not (an older backup of Vault)")]
    Lost {
        /// Its number.
        number: u32,
        /// As the status names it.
        name: SecretName,
    },
    /// Two lists that cannot both be true.
    #[error("imported/{number} is {in_vault} in Vault, and {in_status} in the status")]
    Disagree {
        /// The number.
        number: u32,
        /// In Vault.
        in_vault: SecretName,
        /// In the status.
        in_status: SecretName,
    },
    /// The status takes no more.
    #[error("{MAX_IMPORTED} documents were imported, and the status of an Authority lists no more")]
    Full,
    /// The status does not take the path.
    #[error("{file}: its path is longer than the {MAX_FILE_PATH} bytes that the status of an Authority takes")]
    LongPath {
        /// The file.
        file: FilePath,
    },
    /// There is no such document.
    #[error("no encrypted document of the root is {kind} {name}")]
    NoDocument {
        /// Its kind.
        kind: String,
        /// Its name.
        name: SecretName,
    },
}

/// Documents that the status lists at most: the schema's bound, of all epochs.
pub const MAX_IMPORTED: usize = 256;

/// Longest path in the status: the schema's bound.
const MAX_FILE_PATH: usize = 1024;

/// Decides what comes next.
///
/// # Errors
/// What stands against it. Nothing was changed then.
pub fn decide(facts: &Facts<'_>) -> Result<Step, ImportRefusal> {
    let Facts { in_vault, in_status, name, kind, .. } = *facts;
    let handed_over = handed_over(facts)?;
    for (number, noted) in in_status {
        let at = usize::try_from(*number).ok().and_then(|number| number.checked_sub(1));
        match at.and_then(|at| in_vault.get(at)) {
            Some(entry) if entry == noted => {}
            Some(entry) => {
                let (in_vault, in_status) = (entry.name.clone(), noted.name.clone());
                return Err(ImportRefusal::Disagree { number: *number, in_vault, in_status });
            }
            None => return Err(ImportRefusal::Lost { number: *number, name: noted.name.clone() }),
        }
    }
    let numbered = || (1..).zip(in_vault);
    let missing = numbered().filter(|(number, _)| !in_status.contains_key(number));
    let missing: BTreeMap<u32, ListedDocument> = missing.map(|(number, entry)| (number, entry.clone())).collect();
    let is_it = |document: &ListedDocument| document.name == *name && document.kind == kind;
    let listed = if handed_over.iter().any(is_it) {
        Some(Listed::HandedOver)
    } else {
        numbered().find(|(_, entry)| is_it(entry)).map(|(number, _)| Listed::Imported(number))
    };
    let room = MAX_IMPORTED.saturating_sub(facts.of_other_epochs);
    if in_vault.len() > room {
        return Err(ImportRefusal::Full);
    }
    if !missing.is_empty() {
        return Ok(Step::Mirror(missing));
    }
    if let Some(listed) = listed {
        return Ok(Step::Done(listed));
    }
    if in_vault.len() == room {
        return Err(ImportRefusal::Full);
    }
    let known = handed_over.iter().chain(in_vault);
    Ok(Step::Copy(Importation {
        name: name.clone(),
        kind: kind.to_owned(),
        number: numbered().last().map_or(1, |(number, _)| number + 1),
        known: known.map(|listed| (listed.path.clone(), listed.blob.clone())).collect(),
        leave: Leave::of_import(),
    }))
}

/// What evidence alone says, before a key is used or Vault asked: the handover of K, where Vault rules the epoch of this
/// revision.
///
/// # Errors
/// Everything but P2 of this very epoch.
pub fn admitted<'h>(
    bootstrap: &Bootstrap,
    place: &Place,
    holder: &'h Holder,
    name: &SecretName,
) -> Result<(Epoch, &'h HandoverId), ImportRefusal> {
    authority::rule(bootstrap, place, holder, DocumentList::Unreadable)?;
    let (epoch, handover) = match holder {
        Holder::Vault { epoch, handover, .. } => (*epoch, handover),
        Holder::None | Holder::Git { .. } | Holder::Disagree(_) | Holder::Unreadable(_) => {
            return Err(ImportRefusal::GitRules { held: holder.to_string(), name: name.clone() });
        }
    };
    // A revision from before an earlier handover has values from before it, too.
    if bootstrap.epoch != epoch {
        return Err(AuthorityRefusal::Mismatch { held: holder.to_string(), written: written(bootstrap) }.into());
    }
    Ok((epoch, handover))
}

/// What the handover of K's epoch listed, where Vault rules the epoch of this revision.
fn handed_over<'a>(facts: &Facts<'a>) -> Result<&'a [ListedDocument], ImportRefusal> {
    let Facts { bootstrap, place, evidence, marked, name, .. } = *facts;
    let holder = evidence.holder();
    let (epoch, handover) = admitted(bootstrap, place, &holder, name)?;
    let record = &marked.record;
    let is_readable = matches!(evidence.documents_of(&holder), DocumentList::Readable(_));
    match evidence.handovers.get(&epoch) {
        Some(Reading::Present(witness)) if is_readable && (record.epoch, &record.handover) == (epoch, handover) => {
            Ok(&witness.documents)
        }
        Some(Reading::Present(_) | Reading::Absent | Reading::Unreadable(_)) | None => {
            Err(ImportRefusal::ListUnreadable)
        }
    }
}

impl Importation {
    /// Its name.
    pub fn name(&self) -> &SecretName {
        &self.name
    }

    /// Its kind.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The number of its entry, unless another import is quicker.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// What its values need to leave for Vault.
    pub fn leave(&self) -> &Leave {
        &self.leave
    }

    /// Whether a file is one that was handed over or imported, byte for byte: it holds nothing new.
    pub(crate) fn knows(&self, file: &FilePath, blob: &str) -> bool {
        self.known.contains(&(file.clone(), blob.to_owned()))
    }

    /// Whether a document of this path was handed over or imported, whatever it held.
    pub(crate) fn knows_file(&self, file: &FilePath) -> bool {
        self.known.iter().any(|(known, _)| known == file)
    }

    /// Why there is nothing to import, where the root does not have it.
    pub fn no_document(&self) -> ImportRefusal {
        ImportRefusal::NoDocument { kind: self.kind.clone(), name: self.name.clone() }
    }

    /// Whether the status takes the document.
    ///
    /// # Errors
    /// Its path is too long.
    pub fn check(&self, document: &ListedDocument) -> Result<(), ImportRefusal> {
        if document.path.as_str().len() > MAX_FILE_PATH {
            return Err(ImportRefusal::LongPath { file: document.path.clone() });
        }
        Ok(())
    }
}

/// What a person approves: SHA-256 as 64 lower-case hexadecimal digits over `["regent import plan","1",handover id]`, a line
/// feed, and the text of the plan ([`Plan::digest`]) of the one document. Its number is not in it: another import may take
/// that.
pub fn digest(plan: &Plan, handover: &HandoverId) -> String {
    // Arrays of text always serialize.
    let head = serde_json::to_string(&["regent import plan", "1", handover.as_str()]).unwrap_or_default();
    hex(&Sha256::digest(format!("{head}\n{}", plan.text()).as_bytes()))
}

/// An imported document as it stands in Vault, at [`Imported::key`] below the record. Its fields are those of the record
/// that say which handover and where, and `gitCommit`, `regentVersion`, `documents` (one) and `records` (its copy, where
/// there is one) as the record has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// `authorityId`.
    pub name: AuthorityName,
    /// `epoch`.
    pub epoch: Epoch,
    /// `handoverId`: the handover whose list it is added to.
    pub handover: HandoverId,
    /// Which Vault and which clusters, as the import found them.
    pub site: Site,
    /// The commit that it was imported from.
    pub git_commit: String,
    /// The regent that did.
    pub regent_version: String,
    /// The document.
    pub document: ListedDocument,
    /// Its copy; a document of another kind, or with `vault: false`, has none.
    pub copy: Option<RecordedKey>,
}

impl Imported {
    /// Below [`crate::handover::record::Record::path`]: where the `number`th is, counted from 1 without a gap, so that it is
    /// found without a listing.
    pub fn key(number: u32) -> String {
        format!("imported/{number}")
    }

    /// The fields of its key.
    pub fn to_fields(&self) -> BTreeMap<String, String> {
        let mut fields = head(&self.name, self.epoch, &self.handover, &self.site);
        let mut put = |key: &str, value: String| drop(fields.insert(key.to_owned(), value));
        put("gitCommit", self.git_commit.clone());
        put("regentVersion", self.regent_version.clone());
        put("documents", documents_to_json(std::slice::from_ref(&self.document)));
        put("records", keys_to_json(self.copy.as_slice()));
        fields
    }

    /// Reads the fields of an entry of `name`'s `epoch`.
    ///
    /// # Errors
    /// What is wrong, in words that quote nothing of it.
    pub fn from_fields(name: &AuthorityName, epoch: Epoch, fields: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut fields = Fields::of(fields);
        let (handover, site) = fields.head(name, epoch)?;
        let git_commit = fields.needed("gitCommit")?.to_owned();
        let regent_version = fields.needed("regentVersion")?.to_owned();
        let documents = documents_from_json(fields.needed("documents")?)?;
        let copies = keys_from_json(fields.needed("records")?)?;
        fields.finish()?;
        site.check()?;
        let [document]: [ListedDocument; 1] =
            documents.try_into().map_err(|_| "`documents` of an import is one document".to_owned())?;
        let copy = match <[RecordedKey; 1]>::try_from(copies) {
            Ok([copy]) => Some(copy),
            Err(none) if none.is_empty() => None,
            Err(_) => return Err("`records` of an import has more than one copy".to_owned()),
        };
        if !is_hex(&git_commit, &[40, 64]) || !is_hex(&document.blob, &[40, 64]) {
            return Err("an id of Git is none".to_owned());
        }
        let is_owned = document.kind == "Secret" && document.class == ListedClass::Handover;
        match &copy {
            Some(copy) if copy.name != document.name || document.kind != "Secret" || copy.version == 0 => {
                Err("`records` is no copy of its document".to_owned())
            }
            None if is_owned => Err("it gives its document to Vault, and has no copy of it".to_owned()),
            Some(_) | None => {
                Ok(Self { name: name.clone(), epoch, handover, site, git_commit, regent_version, document, copy })
            }
        }
    }
}

#[cfg(test)]
mod tests;
