//! What source-controller leaves out of an artifact (`fluxcd/pkg/sourceignore`). Its patterns are those of `.gitignore`
//! by the reading of go-git, which differs from Git's own in places; so they are matched here as it matches them, and
//! the tree is the same by either way.
//!
//! The differences: a pattern with a slash in its middle or at its start is bound to its folder and matches what lies
//! below what it names too; a file can be brought back although its folder is left out; `**` stands for folders only as
//! a part of its own; a negated class begins with `^`.

/// The rules of one repository.
pub(super) struct Rules {
    version_control: Vec<Pattern>,
    defaults: Vec<Pattern>,
    /// What `.sourceignore` files say, those of a folder before those of the folders in it.
    written: Vec<Pattern>,
}

impl Rules {
    /// The rules of a repository with these `.sourceignore` files: the folder of each (empty for the top), and its text.
    pub(super) fn new(mut files: Vec<(&str, Vec<u8>)>) -> Self {
        files.sort_by_key(|(folder, _)| folder.split_terminator('/').count());
        let mut written = Vec::new();
        for (folder, text) in files {
            let text = String::from_utf8_lossy(&text);
            let lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
            let lines = lines.filter(|line| !line.starts_with('#') && !line.trim().is_empty());
            written.extend(lines.map(|line| Pattern::parse(line, folder)));
        }
        let of_top = |lines: &[&str]| lines.iter().map(|line| Pattern::parse(line, "")).collect();
        Self { version_control: of_top(&VERSION_CONTROL), defaults: of_top(&DEFAULTS), written }
    }

    /// Whether a file is left out. The last pattern that says something of it counts. Where anything is written anywhere,
    /// only the files of version control are left out beside it.
    pub(super) fn ignore(&self, file: &str) -> bool {
        let path: Vec<&str> = file.split('/').collect();
        if let Some(last) = self.written.iter().rev().find(|pattern| pattern.matches(&path)) {
            return !last.brings_back;
        }
        let by = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(&path));
        by(&self.version_control) || (self.written.is_empty() && by(&self.defaults))
    }
}

/// Always left out, unless a pattern brings it back.
const VERSION_CONTROL: [&str; 4] = [".git/", ".gitignore", ".gitmodules", ".gitattributes"];

/// Left out where no `.sourceignore` says anything: pictures and archives, settings of builds, and of SOPS and Flux.
const DEFAULTS: [&str; 20] = [
    "*.jpg",
    "*.jpeg",
    "*.gif",
    "*.png",
    "*.wmv",
    "*.flv",
    "*.tar.gz",
    "*.zip",
    ".github/",
    ".circleci/",
    ".travis.yml",
    ".gitlab-ci.yml",
    "appveyor.yml",
    ".drone.yml",
    "cloudbuild.yaml",
    "codeship-services.yml",
    "codeship-steps.yml",
    "**/.goreleaser.yml",
    "**/.sops.yaml",
    "**/.flux.yaml",
];

/// One line.
struct Pattern {
    /// The folders down to the one it was written in.
    below: Vec<String>,
    /// Between slashes.
    parts: Vec<Part>,
    brings_back: bool,
    folders_only: bool,
}

/// What stands between two slashes.
enum Part {
    /// Nothing: a slash at the beginning, or two of them.
    Empty,
    /// `**`: any number of folders.
    Folders,
    /// `**` with something beside it, which matches nothing.
    Nothing,
    /// A name with wildcards.
    Name(Glob),
}

impl Pattern {
    fn parse(line: &str, folder: &str) -> Self {
        let (line, brings_back) = line.strip_prefix('!').map_or((line, false), |rest| (rest, true));
        let line = if line.ends_with("\\ ") { line } else { line.trim_end_matches(' ') };
        let (line, folders_only) = line.strip_suffix('/').map_or((line, false), |rest| (rest, true));
        let below = folder.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let parts: Vec<&str> = line.split('/').collect();
        let parts = match parts.as_slice() {
            // A name alone, wherever it stands.
            [name] => vec![Part::Name(Glob::parse(name))],
            several => several.iter().map(|part| Part::parse(part)).collect(),
        };
        Self { below, parts, brings_back, folders_only }
    }

    fn matches(&self, path: &[&str]) -> bool {
        let Some((folder, inside)) = path.split_at_checked(self.below.len()) else { return false };
        if inside.is_empty() || !folder.iter().eq(self.below.iter()) {
            return false;
        }
        match self.parts.as_slice() {
            [Part::Name(name)] => self.matches_name(name, inside),
            parts => self.matches_path(parts, inside),
        }
    }

