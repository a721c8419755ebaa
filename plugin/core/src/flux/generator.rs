//! A `secretGenerator` with encrypted inputs, as the Secret that it stands for.
//!
//! kustomize-controller decrypts such inputs on its disk, and kustomize makes a Secret of them whose name ends in a hash
//! of the plaintext. Of a file nobody can tell who asks for its key, and a stub has no plaintext to hash; so regent makes
//! the Secret itself, by kustomize's rules, and from there on it is a document as any other:
//!
//! ```text
//! while Git rules    the inputs opened, each MAC checked -> data -> `NAME-HASH`, judged, guarded, sealed
//! once Vault rules   nothing is opened: the name with its hash is the one that the handover lists
//!
//! kustomization.yaml                  in the artifact without the entry; `regent-generated/NAME` among its `resources`
//! regent-generated/NAME/
//!   kustomization.yaml                `nameSuffix: -HASH`, so that kustomize renames what refers to `NAME` as before
//!   secret.yaml                       the Secret `NAME`
//! ```
//! It is told, listed and compared under a path that no file can have, its kustomization's with the name below it
//! (`app/kustomization.yaml/NAME`), and with the bytes of everything that it is made of.

use std::collections::BTreeMap;

use regent_sops::{Branch, Document, Element, Format, Leaf, Limits, Node, Opener, Origin, Plaintext, Scalar};
use serde_json::json;

use super::name_hash;
use super::reach::{self, Entry, Generated, InputForm, Place};
use crate::bootstrap::Bootstrap;
use crate::files::{Content, Files};
use crate::kustomization::{self, Refused};
use crate::name::FilePath;
use crate::refusal::{DocumentProblem, GeneratorProblem};
use crate::render;

/// A generator of which an input is encrypted. Literals and inputs may be values in the clear: no Debug.
pub struct Generator {
    document: FilePath,
    kustomization: FilePath,
    index: usize,
    entry: Entry,
    /// What the build makes of its name and namespace.
    place: Place,
    /// Its name in the cluster, but for the hash.
    stem: String,
    inputs: Vec<Input>,
    bytes: Vec<u8>,
}

/// A file that it reads.
struct Input {
    file: FilePath,
    form: InputForm,
    /// The format as which it is decrypted; `None` for one in clear text.
    sealed_as: Option<Format>,
    bytes: Vec<u8>,
}

/// The folder that regent makes beside a kustomization.
pub(crate) const FOLDER: &str = "regent-generated";

/// kustomize's line of an `envs` file ends here, and so does silently all that comes after it.
const MAX_LINE: usize = 64 << 10;

/// A value of which only the key shows.
const SEALED: &str = "ENC[AES256_GCM,type:str]";

