//! A kustomization with all of its fields, sorted by what they can do to an encrypted document.
//!
//! Field names are read as kustomize spells them. kustomize takes them in any case (`NAMEPREFIX`), and
//! kustomize-controller drops at `spec.path` what it does not know; here both are errors, because a field that
//! one reader sees and another does not is a document with two names.

use super::patch::Text;
use crate::kustomization::{self, Refused, Resource};
use crate::name::FilePath;
use regent_sops::{Branch, Element, Entry, Leaf, Limits, Node, Scalar};
use std::collections::BTreeMap;

/// What a kustomization says.
#[derive(Default)]
pub(super) struct Overlay {
    /// The file; `None` for the one that kustomize-controller makes.
    pub(super) file: Option<FilePath>,
    pub(super) is_component: bool,
    pub(super) namespace: Option<String>,
    pub(super) prefix: String,
    pub(super) suffix: String,
    pub(super) resources: Vec<Resource>,
    /// Deprecated; read after `resources`.
    pub(super) bases: Vec<Resource>,
    pub(super) components: Vec<Resource>,
    pub(super) secret_generators: Vec<Generator>,
    pub(super) config_map_generators: Vec<Generator>,
    pub(super) patches: Vec<Patch>,
    /// Labels and annotations that all of its objects get.
    pub(super) marks: Vec<Mark>,
    /// Fields that can rewrite any object of this kustomization.
    pub(super) rewriting: Vec<Field>,
    /// Fields whose effect reaches the whole build.
    pub(super) spreading: Vec<Field>,
    /// Fields that make objects out of what regent does not follow.
    pub(super) making: Vec<Field>,
    /// Files that such fields read.
    pub(super) read: Vec<(&'static str, Resource)>,
}

/// A field and its line.
#[derive(Clone, Copy)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) line: u32,
}

/// A label or an annotation that is put on objects.
#[derive(Clone)]
pub(super) struct Mark {
    pub(super) field: &'static str,
    pub(super) line: u32,
    pub(super) key: String,
    pub(super) value: String,
}

/// An entry of `secretGenerator` or `configMapGenerator`, global options merged in. Its literals may be values: no Debug.
#[derive(Default)]
pub(crate) struct Generator {
    pub(super) line: u32,
    pub(crate) name: String,
    pub(crate) namespace: Option<String>,
    /// `type`, `Opaque` where it is absent.
    pub(crate) kind: String,
    /// `behavior` is `merge` or `replace`.
    pub(super) changes_another: bool,
    pub(super) files: Vec<String>,
    pub(super) envs: Vec<String>,
    /// Deprecated; kustomize-controller decrypts nothing that it names.
    pub(super) env: Option<String>,
    pub(crate) literals: Vec<String>,
    pub(crate) has_hash: bool,
    pub(crate) immutable: bool,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    /// Both of them, with their lines; what the global options say is in it too where a generator's own win.
    pub(super) marks: Vec<Mark>,
}

/// An entry of one of the three fields that hold patches.
pub(super) struct Patch {
    pub(super) field: &'static str,
    pub(super) line: u32,
    pub(super) source: Source,
    pub(super) target: Option<Selector>,
    /// `allowNameChange` or `allowKindChange`.
    pub(super) may_rename: bool,
}

/// Where a patch stands.
pub(super) enum Source {
    File(String),
    Inline(Text),
}

/// Which objects a patch is for: `target`. Group, version, kind, name and namespace are regular expressions that
/// match from end to end; an absent or empty one matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// API group.
    pub group: Option<String>,
    /// API version without its group.
    pub version: Option<String>,
    /// Kind.
    pub kind: Option<String>,
    /// Name: the one in the file, or the one that it has at this point.
    pub name: Option<String>,
    /// Namespace, likewise.
    pub namespace: Option<String>,
    /// A label selector as `kubectl -l` takes it.
    pub label_selector: Option<String>,
    /// The same over annotations.
    pub annotation_selector: Option<String>,
}

