use std::io::{self, BufReader, Read, Write as _};
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use rstest::rstest;
use tar::{Builder, EntryType, Header};

use super::*;

const LIMITS: UploadLimits = UploadLimits { document: 1000, kept: 100_000, stream: 1 << 20, files: 50 };

/// An archive under construction, by the crate's writer where it lets us, and block by block where it does not.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn file(self, name: &str, body: &str) -> Self {
        self.entry(b'0', name.as_bytes(), b"", body.as_bytes())
    }

    fn link(self, name: &str, target: &str) -> Self {
        self.entry(b'2', name.as_bytes(), target.as_bytes(), b"")
    }

    fn folder(self, name: &str) -> Self {
        self.entry(b'5', name.as_bytes(), b"", b"")
    }

    fn pax(self, records: &[(&str, &str)]) -> Self {
        let body: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        self.entry(b'x', b"records", b"", &body)
    }

    fn entry(self, flag: u8, name: &[u8], target: &[u8], body: &[u8]) -> Self {
        self.header(&header(flag, name, target, body.len() as u64)).body(body)
    }

    fn header(mut self, header: &Header) -> Self {
        self.0.extend_from_slice(header.as_bytes());
        self
    }

    fn body(mut self, body: &[u8]) -> Self {
        self.0.extend_from_slice(body);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn ended(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }

    fn read(self) -> Result<Upload, UploadProblem> {
        self.read_within(LIMITS)
    }

    fn read_within(self, limits: UploadLimits) -> Result<Upload, UploadProblem> {
        Upload::read(gzip(&self.ended()).as_slice(), limits)
    }

    fn refused(self) -> UploadProblem {
        self.read().err().unwrap()
    }
}

fn header(flag: u8, name: &[u8], target: &[u8], size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target);
    header.set_entry_type(EntryType::new(flag));
    header.set_size(size);
    header.set_cksum();
    header
}