impl Generator {
    /// From what the build reads. `files` are those of the repository, `inside` gives a path of it as the root has it.
    ///
    /// # Errors
    /// What regent does not make as kustomize does, and the file to tell it at.
    pub(crate) fn of(
        generated: &Generated,
        files: &Files,
        inside: impl Fn(&FilePath) -> Option<FilePath>,
        limits: &Limits,
    ) -> Result<Self, (FilePath, DocumentProblem)> {
        let outside = |file: &FilePath| (file.clone(), DocumentProblem::OutsideRoot);
        let kustomization = inside(&generated.file).ok_or_else(|| outside(&generated.file))?;
        let bytes = |file: &FilePath| match files.get(file) {
            Some(Content::Bytes(bytes)) => bytes.clone(),
            // Whatever was not read is an obstacle of the build.
            Some(Content::TooLarge { .. } | Content::BadLink | Content::Special | Content::NotRead) | None => {
                Vec::new()
            }
        };
        let at_kustomization = |problem: GeneratorProblem| (kustomization.clone(), problem.into());
        let document = FilePath::parse(&format!("{kustomization}/{}", generated.name))
            .map_err(|_| at_kustomization(GeneratorProblem::Name))?;
        let refused = |problem: GeneratorProblem| (document.clone(), problem.into());
        let entry = reach::entry(&generated.file, &bytes(&generated.file), generated.index, limits)
            .ok_or_else(|| at_kustomization(GeneratorProblem::Name))?;
        let place = &generated.place;
        if place.namespace(entry.namespace.as_deref()).is_none() {
            return Err(refused(GeneratorProblem::NoNamespace));
        }
        let mut inputs = Vec::with_capacity(generated.inputs.len());
        for input in &generated.inputs {
            let not_inside =
                || if input.is_encrypted { outside(&input.file) } else { refused(GeneratorProblem::InputOutsideRoot) };
            let file = inside(&input.file).ok_or_else(not_inside)?;
            let is_envs = input.form == InputForm::Envs;
            if input.is_encrypted && is_envs && input.format != Format::Dotenv {
                return Err(refused(GeneratorProblem::NotDotenv { file }));
            }
            let sealed_as = input.is_encrypted.then_some(input.format);
            let input = Input { form: input.form.clone(), sealed_as, bytes: bytes(&input.file), file };
            if sealed_as == Some(Format::Yaml) && input.has_comments_behind_values() {
                return Err(refused(GeneratorProblem::Comments { file: input.file }));
            }
            inputs.push(input);
        }
        let folder = kustomization.join(FOLDER);
        let is_taken = |path: &FilePath| {
            let rest = folder.as_ref().and_then(|folder| path.as_str().strip_prefix(folder.as_str()));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if files.iter().filter_map(|(path, _)| inside(path)).any(|path| is_taken(&path)) {
            return Err(refused(GeneratorProblem::FolderTaken));
        }
        let (place, stem) = (place.clone(), place.name(&entry.name));
        let bytes = fingerprint(&entry, &place, &inputs);
        Ok(Self { document, kustomization, index: generated.index, entry, place, stem, inputs, bytes })
    }

    /// The path under which it is told, listed and compared: no file has it.
    pub fn document(&self) -> &FilePath {
        &self.document
    }

    /// Everything that the Secret is made of, ciphertext as it stands: other bytes wherever it would be another.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What the build still makes of the Secret that [`Self::open`] gives: that has its name already.
    pub(crate) fn build_place(&self) -> Place {
        Place { namespace: self.place.namespace.clone(), ..Place::default() }
    }

    /// What the build makes of the names of what is listed beside its kustomization.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// The kustomization that it stands in.
    pub fn kustomization(&self) -> &FilePath {
        &self.kustomization
    }

    /// Which entry of that `secretGenerator` it is, from 0.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// The files that it reads and that are encrypted.
    pub fn encrypted_inputs(&self) -> impl Iterator<Item = &FilePath> {
        self.inputs.iter().filter(|input| input.sealed_as.is_some()).map(|input| &input.file)
    }

    /// What it reads that is encrypted: the file, the format as which it is decrypted, its bytes.
    pub(crate) fn sealed_inputs(&self) -> impl Iterator<Item = (&FilePath, Format, &[u8])> {
        self.inputs.iter().filter_map(|input| Some((&input.file, input.sealed_as?, input.bytes.as_slice())))
    }

    /// All files that it is made of.
    pub fn files(&self) -> impl Iterator<Item = &FilePath> {
        std::iter::once(&self.kustomization).chain(self.inputs.iter().map(|input| &input.file))
    }

    /// The name in the entry, as the build finds it.
    pub(crate) fn name(&self) -> &str {
        &self.entry.name
    }

    /// The name that the Secret has in the cluster, as far as it is known unopened.
    pub(crate) fn known_name(&self) -> Option<&str> {
        (!self.entry.has_hash).then_some(self.stem.as_str())
    }

    /// The namespace in the cluster.
    pub(crate) fn namespace(&self) -> &str {
        self.place.namespace(self.entry.namespace.as_deref()).unwrap_or_default()
    }

    /// Whether a Secret of this name can be what it makes of some values.
    pub(crate) fn may_be_named(&self, name: &str) -> bool {
        match name.strip_prefix(self.stem.as_str()) {
            Some("") => !self.entry.has_hash,
            Some(rest) => self.entry.has_hash && rest.strip_prefix('-').is_some_and(name_hash::is_hash),
            None => false,
        }
    }

    /// The Secret with its values, the hash in its name.
    ///
    /// # Errors
    /// [`DocumentProblem::Input`] for the first input that does not open; what kustomize refuses, too.
    pub(crate) fn open(
        &self,
        bootstrap: Option<&Bootstrap>,
        keys: Opener<'_>,
        limits: &Limits,
    ) -> Result<Branch, DocumentProblem> {
        let opened = |input: &Input| {
            let text = input.open(bootstrap, keys, limits);
            text.map_err(|problem| DocumentProblem::Input { file: input.file.clone(), problem: Box::new(problem) })
        };
        let mut data = Data::default();
        for input in self.of_form(|form| *form == InputForm::Envs) {
            for (key, value) in pairs(&opened(input)?)? {
                data.add(&key, value, input.origin())?;
            }
        }
        self.literals(&mut data)?;
        for input in &self.inputs {
            if let InputForm::Files { key } = &input.form {
                data.add(key, opened(input)?, input.origin())?;
            }
        }
        let values: BTreeMap<String, Plaintext> =
            data.values.iter().map(|(key, (value, _))| (key.clone(), value.duplicate())).collect();
        let name = match self.known_name() {
            Some(name) => name.to_owned(),
            // Behind a suffix there is no hash: such a build is refused.
            None => format!("{}-{}", self.stem, name_hash::of_secret(&self.entry.kind, &values)),
        };
        Ok(self.secret(&name, data))
    }

    /// The Secret under a name, of its encrypted values the keys alone. Nothing is opened.
    ///
    /// # Errors
    /// An input that cannot be read; what kustomize refuses, as far as it shows.
    pub(crate) fn closed(&self, name: &str, limits: &Limits) -> Result<Branch, DocumentProblem> {
        let sealed = || Plaintext::new(SEALED.into());
        let mut data = Data::default();
        for input in self.of_form(|form| *form == InputForm::Envs) {
            let Some(format) = input.sealed_as else {
                for (key, value) in pairs(&Plaintext::new(input.bytes.clone()))? {
                    data.add(&key, value.to_base64(), Origin::Clear)?;
                }
                continue;
            };
            let told = |problem| DocumentProblem::Input { file: input.file.clone(), problem: Box::new(problem) };
            let document = Document::parse(&input.bytes, format, limits).map_err(|error| told(error.into()))?;
            let documents = match &document {
                Document::Sealed(sealed) => sealed.documents(),
                Document::Clear(tree) => tree.documents.as_slice(),
            };
            for entry in documents.iter().flat_map(Branch::entries) {
                match entry.key.trim_start() {
                    "" => {}
                    key => data.add(key, sealed(), Origin::Clear)?,
                }
            }
        }
        self.literals(&mut data)?;
        for input in &self.inputs {
            if let InputForm::Files { key } = &input.form {
                let value = match input.sealed_as {
                    Some(_) => sealed(),
                    None => Plaintext::new(input.bytes.clone()).to_base64(),
                };
                data.add(key, value, Origin::Clear)?;
            }
        }
        Ok(self.secret_of(name, data.values.into_iter().map(|(key, (value, origin))| (key, value, origin))))
    }

    /// `kustomization.yaml` of the folder that the Secret is in, under the name that it has in the cluster. kustomize
    /// appends what is behind the name of the entry, to it and to all that refers to it.
    pub(crate) fn nested(&self, named: &str) -> Branch {
        let suffix = named.strip_prefix(self.stem.as_str()).unwrap_or_default();
        let text = |key: &str, text: &str| (key.to_owned(), Node::text(text));
        let mut kustomization = vec![
            text("apiVersion", "kustomize.config.k8s.io/v1beta1"),
            text("kind", "Kustomization"),
            ("resources".to_owned(), Node::List(vec![Element::Node(Node::text(SECRET))])),
        ];
        if !suffix.is_empty() {
            kustomization.push(text("nameSuffix", suffix));
        }
        Branch::from_entries(kustomization)
    }

    /// A file of its folder.
    pub(crate) fn file(&self, name: &str) -> Option<FilePath> {
        self.kustomization.join(&format!("{FOLDER}/{}/{name}", self.name()))
    }

    /// What its kustomization lists in its place.
    pub(crate) fn resource(&self) -> String {
        format!("{FOLDER}/{}", self.name())
    }

    fn of_form(&self, is_it: impl Fn(&InputForm) -> bool) -> impl Iterator<Item = &Input> {
        self.inputs.iter().filter(move |input| is_it(&input.form))
    }

    /// `key=value`, one pair of quotes around the value taken off.
    fn literals(&self, data: &mut Data) -> Result<(), DocumentProblem> {
        for literal in &self.entry.literals {
            let (key, value) =
                literal.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or(GeneratorProblem::BadLiteral)?;
            let quoted = |quote: char| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
            let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
            data.add(key, Plaintext::new(value.into()), Origin::Clear)?;
        }
        Ok(())
    }

    fn secret(&self, name: &str, data: Data) -> Branch {
        let values = data.values.into_iter();
        self.secret_of(name, values.map(|(key, (value, origin))| (key, value.to_base64(), origin)))
    }

    fn secret_of(&self, name: &str, data: impl Iterator<Item = (String, Plaintext, Origin)>) -> Branch {
        let entry = &self.entry;
        let text = |key: &str, text: &str| (key.to_owned(), Node::text(text));
        let marks = |marks: &BTreeMap<String, String>| {
            Node::Map(Branch::from_entries(marks.iter().map(|(key, value)| (key.clone(), Node::text(value.as_str())))))
        };
        let mut metadata = vec![text("name", name)];
        metadata.extend(entry.namespace.as_deref().map(|namespace| text("namespace", namespace)));
        for (field, of_field) in [("labels", &entry.labels), ("annotations", &entry.annotations)] {
            if !of_field.is_empty() {
                metadata.push((field.to_owned(), marks(of_field)));
            }
        }
        let mut secret = vec![
            text("apiVersion", "v1"),
            text("kind", "Secret"),
            ("metadata".to_owned(), Node::Map(Branch::from_entries(metadata))),
            text("type", &entry.kind),
        ];
        if entry.immutable {
            secret.push(("immutable".to_owned(), Node::Leaf(Leaf::clear(Scalar::Bool(true)))));
        }
        let leaf = |(key, base64, origin)| (key, Node::Leaf(Leaf { scalar: Scalar::Text(base64), origin }));
        secret.push(("data".to_owned(), Node::Map(Branch::from_entries(data.map(leaf)))));
        Branch::from_entries(secret)
    }
}

/// The file of the Secret, beside its kustomization.
pub(crate) const SECRET: &str = "secret.yaml";

/// The file of what delivers it. It is listed from outside, because its name is no part of the Secret's.
pub(crate) const DELIVERY: &str = "delivery.yaml";

impl Input {
    /// Whether a comment may stand behind a value of YAML: where it goes, versions of SOPS disagree.
    fn has_comments_behind_values(&self) -> bool {
        let is_behind = |line: &[u8]| {
            let line = line.trim_ascii_start();
            !line.starts_with(b"#") && line.windows(2).any(|pair| pair == b" #")
        };
        self.bytes.split(|byte| *byte == b'\n').any(is_behind)
    }