impl Overlay {
    /// Reads the file's bytes.
    pub(super) fn read(file: &FilePath, bytes: &[u8], limits: &Limits) -> Result<Self, Refused> {
        let document = kustomization::document(bytes, limits)?;
        let mut overlay = Self { file: Some(file.clone()), ..Self::default() };
        let (mut api_version, mut options) = (None, Options::default());
        for entry in document.entries() {
            overlay.field(entry, &mut api_version, &mut options, limits)?;
        }
        if let Some((line, text)) = api_version {
            let expected = if overlay.is_component { COMPONENT } else { KUSTOMIZATION };
            if text != expected {
                return Err((line, format!("`apiVersion` expects `{expected}`")));
            }
        }
        for generator in overlay.secret_generators.iter_mut().chain(&mut overlay.config_map_generators) {
            generator.has_hash &= !options.without_hash;
            generator.immutable |= options.immutable;
            for (own, global) in
                [(&mut generator.labels, &options.labels), (&mut generator.annotations, &options.annotations)]
            {
                for (key, value) in global {
                    own.entry(key.clone()).or_insert_with(|| value.clone());
                }
            }
            generator.marks.extend(options.marks.iter().cloned());
        }
        Ok(overlay)
    }

    fn field(
        &mut self,
        entry: &Entry,
        api_version: &mut Option<(u32, String)>,
        options: &mut Options,
        limits: &Limits,
    ) -> Result<(), Refused> {
        let line = entry.at.line;
        match entry.key.as_str() {
            "apiVersion" => *api_version = text(entry)?.map(|text| (line, text.to_owned())),
            "kind" => match text(entry)? {
                Some("Kustomization") | None => {}
                Some("Component") => self.is_component = true,
                Some(_) => return Err((line, "`kind` expects `Kustomization` or `Component`".to_owned())),
            },
            "namespace" => self.namespace = short(entry)?.map(str::to_owned),
            "namePrefix" => short(entry)?.unwrap_or_default().clone_into(&mut self.prefix),
            "nameSuffix" => short(entry)?.unwrap_or_default().clone_into(&mut self.suffix),
            "resources" => self.resources = paths(entry)?,
            "bases" => self.bases = paths(entry)?,
            "components" => self.components = paths(entry)?,
            "secretGenerator" => self.secret_generators = generators(entry, true)?,
            "configMapGenerator" => self.config_map_generators = generators(entry, false)?,
            "generatorOptions" => {
                if let Some(branch) = map(entry)? {
                    *options = Options::read(branch)?;
                }
            }
            "patches" => self.patches.extend(patches(entry, "patches", limits)?),
            "patchesJson6902" => self.patches.extend(patches(entry, "patchesJson6902", limits)?),
            "patchesStrategicMerge" => {
                for Resource { text, line } in paths(entry)? {
                    let is_inline = text.contains(['\n', '{']) || text.contains(": ");
                    let source = if is_inline {
                        Source::Inline(Text::read(text.as_bytes(), limits))
                    } else {
                        Source::File(text)
                    };
                    let field = "patchesStrategicMerge";
                    self.patches.push(Patch { field, line, source, target: None, may_rename: false });
                }
            }
            "commonLabels" => self.marks.extend(marks(entry, "commonLabels")?),
            "commonAnnotations" => self.marks.extend(marks(entry, "commonAnnotations")?),
            "labels" => self.labels(entry)?,
            "replacements" => self.replacements(entry)?,
            "transformers" => self.rewriting(entry, "transformers")?,
            "validators" => self.rewriting(entry, "validators")?,
            "configurations" => self.spreading(entry, "configurations")?,
            "crds" => self.spreading(entry, "crds")?,
            "openapi" => {
                if let Some(branch) = map(entry)?.filter(|branch| branch.entries().next().is_some()) {
                    self.spreading.push(Field { name: "openapi", line });
                    let path = branch.entries().find(|entry| entry.key == "path").map(text).transpose()?.flatten();
                    self.read.extend(path.map(|path| ("openapi", Resource { text: path.to_owned(), line })));
                }
            }
            "vars" => self.spreading.extend(is_given(entry).then_some(Field { name: "vars", line })),
            "generators" => {
                self.making.extend(is_given(entry).then_some(Field { name: "generators", line }));
            }
            "helmCharts" => self.making.extend(is_given(entry).then_some(Field { name: "helmCharts", line })),
            "helmChartInflationGenerator" => {
                self.making.extend(is_given(entry).then_some(Field { name: "helmChartInflationGenerator", line }));
            }
            // These cannot name, move or change a Secret: they describe the file itself, work on the fields of
            // workloads alone, order what was built, or tell where it came from.
            "metadata" | "helmGlobals" | "images" | "imageTags" | "replicas" | "sortOptions" | "buildMetadata" => {}
            _ => return Err((line, format!("`{}` is no field of a kustomization", entry.key))),
        }
        Ok(())
    }

