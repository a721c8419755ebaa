//! The build, followed: the same files in the same order, names alone.

use super::obstacle::{Listing, Obstacle, Rule, Site};
use super::overlay::{self, Generator, MAX_NAME, Mark, Overlay, Patch, Selector, Source};
use super::patch::{self, Change, Target, Text};
use super::{Generated, Input, InputForm, Overrides, Parsed, Patched, Place, Reach, Reached, Use, generated_secret};
use crate::bootstrap::Bootstrap;
use crate::emit::Identity;
use crate::files::{self, Content, Files};
use crate::kustomization::{self, Resource};
use crate::name::FilePath;
use crate::object::{self, Meta, Object, View};
use crate::secret;
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};
use regent_sops::envelope::Envelope;
use regent_sops::{Document, Format, Limits, Node, Sealed};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

/// Kustomizations inside each other; more than any person writes, and our recursion stays shallow.
const MAX_DEEP: usize = 50;

/// Steps of a build: an entry that is followed, an object that is renamed, a patch that is held against an object.
/// A tree of 20 000 files takes some 100 000; a few short files that list each other twice could ask for 2^50.
const MAX_WORK: usize = 2_000_000;

/// Steps for a kustomization that is followed: all that it says is looked at again.
const WORK_OF_A_KUSTOMIZATION: usize = 50;

/// Obstacles that are told; the rest comes when these are gone.
const MAX_OBSTACLES: usize = 200;

/// One contribution to the build: a file of objects, or a generator.
struct Item {
    /// The file of the objects, or the kustomization of the generator.
    file: FilePath,
    what: What,
    /// Where it is listed.
    site: Site,
    place: Place,
    /// What patches can select of it: encrypted documents, by name where it shows.
    sealed: Vec<Option<Identity>>,
}

enum What {
    Objects { published: FilePath },
    Generator(Generated),
}

/// The objects of a file.
struct Manifest {
    objects: Vec<Held>,
    /// The file itself, where it is kept.
    kept: Option<(Format, Sealed)>,
}

/// What is read of a file of objects.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// All objects of one that may hold ciphertext, and none of any other.
    Sealed,
    /// The same, and what was parsed is kept.
    Kept,
    /// All objects.
    Whole,
}

struct Held {
    line: u32,
    own: Option<Identity>,
    is_encrypted: bool,
}

enum Used {
    Item(usize),
    Input { item: usize, input: usize },
    Patch(Option<usize>),
    Kustomization,
    Other(&'static str),
}

pub(super) struct Walk<'a> {
    files: &'a Files,
    overrides: &'a Overrides,
    limits: &'a Limits,
    read: Read,
    /// Every path in order, to find what lies below a folder.
    paths: Vec<&'a FilePath>,
    /// Kustomizations by folder; `None` where one was refused.
    overlays: HashMap<String, Option<Rc<Overlay>>>,
    manifests: HashMap<FilePath, Option<Rc<Manifest>>>,
    /// What was read before anybody asked for it: reading is most of a walk's time, and the walk is one thread.
    ahead: HashMap<&'a FilePath, Result<Manifest, (u32, String)>>,
    patches: HashMap<FilePath, Rc<Text>>,
    /// The folders whose kustomizations are being followed, the outermost first.
    inside: Vec<String>,
    items: Vec<Item>,
    uses: Vec<(FilePath, Used)>,
    patched: Vec<(FilePath, usize, Identity)>,
    /// Files with encrypted documents that were reached.
    sealed_files: HashSet<&'a FilePath>,
    spreading: Vec<(Site, &'static str)>,
    work: usize,
    obstacles: BTreeSet<Obstacle>,
}

const BELOW_BASES: &str = "kustomize-controller decrypts nothing that is reached through `bases`";
const NO_ENV: &str = "kustomize-controller decrypts `envs`, and not `env`";

/// How a kustomization came to be followed.
#[derive(Clone, Copy)]
struct Entered {
    /// Where its scope begins: what its transformers see of the items.
    from: usize,
    /// Below a `bases`: kustomize-controller decrypts no generator inputs and patches there.
    below_bases: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(files: &'a Files, overrides: &'a Overrides, limits: &'a Limits, read: Read) -> Self {
        Self {
            files,
            overrides,
            limits,
            read,
            paths: files.iter().map(|(path, _)| path).collect(),
            overlays: HashMap::new(),
            manifests: HashMap::new(),
            ahead: HashMap::new(),
            patches: HashMap::new(),
            inside: Vec::new(),
            items: Vec::new(),
            uses: Vec::new(),
            patched: Vec::new(),
            sealed_files: HashSet::new(),
            spreading: Vec::new(),
            work: MAX_WORK,
            obstacles: BTreeSet::new(),
        }
    }

    pub(super) fn build(&mut self, path: &str) {
        let top = Site::Spec { field: "path" };
        let Some(folder) = kustomization::resolve("", path) else {
            return self.refuse(top, Rule::Listed { path: path.to_owned(), problem: Listing::Leaves });
        };
        if !self.has_folder(&folder) {
            return self.refuse(top, Rule::Listed { path: path.to_owned(), problem: Listing::NotThere });
        }
        self.ahead = read_ahead(self.files, &folder, self.limits, self.read);
        for (field, text) in [
            ("targetNamespace", &self.overrides.target_namespace),
            ("namePrefix", &self.overrides.name_prefix),
            ("nameSuffix", &self.overrides.name_suffix),
        ] {
            if text.as_ref().is_some_and(|text| text.len() > MAX_NAME) {
                self.refuse(Site::Spec { field }, Rule::Kustomization { problem: overlay::too_long(field) });
                return;
            }
        }
        let overlay = if self.kustomization_files(&folder).is_empty() {
            self.generated(&folder)
        } else {
            match self.overlay(&folder, &top) {
                Some(overlay) => overlay,
                None => return,
            }
        };
        self.enter(&folder, &overlay, Entered { from: 0, below_bases: false });
    }