/// A PAX record, whose length counts its own digits.
fn record(key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    let mut length = rest.len();
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    format!("{length}{rest}").into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn path(text: &str) -> FilePath {
    FilePath::parse(text).unwrap()
}

fn gathered(tar: Tar, bootstrap: &str) -> Gathered {
    tar.read().unwrap_or_else(|problem| panic!("{problem}")).gathered(&path(bootstrap)).ok().unwrap()
}

/// What was gathered, one line a file.
fn told(gathered: &Gathered) -> Vec<String> {
    let content = |content: &Content| match content {
        Content::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Content::TooLarge { size } => format!("<{size} bytes>"),
        Content::BadLink => "<bad link>".to_owned(),
        Content::Special => "<special>".to_owned(),
        Content::NotRead => "<not read>".to_owned(),
    };
    gathered.files.iter().map(|(path, found)| format!("{path}: {}", content(found))).collect()
}

mod what_writers_send {
    use super::*;

    #[test]
    fn argo_cd_s_own_tar_gives_the_root_as_a_checkout_does() {
        let bytes: &[u8] = include_bytes!("../../../tests/uploads/argocd.tgz");
        let upload = Upload::read(bytes, LIMITS).ok().unwrap();
        assert_eq!(upload.folder("current").unwrap(), "clusters/prod");
        assert_eq!(upload.folder(".").unwrap(), ".");
        assert!(upload.has(&path("clusters/prod/regent.yaml")));
        let gathered = upload.gathered(&path("clusters/prod/regent.yaml")).ok().unwrap();
        let long = "l".repeat(120);
        assert_eq!(
            told(&gathered),
            [
                "empty.yaml: ".to_owned(),
                format!("{long}/{long}.yaml: kind: Deep\n"),
                "long.yaml: kind: Deep\n".to_owned(),
                "notes.txt: <not read>".to_owned(),
                "regent.yaml: apiVersion: regent.dev/v1alpha1\nkind: Bootstrap\nname: prod\n".to_owned(),
                "shared/x.yaml: kind: Shared\n".to_owned(),
                "x.yaml: kind: Shared\n".to_owned(),
                "ümlaut.yaml: kind: Short\n".to_owned(),
            ]
        );
        assert_eq!(gathered.root.as_deref(), Some("clusters/prod"));
    }

    /// GNU tar in each of its formats, on the folder that `dir` reads too.
    #[rstest]
    #[case("gnu", 300)]
    #[case("pax", 300)]
    #[case("ustar", 150)]
    #[case("v7", 60)]
    fn gnu_tar_gives_what_the_folder_itself_gives(#[case] format: &str, #[case] length: usize) {
        let temp = tempfile::tempdir().unwrap();
        let part = "p".repeat(length / 3);
        let deep = format!("a/{part}/{part}");
        std::fs::create_dir_all(temp.path().join(&deep)).unwrap();
        std::fs::create_dir_all(temp.path().join(".hidden")).unwrap();
        for (name, content) in [
            (format!("{deep}/x.yaml"), "x: 1"),
            (format!("{deep}/{part}.json"), "{}"),
            ("big.yaml".to_owned(), &*"b".repeat(1001)),
            ("a/notes.txt".to_owned(), "n"),
            ("a/.dot.yaml".to_owned(), "d"),
            (".hidden/h.yaml".to_owned(), "h: 1"),
        ] {
            std::fs::write(temp.path().join(name), content).unwrap();
        }
        for (target, link) in [
            (&*format!("{deep}/x.yaml"), "in.yaml"),
            (".hidden/h.yaml", "h.yaml"),
            (&*format!("../{deep}"), "a/folder"),
            ("gone.yaml", "gone.yaml"),
            ("/etc/passwd", "absolute.yaml"),
            ("../outside.yaml", "out.yaml"),
            ("..", "a/up"),
            ("loop-b.yaml", "loop-a.yaml"),
            ("loop-a.yaml", "loop-b.yaml"),
            ("in.yaml/", "slash.yaml"),
        ] {
            // ustar and v7 have 100 bytes for a target.
            if target.len() <= 100 || length == 300 {
                std::os::unix::fs::symlink(target, temp.path().join(link)).unwrap();
            }
        }
        let tar = Command::new("tar")
            .args(["--format", format, "-cz", "-C"])
            .args([temp.path().as_os_str(), ".".as_ref()])
            .output()
            .unwrap();
        assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
        let from_tar = Upload::read(&*tar.stdout, LIMITS).ok().unwrap().gathered(&path("regent.yaml")).ok().unwrap();
        let bounds = crate::source::Bounds { document: LIMITS.document, files: LIMITS.files, total: 100_000 };
        let from_dir = crate::source::dir::gather(temp.path(), bounds).ok().unwrap();
        assert_eq!(told(&from_tar), told(&from_dir));
        assert!(told(&from_tar).len() > 10);
    }

    #[test]
    fn the_tar_crate_s_writer_is_understood() {
        let mut builder = Builder::new(Vec::new());
        let name = format!("{}/x.yaml", "n".repeat(200));
        let mut header = Header::new_gnu();
        header.set_size(4);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append_data(&mut header, &name, &b"x: 1"[..]).unwrap();
        let mut link = Header::new_gnu();
        link.set_entry_type(EntryType::Symlink);
        link.set_size(0);
        builder.append_link(&mut link, "l.yaml", &name).unwrap();
        let bytes = gzip(&builder.into_inner().unwrap());
        let found = Upload::read(&*bytes, LIMITS).ok().unwrap().gathered(&path("regent.yaml")).ok().unwrap();
        assert_eq!(told(&found), ["l.yaml: x: 1".to_owned(), format!("{name}: x: 1")]);
    }

    #[test]
    fn several_gzip_members_are_one_stream() {
        let bytes = Tar::default().file("x.yaml", "x: 1").ended();
        let (head, tail) = bytes.split_at(700);
        let both = [gzip(head), gzip(tail)].concat();
        assert!(Upload::read(&*both, LIMITS).ok().unwrap().has(&path("x.yaml")));
    }

    #[test]
    fn a_reader_that_gives_single_bytes_changes_nothing() {
        struct Drops<'a>(&'a [u8]);
        impl Read for Drops<'_> {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                let most = into.len().min(1);
                self.0.read(&mut into[..most])
            }
        }
        let bytes = gzip(&Tar::default().file("x.yaml", "x: 1").ended());
        let found = Upload::read(BufReader::new(Drops(&bytes)), LIMITS)
            .ok()
            .unwrap()
            .gathered(&path("regent.yaml"))
            .ok()
            .unwrap();
        assert_eq!(told(&found), ["x.yaml: x: 1"]);
    }

    #[test]
    fn records_that_say_nothing_about_name_or_size_are_passed_over() {
        let comment = record("comment", "0123456789012345678901234567890123456789");
        let found = gathered(
            Tar::default()
                .entry(b'g', b"pax_global_header", b"", &comment)
                .pax(&[("mtime", "1.5"), ("SCHILY.xattr.user.a", "b")])
                .file("x.yaml", "x: 1"),
            "regent.yaml",
        );
        assert_eq!(told(&found), ["x.yaml: x: 1"]);
    }

    #[test]
    fn a_size_in_a_record_is_the_size() {
        let found = gathered(
            Tar::default()
                .pax(&[("size", "4")])
                .header(&header(b'0', b"x.yaml", b"", 0))
                .body(b"x: 1")
                .file("y.yaml", ""),
            "regent.yaml",
        );
        assert_eq!(told(&found), ["x.yaml: x: 1", "y.yaml: "]);
    }

    #[test]
    fn a_folder_may_be_named_twice_late_or_not_at_all() {
        let found = gathered(
            Tar::default()
                .folder(".")
                .folder("a")
                .file("a/x.yaml", "1")
                .folder("a/")
                .file("./b/c/y.yaml", "2")
                .folder("b"),
            "regent.yaml",
        );
        assert_eq!(told(&found), ["a/x.yaml: 1", "b/c/y.yaml: 2"]);
    }
}

mod bounds {
    use super::*;

    #[test]
    fn a_file_at_the_bound_is_kept_and_one_above_is_named() {
        let found = gathered(
            Tar::default().file("at.yaml", &"x".repeat(1000)).file("above.yaml", &"x".repeat(1001)),
            "regent.yaml",
        );
        assert_eq!(told(&found), ["above.yaml: <1001 bytes>".to_owned(), format!("at.yaml: {}", "x".repeat(1000))]);
    }

