use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

use super::*;

const LIMITS: UploadLimits = UploadLimits { document: 100, kept: 10_000, stream: 100_000, files: 20 };

fn path(text: &str) -> FilePath {
    FilePath::parse(text).unwrap()
}

/// One entry of a tar; its name is written as it is, whatever it is.
fn entry(kind: EntryType, name: &str, mode: u32, body: &[u8]) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(body.len() as u64);
    if matches!(kind, EntryType::Symlink | EntryType::Link) {
        header.set_link_name("a.yaml").unwrap();
    }
    header.set_cksum();
    let mut tar = Builder::new(Vec::new());
    tar.append(&header, body).unwrap();
    let mut bytes = tar.into_inner().unwrap();
    bytes.truncate(bytes.len() - 1024);
    bytes
}

fn file(name: &str, body: &str) -> Vec<u8> {
    entry(EntryType::Regular, name, 0o600, body.as_bytes())
}

fn folder(name: &str) -> Vec<u8> {
    entry(EntryType::Directory, name, 0o750, b"")
}

fn gzip(entries: &[Vec<u8>]) -> Bytes {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&entries.concat()).unwrap();
    gzip.write_all(&[0; 1024]).unwrap();
    gzip.finish().unwrap().into()
}

fn unpack_within(entries: &[Vec<u8>], limits: UploadLimits) -> Result<Tree, Failure> {
    let gzip = gzip(entries);
    let digest = Digest::of(&gzip);
    Tree::unpack(&Artifact::checked(gzip, digest, "it")?, "it", limits)
}

fn unpack(entries: &[Vec<u8>]) -> Result<Tree, Failure> {
    unpack_within(entries, LIMITS)
}

fn names(tree: &Tree) -> Vec<&str> {
    tree.iter().map(|(path, _)| path.as_str()).collect()
}

#[track_caller]
fn refused(outcome: Result<Tree, Failure>, reason: &str) {
    let failure = outcome.err().expect("it is refused");
    assert!(failure.to_string().contains(reason), "{failure}");
}

#[test]
fn every_regular_file_is_there_with_its_bytes_and_whether_it_can_be_run() {
    let program = entry(EntryType::Regular, "hack/run", 0o700, b"#!/bin/sh\n");
    // source-controller's first entry is the top itself, and its folders have no slash.
    let tree = unpack(&[folder("."), file("b.yaml", "b"), folder("hack"), program, file(".sops.yaml", "")]).unwrap();
    assert_eq!(names(&tree), [".sops.yaml", "b.yaml", "hack/run"]);
    assert_eq!(tree.get(&path("b.yaml")), Some(&File { bytes: Bytes::from_static(b"b"), is_executable: false }));
    assert!(tree.get(&path("hack/run")).unwrap().is_executable);
}

/// Packed by `fluxcd/pkg/tar`, which wrote folders and a name of more than 100 bytes as PAX records.
#[test]
fn what_flux_itself_packed_is_read() {
    let gzip = Bytes::from_static(include_bytes!("tests/flux.tar.gz"));
    let digest = Digest::parse("sha256:f72b95b584c417d3354370578fb48652d3407ec12f84989de46b79d32b7e40d0").unwrap();
    let tree = Tree::unpack(&Artifact::checked(gzip, digest, "it").unwrap(), "it", LIMITS).unwrap();
    let long = format!("apps/{}/{}.yaml", "f".repeat(90), "n".repeat(90));
    assert_eq!(names(&tree), ["apps/db.yaml", long.as_str(), "apps/grün.yaml", "hack/run"]);
    assert_eq!(tree.get(&path(&long)).unwrap().bytes, b"long: name\n"[..]);
    assert!(tree.get(&path("hack/run")).unwrap().is_executable);
    assert!(!tree.get(&path("apps/db.yaml")).unwrap().is_executable);
}

#[test]
fn bytes_that_the_digest_does_not_name_are_not_looked_into() {
    let gzip = gzip(&[file("a.yaml", "a")]);
    let digest = Digest::of(&gzip);
    let mut other = gzip.to_vec();
    // Of the header's time, which no reader minds.
    other[4] ^= 1;
    assert!(Artifact::checked(gzip, digest, "it").is_ok());
    assert!(Artifact::checked(other.into(), digest, "it").err().unwrap().to_string().contains("digest"));
}