    /// The kustomization that kustomize-controller makes where there is none: every `*.yaml` and `*.yml` below, and
    /// every folder below that has a kustomization of its own.
    fn generated(&mut self, folder: &str) -> Rc<Overlay> {
        let mut overlay = Overlay::default();
        let mut last_folder: Option<String> = None;
        let below: Vec<&FilePath> = self.below(folder).collect();
        for path in below {
            if last_folder.as_ref().is_some_and(|last| path.as_str().starts_with(&format!("{last}/"))) {
                continue;
            }
            if let Some(kustomized) = self.kustomized_between(folder, path) {
                overlay.resources.push(Resource { text: seen_from(folder, &kustomized), line: 0 });
                last_folder = Some(kustomized);
                continue;
            }
            let name = Envelope::of_name(path.file_name()).map_or(path.file_name(), |(_, inner)| inner);
            if is_yaml(name) && path.file_name() != Bootstrap::FILE_NAME {
                overlay.resources.push(Resource { text: seen_from(folder, path.as_str()), line: 0 });
            }
        }
        Rc::new(overlay)
    }

    /// The outermost folder below `folder` that has a kustomization and holds `path`.
    fn kustomized_between(&self, folder: &str, path: &FilePath) -> Option<String> {
        let start = if folder.is_empty() { 0 } else { folder.len() + 1 };
        let ends = path.as_str().match_indices('/').map(|(end, _)| end).filter(|end| *end > start);
        let folders = ends.filter_map(|end| path.as_str().get(..end));
        folders.map(str::to_owned).find(|folder| !self.kustomization_files(folder).is_empty())
    }

    fn enter(&mut self, folder: &str, overlay: &Rc<Overlay>, entered: Entered) {
        if !self.spend(WORK_OF_A_KUSTOMIZATION) {
            return;
        }
        let is_top = self.inside.is_empty();
        self.inside.push(folder.to_owned());
        for listed in &overlay.resources {
            self.resource(folder, overlay, listed, entered.below_bases);
        }
        for listed in &overlay.bases {
            self.resource(folder, overlay, listed, true);
        }
        for generator in &overlay.config_map_generators {
            self.config_map(folder, overlay, generator, entered);
        }
        for (index, generator) in overlay.secret_generators.iter().enumerate() {
            self.secret(folder, overlay, index, generator, entered);
        }
        for listed in &overlay.components {
            let site = site(overlay, listed.line);
            self.component(folder, &site, &listed.text, entered);
        }
        if is_top {
            for text in &self.overrides.components {
                self.spec_component(folder, text, entered);
            }
        }
        self.transform(folder, overlay, entered, is_top);
        self.inside.pop();
    }

    fn resource(&mut self, folder: &str, overlay: &Overlay, listed: &Resource, below_bases: bool) {
        if !self.spend(1) {
            return;
        }
        let site = site(overlay, listed.line);
        let target = match target(folder, &listed.text) {
            Ok(target) => target,
            Err(problem) => return self.refuse_listed(site, &listed.text, problem),
        };
        if let Some(path) = self.lookup(&target) {
            return self.manifest_file(site, path, overlay.file.is_none());
        }
        match self.followed(&site, &listed.text, &target) {
            Ok(Some(inner)) if inner.is_component => {
                self.refuse_listed(site, &listed.text, Listing::Component);
            }
            Ok(Some(inner)) => self.enter(&target, &inner, Entered { from: self.items.len(), below_bases }),
            Ok(None) => {}
            Err(problem) => self.refuse_listed(site, &listed.text, problem),
        }
    }

    fn component(&mut self, folder: &str, site: &Site, text: &str, entered: Entered) {
        if !self.spend(1) {
            return;
        }
        let inner = target(folder, text).and_then(|target| Ok((self.followed(site, text, &target)?, target)));
        match inner {
            Ok((Some(inner), target)) if inner.is_component => self.enter(&target, &inner, entered),
            Ok((Some(_), _)) => self.refuse_listed(site.clone(), text, Listing::NoComponent),
            Ok((None, _)) => {}
            Err(problem) => self.refuse_listed(site.clone(), text, problem),
        }
    }

    fn spec_component(&mut self, folder: &str, text: &str, entered: Entered) {
        let is_there = |target: &String| self.lookup(target).is_some() || self.has_folder(target);
        let is_there = target(folder, text).is_ok_and(|target| is_there(&target));
        if is_there || !self.overrides.ignore_missing_components {
            self.component(folder, &Site::Spec { field: "components" }, text, entered);
        }
    }

    /// The kustomization of a listed folder; `None` where it was refused for itself.
    fn followed(&mut self, site: &Site, text: &str, target: &str) -> Result<Option<Rc<Overlay>>, Listing> {
        if is_remote(text) {
            return Err(Listing::Remote);
        }
        if !self.has_folder(target) {
            return Err(Listing::NotThere);
        }
        // kustomize refuses a folder that holds one it is in.
        let holds =
            |inside: &String| inside == target || target.is_empty() || inside.starts_with(&format!("{target}/"));
        if self.inside.iter().any(holds) {
            return Err(Listing::Cycle);
        }
        if self.inside.len() >= MAX_DEEP {
            return Err(Listing::TooDeep);
        }
        if self.kustomization_files(target).is_empty() {
            return Err(Listing::NoKustomization);
        }
        Ok(self.overlay(target, site))
    }