    #[test]
    fn files_folders_and_links_count_and_those_of_git_do_not() {
        let tar = || {
            let tar = Tar::default().folder(".").folder("a").file("a/b/x.yaml", "").link("l", "a").file("y.txt", "");
            (0..9).fold(tar, |tar, number| tar.file(&format!(".git/objects/{number}"), "o"))
        };
        // a, a/b, a/b/x.yaml, l and y.txt.
        let upload = tar().read_within(UploadLimits { files: 5, ..LIMITS }).ok().unwrap();
        assert_eq!(upload.size().files, 5);
        assert_eq!(
            tar().read_within(UploadLimits { files: 4, ..LIMITS }).err(),
            Some(UploadProblem::TooManyFiles { limit: 4 })
        );
    }

    #[test]
    fn bytes_names_and_targets_count_as_kept() {
        let tar =
            || Tar::default().file("a/x.yaml", "12345").file("large.txt", &"x".repeat(900)).link("link", "somewhere");
        let kept = (FOLDER_BYTES + 1) + (NAME_BYTES + 6 + 5) + (NAME_BYTES + 9) + (NAME_BYTES + 4 + 9);
        let upload = tar().read_within(UploadLimits { kept, ..LIMITS }).ok().unwrap();
        assert_eq!(upload.size().kept, kept);
        let problem = tar().read_within(UploadLimits { kept: kept - 1, ..LIMITS }).err();
        assert_eq!(problem, Some(UploadProblem::KeptTooLarge { limit: kept - 1 }));
    }

    #[test]
    fn everything_unpacked_counts_as_stream() {
        let tar = || Tar::default().file("x.txt", "dropped").file(".git/o", "dropped");
        let stream = 6 * 512;
        let upload = tar().read_within(UploadLimits { stream, ..LIMITS }).ok().unwrap();
        assert_eq!(upload.size().stream, stream);
        let problem = tar().read_within(UploadLimits { stream: stream - 1, ..LIMITS }).err();
        assert_eq!(problem, Some(UploadProblem::StreamTooLarge { limit: stream - 1 }));
    }

    #[test]
    fn what_follows_the_end_counts_as_stream_too() {
        let mut bytes = Tar::default().ended();
        bytes.resize(2 << 20, 0);
        let problem = Upload::read(&*gzip(&bytes), LIMITS).err();
        assert_eq!(problem, Some(UploadProblem::StreamTooLarge { limit: 1 << 20 }));
    }

    #[test]
    fn a_header_that_claims_more_than_the_stream_is_refused_before_its_body() {
        for size in [LIMITS.stream + 1, u64::MAX, u64::MAX - 511] {
            let problem = Tar::default().header(&header(b'0', b"x.txt", b"", size)).refused();
            assert_eq!(problem, UploadProblem::StreamTooLarge { limit: LIMITS.stream });
        }
        let problem = Tar::default().pax(&[("size", "18446744073709551615")]).file("x.txt", "").refused();
        assert_eq!(problem, UploadProblem::StreamTooLarge { limit: LIMITS.stream });
    }

    /// Zeros of this many bytes, compressed as well as deflate can: about 1030 to 1.
    fn zeros(mebibytes: usize) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let size = (mebibytes << 20) as u64;
        encoder.write_all(header(b'0', b"zeros.img", b"", size).as_bytes()).unwrap();
        let zeros = vec![0; 1 << 20];
        for _ in 0..mebibytes {
            encoder.write_all(&zeros).unwrap();
        }
        encoder.write_all(&[0; 1024]).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_run_of_zeros_is_a_bomb_above_the_floor_and_a_file_below() {
        let limits = UploadLimits { stream: 1 << 40, ..LIMITS };
        assert!(Upload::read(&*zeros(63), limits).is_ok());
        assert_eq!(Upload::read(&*zeros(65), limits).err(), Some(UploadProblem::Bomb { ratio: 200 }));
    }