    fn origin(&self) -> Origin {
        if self.sealed_as.is_some() { Origin::Decrypted } else { Origin::Clear }
    }

    /// Its text, as kustomize-controller writes it over the file.
    fn open(
        &self,
        bootstrap: Option<&Bootstrap>,
        keys: Opener<'_>,
        limits: &Limits,
    ) -> Result<Plaintext, DocumentProblem> {
        let Some(format) = self.sealed_as else { return Ok(Plaintext::new(self.bytes.clone())) };
        match Document::parse(&self.bytes, format, limits)? {
            Document::Sealed(sealed) => {
                render::mac_scope(&sealed, bootstrap)?;
                let text = sealed.open(keys)?.emit_verbatim(format)?;
                if format == Format::Yaml && !keeps_comments(&self.bytes, &text) {
                    return Err(GeneratorProblem::Comments { file: self.file.clone() }.into());
                }
                Ok(text)
            }
            // The walk saw its block.
            Document::Clear(_) => Err(regent_sops::Error::MetadataAbsent.into()),
        }
    }
}

/// Whether every comment of YAML stays in its column. Of one that does not SOPS thinks otherwise than we do.
#[expect(clippy::disallowed_methods, reason = "columns are counted, and nothing of the text is kept")]
fn keeps_comments(sealed: &[u8], text: &Plaintext) -> bool {
    let columns = |bytes: &[u8]| -> Vec<usize> {
        let column = |line: &[u8]| line.iter().position(|byte| *byte != b' ').filter(|at| line.get(*at) == Some(&b'#'));
        bytes.split(|byte| *byte == b'\n').filter_map(column).collect()
    };
    let before = columns(sealed);
    // Without one, what begins so is a line of a value.
    before.is_empty() || before == columns(text.expose())
}

/// Values by key, each once.
#[derive(Default)]
struct Data {
    values: BTreeMap<String, (Plaintext, Origin)>,
}

impl Data {
    fn add(&mut self, key: &str, value: Plaintext, origin: Origin) -> Result<(), GeneratorProblem> {
        match self.values.insert(key.to_owned(), (value, origin)) {
            Some(_) => Err(GeneratorProblem::KeyTwice),
            None => Ok(()),
        }
    }
}

/// The lines of an `envs` file, as kustomize reads them: no escapes, no quotes, white space in front of a key and one
/// carriage return at the end taken off.
#[expect(clippy::disallowed_methods, reason = "the values are taken apart, and each is wiped as the whole is")]
fn pairs(text: &Plaintext) -> Result<Vec<(String, Plaintext)>, GeneratorProblem> {
    let mut pairs = Vec::new();
    for (index, line) in text.expose().split(|byte| *byte == b'\n').enumerate() {
        if line.len() >= MAX_LINE {
            return Err(GeneratorProblem::LongLine);
        }
        let line = std::str::from_utf8(line.strip_suffix(b"\r").unwrap_or(line));
        let line = line.map_err(|_| GeneratorProblem::NotText)?;
        let line = if index == 0 { line.strip_prefix('\u{feff}').unwrap_or(line) } else { line };
        let line = line.trim_start();
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        if !line.starts_with('#') && !key.is_empty() {
            pairs.push((key.to_owned(), Plaintext::new(value.into())));
        }
    }
    Ok(pairs)
}

/// Everything that the Secret is made of: two generators of which it differs make two Secrets.
fn fingerprint(entry: &Entry, place: &Place, inputs: &[Input]) -> Vec<u8> {
    let of_input = |input: &Input| {
        let key = match &input.form {
            InputForm::Files { key } => Some(key.as_str()),
            InputForm::Envs => None,
        };
        json!({ "key": key, "sealedAs": input.sealed_as.map(Format::name), "bytes": input.bytes.len() })
    };
    let head = json!({
        "name": place.name(&entry.name),
        "namespace": place.namespace(entry.namespace.as_deref()),
        "type": entry.kind,
        "labels": entry.labels,
        "annotations": entry.annotations,
        "immutable": entry.immutable,
        "hash": entry.has_hash,
        "literals": entry.literals,
        "inputs": inputs.iter().map(of_input).collect::<Vec<_>>(),
    });
    let mut bytes = head.to_string().into_bytes();
    bytes.push(b'\n');
    for input in inputs {
        bytes.extend_from_slice(&input.bytes);
    }
    bytes
}

/// Whether a document that a generator made still has its entry in this revision: without regent kustomize makes a Secret of
/// the ciphertext then.
pub fn still_made(files: &Files, document: &FilePath, limits: &Limits) -> bool {
    let Some(kustomization) = document.parent().filter(is_kustomization) else { return false };
    let names = files.document(&kustomization).map(|bytes| reach::entry_names(&kustomization, bytes, limits));
    match names {
        Some(Some(names)) => names.iter().any(|name| name == document.file_name()),
        // What cannot be read may say anything.
        Some(None) => true,
        None => false,
    }
}

/// Whether a document below this path is what a generator made.
pub(crate) fn is_kustomization(path: &FilePath) -> bool {
    kustomization::FILE_NAMES.contains(&path.file_name())
}

/// A kustomization without the entries of these generators, and with what stands in for each.
///
/// # Errors
/// A file that is no kustomization any more, which the walk would have told.
pub(crate) fn rewritten<'g>(
    bytes: &[u8],
    replaced: impl IntoIterator<Item = (&'g Generator, Vec<String>)>,
    limits: &Limits,
) -> Result<Branch, Refused> {
    let mut kustomization = kustomization::document(bytes, limits)?;
    let (mut indices, mut listed) = (Vec::new(), Vec::new());
    for (generator, resources) in replaced {
        indices.push(generator.index());
        listed.extend(resources.into_iter().map(|text| Element::Node(Node::text(text))));
    }
    let mut resources = elements(kustomization.remove("resources"));
    resources.extend(listed);
    kustomization.set("resources", Node::List(resources));
    let entries = elements(kustomization.remove("secretGenerator")).into_iter();
    let entries = entries.filter(|element| matches!(element, Element::Node(_))).enumerate();
    let kept: Vec<Element> =
        entries.filter(|(index, _)| !indices.contains(index)).map(|(_, element)| element).collect();
    if !kept.is_empty() {
        kustomization.set("secretGenerator", Node::List(kept));
    }
    Ok(kustomization)
}

fn elements(node: Option<Node>) -> Vec<Element> {
    match node {
        Some(Node::List(elements)) => elements,
        // Nothing, or null: the walk read it as a list.
        Some(Node::Leaf(_) | Node::Map(_)) | None => Vec::new(),
    }
}