/// The digest of nothing is in FIPS 180-4's examples.
#[test]
fn a_digest_is_sha_256_in_one_spelling() {
    let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(Digest::of(b"").to_string(), format!("sha256:{nothing}"));
    assert_eq!(Digest::parse(&format!("sha256:{nothing}")), Ok(Digest::of(b"")));
    assert_eq!(Digest::parse(nothing), Ok(Digest::of(b"")));
    for other in ["", "sha256:", &nothing[1..], &nothing.to_uppercase(), &format!("md5:{nothing}")] {
        assert!(Digest::parse(other).is_err(), "{other}");
    }
    for other in ["sha384", "sha512", "blake3"] {
        let rule = Digest::parse(&format!("{other}:{nothing}")).unwrap_err();
        assert!(rule.contains("--artifact-digest-algo=sha256"), "{rule}");
    }
}

#[test]
fn a_link_is_left_out_and_known() {
    let tree = unpack(&[file("apps/a.yaml", "a"), entry(EntryType::Symlink, "apps/b.yaml", 0o777, b"")]).unwrap();
    assert_eq!(names(&tree), ["apps/a.yaml"]);
    let gathered = tree.gathered(&path("apps/regent.yaml"), 100, "it").ok().unwrap();
    assert!(matches!(gathered.files.get(&path("b.yaml")), Some(Content::BadLink)));
}

#[test]
fn what_the_controller_or_a_disk_refuses_is_refused() {
    for (entries, reason) in [
        (vec![entry(EntryType::Link, "b.yaml", 0o600, b"")], "hard link"),
        (vec![entry(EntryType::Fifo, "pipe", 0o600, b"")], "named pipe"),
        (vec![file("../a.yaml", "")], "`..`"),
        (vec![file("a/../../b.yaml", "")], "`..`"),
        (vec![file("/etc/a.yaml", "")], "no relative path"),
        (vec![file("a\\b.yaml", "")], "backslash"),
        (vec![file("a.yaml", ""), file("a.yaml", "")], "twice"),
        (vec![file("a", ""), folder("a")], "twice"),
        (vec![folder("a"), file("a", "")], "twice"),
        (vec![file("a/b", ""), file("a", "")], "twice"),
        (vec![file("a", ""), file("a/b", "")], "below a file"),
    ] {
        refused(unpack(&entries), reason);
    }
    assert!(unpack(&[folder("a"), folder("a"), file("a/b", "")]).is_ok(), "a folder may be named again");
}

#[test]
fn each_limit_holds() {
    let ten: Vec<Vec<u8>> = (0..10).map(|number| file(&format!("f{number}/x"), "0123456789")).collect();
    // Ten files and ten folders.
    assert_eq!(unpack(&ten).unwrap().len(), 10);
    refused(unpack(&[ten.concat(), file("one-more", "")]), "more than 20 files and folders (`limits.files`)");
    refused(
        unpack_within(&ten, UploadLimits { stream: 10_000, ..LIMITS }),
        "10000 bytes once unpacked (`limits.stream`)",
    );
    refused(unpack_within(&ten, UploadLimits { kept: 1_000, ..LIMITS }), "1000 bytes (`limits.upload`)");
    // A plain file is no document.
    let large = "x".repeat(1_000);
    assert_eq!(unpack(&[file("a.txt", &large)]).unwrap().len(), 1);
}