    #[test]
    fn a_bomb_is_refused_long_before_its_end() {
        /// Counts what is taken.
        struct Counted<'a>(&'a [u8], u64);
        impl Read for Counted<'_> {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                let read = self.0.read(into)?;
                self.1 += read as u64;
                Ok(read)
            }
        }
        let bomb = zeros(512);
        let mut counted = Counted(&bomb, 0);
        let problem = Upload::read(BufReader::new(&mut counted), UploadLimits { stream: 1 << 40, ..LIMITS }).err();
        assert_eq!(problem, Some(UploadProblem::Bomb { ratio: 200 }));
        assert!(counted.1 < bomb.len() as u64 / 3);
    }

    #[test]
    fn gzip_members_that_unpack_to_nothing_end_at_the_bound() {
        let members = gzip(b"").repeat(100_000);
        let problem = Upload::read(&*members, LIMITS).err();
        assert_eq!(problem, Some(UploadProblem::StreamTooLarge { limit: LIMITS.stream }));
    }

    #[rstest]
    #[case(b'L')]
    #[case(b'K')]
    #[case(b'x')]
    #[case(b'g')]
    fn names_and_records_of_more_than_64_kib_are_not_read(#[case] flag: u8) {
        let body = |size: usize| match flag {
            b'x' | b'g' => {
                let value = "v".repeat(size);
                let excess = record("comment", &value).len() - size;
                record("comment", &value[excess..])
            }
            _ => vec![b'n'; size],
        };
        let read = |size| Tar::default().entry(flag, b"long", b"", &body(size)).file("x.yaml", "").read().err();
        let rule = "has more than 64 KiB of names and records";
        assert_ne!(read(64 << 10), Some(UploadProblem::Header { rule }));
        assert_eq!(read((64 << 10) + 1), Some(UploadProblem::Header { rule }));
    }

    #[test]
    fn a_target_is_at_most_4096_bytes() {
        let read = |length| Tar::default().pax(&[("linkpath", &"t".repeat(length))]).link("l.yaml", "").read();
        assert!(read(4096).is_ok());
        assert!(matches!(read(4097), Err(UploadProblem::BadName { .. })));
    }

    #[test]
    fn a_name_has_at_most_255_bytes_a_part_4096_in_all_and_256_parts() {
        let read = |name: &str| {
            let limits = UploadLimits { files: 1000, kept: 1 << 20, ..LIMITS };
            Tar::default().pax(&[("path", name)]).file("x", "").read_within(limits)
        };
        let parts = |count: usize| vec!["p"; count].join("/");
        let bytes = |length: usize| {
            format!("{}{}", "p".repeat(length % 128), format!("/{}", "p".repeat(127)).repeat(length / 128))
        };
        for name in ["p".repeat(255), parts(256), bytes(4095)] {
            assert!(read(&name).is_ok(), "{} bytes", name.len());
        }
        for name in ["p".repeat(256), parts(257), format!("{}p/{}", bytes(4095), "p")] {
            assert!(matches!(read(&name), Err(UploadProblem::BadName { .. })), "{} bytes", name.len());
        }
    }

    /// `levels` folders, each with two links to the next: the walk doubles with each.
    fn farm(levels: usize) -> Tar {
        let tar = (0..levels).fold(Tar::default(), |tar, level| {
            let next = format!("../{}", level + 1);
            tar.link(&format!("{level}/p"), &next).link(&format!("{level}/q"), &next)
        });
        tar.file(&format!("{levels}/x.yaml"), &"x".repeat(100))
    }

    #[test]
    fn a_farm_of_links_ends_at_the_number_of_files() {
        let root = "0/regent.yaml";
        // 2 + 4 links and 4 files for two levels.
        assert_eq!(gathered(farm(2), root).files.len(), 4);
        assert_eq!(
            farm(16).read().ok().unwrap().gathered(&path(root)).err(),
            Some(UploadProblem::TooManyFiles { limit: 50 })
        );
    }

    #[test]
    fn a_file_used_again_counts_again_as_kept() {
        let tar = || {
            let tar = Tar::default().file("a.yaml", &"x".repeat(900));
            (0..9).fold(tar, |tar, number| tar.link(&format!("{number}.yaml"), "a.yaml"))
        };
        let own = tar().read().ok().unwrap().size().kept;
        let added = 10 * (NAME_BYTES + 6) + 9 * 900;
        let gather =
            |kept| tar().read_within(UploadLimits { kept, ..LIMITS }).ok().unwrap().gathered(&path("regent.yaml"));
        assert_eq!(gather(own + added).ok().unwrap().files.len(), 10);
        let limit = own + added - 1;
        assert_eq!(gather(limit).err(), Some(UploadProblem::KeptTooLarge { limit }));
    }

    #[test]
    fn dot_files_behind_many_links_are_work_and_count() {
        let tar = (0..20).fold(Tar::default(), |tar, number| tar.file(&format!("d/.{number}"), ""));
        let tar = (0..20).fold(tar, |tar, number| tar.link(&format!("{number}"), "d"));
        let problem = tar.read().ok().unwrap().gathered(&path("regent.yaml")).err();
        assert_eq!(problem, Some(UploadProblem::TooManyFiles { limit: 50 }));
    }

    #[test]
    fn a_chain_of_links_has_at_most_forty() {
        let chain = |links: usize| {
            let tar = Tar::default().file("0.yaml", "x: 1");
            let tar = (1..=links)
                .fold(tar, |tar, number| tar.link(&format!("{number}.yaml"), &format!("{}.yaml", number - 1)));
            told(&gathered(tar, "regent.yaml")).contains(&format!("{links}.yaml: x: 1"))
        };
        assert!(chain(40));
        assert!(!chain(41));
    }

    #[test]
    fn links_with_endless_targets_are_given_up() {
        let winding = |turns: usize| format!("{}x.yaml", "a/../".repeat(turns));
        let read = |turns| {
            let tar = Tar::default().folder("a").file("x.yaml", "x: 1");
            let tar = tar.pax(&[("linkpath", &winding(turns))]).link("l.yaml", "");
            told(&gathered(tar, "regent.yaml"))[0].clone()
        };
        assert_eq!(read(500), "l.yaml: x: 1");
        assert_eq!(read(600), "l.yaml: <bad link>");
    }
}

mod attacks {
    use super::*;