    fn overlay(&mut self, folder: &str, site: &Site) -> Option<Rc<Overlay>> {
        if let Some(known) = self.overlays.get(folder) {
            return known.clone();
        }
        let overlay = self.read_overlay(folder, site).map(Rc::new);
        self.overlays.insert(folder.to_owned(), overlay.clone());
        overlay
    }

    fn read_overlay(&mut self, folder: &str, site: &Site) -> Option<Overlay> {
        let mut files = self.kustomization_files(folder).into_iter();
        let Some(file) = files.next() else {
            self.refuse_listed(site.clone(), folder, Listing::NoKustomization);
            return None;
        };
        self.uses.push((file.clone(), Used::Kustomization));
        if let Some(second) = files.next() {
            let site = Site::File { file: second.clone(), line: 0 };
            self.refuse(site, Rule::TwoKustomizations { other: file.file_name().to_owned() });
            return None;
        }
        let read = match self.bytes(file) {
            Some(bytes) => Overlay::read(file, bytes, self.limits),
            None => Err((0, "it was not read".to_owned())),
        };
        match read {
            Ok(overlay) => Some(overlay),
            Err((line, problem)) => {
                self.refuse(Site::File { file: file.clone(), line }, Rule::Kustomization { problem });
                None
            }
        }
    }

    /// A file of objects.
    fn manifest_file(&mut self, site: Site, path: &'a FilePath, is_found: bool) {
        let published = match Envelope::of_name(path.file_name()) {
            Some((_, inner)) if is_found => path.join(inner).unwrap_or_else(|| path.clone()),
            Some(_) | None => path.clone(),
        };
        if published != *path && self.files.get(&published).is_some() {
            let problem = format!("it would be published as {published}, and that is there too");
            return self.refuse(Site::File { file: path.clone(), line: 0 }, Rule::Document { problem });
        }
        let Some(manifest) = self.manifest(path) else { return };
        let sealed = manifest.objects.iter().filter(|held| held.is_encrypted).map(|held| held.own.clone());
        let sealed: Vec<_> = sealed.collect();
        if !sealed.is_empty() && !self.sealed_files.insert(path) {
            let site = Site::File { file: path.clone(), line: 0 };
            return self.refuse(site, Rule::ReachedTwice);
        }
        self.uses.push((path.clone(), Used::Item(self.items.len())));
        let (file, what) = (path.clone(), What::Objects { published });
        self.item(file, what, site, sealed);
    }

    /// Something that becomes objects, which nothing has renamed yet.
    fn item(&mut self, file: FilePath, what: What, site: Site, sealed: Vec<Option<Identity>>) {
        let place = Place { substituted: self.overrides.substitutes, ..Place::default() };
        self.items.push(Item { file, what, site, place, sealed });
    }

    /// The objects of a file: all of one that may hold ciphertext. `None` where that was refused.
    fn manifest(&mut self, path: &FilePath) -> Option<Rc<Manifest>> {
        if let Some(known) = self.manifests.get(path) {
            return known.clone();
        }
        let ahead = self.ahead.remove(path);
        let manifest = match ahead.unwrap_or_else(|| read_manifest(self.files, path, self.limits, self.read)) {
            Ok(manifest) => Some(Rc::new(manifest)),
            Err((line, problem)) => {
                self.refuse(Site::File { file: path.clone(), line }, Rule::Document { problem });
                None
            }
        };
        self.manifests.insert(path.clone(), manifest.clone());
        manifest
    }

    fn config_map(&mut self, folder: &str, overlay: &Overlay, generator: &Generator, entered: Entered) {
        let site = site(overlay, generator.line);
        for source in generator.files.iter().chain(&generator.envs).chain(&generator.env) {
            let Some((_, path)) = self.source(folder, &site, source) else { continue };
            if self.bytes(path).is_some_and(holds_ciphertext) || Envelope::of_name(path.file_name()).is_some() {
                let rule =
                    Rule::Input { file: path.clone(), problem: "a ConfigMap would hold its plaintext".to_owned() };
                self.refuse(site.clone(), rule);
            }
            self.uses.push((path.clone(), Used::Other("configMapGenerator")));
        }
        self.merges(&site, "ConfigMap", generator, entered);
    }

    fn secret(&mut self, folder: &str, overlay: &Overlay, index: usize, generator: &Generator, entered: Entered) {
        let site = site(overlay, generator.line);
        let Some(file) = overlay.file.clone() else { return };
        let mut inputs = Vec::new();
        let sources = generator.files.iter().map(|it| (it, true, None));
        let sources = sources.chain(generator.envs.iter().map(|it| (it, false, None)));
        let sources = sources.chain(generator.env.iter().map(|it| (it, false, Some(NO_ENV))));
        let below_bases = entered.below_bases.then_some(BELOW_BASES);
        for (source, is_file, stays_encrypted) in sources {
            let Some((key, path)) = self.source(folder, &site, source) else { continue };
            let format = if is_file { format_of_key(source) } else { format_of_envs(source) };
            let is_encrypted = self.input(&site, path, format, stays_encrypted.or(below_bases));
            self.uses.push((path.clone(), Used::Input { item: self.items.len(), input: inputs.len() }));
            let form = if is_file { InputForm::Files { key } } else { InputForm::Envs };
            inputs.push(Input { file: path.clone(), form, is_encrypted, format });
        }
        let generated = Generated {
            file,
            line: generator.line,
            index,
            name: generator.name.clone(),
            namespace: generator.namespace.clone(),
            kind: generator.kind.clone(),
            // As its item has it at the end.
            place: Place::default(),
            has_hash: generator.has_hash,
            has_literals: !generator.literals.is_empty(),
            inputs,
        };
        self.merges(&site, "Secret", generator, entered);
        let mut sealed = Vec::new();
        if generated.is_encrypted() {
            if generator.changes_another {
                let object = format!("Secret `{}`", generator.name);
                let problem = "`behavior` makes it a part of another one".to_owned();
                self.refuse(site.clone(), Rule::Changed { object, problem });
            }
            self.marks(&site, &generator.marks);
            sealed.push(Some(generated_secret(&generated.name, generated.namespace.as_deref())));
        }
        let (file, what) = (generated.file.clone(), What::Generator(generated));
        self.item(file, what, site, sealed);
    }