#[test]
fn a_root_is_gathered_as_from_every_source() {
    let tree = unpack(&[
        file("clusters/prod/regent.yaml", "r"),
        file("clusters/prod/db.yaml", "d"),
        file("clusters/prod/deep/large.yaml", &"x".repeat(101)),
        file("clusters/prod/README.md", "text"),
        file("clusters/prod/.sops.yaml", ""),
        file("clusters/prod/.hidden/a.yaml", ""),
        file("clusters/production/other.yaml", ""),
        file("clusters/regent.yaml", ""),
        file("clusters/prod/deep/regent.yaml", ""),
    ]);
    let tree = tree.unwrap();
    let gathered = tree.gathered(&path("clusters/prod/regent.yaml"), 100, "infra").ok().unwrap();
    let found: Vec<_> = gathered.files.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(found, ["README.md", "db.yaml", "deep/large.yaml", "deep/regent.yaml", "regent.yaml"]);
    let content = |name: &str| gathered.files.get(&path(name)).unwrap();
    assert!(matches!(content("db.yaml"), Content::Bytes(bytes) if bytes == b"d"));
    assert!(matches!(content("deep/large.yaml"), Content::TooLarge { size: 101 }));
    assert!(matches!(content("README.md"), Content::NotRead));
    assert_eq!(gathered.root.as_deref(), Some("clusters/prod"));
    assert_eq!(gathered.bootstraps_above, ["clusters/regent.yaml"]);
    assert_eq!(gathered.label, "infra:clusters/prod");
    let top = tree.gathered(&path("regent.yaml"), 100, "infra").ok().unwrap();
    assert_eq!((top.files.len(), top.root.as_deref()), (7, Some(".")));
    assert!(tree.gathered(&path("nowhere/regent.yaml"), 100, "infra").is_err());
}

/// A repository with one commit.
struct Committed {
    folder: tempfile::TempDir,
    entries: Vec<(&'static str, i32, &'static str)>,
}

impl Committed {
    fn read(&self, limits: UploadLimits) -> Result<Tree, Failure> {
        self.commit();
        self.again(limits, None)
    }

    fn commit(&self) {
        let repository = git2::Repository::init_bare(self.folder.path()).unwrap();
        let mut index = git2::Index::new().unwrap();
        for (name, mode, text) in &self.entries {
            let id = repository.blob(text.as_bytes()).unwrap();
            let mode = u32::try_from(*mode).unwrap();
            let time = git2::IndexTime::new(0, 0);
            index
                .add(&git2::IndexEntry {
                    ctime: time,
                    mtime: time,
                    dev: 0,
                    ino: 0,
                    mode,
                    uid: 0,
                    gid: 0,
                    file_size: 0,
                    id,
                    flags: 0,
                    flags_extended: 0,
                    path: name.as_bytes().to_vec(),
                })
                .unwrap();
        }
        let tree = repository.find_tree(index.write_tree_to(&repository).unwrap()).unwrap();
        let who = git2::Signature::now("a", "a@example.com").unwrap();
        repository.commit(Some("refs/heads/main"), &who, &who, "c", &tree, &[]).unwrap();
    }

    fn again(&self, limits: UploadLimits, before: Option<&Tree>) -> Result<Tree, Failure> {
        let place = crate::source::git::Place {
            location: regent_core::remote::Location::Folder(self.folder.path().to_owned()),
            access: regent_core::remote::Access::default(),
        };
        let held = crate::source::git::Held::open(&place, "main", crate::source::git::History::None)?;
        Tree::of_commit(&held, "it", limits, before)
    }
}

const FILE: i32 = 0o100_644;
const PROGRAM: i32 = 0o100_755;
const LINK: i32 = 0o120_000;

fn committed(entries: &[(&'static str, i32, &'static str)], limits: UploadLimits) -> Result<Tree, Failure> {
    Committed { folder: tempfile::tempdir().unwrap(), entries: entries.to_vec() }.read(limits)
}

#[test]
fn a_commit_gives_what_source_controller_would_pack() {
    let tree = committed(
        &[
            (".gitignore", FILE, "x"),
            (".sops.yaml", FILE, "x"),
            (".github/workflows/a.yaml", FILE, "x"),
            ("apps/a.yaml", FILE, "a"),
            ("apps/logo.png", FILE, "x"),
            ("hack/run", PROGRAM, "run"),
        ],
        LIMITS,
    );
    let tree = tree.unwrap();
    assert_eq!(names(&tree), ["apps/a.yaml", "hack/run"]);
    assert_eq!(tree.get(&path("apps/a.yaml")), Some(&File { bytes: Bytes::from_static(b"a"), is_executable: false }));
    assert!(tree.get(&path("hack/run")).unwrap().is_executable);
}