    fn labels(&mut self, entry: &Entry) -> Result<(), Refused> {
        for (label, _) in maps(entry)? {
            for entry in label.entries() {
                match entry.key.as_str() {
                    "pairs" => self.marks.extend(marks(entry, "labels")?),
                    // A field of one's own choice can be the name.
                    "fields" => {
                        let field = Field { name: "labels.fields", line: entry.at.line };
                        self.rewriting.extend(is_given(entry).then_some(field));
                    }
                    "includeSelectors" | "includeTemplates" => {}
                    _ => return Err(unknown(entry, "labels")),
                }
            }
        }
        Ok(())
    }

    fn replacements(&mut self, entry: &Entry) -> Result<(), Refused> {
        let line = entry.at.line;
        self.rewriting.extend(is_given(entry).then_some(Field { name: "replacements", line }));
        for (replacement, _) in maps(entry)? {
            let path = replacement.entries().find(|entry| entry.key == "path").map(text).transpose()?.flatten();
            self.read.extend(path.map(|path| ("replacements", Resource { text: path.to_owned(), line })));
        }
        Ok(())
    }

    fn rewriting(&mut self, entry: &Entry, name: &'static str) -> Result<(), Refused> {
        self.rewriting.extend(is_given(entry).then_some(Field { name, line: entry.at.line }));
        // What stands inline is no path and names no file.
        self.read.extend(paths(entry)?.into_iter().filter(|it| !it.text.contains('\n')).map(|it| (name, it)));
        Ok(())
    }

    fn spreading(&mut self, entry: &Entry, name: &'static str) -> Result<(), Refused> {
        self.spreading.extend(is_given(entry).then_some(Field { name, line: entry.at.line }));
        self.read.extend(paths(entry)?.into_iter().map(|it| (name, it)));
        Ok(())
    }
}

/// Kubernetes' longest name, in bytes. What is longer is refused, so that names stay short on the way as well.
pub(super) const MAX_NAME: usize = 253;

/// What is said of a part of a name that is longer than any name.
pub(super) fn too_long(field: &str) -> String {
    format!("`{field}` is longer than any name")
}

const KUSTOMIZATION: &str = "kustomize.config.k8s.io/v1beta1";
const COMPONENT: &str = "kustomize.config.k8s.io/v1alpha1";

/// `generatorOptions` or a generator's own `options`.
#[derive(Default)]
struct Options {
    without_hash: bool,
    immutable: bool,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    marks: Vec<Mark>,
}

impl Options {
    fn read(branch: &Branch) -> Result<Self, Refused> {
        let mut options = Self::default();
        for entry in branch.entries() {
            match entry.key.as_str() {
                field @ ("labels" | "annotations") => {
                    let marks = marks(entry, "generatorOptions")?;
                    let own = if field == "labels" { &mut options.labels } else { &mut options.annotations };
                    own.extend(marks.iter().map(|mark| (mark.key.clone(), mark.value.clone())));
                    options.marks.extend(marks);
                }
                "disableNameSuffixHash" => options.without_hash = flag(entry)?,
                "immutable" => options.immutable = flag(entry)?,
                _ => return Err(unknown(entry, "generatorOptions")),
            }
        }
        Ok(options)
    }
}