    /// Whether an input is encrypted; one that kustomize-controller would not decrypt is refused.
    fn input(&mut self, site: &Site, path: &FilePath, format: Format, stays_encrypted: Option<&str>) -> bool {
        let bytes = self.bytes(path).unwrap_or_default();
        if !holds_ciphertext(bytes) {
            return false;
        }
        let is_format = || matches!(Document::parse(bytes, format, self.limits), Ok(Document::Sealed(_)));
        let problem = match stays_encrypted {
            Some(problem) => problem.to_owned(),
            None if is_format() => return true,
            None => format!("kustomize-controller decrypts it as {format}, by its key or name, and it is none"),
        };
        self.refuse(site.clone(), Rule::Input { file: path.clone(), problem });
        true
    }

    /// A generator that merges into or replaces an object, which may be an encrypted one.
    fn merges(&mut self, site: &Site, kind: &str, generator: &Generator, entered: Entered) {
        if !generator.changes_another {
            return;
        }
        let problem = "a generator with this name and a `behavior` changes it";
        let may_be = |target: &Target<'_>| target.kind == kind && generator.name.contains(target.name);
        self.refuse_changes(site, entered, problem, may_be);
    }

    /// `key=path` or a path: the key and the file.
    fn source(&mut self, folder: &str, site: &Site, source: &str) -> Option<(String, &'a FilePath)> {
        if !self.spend(1) {
            return None;
        }
        let (key, path) = source.split_once('=').unwrap_or((last_part(source), source));
        match self.file(folder, path) {
            Ok(path) => Some((key.to_owned(), path)),
            Err(problem) => {
                self.refuse_listed(site.clone(), source, problem);
                None
            }
        }
    }

    /// What the kustomization does to all that was gathered in its scope.
    fn transform(&mut self, folder: &str, overlay: &Overlay, entered: Entered, is_top: bool) {
        for patch in &overlay.patches {
            self.patch(folder, overlay, patch, entered);
        }
        if is_top {
            for patch in &self.overrides.patches {
                let text = Text::read(patch.patch.as_bytes(), self.limits);
                let site = Site::Spec { field: "patches" };
                self.inline_patch(&site, &text, patch.target.as_ref(), false, entered);
            }
        }
        self.place(overlay, entered, is_top);
        for (field, listed) in &overlay.read {
            self.other(folder, overlay, field, listed);
        }
        for field in &overlay.spreading {
            self.spreading.push((site(overlay, field.line), field.name));
        }
        for field in &overlay.making {
            // Whatever it makes, it reads files that are looked at nowhere.
            self.refuse(site(overlay, field.line), Rule::Field { field: field.name });
        }
        let touches = !overlay.rewriting.is_empty() || !overlay.marks.is_empty();
        if touches && self.spend(self.items.len() - entered.from.min(self.items.len())) && self.is_sealed(entered) {
            for field in &overlay.rewriting {
                self.refuse(site(overlay, field.line), Rule::Field { field: field.name });
            }
            for mark in &overlay.marks {
                self.marks(&site(overlay, mark.line), std::slice::from_ref(mark));
            }
        }
    }

    fn place(&mut self, overlay: &Overlay, entered: Entered, is_top: bool) {
        let own = |own: Option<&str>, spec: &Option<String>| {
            let spec = spec.as_deref().filter(|text| is_top && !text.is_empty());
            spec.or(own).unwrap_or_default().to_owned()
        };
        let namespace = own(overlay.namespace.as_deref(), &self.overrides.target_namespace);
        let prefix = own(Some(&overlay.prefix), &self.overrides.name_prefix);
        let suffix = own(Some(&overlay.suffix), &self.overrides.name_suffix);
        if namespace.is_empty() && prefix.is_empty() && suffix.is_empty() {
            return;
        }
        let count = self.items.len().saturating_sub(entered.from);
        if !self.spend(count) {
            return;
        }
        for item in self.items.iter_mut().skip(entered.from) {
            let place = &mut item.place;
            if !namespace.is_empty() {
                place.namespace = Some(namespace.clone());
            }
            if place.prefix.len() <= MAX_NAME {
                place.prefix.insert_str(0, &prefix);
            }
            if place.suffix.len() <= MAX_NAME {
                place.suffix.push_str(&suffix);
            }
        }
    }

    fn patch(&mut self, folder: &str, overlay: &Overlay, patch: &Patch, entered: Entered) {
        let site = site(overlay, patch.line);
        let listed = match &patch.source {
            Source::Inline(text) => {
                return self.inline_patch(&site, text, patch.target.as_ref(), patch.may_rename, entered);
            }
            Source::File(listed) => listed,
        };
        if !self.spend(1) {
            return;
        }
        let file = match self.file(folder, listed) {
            Ok(file) => file,
            Err(problem) => return self.refuse_listed(site, listed, problem),
        };
        let text = self.patch_text(file);
        let encrypted = match &*text {
            Text::Sealed(changes) => self.sealed_patch(&site, file, changes, patch, entered).map(|target| {
                self.patched.push((file.clone(), target.0, target.1));
                self.patched.len() - 1
            }),
            Text::Unreadable(problem) if self.bytes(file).is_none_or(holds_ciphertext) => {
                let problem = format!("it is no SOPS file in YAML or JSON: {problem}");
                self.refuse(site, Rule::Input { file: file.clone(), problem });
                None
            }
            Text::Merge(_) | Text::Operations(_) | Text::Unreadable(_) => {
                self.clear_patch(&site, &text, patch.target.as_ref(), patch.may_rename, entered);
                None
            }
        };
        self.uses.push((file.clone(), Used::Patch(encrypted)));
    }

