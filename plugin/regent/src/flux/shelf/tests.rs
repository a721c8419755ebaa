use std::os::unix::fs::{PermissionsExt as _, symlink};

use regent_core::name::FilePath;
use tempfile::TempDir;

use super::*;
use crate::flux::pack::{Changes, pack};
use crate::flux::tree::Tree;

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).unwrap()
}

fn packed(text: &str) -> Packed {
    let path = FilePath::parse("a.yaml").unwrap();
    pack(&Tree::default(), &Changes::from([(path, Some(text.as_bytes().to_vec().into()))])).unwrap()
}

fn published(packed: &Packed) -> Published {
    Published {
        revision: format!("bootstrap@{}", packed.digest),
        digest: packed.digest,
        size: packed.gzip.len() as u64,
        metadata: BTreeMap::from([("org.opencontainers.image.revision".to_owned(), "main@sha1:1".to_owned())]),
        authority: AuthorityName::parse("prod").unwrap(),
        epoch: Epoch::FIRST,
        holds: Holds::Ciphertext,
    }
}

fn open(folder: &Path) -> (Shelf, Vec<Unsound>) {
    Shelf::open(folder).ok().unwrap()
}

#[track_caller]
fn put(shelf: &Shelf, object: &str, text: &str) -> Digest {
    let packed = packed(text);
    shelf.put(&name(object), &packed, &published(&packed)).ok().unwrap();
    packed.digest
}