fn generators(entry: &Entry, of_secrets: bool) -> Result<Vec<Generator>, Refused> {
    let field = entry.key.as_str();
    let mut generators = Vec::new();
    for (branch, line) in maps(entry)? {
        let kind = if of_secrets { "Opaque" } else { "" }.to_owned();
        let mut generator = Generator { line, kind, has_hash: true, ..Generator::default() };
        for entry in branch.entries() {
            match entry.key.as_str() {
                "name" => generator.name = owned(entry)?,
                "namespace" => generator.namespace = text(entry)?.map(str::to_owned),
                "type" if of_secrets => {
                    if let Some(text) = text(entry)? {
                        text.clone_into(&mut generator.kind);
                    }
                }
                "behavior" => match text(entry)? {
                    Some("create" | "unspecified") | None => {}
                    Some(_) => generator.changes_another = true,
                },
                "files" => generator.files = paths(entry)?.into_iter().map(|it| it.text).collect(),
                "envs" => generator.envs = paths(entry)?.into_iter().map(|it| it.text).collect(),
                "env" => generator.env = text(entry)?.map(str::to_owned),
                "literals" => generator.literals = paths(entry)?.into_iter().map(|it| it.text).collect(),
                "options" => {
                    if let Some(branch) = map(entry)? {
                        let options = Options::read(branch)?;
                        generator.has_hash = !options.without_hash;
                        generator.immutable = options.immutable;
                        (generator.labels, generator.annotations) = (options.labels, options.annotations);
                        generator.marks = options.marks;
                    }
                }
                _ => return Err(unknown(entry, field)),
            }
        }
        if generator.name.is_empty() {
            return Err((line, format!("`{field}` expects a `name`")));
        }
        generators.push(generator);
    }
    Ok(generators)
}

fn patches(entry: &Entry, field: &'static str, limits: &Limits) -> Result<Vec<Patch>, Refused> {
    let mut patches = Vec::new();
    for (branch, line) in maps(entry)? {
        let (mut source, mut target, mut may_rename) = (None, None, false);
        for entry in branch.entries() {
            let given = match entry.key.as_str() {
                "path" => text(entry)?.map(|text| Source::File(text.to_owned())),
                "patch" => text(entry)?.map(|text| Source::Inline(Text::read(text.as_bytes(), limits))),
                "target" => {
                    target = map(entry)?.map(selector).transpose()?;
                    None
                }
                "options" => {
                    for entry in map(entry)?.into_iter().flat_map(Branch::entries) {
                        match entry.key.as_str() {
                            "allowNameChange" | "allowKindChange" => may_rename |= flag(entry)?,
                            _ => return Err(unknown(entry, field)),
                        }
                    }
                    None
                }
                _ => return Err(unknown(entry, field)),
            };
            if given.is_some() && source.is_some() {
                return Err((line, format!("`{field}` expects one of `path` and `patch`")));
            }
            source = given.or(source);
        }
        let source = source.ok_or_else(|| (line, format!("`{field}` expects one of `path` and `patch`")))?;
        patches.push(Patch { field, line, source, target, may_rename });
    }
    Ok(patches)
}

fn selector(branch: &Branch) -> Result<Selector, Refused> {
    let mut selector = Selector::default();
    for entry in branch.entries() {
        let slot = match entry.key.as_str() {
            "group" => &mut selector.group,
            "version" => &mut selector.version,
            "kind" => &mut selector.kind,
            "name" => &mut selector.name,
            "namespace" => &mut selector.namespace,
            "labelSelector" => &mut selector.label_selector,
            "annotationSelector" => &mut selector.annotation_selector,
            _ => return Err(unknown(entry, "target")),
        };
        *slot = text(entry)?.map(str::to_owned);
    }
    Ok(selector)
}

fn marks(entry: &Entry, field: &'static str) -> Result<Vec<Mark>, Refused> {
    let mut marks = Vec::new();
    for entry in map(entry)?.into_iter().flat_map(Branch::entries) {
        let value = text(entry)?.unwrap_or_default().to_owned();
        marks.push(Mark { field, line: entry.at.line, key: entry.key.clone(), value });
    }
    Ok(marks)
}