    fn patch_text(&mut self, file: &FilePath) -> Rc<Text> {
        if let Some(known) = self.patches.get(file) {
            return known.clone();
        }
        let read = |bytes| Text::read(bytes, self.limits);
        let text = Rc::new(self.bytes(file).map_or_else(|| Text::Unreadable("it was not read".to_owned()), read));
        self.patches.insert(file.clone(), text.clone());
        text
    }

    fn inline_patch(
        &mut self,
        site: &Site,
        text: &Text,
        target: Option<&Selector>,
        may_rename: bool,
        entered: Entered,
    ) {
        match text {
            Text::Sealed(_) => {
                let problem = "kustomize-controller decrypts no patch that stands inline".to_owned();
                self.refuse(site.clone(), Rule::Patch { problem });
            }
            Text::Merge(_) | Text::Operations(_) | Text::Unreadable(_) => {
                self.clear_patch(site, text, target, may_rename, entered);
            }
        }
    }

    /// A patch in clear text: whatever it does to an encrypted document is labels and annotations.
    fn clear_patch(&mut self, site: &Site, text: &Text, target: Option<&Selector>, may_rename: bool, entered: Entered) {
        let renames = Err("it may change its name or kind".to_owned());
        let judged = |outcome: &Result<(), String>| if may_rename { renames.clone() } else { outcome.clone() };
        match text {
            Text::Merge(changes) => {
                for change in changes {
                    if let Err(problem) = judged(&change.outcome) {
                        let is_for = |it: &Target<'_>| match target {
                            Some(selector) => selector.may_select(it),
                            None => change.may_be_for(it),
                        };
                        self.refuse_changes(site, entered, &problem, is_for);
                    }
                }
            }
            Text::Operations(outcome) => {
                if let Err(problem) = judged(outcome) {
                    let is_for = |it: &Target<'_>| target.is_none_or(|selector| selector.may_select(it));
                    self.refuse_changes(site, entered, &problem, is_for);
                }
            }
            Text::Sealed(_) => {}
            Text::Unreadable(problem) => {
                let problem = format!("it cannot be read: {problem}");
                let is_for = |it: &Target<'_>| target.is_none_or(|selector| selector.may_select(it));
                self.refuse_changes(site, entered, &problem, is_for);
            }
        }
    }

    /// The one object that an encrypted patch changes.
    fn sealed_patch(
        &mut self,
        site: &Site,
        file: &FilePath,
        changes: &[Change],
        patch: &Patch,
        entered: Entered,
    ) -> Option<(usize, Identity)> {
        let found = self.sealed_target(file, changes, patch, entered);
        match found {
            Ok((index, target)) => {
                if let Some(item) = self.items.get_mut(index) {
                    item.sealed.push(Some(target.clone()));
                }
                Some((index, target))
            }
            Err(problem) => {
                self.refuse(site.clone(), Rule::Input { file: file.clone(), problem });
                None
            }
        }
    }

    fn sealed_target(
        &mut self,
        file: &FilePath,
        changes: &[Change],
        patch: &Patch,
        entered: Entered,
    ) -> Result<(usize, Identity), String> {
        let refused = |problem: &str| Err(problem.to_owned());
        if patch.field != "patches" || entered.below_bases {
            return refused("kustomize-controller decrypts patches under `patches` alone, and none through `bases`");
        }
        match Format::of_name(file.file_name()) {
            Format::Yaml | Format::Json => {}
            Format::Dotenv | Format::Ini | Format::Binary => {
                return refused("kustomize-controller decrypts a patch that is named `*.yaml`, `*.yml` or `*.json`");
            }
        }
        let [change] = changes else { return refused("an encrypted patch is for one object") };
        let (Some(kind), Some(name), None, false) = (&change.kind, &change.name, &patch.target, patch.may_rename)
        else {
            return refused("an encrypted patch names its object itself, in clear text, and renames nothing");
        };
        if change.has_directive {
            return refused("an encrypted patch sets values; it directs no merge");
        }
        let mut found = Vec::new();
        if !self.spend(self.items.len().saturating_sub(entered.from)) {
            return refused("the build asks for too much work");
        }
        for index in entered.from..self.items.len() {
            let Some(item) = self.items.get(index) else { continue };
            let is_it = |own: &Identity| {
                own.kind == *kind
                    && (own.name == *name || item.place.name(&own.name) == *name)
                    && change.namespace.as_deref().is_none_or(|it| {
                        item.place.namespace(own.namespace.as_deref()) == Some(it)
                            || own.namespace.as_deref() == Some(it)
                    })
            };
            match &item.what {
                What::Generator(generated) => {
                    if is_it(&generated_secret(&generated.name, generated.namespace.as_deref())) {
                        return refused("it changes what a `secretGenerator` makes");
                    }
                }
                What::Objects { .. } => {
                    if item.sealed.iter().any(|own| own.as_ref().is_none_or(is_it)) {
                        return refused("it changes an encrypted document");
                    }
                    let manifest = read_manifest(self.files, &item.file, self.limits, Read::Whole)
                        .map_err(|(_, problem)| problem)?;
                    let owns = manifest.objects.into_iter().filter_map(|held| held.own).filter(is_it);
                    found.extend(owns.map(|own| (index, own)));
                }
            }
        }
        match (found.pop(), found.is_empty()) {
            (Some(found), true) => Ok(found),
            (Some(_), false) => refused("it is for more than one object"),
            (None, _) => refused("its object is not among the resources"),
        }
    }