    /// A name alone matches the file or a folder above it; of the first of them, one that is for folders wants that it is
    /// one.
    fn matches_name(&self, name: &Glob, path: &[&str]) -> bool {
        match path.iter().position(|part| name.matches(part)) {
            Some(at) => !self.folders_only || at + 1 < path.len(),
            None => false,
        }
    }

    /// Names one after the other from the folder of the pattern on; `**` before a name looks for the first folder or file
    /// that has it. What lies below the last of them matches too.
    fn matches_path(&self, parts: &[Part], path: &[&str]) -> bool {
        let (mut rest, mut matched, mut skips_folders) = (path, false, false);
        for (at, part) in parts.iter().enumerate() {
            match part {
                Part::Empty => skips_folders = false,
                Part::Folders if at + 1 == parts.len() => break,
                Part::Folders => skips_folders = true,
                Part::Nothing => return false,
                Part::Name(name) => {
                    let found = if skips_folders {
                        rest.iter().position(|part| name.matches(part))
                    } else {
                        rest.first().filter(|part| name.matches(part)).map(|_| 0)
                    };
                    // A name behind `**` that is nowhere leaves nothing for the parts after it.
                    (rest, matched) = match found {
                        Some(found) => (&rest[found + 1..], true),
                        None if skips_folders && !rest.is_empty() => (&rest[rest.len()..], false),
                        None => return false,
                    };
                    skips_folders = false;
                }
            }
        }
        matched && !(self.folders_only && rest.is_empty())
    }
}

impl Part {
    fn parse(part: &str) -> Self {
        match part {
            "" => Self::Empty,
            "**" => Self::Folders,
            part if part.contains("**") => Self::Nothing,
            part => Self::Name(Glob::parse(part)),
        }
    }
}

/// A name with wildcards, by the rules of Go's `path.Match`. One with a slip in it matches nothing.
struct Glob(Option<Vec<Token>>);

enum Token {
    /// `*`: any run of characters.
    Run,
    /// `?`: any character.
    Any,
    /// `[a-z]`, `[^a-z]`: ranges, and whether it is they that do not match.
    Class {
        ranges: Vec<(char, char)>,
        negated: bool,
    },
    One(char),
}

impl Glob {
    fn parse(text: &str) -> Self {
        let mut rest = text.chars();
        let mut tokens = Vec::new();
        while let Some(char) = rest.next() {
            let token = match char {
                '*' => Some(Token::Run),
                '?' => Some(Token::Any),
                '[' => class(&mut rest),
                '\\' => rest.next().map(Token::One),
                other => Some(Token::One(other)),
            };
            match token {
                Some(token) => tokens.push(token),
                None => return Self(None),
            }
        }
        Self(Some(tokens))
    }

    fn matches(&self, name: &str) -> bool {
        let Self(Some(tokens)) = self else { return false };
        let name: Vec<char> = name.chars().collect();
        // The last run of characters, and where it began: it grows where what follows does not match.
        let (mut token, mut at, mut run) = (0, 0, None);
        loop {
            let fits = match (tokens.get(token), name.get(at)) {
                (None, None) => return true,
                (Some(Token::Run), _) => {
                    run = Some((token + 1, at));
                    token += 1;
                    continue;
                }
                (Some(one), Some(char)) => one.matches(*char),
                (Some(_), None) | (None, Some(_)) => false,
            };
            if fits {
                (token, at) = (token + 1, at + 1);
                continue;
            }
            match run {
                Some((after, began)) if began < name.len() => {
                    run = Some((after, began + 1));
                    (token, at) = (after, began + 1);
                }
                Some(_) | None => return false,
            }
        }
    }
}

impl Token {
    fn matches(&self, char: char) -> bool {
        match self {
            Self::Run | Self::Any => true,
            Self::Class { ranges, negated } => {
                ranges.iter().any(|(low, high)| (low..=high).contains(&&char)) != *negated
            }
            Self::One(one) => *one == char,
        }
    }
}

/// The rest of a class, of at least one range; a `]` or `-` in it is written with a backslash.
fn class(rest: &mut std::str::Chars<'_>) -> Option<Token> {
    let negated = rest.as_str().starts_with('^');
    if negated {
        rest.next();
    }
    let mut ranges = Vec::new();
    loop {
        if rest.as_str().starts_with(']') && !ranges.is_empty() {
            rest.next();
            return Some(Token::Class { ranges, negated });
        }
        let low = bound(rest)?;
        let high = if rest.as_str().starts_with('-') {
            rest.next();
            bound(rest)?
        } else {
            low
        };
        ranges.push((low, high));
    }
}