fn paths(entry: &Entry) -> Result<Vec<Resource>, Refused> {
    let line = entry.at.line;
    let mut paths = Vec::new();
    for node in nodes(entry)? {
        let text = match node {
            Node::Leaf(leaf) => leaf.clear_text().filter(|text| !text.is_empty()),
            Node::Map(_) | Node::List(_) => None,
        };
        let text = text.ok_or_else(|| (line, format!("`{}` expects a list of texts", entry.key)))?;
        paths.push(Resource { text: text.to_owned(), line });
    }
    Ok(paths)
}

fn maps(entry: &Entry) -> Result<Vec<(&Branch, u32)>, Refused> {
    let mut maps = Vec::new();
    for node in nodes(entry)? {
        let Node::Map(branch) = node else {
            return Err((entry.at.line, format!("`{}` expects a list of mappings", entry.key)));
        };
        maps.push((branch, branch.entries().next().map_or(entry.at.line, |first| first.at.line)));
    }
    Ok(maps)
}

fn nodes(entry: &Entry) -> Result<Vec<&Node>, Refused> {
    match &entry.value {
        Node::List(elements) => Ok(elements.iter().filter_map(node).collect()),
        Node::Leaf(Leaf { scalar: Scalar::Null, .. }) => Ok(Vec::new()),
        Node::Leaf(_) | Node::Map(_) => Err((entry.at.line, format!("`{}` expects a list", entry.key))),
    }
}

fn node(element: &Element) -> Option<&Node> {
    match element {
        Element::Node(node) => Some(node),
        Element::Comment(_) => None,
    }
}

fn map(entry: &Entry) -> Result<Option<&Branch>, Refused> {
    match &entry.value {
        Node::Map(branch) => Ok(Some(branch)),
        Node::Leaf(Leaf { scalar: Scalar::Null, .. }) => Ok(None),
        Node::Leaf(_) | Node::List(_) => Err((entry.at.line, format!("`{}` expects a mapping", entry.key))),
    }
}

/// Text; `None` where it is null or empty, which is the same to kustomize.
fn text(entry: &Entry) -> Result<Option<&str>, Refused> {
    let bad = || (entry.at.line, format!("`{}` expects text", entry.key));
    match &entry.value {
        Node::Leaf(Leaf { scalar: Scalar::Null, .. }) => Ok(None),
        Node::Leaf(leaf) => Ok(Some(leaf.clear_text().ok_or_else(bad)?).filter(|text| !text.is_empty())),
        Node::Map(_) | Node::List(_) => Err(bad()),
    }
}

/// Text that becomes a part of names.
fn short(entry: &Entry) -> Result<Option<&str>, Refused> {
    match text(entry)? {
        Some(text) if text.len() > MAX_NAME => Err((entry.at.line, too_long(&entry.key))),
        text => Ok(text),
    }
}

/// Text, empty where there is none.
fn owned(entry: &Entry) -> Result<String, Refused> {
    Ok(text(entry)?.unwrap_or_default().to_owned())
}

fn flag(entry: &Entry) -> Result<bool, Refused> {
    match &entry.value {
        Node::Leaf(Leaf { scalar: Scalar::Bool(flag), .. }) => Ok(*flag),
        Node::Leaf(Leaf { scalar: Scalar::Null, .. }) => Ok(false),
        Node::Leaf(_) | Node::Map(_) | Node::List(_) => {
            Err((entry.at.line, format!("`{}` expects true or false", entry.key)))
        }
    }
}

/// Whether a field says anything.
fn is_given(entry: &Entry) -> bool {
    match &entry.value {
        Node::Leaf(leaf) => !matches!(leaf.scalar, Scalar::Null),
        Node::Map(branch) => branch.entries().next().is_some(),
        Node::List(elements) => elements.iter().any(|element| node(element).is_some()),
    }
}

fn unknown(entry: &Entry, field: &str) -> Refused {
    (entry.at.line, format!("`{}` is no field of `{field}`", entry.key))
}