    /// Every encrypted document in scope that `is_for` may mean is one that `problem` happens to.
    fn refuse_changes(&mut self, site: &Site, entered: Entered, problem: &str, is_for: impl Fn(&Target<'_>) -> bool) {
        if !self.spend(self.items.len().saturating_sub(entered.from)) {
            return;
        }
        let mut objects = Vec::new();
        for item in self.items.iter().skip(entered.from) {
            for own in &item.sealed {
                match own {
                    Some(own) if is_for(&Target { kind: &own.kind, name: &own.name }) => objects.push(own.to_string()),
                    Some(_) => {}
                    None => objects.push(format!("the document in {}", item.file.clone())),
                }
            }
        }
        for object in objects.into_iter().take(MAX_OBSTACLES) {
            self.refuse(site.clone(), Rule::Changed { object, problem: problem.to_owned() });
        }
    }

    fn marks(&mut self, site: &Site, marks: &[Mark]) {
        for mark in marks.iter().filter(|mark| patch::is_reserved(&mark.key, Some(&mark.value))) {
            self.refuse(site.clone(), Rule::Mark { field: mark.field, key: mark.key.clone() });
        }
    }

    /// A file that is read for a field that decrypts nothing.
    fn other(&mut self, folder: &str, overlay: &Overlay, field: &'static str, listed: &Resource) {
        if !self.spend(1) {
            return;
        }
        let Ok(file) = self.file(folder, &listed.text) else { return };
        if self.bytes(file).is_some_and(holds_ciphertext) {
            let problem = format!("kustomize-controller decrypts nothing that `{field}` names");
            self.refuse(site(overlay, listed.line), Rule::Input { file: file.clone(), problem });
        }
        self.uses.push((file.clone(), Used::Other(field)));
    }

    fn is_sealed(&self, entered: Entered) -> bool {
        self.items.iter().skip(entered.from).any(|item| !item.sealed.is_empty())
    }

    /// The file that a text names, seen from a folder.
    fn file(&self, folder: &str, text: &str) -> Result<&'a FilePath, Listing> {
        let target = target(folder, text)?;
        let not_there = if is_remote(text) { Listing::Remote } else { Listing::NotThere };
        let path = self.lookup(&target).ok_or(not_there)?;
        self.bytes(path).map(|_| path).ok_or(Listing::NotRead)
    }