    #[rstest]
    #[case("../x.yaml")]
    #[case("a/../../x.yaml")]
    #[case("a/..")]
    #[case("..")]
    #[case("/etc/x.yaml")]
    #[case("./../x.yaml")]
    #[case(".//x.yaml")]
    #[case("a//x.yaml")]
    #[case("a/./x.yaml")]
    #[case("././x.yaml")]
    #[case(".git/../../x.yaml")]
    #[case(".git/../x.yaml")]
    #[case("x.yaml/")]
    #[case("")]
    #[case(".")]
    fn a_name_that_no_repository_has_is_refused(#[case] name: &str) {
        assert!(matches!(Tar::default().file(name, "").refused(), UploadProblem::BadName { .. }));
        let by_record = Tar::default().pax(&[("path", name)]).file("", "").refused();
        assert!(matches!(by_record, UploadProblem::BadName { .. }));
        let by_link = Tar::default().link(name, "x").refused();
        assert!(matches!(by_link, UploadProblem::BadName { .. }));
    }

    #[test]
    fn a_name_with_a_nul_is_refused() {
        let problem = Tar::default().pax(&[("path", "a\0b.yaml")]).file("x", "").refused();
        assert_eq!(problem, UploadProblem::BadName { name: "a\0b.yaml".to_owned(), rule: "holds a NUL" });
    }

    #[rstest]
    #[case(b'1', UploadProblem::HardLink { name: "n".to_owned() })]
    #[case(b'3', UploadProblem::Special { name: "n".to_owned() })]
    #[case(b'4', UploadProblem::Special { name: "n".to_owned() })]
    #[case(b'6', UploadProblem::Special { name: "n".to_owned() })]
    #[case(b'7', UploadProblem::UnknownKind { name: "n".to_owned() })]
    #[case(b'D', UploadProblem::UnknownKind { name: "n".to_owned() })]
    #[case(b'S', UploadProblem::UnknownKind { name: "n".to_owned() })]
    #[case(b'V', UploadProblem::UnknownKind { name: "n".to_owned() })]
    fn an_entry_that_argo_cd_does_not_send_is_refused_by_name(#[case] flag: u8, #[case] problem: UploadProblem) {
        assert_eq!(Tar::default().entry(flag, b"n", b"x.yaml", b"").refused(), problem);
    }

    #[test]
    fn a_sparse_file_is_refused() {
        let problem = Tar::default().pax(&[("GNU.sparse.major", "1")]).file("x.yaml", "").refused();
        assert_eq!(problem, UploadProblem::Header { rule: "is of a sparse file" });
    }

    /// The classic escape: a link first, then a file through it.
    #[rstest]
    #[case("..")]
    #[case("/etc")]
    #[case("b")]
    fn nothing_is_written_through_a_link(#[case] target: &str) {
        let problem = Tar::default().folder("b").link("a", target).file("a/x.yaml", "").refused();
        assert_eq!(problem, UploadProblem::BelowAFile { name: "a/x.yaml".to_owned() });
        let late = Tar::default().folder("b").file("a/x.yaml", "").link("a", target).refused();
        assert_eq!(late, UploadProblem::Twice { name: "a".to_owned() });
    }

    #[test]
    fn nothing_lies_below_a_file() {
        let problem = Tar::default().file("a.yaml", "").file("a.yaml/b/c.yaml", "").refused();
        assert_eq!(problem, UploadProblem::BelowAFile { name: "a.yaml/b/c.yaml".to_owned() });
    }

    #[test]
    fn one_path_has_one_entry() {
        let twice = UploadProblem::Twice { name: "a".to_owned() };
        let first = || [Tar::default().file("a", ""), Tar::default().link("a", "b"), Tar::default().folder("a")];
        for tar in first() {
            assert_eq!(tar.file("./a", "").refused(), twice);
        }
        for tar in first() {
            assert_eq!(tar.link("a", "c").refused(), twice);
        }
        let [file, link, folder] = first();
        assert_eq!(file.folder("a").refused(), twice);
        assert_eq!(link.folder("a").refused(), twice);
        assert!(folder.folder("a").read().is_ok());
    }

    #[test]
    fn two_names_or_sizes_for_one_entry_are_refused() {
        let problem = UploadProblem::Header { rule: "is the second of one entry" };
        let long = || Tar::default().entry(b'L', b"", b"", b"a.yaml\0");
        assert_eq!(long().entry(b'L', b"", b"", b"b.yaml\0").file("x", "").refused(), problem);
        assert_eq!(long().pax(&[("path", "b.yaml")]).file("x", "").refused(), problem);
        assert_eq!(Tar::default().pax(&[("path", "a"), ("path", "b")]).file("x", "").refused(), problem);
        assert_eq!(Tar::default().pax(&[("size", "0"), ("size", "0")]).file("x", "").refused(), problem);
    }

    #[rstest]
    #[case("path")]
    #[case("linkpath")]
    #[case("size")]
    #[case("GNU.sparse.name")]
    fn global_records_name_nothing(#[case] key: &str) {
        let problem = Tar::default().entry(b'g', b"", b"", &record(key, "1")).file("x", "").refused();
        assert_eq!(problem, UploadProblem::Header { rule: "gives every entry one name or size" });
    }

    #[rstest]
    #[case(b"no record")]
    #[case(b"5 a=b\n")]
    #[case(b"7 a=b\n")]
    #[case(b"6 a=bc")]
    #[case(b"6 aab\n")]
    #[case(b"5 =b\n")]
    #[case(b"+6 a=b\n")]
    #[case(b" a=b\n")]
    #[case(b"99999999999999999999999 a=b\n")]
    #[case(b"0 a=b\n")]
    #[case(b"1 ")]
    fn a_record_that_is_none_is_refused(#[case] records: &[u8]) {
        let problem = Tar::default().entry(b'x', b"", b"", records).file("x", "").refused();
        assert_eq!(problem, UploadProblem::Header { rule: "has a PAX record that is none" });
    }

