use std::io::{Read as _, Write as _};
use std::process::Command;

use flate2::read::GzDecoder;
use proptest::prelude::*;

use super::*;
use crate::flux::tree::Artifact;
use crate::source::tar::UploadLimits;

const LIMITS: UploadLimits = UploadLimits { document: 1 << 20, kept: 1 << 30, stream: 1 << 30, files: 1000 };

fn path(text: &str) -> FilePath {
    FilePath::parse(text).unwrap()
}

fn changes(files: &[(&str, Option<&str>)]) -> Changes {
    files.iter().map(|(name, text)| (path(name), text.map(|text| text.as_bytes().to_vec().into()))).collect()
}

/// A tree of plain files, by the way that is tested: there is no other one to make a tree in memory.
fn tree(files: &[(&str, &str)]) -> Tree {
    let files: Vec<_> = files.iter().map(|(name, text)| (*name, Some(*text))).collect();
    unpacked(&pack(&Tree::default(), &changes(&files)).unwrap())
}

fn unpacked(packed: &Packed) -> Tree {
    Tree::unpack(&Artifact::checked(packed.gzip.clone(), packed.digest, "it").unwrap(), "it", LIMITS).unwrap()
}

fn texts(tree: &Tree) -> Vec<(String, String)> {
    tree.iter().map(|(path, file)| (path.to_string(), String::from_utf8(file.bytes.to_vec()).unwrap())).collect()
}

fn owned(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn files_are_replaced_removed_and_added_and_the_rest_stays() {
    let tree = tree(&[("a.yaml", "a"), ("b.yaml", "b"), ("c/d.yaml", "d")]);
    let packed = pack(&tree, &changes(&[("a.yaml", Some("A")), ("b.yaml", None), ("c/e.yaml", Some("e"))])).unwrap();
    assert_eq!(texts(&unpacked(&packed)), owned(&[("a.yaml", "A"), ("c/d.yaml", "d"), ("c/e.yaml", "e")]));
    // To remove what is not there is no change.
    assert_eq!(pack(&tree, &changes(&[("x", None)])).unwrap().digest, pack(&tree, &Changes::new()).unwrap().digest);
}

#[test]
fn what_no_disk_can_hold_is_refused() {
    let tree = tree(&[("a", ""), ("b/c/d", ""), ("b-", "")]);
    for new in ["a/x", "b", "b/c"] {
        let failure = pack(&tree, &changes(&[(new, Some(""))])).err().unwrap();
        assert!(failure.to_string().contains("only one of them can be a folder"), "{failure}");
    }
    assert!(pack(&tree, &changes(&[("a", None), ("a/x", Some(""))])).is_ok());
    assert!(pack(&tree, &changes(&[("b/c/d", None), ("b", Some(""))])).is_ok());
    assert!(pack(&tree, &changes(&[("b-/x", None), ("b.", Some(""))])).is_ok());
}

/// Every byte by RFC 1952, RFC 1951 and POSIX: whoever changes one changes the digest of every artifact.
#[test]
fn the_bytes_are_those_of_the_standards() {
    let packed = pack(&Tree::default(), &changes(&[("a.yaml", Some("a: 1\n"))])).unwrap();
    let mut header = [0; 512];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, b"a.yaml");
    put(100, b"0000600\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, b"00000000005\0");
    put(136, b"00000000000\0");
    put(156, b"0");
    put(257, b"ustar\x0000");
    // The checksum counts itself as eight blanks.
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
    header[148..156].copy_from_slice(format!("{sum:07o}\0").as_bytes());
    let mut tar = [&header[..], b"a: 1\n"].concat();
    tar.resize(2048, 0);
    let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 1, 0, 8, 0xff, 0xf7];
    gzip.extend_from_slice(&tar);
    let mut crc = Crc::new();
    crc.update(&tar);
    gzip.extend_from_slice(&crc.sum().to_le_bytes());
    gzip.extend_from_slice(&2048_u32.to_le_bytes());
    assert!(packed.gzip == gzip);
}

#[test]
fn the_order_in_which_a_tree_was_made_does_not_show() {
    let names: Vec<String> = (0..50).map(|number| format!("f{}/{number}.yaml", number % 7)).collect();
    let forth: Vec<_> = names.iter().map(|name| (name.as_str(), Some("x"))).collect();
    let in_one = pack(&Tree::default(), &changes(&forth)).unwrap();
    let half = pack(&Tree::default(), &changes(&forth[25..])).unwrap();
    let in_two = pack(&unpacked(&half), &changes(&forth[..25])).unwrap();
    assert!(in_one.gzip == in_two.gzip);
    // And a tree that was packed is packed to the same.
    assert_eq!(pack(&unpacked(&in_one), &Changes::new()).unwrap().digest, in_one.digest);
}

fn files() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let name = "[a-z]{1,3}/([a-zé ]{1,120}/)?[a-z.]{0,110}x";
    let bytes = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..3000),
        // Around the ends of gzip's blocks.
        (65_000_usize..66_600).prop_map(|length| vec![7; length]),
    ];
    proptest::collection::vec((name, bytes), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_packed_is_what_readers_find(files in files()) {
        let changes: Changes =
            files.iter().filter_map(|(name, bytes)| Some((FilePath::parse(name).ok()?, Some(bytes.clone().into())))).collect();
        let Ok(packed) = pack(&Tree::default(), &changes) else { return Ok(()) };
        let ours: Changes = unpacked(&packed).iter().map(|(path, file)| (path.clone(), Some(file.bytes.clone()))).collect();
        prop_assert!(ours == changes);
        let mut theirs = Changes::new();
        let mut archive = tar::Archive::new(GzDecoder::new(&*packed.gzip));
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            theirs.insert(path(entry.path().unwrap().to_str().unwrap()), Some(bytes.into()));
        }
        prop_assert!(theirs == changes);
    }
}

/// The tar of the machine, whichever it is; kustomize-controller's own reads the same in the end-to-end stories.
#[test]
fn a_tar_of_others_unpacks_the_same_tree() {
    let long = format!("apps/{}/{}.yaml", "f".repeat(120), "n".repeat(120));
    let files = [("a.yaml", Some("a: 1\n")), (long.as_str(), Some("long: name\n")), ("apps/grün.yaml", Some(""))];
    let packed = pack(&Tree::default(), &changes(&files)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("artifact.tar.gz");
    std::fs::File::create(&archive).unwrap().write_all(&packed.gzip).unwrap();
    let top = folder.path().join("tree");
    std::fs::create_dir(&top).unwrap();
    let status = Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(&top).status().unwrap();
    assert!(status.success());
    for (name, text) in files {
        assert_eq!(std::fs::read_to_string(top.join(name)).unwrap(), text.unwrap(), "{name}");
    }
}