/// The bytes under a name, and whether they came from a file.
fn found(shelf: &Shelf, object: &str, digest: Digest) -> Option<(Vec<u8>, bool)> {
    let Shelved { size, content } = shelf.find(&name(object), digest)?;
    let (bytes, from_file) = match content {
        Content::Memory(bytes) => (bytes.to_vec(), false),
        Content::File(path) => {
            let mut bytes = Vec::new();
            open_whole(&path, size)?.read_to_end(&mut bytes).unwrap();
            (bytes, true)
        }
    };
    assert_eq!(bytes.len() as u64, size);
    Some((bytes, from_file))
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// As if it had been current until so long ago.
fn aged(folder: &TempDir, object: &str, digest: Digest, by: Duration) {
    let file = File::options().write(true).open(folder.path().join(object).join(file_name(digest))).unwrap();
    file.set_modified(SystemTime::now() - by).unwrap();
}

const OLD: Duration = Duration::from_secs(301);

#[test]
fn what_was_published_is_served_again_after_a_restart() {
    let folder = folder();
    let (first, second) = (packed("1"), packed("2"));
    let stubs = Published { holds: Holds::Stubs, epoch: Epoch::new(3).unwrap(), ..published(&second) };
    {
        let (shelf, unsound) = open(folder.path());
        assert_eq!(unsound, []);
        shelf.put(&name("team/app"), &first, &published(&first)).ok().unwrap();
        shelf.put(&name("team/app"), &second, &stubs).ok().unwrap();
        assert_eq!(shelf.published(&name("team/app")), Some(stubs.clone()));
    }
    let (shelf, unsound) = open(folder.path());
    assert_eq!(unsound, []);
    assert_eq!(shelf.names(), [name("team/app")]);
    assert_eq!(shelf.published(&name("team/app")), Some(stubs.clone()));
    assert_eq!(stubs.path(&name("team/app")), format!("externalartifact/team/app/{}.tar.gz", second.digest.digits()));
    assert_eq!(found(&shelf, "team/app", second.digest), Some((second.gzip.to_vec(), false)));
    assert_eq!(found(&shelf, "team/app", first.digest), Some((first.gzip.to_vec(), true)));
    // Of one name is not of another.
    assert_eq!(found(&shelf, "team/other", first.digest), None);
    assert_eq!(shelf.published(&name("team/other")), None);
}

#[test]
fn the_last_two_stay_and_who_may_still_be_fetched() {
    let folder = folder();
    let (shelf, _) = open(folder.path());
    let first = put(&shelf, "team/app", "1");
    let second = put(&shelf, "team/app", "2");
    let third = put(&shelf, "team/app", "3");
    for digest in [first, second, third] {
        assert!(found(&shelf, "team/app", digest).is_some(), "each was current a moment ago");
    }
    aged(&folder, "team/app", first, OLD * 2);
    aged(&folder, "team/app", second, OLD);
    let fourth = put(&shelf, "team/app", "4");
    assert_eq!(found(&shelf, "team/app", first), None);
    assert_eq!(found(&shelf, "team/app", second), None);
    // Made long ago, and current until now.
    aged(&folder, "team/app", fourth, OLD * 9);
    let fifth = put(&shelf, "team/app", "5");
    let sixth = put(&shelf, "team/app", "6");
    for digest in [fourth, fifth, sixth] {
        assert!(found(&shelf, "team/app", digest).is_some());
    }
    assert!(!folder.path().join("team/app").join(file_name(first)).exists());
    // After a long calm the one before the current one is still there.
    aged(&folder, "team/app", fifth, OLD);
    aged(&folder, "team/app", sixth, OLD);
    drop(shelf);
    let (shelf, _) = open(folder.path());
    let seventh = put(&shelf, "team/app", "7");
    assert!(found(&shelf, "team/app", sixth).is_some() && found(&shelf, "team/app", seventh).is_some());
    assert_eq!(found(&shelf, "team/app", fifth), None);
}

#[test]
fn an_older_one_may_come_back() {
    let folder = folder();
    let (shelf, _) = open(folder.path());
    let first = put(&shelf, "team/app", "1");
    let second = put(&shelf, "team/app", "2");
    assert_eq!(put(&shelf, "team/app", "1"), first);
    assert_eq!(shelf.published(&name("team/app")).unwrap().digest, first);
    assert!(found(&shelf, "team/app", second).is_some());
}

#[test]
fn what_is_damaged_is_told_and_not_served_and_the_rest_is() {
    let folder = folder();
    let (shelf, _) = open(folder.path());
    let sound = put(&shelf, "team/sound", "1");
    let [bytes, index, gone, schema, other] = ["bytes", "index", "gone", "schema", "other"].map(|object| {
        put(&shelf, &format!("team/{object}"), "1");
        folder.path().join("team").join(object)
    });
    drop(shelf);
    let mut damaged = packed("1").gzip.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(bytes.join(file_name(sound)), damaged).unwrap();
    fs::write(index.join(INDEX), "{").unwrap();
    fs::remove_file(gone.join(file_name(sound))).unwrap();
    let json = fs::read_to_string(schema.join(INDEX)).unwrap();
    fs::write(schema.join(INDEX), json.replace("\"schema\":1", "\"schema\":2")).unwrap();
    fs::write(other.join("notes.txt"), "").unwrap();
    symlink("/etc/passwd", other.join(format!("{}.tar.gz", "0".repeat(64)))).unwrap();
    fs::create_dir_all(folder.path().join("team/UPPER")).unwrap();
    fs::create_dir(folder.path().join("lost+found")).unwrap();
    fs::write(folder.path().join("notes.txt"), "").unwrap();

    let (shelf, unsound) = open(folder.path());
    let told: Vec<String> =
        unsound.iter().map(|it| it.path.strip_prefix(folder.path()).unwrap().display().to_string()).collect();
    let expected = [
        "notes.txt".to_owned(),
        "team/UPPER".to_owned(),
        format!("team/bytes/{}", file_name(sound)),
        "team/bytes/published.json".to_owned(),
        "team/gone/published.json".to_owned(),
        "team/index/published.json".to_owned(),
        format!("team/other/{}.tar.gz", "0".repeat(64)),
        "team/other/notes.txt".to_owned(),
        "team/schema/published.json".to_owned(),
    ];
    assert_eq!(told, expected, "{unsound:?}");
    assert_eq!(found(&shelf, "team/bytes", sound), None);
    assert_eq!(found(&shelf, "team/gone", sound), None);
    for object in ["team/sound", "team/other"] {
        assert!(found(&shelf, object, sound).is_some());
        assert!(shelf.published(&name(object)).is_some());
    }
    // Its name says what it is, whatever the index says.
    assert!(found(&shelf, "team/index", sound).is_some());
    assert_eq!(shelf.published(&name("team/index")), None);
    // And to publish again mends it.
    for object in ["team/bytes", "team/gone", "team/index", "team/schema"] {
        put(&shelf, object, "1");
        assert!(found(&shelf, object, sound).is_some());
    }
}

#[test]
fn a_file_that_was_cut_meanwhile_is_not_begun() {
    let folder = folder();
    let (shelf, _) = open(folder.path());
    let first = put(&shelf, "team/app", "1");
    put(&shelf, "team/app", "2");
    let file = folder.path().join("team/app").join(file_name(first));
    fs::write(&file, "x").unwrap();
    assert_eq!(found(&shelf, "team/app", first), None);
    fs::remove_file(&file).unwrap();
    assert_eq!(found(&shelf, "team/app", first), None);
}

#[test]
fn a_folder_serves_one_process_and_has_to_be_there() {
    let folder = folder();
    let missing = Shelf::open(&folder.path().join("missing")).err().unwrap().to_string();
    assert!(missing.contains("missing") && missing.contains("no such file"), "{missing}");
    let (_shelf, _) = open(folder.path());
    let (began, patience) = (std::time::Instant::now(), Duration::from_millis(200));
    let second = Shelf::open_within(folder.path(), patience).err().unwrap().to_string();
    assert!(second.contains("another process"), "{second}");
    assert!(began.elapsed() >= patience, "one that ends is waited for");
}

/// Nobody but root is kept from a folder that is full; a file in its place stops root as well.
#[test]
fn what_cannot_be_written_is_one_failure_and_what_is_served_stays() {
    let folder = folder();
    let (shelf, _) = open(folder.path());
    let first = put(&shelf, "team/app", "1");
    fs::create_dir(folder.path().join("team/app").join(file_name(packed("2").digest))).unwrap();
    fs::write(folder.path().join("full"), "").unwrap();
    let second = packed("2");
    for object in ["team/app", "full/app"] {
        let failure = shelf.put(&name(object), &second, &published(&second)).err().unwrap().to_string();
        assert!(failure.starts_with("cannot ") && failure.contains(&folder.path().display().to_string()), "{failure}");
    }
    assert_eq!(shelf.published(&name("team/app")).unwrap().digest, first);
    assert!(found(&shelf, "team/app", first).is_some());
    let left: Vec<_> =
        fs::read_dir(folder.path().join("team/app")).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| durable::is_temporary(&name.to_string_lossy())), "{left:?}");
}