fn bound(rest: &mut std::str::Chars<'_>) -> Option<char> {
    match rest.next()? {
        '-' | ']' => None,
        '\\' => rest.next(),
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(files: &[(&str, &str)], asked: &[&'static str]) -> Vec<&'static str> {
        let files = files.iter().map(|(folder, text)| (*folder, text.as_bytes().to_vec())).collect();
        let rules = Rules::new(files);
        asked.iter().copied().filter(|file| !rules.ignore(file)).collect()
    }

    /// Flux's documentation, "Default exclusions" of a `GitRepository`.
    #[test]
    fn without_a_file_the_defaults_of_flux_count() {
        let left_out = [
            ".git/config",
            ".gitignore",
            "a/.gitmodules",
            ".gitattributes",
            "a.jpg",
            "docs/b.png",
            "c.tar.gz",
            "d.zip",
            ".github/workflows/x.yaml",
            ".circleci/config.yml",
            ".travis.yml",
            ".gitlab-ci.yml",
            "appveyor.yml",
            ".drone.yml",
            "cloudbuild.yaml",
            "codeship-services.yml",
            "codeship-steps.yml",
            ".goreleaser.yml",
            "a/b/.sops.yaml",
            ".flux.yaml",
        ];
        assert_eq!(kept(&[], &left_out), [""; 0]);
        let stay = ["README.md", "a/db.sops.yaml", ".github", "pipeline.yml", "a.jpg.yaml", ".sourceignore"];
        assert_eq!(kept(&[], &stay), stay);
    }

    #[test]
    fn where_anything_is_written_only_version_control_is_left_out_beside_it() {
        let files = [("apps", "*.txt\n")];
        let asked = ["a.jpg", ".sops.yaml", ".gitignore", "apps/a.txt", "a.txt"];
        assert_eq!(kept(&files, &asked), ["a.jpg", ".sops.yaml", "a.txt"]);
        // Blanks and comments are nothing.
        assert_eq!(kept(&[("", "# *.yaml\n\n  \n")], &["a.jpg", "a.yaml"]), ["a.yaml"]);
    }

    #[test]
    fn the_last_pattern_counts_and_a_deeper_file_is_read_later() {
        let files = [("a/b", "!keep.yaml\n"), ("a", "*.yaml\n")];
        let asked = ["a/keep.yaml", "a/b/keep.yaml", "a/b/c/keep.yaml", "a/b/x.yaml", "b/x.yaml"];
        assert_eq!(kept(&files, &asked), ["a/b/keep.yaml", "a/b/c/keep.yaml", "b/x.yaml"]);
        // All but one folder, as Flux's documentation does it.
        let asked = ["README.md", "deploy/a.yaml", "deploy/b/c.yaml", "other/a.yaml"];
        assert_eq!(kept(&[("", "/*\n!/deploy\n")], &asked), ["deploy/a.yaml", "deploy/b/c.yaml"]);
    }

    #[test]
    fn a_pattern_means_what_go_git_reads() {
        for (pattern, matches, others) in [
            ("build", &["build", "a/build", "build/x", "a/build/x"][..], &["builds", "a/xbuild"][..]),
            ("build/", &["build/x", "a/build/x"], &["build", "a/build"]),
            ("/build", &["build", "build/x"], &["a/build"]),
            ("a/*.yaml", &["a/x.yaml", "a/x.yaml/y"], &["b/a/x.yaml", "a/b/x.yaml"]),
            ("a/**/z", &["a/z", "a/b/c/z", "a/b/z/x"], &["z", "b/z"]),
            ("**/z", &["z", "a/z", "a/b/z"], &["zz"]),
            ("a/**", &["a", "a/b", "a/b/c"], &["b"]),
            ("a/b**/c", &[], &["a/bx/c", "a/b/c"]),
            ("a//b", &["a/b"], &["a"]),
            ("x?.[a-c]", &["xy.a", "x1.c"], &["x.a", "xy.d", "xyz.a"]),
            ("[^a]", &["b"], &["a", "bb"]),
            ("[!a]", &["!", "a"], &["b"]),
            ("\\#x", &["#x"], &["\\#x"]),
            ("\\!x", &["!x"], &["x"]),
            ("a\\*", &["a*"], &["ab"]),
            ("sp   ", &["sp"], &["sp   "]),
            ("[a", &[], &["a", "[a"]),
            ("a-[", &[], &["a-["]),
            ("*a*b*", &["ab", "xaxbx", "aab"], &["ba", "a"]),
        ] {
            let text = format!("never\n{pattern}\n");
            assert_eq!(kept(&[("", &text)], matches), [""; 0], "{pattern}");
            assert_eq!(kept(&[("", &text)], others), others, "{pattern}");
        }
    }
}