    #[test]
    fn a_folder_or_link_with_a_body_is_refused() {
        for flag in [b'2', b'5'] {
            let problem = Tar::default().entry(flag, b"a", b"b", b"hidden").refused();
            assert_eq!(problem, UploadProblem::Header { rule: "gives a folder or a link a body" });
        }
    }

    #[test]
    fn a_binary_size_that_another_reader_takes_for_another_is_refused() {
        for first in [[0xff, 0xff], [0x80, 1], [0x81, 0]] {
            let mut header = header(b'0', b"x", b"", 0);
            header.as_old_mut().size = [0; 12];
            header.as_old_mut().size[..2].copy_from_slice(&first);
            header.set_cksum();
            let problem = Tar::default().header(&header).refused();
            assert_eq!(problem, UploadProblem::Header { rule: "has a size beyond 64 bits" });
        }
        let mut header = header(b'0', b"x.yaml", b"", 0);
        header.as_old_mut().size = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4];
        header.set_cksum();
        let found = gathered(Tar::default().header(&header).body(b"x: 1"), "regent.yaml");
        assert_eq!(told(&found), ["x.yaml: x: 1"]);
    }

    #[test]
    fn a_name_is_told_in_at_most_200_bytes() {
        for name in [vec![b'n'; 250], [b"../".as_slice(), &[0xff; 240]].concat(), "ü".repeat(120).into_bytes()] {
            let problem = Tar::default().entry(b'L', b"", b"", &name).entry(b'1', b"", b"", b"").refused();
            let UploadProblem::HardLink { name } = problem else { panic!("{problem}") };
            assert!((150..=200).contains(&name.len()), "{}", name.len());
        }
    }
}

mod damage {
    use super::*;

    fn small() -> Vec<u8> {
        gzip(&Tar::default().folder("a").file("a/x.yaml", "x: 1").link("l.yaml", "a/x.yaml").ended())
    }

    fn contents(bytes: &[u8]) -> Result<Vec<String>, UploadProblem> {
        Ok(told(&Upload::read(bytes, LIMITS)?.gathered(&path("regent.yaml"))?))
    }

    #[test]
    fn a_stream_cut_anywhere_is_an_error() {
        let whole = small();
        assert_eq!(contents(&whole).unwrap(), ["a/x.yaml: x: 1", "l.yaml: x: 1"]);
        for end in 0..whole.len() {
            assert_eq!(contents(&whole[..end]), Err(UploadProblem::Damaged), "cut at {end}");
        }
    }

    #[test]
    fn a_tar_cut_anywhere_in_a_sound_gzip_is_an_error() {
        let tar = Tar::default().file("x.yaml", "x: 1").file("y.yaml", "y: 1").ended();
        for end in (0..tar.len()).step_by(64) {
            assert_eq!(contents(&gzip(&tar[..end])), Err(UploadProblem::Damaged), "cut at {end}");
        }
    }

    #[test]
    fn what_follows_the_gzip_or_the_tar_is_an_error() {
        for tail in [b"x".as_slice(), b"\0", b"\x1f\x8b"] {
            assert_eq!(contents(&[small(), tail.to_vec()].concat()), Err(UploadProblem::Damaged));
        }
        let ended = Tar::default().file("x.yaml", "x: 1").ended();
        let second = [ended.clone(), ended].concat();
        assert_eq!(contents(&gzip(&second)), Err(UploadProblem::Damaged));
    }

    #[test]
    fn one_block_of_zeros_is_no_end() {
        let mut tar = Tar::default().file("x.yaml", "x: 1").0;
        tar.resize(tar.len() + 512, 0);
        let tar = Tar(tar).file("y.yaml", "y: 1");
        assert_eq!(tar.refused(), UploadProblem::Damaged);
    }

    #[test]
    fn a_wrong_checksum_is_an_error() {
        let mut header = header(b'0', b"x.yaml", b"", 0);
        header.as_old_mut().name[0] = b'y';
        assert_eq!(Tar::default().header(&header).refused(), UploadProblem::Damaged);
    }

    #[test]
    fn names_that_nothing_follows_are_an_error() {
        assert_eq!(Tar::default().pax(&[("path", "x.yaml")]).refused(), UploadProblem::Damaged);
    }