/// Git cannot read it any more, and nobody asks it to; what it costs counts as before.
#[test]
fn what_another_commit_has_is_not_read_again() {
    let entries = [("apps/a.yaml", FILE, "a"), ("apps/b.yaml", FILE, "b"), ("hack/run", PROGRAM, "a")];
    let committed = Committed { folder: tempfile::tempdir().unwrap(), entries: entries.to_vec() };
    let first = committed.read(LIMITS).unwrap();
    for text in ["a", "b"] {
        let id = Oid::hash_object(git2::ObjectType::Blob, text.as_bytes()).unwrap().to_string();
        std::fs::remove_file(committed.folder.path().join("objects").join(&id[..2]).join(&id[2..])).unwrap();
    }
    assert!(committed.again(LIMITS, None).is_err());
    let second = committed.again(LIMITS, Some(&first)).unwrap();
    assert_eq!(second.iter().collect::<Vec<_>>(), first.iter().collect::<Vec<_>>());
    assert!(second.get(&path("hack/run")).unwrap().is_executable);
    refused(committed.again(UploadLimits { kept: 300, ..LIMITS }, Some(&first)), "hold more than 300 bytes");
    // The next has it from this one.
    assert_eq!(committed.again(LIMITS, Some(&second)).unwrap().len(), 3);
}

#[test]
fn a_sourceignore_stays_in_the_tree_and_decides_below_its_folder() {
    let tree = committed(
        &[
            ("apps/.sourceignore", FILE, "*.txt\n!keep.txt\n"),
            ("apps/a.txt", FILE, ""),
            ("apps/deep/b.txt", FILE, ""),
            ("apps/keep.txt", FILE, ""),
            ("c.txt", FILE, ""),
            ("logo.png", FILE, ""),
        ],
        LIMITS,
    );
    assert_eq!(names(&tree.unwrap()), ["apps/.sourceignore", "apps/keep.txt", "c.txt", "logo.png"]);
}

#[test]
fn a_link_inside_is_a_copy_and_others_are_left_out_and_known() {
    let tree = committed(
        &[
            ("base/a.yaml", FILE, "a"),
            ("base/deep/b.yaml", PROGRAM, "b"),
            ("prod/a.yaml", LINK, "../base/a.yaml"),
            ("prod/all", LINK, "../base"),
            ("prod/chain.yaml", LINK, "a.yaml"),
            ("prod/gone.yaml", LINK, "nowhere.yaml"),
            ("prod/loop", LINK, "../prod"),
            ("prod/out.yaml", LINK, "../../etc/passwd"),
            ("prod/root.yaml", LINK, "/etc/passwd"),
        ],
        LIMITS,
    );
    let tree = tree.unwrap();
    let copies = ["prod/a.yaml", "prod/all/a.yaml", "prod/all/deep/b.yaml", "prod/chain.yaml"];
    assert_eq!(names(&tree), [&["base/a.yaml", "base/deep/b.yaml"][..], &copies[..]].concat());
    assert_eq!(tree.get(&path("prod/chain.yaml")).unwrap().bytes, b"a"[..]);
    assert!(tree.get(&path("prod/all/deep/b.yaml")).unwrap().is_executable);
    let gathered = tree.gathered(&path("prod/regent.yaml"), 100, "it").ok().unwrap();
    for lost in ["gone.yaml", "loop", "out.yaml", "root.yaml"] {
        assert!(matches!(gathered.files.get(&path(lost)), Some(Content::BadLink)), "{lost}");
    }
}

