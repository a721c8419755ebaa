//! `regent completions`.

use crate::cli::{Cli, CompletionsArgs};
use crate::failure::Failure;
use clap::CommandFactory as _;
use std::io::Write as _;
use std::process::ExitCode;

pub(super) fn run(args: &CompletionsArgs) -> Result<ExitCode, Failure> {
    // Into a buffer first: the generator panics where its output is closed.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "regent", &mut script);
    std::io::stdout().lock().write_all(&script).map_err(|error| Failure::output(&error))?;
    Ok(ExitCode::SUCCESS)
}