    #[test]
    fn a_sender_that_fails_is_told_apart_from_a_damaged_archive() {
        struct Fails;
        impl Read for Fails {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
        let whole = small();
        for end in 0..whole.len() {
            assert_eq!(
                Upload::read(whole[..end].chain(BufReader::new(Fails)), LIMITS).err(),
                Some(UploadProblem::Broken)
            );
        }
    }

    proptest! {
        #[test]
        fn flipped_bits_are_an_error_or_change_nothing_that_is_checked(at in any::<prop::sample::Index>(), bit in 0..8_u32) {
            let mut bytes = small();
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            // Only the gzip header's time, level and system are not covered by its checksum.
            if let Ok(found) = contents(&bytes) {
                prop_assert_eq!(found, ["a/x.yaml: x: 1", "l.yaml: x: 1"]);
            }
        }

        #[test]
        fn any_blocks_in_a_sound_gzip_end_without_a_panic(
            blocks in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..100), any::<[u8; 12]>()), 0..6),
            body in prop::collection::vec(any::<u8>(), 0..2000),
        ) {
            let tar = blocks.iter().fold(Tar::default(), |tar, (flag, name, size)| {
                let mut header = header(b"012345xgLKS"[usize::from(*flag) % 11], name, name, body.len() as u64);
                if flag & 0x40 != 0 {
                    header.as_old_mut().size = *size;
                    header.set_cksum();
                }
                tar.header(&header).body(&body)
            });
            if let Ok(upload) = tar.read() {
                drop(upload.gathered(&path("regent.yaml")));
            }
        }

        #[test]
        fn any_tree_of_links_ends(
            entries in prop::collection::vec(("[abc](/[abc]){0,3}", "(\\.\\./|[abc]/|\\./){0,5}[abc.]"), 0..30),
            root in "[abc](/[abc])?/regent\\.yaml",
        ) {
            // Entries that do not go together are left out, as a disk would refuse them.
            let sound = entries.into_iter().fold(Tar::default(), |tar, (name, target)| {
                let longer = Tar(tar.0.clone()).link(&name, &target);
                if Tar(longer.0.clone()).read().is_ok() { longer } else { tar }
            });
            let upload = sound.read().ok().unwrap();
            drop(upload.folder("a/b/c"));
            drop(upload.gathered(&path(&root)));
        }
    }
}

mod folders {
    use super::*;

    fn upload() -> Upload {
        Tar::default()
            .folder("clusters/prod")
            .file("clusters/prod/regent.yaml", "")
            .file(".hidden/prod/x.yaml", "")
            .link("current", "clusters/prod")
            .link("clusters/latest", "../current")
            .link("clusters/prod/up", "../../.hidden")
            .link("out", "../elsewhere")
            .link("clusters/out", "../../elsewhere")
            .link("absolute", "/clusters/prod")
            .link("gone", "clusters/gone")
            .link("a", "b")
            .link("b", "a")
            .link("file", "clusters/prod/regent.yaml")
            .link("top", ".")
            .read()
            .ok()
            .unwrap()
    }

    #[rstest]
    #[case(".", ".")]
    #[case("", ".")]
    #[case("top", ".")]
    #[case("clusters/prod", "clusters/prod")]
    #[case("clusters/prod/", "clusters/prod")]
    #[case("current", "clusters/prod")]
    #[case("clusters/latest", "clusters/prod")]
    #[case("current/..", "clusters")]
    #[case("clusters/latest/up/prod", ".hidden/prod")]
    #[case("current/up/..", ".")]
    fn links_are_followed_from_where_they_really_stand(#[case] path: &str, #[case] real: &str) {
        assert_eq!(upload().folder(path).unwrap(), real);
    }

    #[rstest]
    #[case("clusters/dev", |path| UploadProblem::NoFolder { path })]
    #[case("clusters/prod/regent.yaml", |path| UploadProblem::NoFolder { path })]
    #[case("clusters/prod/regent.yaml/x", |path| UploadProblem::NoFolder { path })]
    #[case("file", |path| UploadProblem::NoFolder { path })]
    #[case("gone", |path| UploadProblem::Dangling { path })]
    #[case("gone/deeper", |path| UploadProblem::Dangling { path })]
    #[case("..", |path| UploadProblem::LinkOut { path })]
    #[case("/clusters", |path| UploadProblem::LinkOut { path })]
    #[case("out", |path| UploadProblem::LinkOut { path })]
    #[case("clusters/out", |path| UploadProblem::LinkOut { path })]
    #[case("absolute", |path| UploadProblem::LinkOut { path })]
    #[case("a", |path| UploadProblem::LinkLoop { path })]
    fn a_path_that_is_no_folder_of_the_upload_is_named(
        #[case] path: &str,
        #[case] problem: fn(String) -> UploadProblem,
    ) {
        assert_eq!(upload().folder(path), Err(problem(path.to_owned())));
    }

    #[test]
    fn a_file_is_there_by_its_own_path_or_as_a_link_to_one() {
        let has = |name: &str| upload().has(&path(name));
        assert!(has("clusters/prod/regent.yaml"));
        assert!(has("file"));
        for not in ["current/regent.yaml", "clusters/prod", "current", "gone", "a", "absolute", "nothing"] {
            assert!(!has(not), "{not}");
        }
    }
}

mod roots {
    use super::*;

    #[test]
    fn links_are_resolved_in_the_whole_upload_and_named_where_they_leave_it() {
        let tar = Tar::default()
            .file("shared/x.yaml", "x: 1")
            .link("shared/y.yaml", "x.yaml")
            .file("shared/notes.txt", "n")
            .link("root/in.yaml", "../shared/y.yaml")
            .link("root/folder", "../shared")
            .link("root/out.yaml", "../../x.yaml")
            .link("root/gone.yaml", "gone")
            .link("root/self.yaml", "self.yaml")
            .link("root/up", "..")
            .link("root/a/here", ".")
            .link("root/notes", "../shared/x.yaml")
            .link("root/not.yaml", "../shared/notes.txt");
        assert_eq!(
            told(&gathered(tar, "root/regent.yaml")),
            [
                "a/here: <bad link>",
                "folder/notes.txt: <not read>",
                "folder/x.yaml: x: 1",
                "folder/y.yaml: x: 1",
                "gone.yaml: <bad link>",
                "in.yaml: x: 1",
                "not.yaml: <not read>",
                "notes: <not read>",
                "out.yaml: <bad link>",
                "self.yaml: <bad link>",
                "up: <bad link>",
            ]
        );
    }