#[test]
fn what_a_writer_left_behind_goes_and_nobody_else_can_read_the_files() {
    let folder = folder();
    fs::create_dir_all(folder.path().join("team/app")).unwrap();
    let left = folder.path().join("team/app/.regent-x.tmp");
    fs::write(&left, "half").unwrap();
    let (shelf, unsound) = open(folder.path());
    assert_eq!(unsound, []);
    let digest = put(&shelf, "team/app", "1");
    assert!(!left.exists());
    for file in [file_name(digest), INDEX.to_owned()] {
        let mode = folder.path().join("team/app").join(file).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn memory_holds_current_ones_up_to_its_bound() {
    let folder = folder();
    let (shelf, _) = open(folder.path());
    let large = packed(&"x".repeat(40 << 20));
    for object in ["team/a", "team/b"] {
        shelf.put(&name(object), &large, &published(&large)).ok().unwrap();
    }
    let from_file =
        |shelf: &Shelf, object| matches!(shelf.find(&name(object), large.digest).unwrap().content, Content::File(_));
    assert!(!from_file(&shelf, "team/a") && from_file(&shelf, "team/b"));
    drop(shelf);
    let (shelf, _) = open(folder.path());
    assert_ne!(from_file(&shelf, "team/a"), from_file(&shelf, "team/b"));
    // A smaller one makes room.
    put(&shelf, "team/a", "1");
    shelf.put(&name("team/b"), &large, &published(&large)).ok().unwrap();
    assert!(!from_file(&shelf, "team/b"));
}

#[test]
fn who_serves_from_a_folder_is_called_the_same_after_a_restart_and_like_nobody_else() {
    let (one, other) = (folder(), folder());
    let before = open(one.path()).0.identity();
    let (shelf, unsound) = open(one.path());
    assert_eq!(shelf.identity(), before);
    assert_eq!(unsound, []);
    assert_ne!(open(other.path()).0.identity(), before);
}