/// The same on disk, of which nothing is committed.
fn on_disk(entries: &[(&str, i32, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    git2::Repository::init(folder.path()).unwrap();
    for (name, mode, text) in entries {
        let file = folder.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        if *mode == LINK {
            std::os::unix::fs::symlink(text, &file).unwrap();
            continue;
        }
        std::fs::write(&file, text).unwrap();
        let mode = if *mode == PROGRAM { 0o755 } else { 0o644 };
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
    folder
}

#[test]
fn a_work_tree_is_what_a_commit_of_it_would_be() {
    let entries = [
        (".github/a.yaml", FILE, "x"),
        (".gitignore", FILE, "x"),
        ("apps/.sourceignore", FILE, "*.txt\n!keep.txt\n"),
        ("apps/a.txt", FILE, "a"),
        ("apps/deep/b.yaml", PROGRAM, "b"),
        ("apps/keep.txt", FILE, "k"),
        ("prod/all", LINK, "../apps"),
        ("prod/chain.yaml", LINK, "one.yaml"),
        ("prod/gone.yaml", LINK, "nowhere.yaml"),
        ("prod/loop", LINK, "../prod"),
        ("prod/one.yaml", LINK, "../apps/deep/b.yaml"),
        ("prod/out.yaml", LINK, "../../etc/passwd"),
        ("prod/root.yaml", LINK, "/etc/passwd"),
    ];
    let limits = UploadLimits { files: 40, ..LIMITS };
    let theirs = committed(&entries, limits).unwrap();
    let ours = Tree::of_folder(on_disk(&entries).path(), "it", limits).unwrap();
    assert!(theirs.get(&path("prod/all/deep/b.yaml")).is_some());
    assert_eq!(ours.iter().collect::<Vec<_>>(), theirs.iter().collect::<Vec<_>>());
    assert_eq!((&ours.lost, ours.lost.len()), (&theirs.lost, 4));
}

#[test]
fn what_git_would_not_commit_is_no_part_of_a_work_tree() {
    let folder = on_disk(&[
        (".gitignore", FILE, "built/\n*.env\n"),
        ("a.yaml", FILE, "a"),
        ("built/b.yaml", FILE, "x"),
        ("held.env", FILE, "h"),
        ("secret.env", FILE, "x"),
        ("to-git.yaml", LINK, ".git/config"),
        ("to-ignored.yaml", LINK, "secret.env"),
    ]);
    let repository = git2::Repository::open(folder.path()).unwrap();
    let mut index = repository.index().unwrap();
    // Held before it was ignored, and so in every commit from here on.
    index.add_path(std::path::Path::new("held.env")).unwrap();
    index.write().unwrap();
    git2::Repository::init(folder.path().join("other")).unwrap();
    std::fs::write(folder.path().join("other/c.yaml"), "x").unwrap();
    let tree = Tree::of_folder(folder.path(), "it", LIMITS).unwrap();
    assert_eq!(names(&tree), ["a.yaml", "held.env"]);
    assert_eq!(tree.lost, ["to-git.yaml", "to-ignored.yaml"].map(path).into());
}

#[test]
fn a_work_tree_has_the_limits_of_a_commit() {
    let entries = [("a/x", FILE, ""), ("b/1", LINK, "../a"), ("b/2", LINK, "../a"), ("c/1", LINK, "../b")];
    let folder = on_disk(&entries);
    let read = |limits| Tree::of_folder(folder.path(), "it", limits);
    assert!(read(LIMITS).is_ok());
    refused(read(UploadLimits { files: 7, ..LIMITS }), "more than 7 files and folders (`limits.files`)");
    refused(read(UploadLimits { kept: 300, ..LIMITS }), "300 bytes (`limits.upload`)");
    std::fs::write(folder.path().join("a/.sourceignore"), "#".repeat(101)).unwrap();
    refused(read(LIMITS), "`a/.sourceignore` has more than 100 bytes (`limits.document`)");
    refused(Tree::of_folder(&folder.path().join("a"), "it", LIMITS), "");
}

#[test]
fn links_that_multiply_a_tree_end_at_its_limits() {
    let entries = [
        ("a/x", FILE, ""),
        ("b/1", LINK, "../a"),
        ("b/2", LINK, "../a"),
        ("c/1", LINK, "../b"),
        ("c/2", LINK, "../b"),
        ("d/1", LINK, "../c"),
        ("d/2", LINK, "../c"),
    ];
    refused(committed(&entries, LIMITS), "more than 20 files and folders (`limits.files`)");
    refused(committed(&entries[..3], UploadLimits { kept: 300, ..LIMITS }), "300 bytes (`limits.upload`)");
}
