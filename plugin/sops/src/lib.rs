//! Ciphertext in Git: what SOPS, age and OpenPGP write, opened and checked.
//!
//! This crate knows formats, the `sops` block, the MAC and keys. It does no I/O, knows nothing of
//! Kubernetes, and hands out nothing before the MAC matched:
//!
//! ```text
//! bytes --Document::parse--> Document::Clear(Tree)          no encrypted values
//!                            Document::Sealed(Sealed)       parsed, nothing decrypted
//! Sealed --Sealed::open(Opener)--> Opened                   every value decrypted, MAC matched
//! bytes --envelope::open(&Keyring)--> Plaintext             a file encrypted as a whole
//! ```
//!
//! One thing goes back to ciphertext: a document for a reader that decrypts by itself and asks a Vault for the data key,
//! as kustomize-controller does. So values stay encrypted on their way, and who may have them is decided when the key
//! is asked for:
//!
//! ```text
//! Sealed --Sealed::open_with_key(Opener)--> Opened, DataKey
//! DataKey + context --WrappingKeys::wrap--> text            Keyring::wrapping_keys: derived, never stored
//! Selection::repoint(sealed document, DataKey, Stanza)      the same ciphertext, one recipient
//! Selection::seal(opened document, DataKey, Stanza)         where the file's rule does not serve: encrypted anew
//! text + context --WrappingKeys::unwrap--> DataKey          when the reader asks
//! ```
//!
//! An [`Opener`] is a [`Keyring`] at work, and `&Keyring` is the plain one. With [`DataKeys`] it shares data keys that
//! were unwrapped with other openers of the same identities, never of others; with a [`Stop`] it ends before the
//! next attempt to unwrap.
//!
//! Behaviour follows the `sops` program; names of rules and fields are its own.
//!
//! # Where this is deliberately stricter than `sops`
//!
//! | regent refuses | `sops` | because |
//! |---|---|---|
//! | a file without MAC or with a wrong one, always | opens it with `--ignore-mac` | nobody vouches for its values |
//! | a key that stands twice in a YAML mapping, in any document | looks at parts of the first document, by version | readers disagree on which one counts: a review sees one value, the cluster gets another |
//! | a field of the `sops` block that stands twice, in any case (`mac` and `MAC`) | takes one of them, by store and version | the versions disagree on which |
//! | `mac_only_encrypted` as anything but true, false or their texts (`yes`, `1`) | takes some, by version | the versions disagree on the meaning |
//! | a threshold that is negative or no whole number | rounds it or ignores it | no writer makes one |
//! | a list index in a flat block's key that is no number (`age__list_x`) | reads it as a mapping | no writer makes one |
//! | authentic ciphertext of another type as a comment (a list's value moved into a comment) | opens it, up to 3.13.1: the MAC counts it | a value would vanish unnoticed |
//! | `type:comment` as the value of a key | opens it to nothing | as above; in a list it is a comment, as SOPS writes it |
//! | `type:bytes` | panics | no writer makes it |
//! | `type:float` in hexadecimal or with underscores | takes what Go's `ParseFloat` takes | no writer makes it |
//! | nonces of other lengths than 12, 16, 24, 32 and 64 bytes, data keys of other lengths than 32 | takes any nonce, and keys of 16 and 24 | SOPS writes 32 and 32 |
//! | a clear JSON integer beyond 2^53 changed to one that rounds to the same double | opens it, up to 3.13.1 | what those versions wrote hashes alike either way, so only a change shows the difference |
//! | JSON that is not UTF-8 or has a lone surrogate; dotenv and INI keys that are not UTF-8 | reads U+FFFD, or the bytes | another text than the one that stands there would hide it |
//! | YAML in which Go's parser and YAML 1.2 see different lines or tokens; an alias to another document's anchor | reads it Go's way | a comment could go on as data |
//! | a UTF-16 INI file | reads garbage | it is none |
//! | a pattern beyond 16 KiB, too large when compiled, or too costly on the file's keys | runs it | hostile input has bounded cost |
//! | what exceeds [`Limits`] | reads it | likewise |
//! | writing what the output format cannot hold without loss: null, several documents or nested values as dotenv, `<<` as INI, bytes that are no text as JSON | drops or changes it | what comes out must be what was encrypted |
//!
//! More lenient it is only where versions of `sops` differ, or where nothing hangs on it: the `sops` block is read
//! as the union of what all versions read (a quoted threshold or flag, a lone mapping for a list, field names in any
//! case, empty texts for nothing), base64 as Go reads it (unused bits, carriage returns), `%YAML 1.2`, and with a
//! comment rule a clear text is taken for not selected instead of followed to its comment: the MAC tells whether it
//! was encrypted when the file was written.
//!
//! # What the MAC does not cover
//!
//! It is a hash of values in order, without keys or structure. So whoever can change a file can, unnoticed, rename
//! clear keys, move bytes between neighbouring clear values, change the type of a value where its text allows it, add
//! empty values, nulls, comments and empty documents, and remove comments and other recipients. With
//! `mac_only_encrypted` every clear value may be changed as well.
#![forbid(unsafe_code)]
#![deny(missing_docs, clippy::indexing_slicing, clippy::string_slice)]

pub mod envelope;
mod error;
pub mod format;
mod go_regex;
pub mod key;
mod limits;
mod mac;
mod metadata;
mod opener;
mod opening;
mod plaintext;
mod rfc3339;
mod scalar;
mod sealing;
mod select;
mod tree;
mod value;
mod wrapping;

pub use error::{Bound, EmitProblem, Error, IdentityProblem, KeyReport, MacProblem, ValueProblem};
pub use format::{Document, Format};
pub use key::{DataKeyCounts, DataKeys, Keyring, Loaded, Passphrase, PluginLine};
pub use limits::Limits;
pub use metadata::{Recipient, RecipientKind};
pub use opener::{Opener, Stop};
pub use opening::{Opened, Reveal, Sealed};
pub use plaintext::{Plaintext, Wiping};
pub use sealing::{Selection, Stanza};
pub use tree::{Branch, Comment, Element, Entry, Item, Leaf, Node, Origin, Position, Scalar, Tree};
pub use wrapping::{DataKey, WrapProblem, WrappingKeys};