    fn bytes(&self, path: &FilePath) -> Option<&'a [u8]> {
        bytes_of(self.files, path)
    }

    fn lookup(&self, path: &str) -> Option<&'a FilePath> {
        let index = self.paths.binary_search_by(|it| it.as_str().cmp(path)).ok()?;
        self.paths.get(index).copied()
    }

    fn kustomization_files(&self, folder: &str) -> Vec<&'a FilePath> {
        let path = |name: &&str| if folder.is_empty() { (*name).to_owned() } else { format!("{folder}/{name}") };
        kustomization::FILE_NAMES.iter().filter_map(|name| self.lookup(&path(name))).collect()
    }

    fn below(&self, folder: &str) -> impl Iterator<Item = &'a FilePath> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let from = self.paths.partition_point(|path| path.as_str() < prefix.as_str());
        let below: Vec<_> =
            self.paths.iter().skip(from).copied().take_while(|it| it.as_str().starts_with(&prefix)).collect();
        below.into_iter()
    }

    fn has_folder(&self, folder: &str) -> bool {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let from = self.paths.partition_point(|path| path.as_str() < prefix.as_str());
        self.paths.get(from).is_some_and(|path| path.as_str().starts_with(&prefix))
    }

    fn spend(&mut self, work: usize) -> bool {
        match self.work.checked_sub(work.max(1)) {
            Some(left) if self.obstacles.len() < MAX_OBSTACLES => {
                self.work = left;
                true
            }
            Some(_) => false,
            None => {
                self.work = 0;
                self.refuse(Site::Spec { field: "path" }, Rule::TooMuch);
                false
            }
        }
    }

    fn refuse(&mut self, site: Site, rule: Rule) {
        self.obstacles.insert(Obstacle { site, rule });
    }

    fn refuse_listed(&mut self, site: Site, path: &str, problem: Listing) {
        self.refuse(site, Rule::Listed { path: path.to_owned(), problem });
    }

    pub(super) fn finish(mut self) -> (Reach, Parsed) {
        self.judge();
        let mut reach = Reach::default();
        let mut indices = HashMap::new();
        for (index, item) in self.items.iter().enumerate() {
            match &item.what {
                What::Objects { .. } => {
                    let Some(Some(manifest)) = self.manifests.get(&item.file) else { continue };
                    for held in manifest.objects.iter().filter(|held| held.is_encrypted) {
                        let (file, own, place) = (item.file.clone(), held.own.clone(), item.place.clone());
                        reach.documents.push(Reached { file, line: held.line, own, place });
                    }
                }
                What::Generator(generated) => {
                    indices.insert(index, reach.generators.len());
                    reach.generators.push(Generated { place: item.place.clone(), ..generated.clone() });
                }
            }
        }
        for (file, index, target) in self.patched {
            let Some(item) = self.items.get(index) else { continue };
            let target_file = item.file.clone();
            reach.patches.push(Patched { file, target_file, target, place: item.place.clone() });
        }
        for (file, used) in self.uses {
            let used = match used {
                Used::Item(index) => match self.items.get(index) {
                    Some(Item { what: What::Objects { published }, place, .. }) => {
                        Use::Resource { place: place.clone(), published: published.clone() }
                    }
                    Some(_) | None => continue,
                },
                Used::Input { item, input } => match indices.get(&item) {
                    Some(generator) => Use::GeneratorInput { generator: *generator, input },
                    None => continue,
                },
                Used::Patch(encrypted) => Use::Patch { encrypted },
                Used::Kustomization => Use::Kustomization,
                Used::Other(field) => Use::Other { field },
            };
            reach.files.entry(file).or_default().push(used);
        }
        reach.obstacles = self.obstacles.into_iter().take(MAX_OBSTACLES).collect();
        let kept = |(file, manifest): (FilePath, Option<Rc<Manifest>>)| Some((file, Rc::into_inner(manifest?)?.kept?));
        (reach, Parsed { files: self.manifests.into_iter().filter_map(kept).collect() })
    }

    /// What shows when everything was gathered.
    fn judge(&mut self) {
        let sealed = self.is_sealed(Entered { from: 0, below_bases: false });
        if sealed {
            for (site, field) in std::mem::take(&mut self.spreading) {
                self.refuse(site, Rule::Field { field });
            }
            let (labels, annotations) = (&self.overrides.common_labels, &self.overrides.common_annotations);
            let both = labels.iter().chain(annotations);
            let reserved = both.filter(|(key, value)| patch::is_reserved(key, Some(value))).map(|(key, _)| key.clone());
            for key in reserved.collect::<Vec<_>>() {
                let field = "commonMetadata";
                self.refuse(Site::Spec { field }, Rule::Mark { field, key });
            }
        }
        let mut obstacles = Vec::new();
        self.judge_files(&mut obstacles);
        self.judge_identities(&mut obstacles);
        self.obstacles.extend(obstacles);
    }

    /// An encrypted file is read once and in one way.
    fn judge_files(&self, obstacles: &mut Vec<Obstacle>) {
        let mut seen: BTreeMap<&FilePath, Vec<&Used>> = BTreeMap::new();
        for (file, used) in &self.uses {
            seen.entry(file).or_default().push(used);
        }
        for (file, uses) in seen {
            let is_encrypted = uses.iter().any(|used| match used {
                Used::Item(index) => self.items.get(*index).is_some_and(|item| !item.sealed.is_empty()),
                Used::Input { item, input } => match self.items.get(*item) {
                    Some(Item { what: What::Generator(generated), .. }) => {
                        generated.inputs.get(*input).is_some_and(|input| input.is_encrypted)
                    }
                    Some(_) | None => false,
                },
                Used::Patch(encrypted) => encrypted.is_some(),
                Used::Kustomization | Used::Other(_) => false,
            });
            if is_encrypted && uses.len() > 1 {
                let site = Site::File { file: file.clone(), line: 0 };
                obstacles.push(Obstacle { site, rule: Rule::ReachedTwice });
            }
        }
    }

    /// What an encrypted document becomes is a name that Kubernetes takes, and no other's.
    fn judge_identities(&self, obstacles: &mut Vec<Obstacle>) {
        let mut seen: HashMap<(String, Option<String>, String), FilePath> = HashMap::new();
        for item in &self.items {
            for own in item.sealed.iter().flatten() {
                let becomes = item.place.of(own);
                // Without a namespace of its own it is `secrets.namespace` that counts, which is one.
                let name = secret::name(becomes.namespace.as_deref().unwrap_or("default"), &becomes.name);
                if let Err(problem) = name {
                    let rule = Rule::Becomes { object: own.to_string(), problem: problem.to_string() };
                    obstacles.push(Obstacle { site: item.site.clone(), rule });
                }
                if let What::Generator(generated) = &item.what
                    && generated.has_hash
                    && !item.place.suffix.is_empty()
                {
                    let rule = Rule::HashBehindSuffix { name: generated.name.clone() };
                    obstacles.push(Obstacle { site: item.site.clone(), rule });
                }
                let key = (becomes.kind.clone(), becomes.namespace.clone(), becomes.name.clone());
                if let Some(other) = seen.insert(key, item.file.clone()) {
                    let problem = format!("{other} becomes the same object");
                    let rule = Rule::Becomes { object: own.to_string(), problem };
                    obstacles.push(Obstacle { site: item.site.clone(), rule });
                }
            }
        }
    }
}

fn site(overlay: &Overlay, line: u32) -> Site {
    match &overlay.file {
        Some(file) => Site::File { file: file.clone(), line },
        None => Site::Spec { field: "path" },
    }
}

/// Whether an encrypted document is one that kustomize and kustomize-controller treat as any other.
fn admissible(object: &Object, meta: Option<&Meta>) -> Result<(), String> {
    if let Some(meta) = meta.filter(|meta| kustomization::is_cluster_scoped(meta)) {
        return Err(format!("it is an encrypted {}, which stands outside namespaces", meta.kind));
    }
    let Some(Node::Map(annotations)) = object.tree.at(&["metadata", "annotations"]) else { return Ok(()) };
    let steers = |key: &str| STEERING.iter().any(|prefix| key.starts_with(prefix));
    match annotations.entries().find(|entry| steers(&entry.key)) {
        Some(entry) => Err(format!("it is encrypted, and its annotation `{}` changes what is made of it", entry.key)),
        None => Ok(()),
    }
}

/// Annotations of a document that kustomize names, drops or merges it by, and the one that keeps it encrypted.
const STEERING: [&str; 4] = [
    "config.kubernetes.io/local-config",
    "internal.config.kubernetes.io/",
    "kustomize.config.k8s.io/",
    "kustomize.toolkit.fluxcd.io/decrypt",
];

fn bytes_of<'a>(files: &'a Files, path: &FilePath) -> Option<&'a [u8]> {
    match files.get(path) {
        Some(Content::Bytes(bytes)) => Some(bytes),
        Some(Content::TooLarge { .. } | Content::BadLink | Content::Special | Content::NotRead) | None => None,
    }
}