    #[test]
    fn dot_files_are_passed_over_and_a_root_may_lie_below_one() {
        let tar = || Tar::default().file(".deploy/prod/x.yaml", "x: 1").file(".deploy/prod/.y.yaml", "");
        assert!(told(&gathered(tar(), "regent.yaml")).is_empty());
        assert_eq!(told(&gathered(tar(), ".deploy/prod/regent.yaml")), ["x.yaml: x: 1"]);
    }

    #[test]
    fn nothing_is_known_of_a_git_folder() {
        let tar = Tar::default().file(".git/x.yaml", "x: 1").file("a/.git/y.yaml", "").link("x.yaml", ".git/x.yaml");
        assert_eq!(told(&gathered(tar, "regent.yaml")), ["x.yaml: <bad link>"]);
    }

    #[test]
    fn a_regent_yaml_around_the_target_of_a_link_is_told_too() {
        let tar = || {
            Tar::default()
                .file("prod/regent.yaml", "")
                .file("other/regent.yaml", "")
                .file("other/sub/x.yaml", "x: 1")
                .file("shared/y.yaml", "y: 1")
        };
        let above = |link: &str, target: &str| gathered(tar().link(link, target), "prod/regent.yaml").bootstraps_above;
        assert_eq!(above("prod/folder", "../other/sub"), ["other/regent.yaml"]);
        assert_eq!(above("prod/file.yaml", "../other/sub/x.yaml"), ["other/regent.yaml"]);
        assert!(above("prod/shared", "../shared").is_empty());
        assert!(above("prod/z.yaml", "regent.yaml").is_empty());
    }

    #[test]
    fn a_root_whose_regent_yaml_is_a_link_is_refused() {
        let upload = Tar::default().file("real.yaml", "").link("prod/regent.yaml", "../real.yaml").read().unwrap();
        let problem = upload.gathered(&FilePath::parse("prod/regent.yaml").unwrap()).err();
        assert_eq!(problem, Some(UploadProblem::LinkedRoot { path: "prod/regent.yaml".to_owned() }));
    }

    #[test]
    fn a_regent_yaml_above_is_told_whatever_it_is() {
        let tar = Tar::default()
            .file("regent.yaml", "")
            .link("a/regent.yaml", "nowhere")
            .folder("a/b")
            .file("a/b/c/regent.yaml", "")
            .file("a/b/c/d/regent.yaml", "");
        let found = gathered(tar, "a/b/c/regent.yaml");
        assert_eq!(found.root.as_deref(), Some("a/b/c"));
        assert_eq!(found.bootstraps_above, ["a/regent.yaml", "regent.yaml"]);
        assert_eq!(told(&found), ["d/regent.yaml: ", "regent.yaml: "]);
    }

    #[test]
    fn a_root_is_reached_by_its_own_path() {
        let tar = || Tar::default().file("a/regent.yaml", "").link("l", "a").file("f.yaml", "");
        let problem = |bootstrap: &str| tar().read().ok().unwrap().gathered(&path(bootstrap)).err().unwrap();
        assert_eq!(problem("l/regent.yaml"), UploadProblem::LinkedRoot { path: "l".to_owned() });
        assert_eq!(problem("b/regent.yaml"), UploadProblem::NoFolder { path: "b".to_owned() });
        assert_eq!(problem("f.yaml/regent.yaml"), UploadProblem::NoFolder { path: "f.yaml".to_owned() });
    }

    #[test]
    fn a_name_that_is_not_utf_8_stops_its_root_and_no_other() {
        let tar = || Tar::default().file("a/x.yaml", "").entry(b'0', b"b/\xff.yaml", b"", b"");
        assert_eq!(told(&gathered(tar(), "a/regent.yaml")), ["x.yaml: "]);
        let problem = tar().read().ok().unwrap().gathered(&path("b/regent.yaml")).err();
        assert_eq!(problem, Some(UploadProblem::BadName { name: "\u{fffd}.yaml".to_owned(), rule: "is not UTF-8" }));
    }

    #[test]
    fn a_name_that_core_refuses_stops_its_root() {
        let problem = Tar::default().file("a\\b.yaml", "").read().ok().unwrap().gathered(&path("regent.yaml")).err();
        assert!(matches!(problem, Some(UploadProblem::BadName { .. })));
    }

    #[test]
    fn the_bytes_of_a_file_used_once_are_moved() {
        let upload = Tar::default().file("x.yaml", "x: 1").read().ok().unwrap();
        let What::File(Content::Bytes(bytes)) = &upload.nodes[1].what else { panic!() };
        let before = bytes.as_ptr();
        let found = upload.gathered(&path("regent.yaml")).ok().unwrap();
        let Some(Content::Bytes(bytes)) = found.files.get(&path("x.yaml")) else { panic!() };
        assert_eq!(bytes.as_ptr(), before);
    }
}
