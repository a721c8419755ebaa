//! `regent explain`: the catalogue of codes, for people and for programs.

use crate::cli::{ExplainArgs, ReportOutputArg};
use crate::failure::{Code, Entry, Failure};
use serde_json::json;
use std::io::{self, Write as _};
use std::process::ExitCode;

pub(super) fn run(args: &ExplainArgs) -> Result<ExitCode, Failure> {
    let mut stdout = anstream::stdout().lock();
    match (&args.code, args.output) {
        (None, ReportOutputArg::Human) => list(&mut stdout),
        (None, ReportOutputArg::Json) => {
            writeln!(
                stdout,
                "{:#}",
                Code::ALL.into_iter().map(|code| as_json(&code.entry())).collect::<serde_json::Value>()
            )
        }
        (Some(name), output) => {
            let entry = find(name)?.entry();
            match output {
                ReportOutputArg::Human => tell(&mut stdout, &entry),
                ReportOutputArg::Json => writeln!(stdout, "{:#}", as_json(&entry)),
            }
        }
    }
    .and_then(|()| stdout.flush())
    .map_err(|error| Failure::output(&error))?;
    Ok(ExitCode::SUCCESS)
}

/// The code of this name; as people copy it, so also `regent[P5]` and `error[P5]`.
fn find(typed: &str) -> Result<Code, Failure> {
    let name = typed.trim_start_matches("regent").trim_start_matches("error").trim_matches(['[', ']']);
    Code::of_name(name).ok_or_else(|| {
        let near: Vec<&str> = near(name);
        let proposal = if near.is_empty() {
            "`regent explain` lists all of them".to_owned()
        } else {
            format!("near: {}", near.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))
        };
        Failure::Usage(format!("`{typed}` is no code; {proposal}"))
    })
}

fn list(out: &mut impl io::Write) -> io::Result<()> {
    let widest = Code::ALL.into_iter().map(|code| code.entry().name.len()).max().unwrap_or_default();
    for code in Code::ALL {
        let entry = code.entry();
        writeln!(out, "\x1b[1m{:<widest$}\x1b[0m  {:<5}  {}", entry.name, exits(&entry), entry.meaning)?;
    }
    Ok(())
}

fn tell(out: &mut impl io::Write, entry: &Entry) -> io::Result<()> {
    writeln!(out, "\x1b[1m{}\x1b[0m: {}\n", entry.name, entry.meaning)?;
    for line in wrap(entry.why) {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "\n\x1b[1mway out\x1b[0m")?;
    for line in wrap(entry.way_out) {
        writeln!(out, "  {line}")?;
    }
    match entry.exits {
        [] => writeln!(out, "\nThis is an answer, no error."),
        _ => writeln!(out, "\nexit code {}", exits(entry)),
    }
}

/// `4 5`, or `-` for an answer that is no error.
fn exits(entry: &Entry) -> String {
    match entry.exits {
        [] => "-".to_owned(),
        exits => exits.iter().map(|exit| (*exit as u8).to_string()).collect::<Vec<_>>().join(" "),
    }
}

fn as_json(entry: &Entry) -> serde_json::Value {
    json!({
        "code": entry.name,
        "exitCodes": entry.exits.iter().map(|exit| *exit as u8).collect::<Vec<_>>(),
        "meaning": entry.meaning,
        "why": entry.why,
        "wayOut": entry.way_out,
    })
}

/// Lines of at most 88 columns, broken at blanks.
fn wrap(text: &str) -> Vec<String> {
    const COLUMNS: usize = 88;
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        if let Some(line) = lines.last_mut() {
            if line.is_empty() {
                line.push_str(word);
                continue;
            }
            if line.len() + 1 + word.len() <= COLUMNS {
                line.push(' ');
                line.push_str(word);
                continue;
            }
        }
        lines.push(word.to_owned());
    }
    lines
}

/// Codes at most two edits away, or that the text is a part of.
fn near(name: &str) -> Vec<&'static str> {
    let name = name.to_ascii_lowercase();
    if name.is_empty() || name.len() > 20 {
        return Vec::new();
    }
    Code::ALL
        .into_iter()
        .map(|code| code.entry().name)
        .filter(|code| {
            let code = code.to_ascii_lowercase();
            (name.len() > 2 && (code.contains(&name) || edits(&name, &code) <= 2)) || edits(&name, &code) <= 1
        })
        .collect()
}

/// Levenshtein's distance.
fn edits(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, from) in left.bytes().enumerate() {
        let mut diagonal = above;
        let mut beside = above + 1;
        if let Some(first) = row.first_mut() {
            *first = beside;
        }
        for (cell, to) in row.iter_mut().skip(1).zip(right.bytes()) {
            let replaced = diagonal + usize::from(from != to);
            diagonal = *cell;
            *cell = replaced.min(diagonal + 1).min(beside + 1);
            beside = *cell;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted_as_levenshtein_does() {
        for (left, right, distance) in
            [("", "", 0), ("kitten", "sitting", 3), ("P9", "P5", 1), ("mac", "", 3), ("", "mac", 3)]
        {
            assert_eq!(edits(left, right), distance, "{left} {right}");
        }
    }

    #[test]
    fn a_code_is_found_as_it_is_copied_from_an_error() {
        for typed in ["P5", "p5", "error[P5]", "regent[P5]", "[P5]"] {
            assert_eq!(find(typed).unwrap(), Code::P5, "{typed}");
        }
    }
}