/// Reads on every processor what a walk that begins in a folder will probably ask for: what may hold ciphertext below it.
fn read_ahead<'a>(
    files: &'a Files,
    folder: &str,
    limits: &Limits,
    read: Read,
) -> HashMap<&'a FilePath, Result<Manifest, (u32, String)>> {
    let is_below = |path: &str| match path.strip_prefix(folder) {
        Some(rest) => folder.is_empty() || rest.starts_with('/'),
        None => false,
    };
    let paths = files.iter().map(|(path, _)| path);
    let likely: Vec<_> = paths.filter(|path| is_below(path.as_str()) && files::wanted(path.file_name())).collect();
    let may_be_sealed = |path: &&&FilePath| bytes_of(files, path).is_some_and(may_be_sealed);
    let manifest = |path: &&'a FilePath| (*path, read_manifest(files, path, limits, read));
    likely.par_iter().filter(may_be_sealed).map(manifest).collect()
}

/// The objects of a file.
fn read_manifest(files: &Files, path: &FilePath, limits: &Limits, read: Read) -> Result<Manifest, (u32, String)> {
    let bytes = bytes_of(files, path).ok_or((0, "it was not read".to_owned()))?;
    if Envelope::of_name(path.file_name()).is_some() {
        return Ok(Manifest { objects: vec![Held { line: 0, own: None, is_encrypted: true }], kept: None });
    }
    if read != Read::Whole && !may_be_sealed(bytes) {
        return Ok(Manifest { objects: Vec::new(), kept: None });
    }
    let format = match Format::of_name(path.file_name()) {
        Format::Json => Format::Json,
        Format::Yaml | Format::Dotenv | Format::Ini | Format::Binary => Format::Yaml,
    };
    let document = Document::parse(bytes, format, limits).map_err(|error| (0, error.to_string()))?;
    let (documents, view) = match &document {
        Document::Clear(tree) => (tree.documents.as_slice(), View::Clear),
        Document::Sealed(sealed) => (sealed.documents(), View::Sealed),
    };
    let mut objects = Vec::new();
    for object in object::objects(documents, view) {
        let told = |problem: object::Problem| (problem.line, problem.problem.to_string());
        let object = object.map_err(told)?;
        let is_encrypted = object.is_encrypted();
        let meta = match object.meta() {
            Ok(meta) => meta,
            Err(problem) if is_encrypted => return Err(told(problem)),
            // An object without a name is kustomize's to refuse.
            Err(_) => continue,
        };
        if is_encrypted {
            admissible(&object, meta.as_ref()).map_err(|problem| (object.line, problem))?;
        }
        let own = meta.map(|meta| Identity {
            api_version: meta.api_version,
            kind: meta.kind,
            namespace: meta.namespace,
            name: meta.name,
        });
        objects.push(Held { line: object.line, own, is_encrypted });
    }
    let kept = match (document, read) {
        (Document::Sealed(sealed), Read::Kept) => Some((format, sealed)),
        (Document::Sealed(_) | Document::Clear(_), _) => None,
    };
    Ok(Manifest { objects, kept })
}

/// Whether a file of objects can be one with a `sops` block. Its name is text, unless it is spelled with escapes.
fn may_be_sealed(bytes: &[u8]) -> bool {
    let is_text = std::str::from_utf8(bytes).is_ok() && !bytes.contains(&0);
    !is_text || bytes.contains(&b'\\') || holds(bytes, b"sops")
}

/// Whether a generator input or patch holds ciphertext of any kind.
fn holds_ciphertext(bytes: &[u8]) -> bool {
    const WHOLE: [&[u8]; 3] =
        [b"-----BEGIN AGE ENCRYPTED FILE-----", b"age-encryption.org/v1", b"-----BEGIN PGP MESSAGE-----"];
    holds(bytes, b"ENC[AES256_GCM,") || WHOLE.iter().any(|marker| bytes.trim_ascii_start().starts_with(marker))
}

fn holds(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// kustomize-controller's format of an entry of `files`: by what stands before the first `=`.
fn format_of_key(source: &str) -> Format {
    let key = source.split_once('=').map_or(source, |(key, _)| key);
    if key.ends_with(".dockerconfigjson") { Format::Json } else { Format::of_name(key) }
}

/// kustomize-controller's format of an entry of `envs`.
fn format_of_envs(path: &str) -> Format {
    match Format::of_name(path) {
        Format::Binary => Format::Dotenv,
        format @ (Format::Yaml | Format::Json | Format::Dotenv | Format::Ini) => format,
    }
}

/// Whether kustomize takes the text for a repository where it names no file: a scheme, a host before `:`, a user
/// before `@`, GitHub's name, a query.
fn is_remote(text: &str) -> bool {
    text.contains([':', '@', '?']) || text.to_ascii_lowercase().starts_with("github.com")
}

#[expect(clippy::case_sensitive_file_extension_comparisons, reason = "as kustomize-controller")]
fn is_yaml(name: &str) -> bool {
    name.ends_with(".yaml") || name.ends_with(".yml")
}

fn seen_from(folder: &str, path: &str) -> String {
    let below = path.strip_prefix(folder).unwrap_or(path);
    below.strip_prefix('/').unwrap_or(below).to_owned()
}

fn last_part(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// The path that a text means, seen from a folder.
fn target(folder: &str, text: &str) -> Result<String, Listing> {
    if text.contains("://") {
        return Err(Listing::Remote);
    }
    if text.starts_with('/') {
        return Err(Listing::Absolute);
    }
    kustomization::resolve(folder, text).ok_or(Listing::Leaves)
}
