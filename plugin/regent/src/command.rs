//! One file a command; this one only dispatches.
mod completions;
mod explain;
mod init;
mod lint;
mod new;
mod open;
mod probe;
mod render;
mod serve;
mod status;

use crate::cli::{Cli, Command};
use crate::failure::Failure;
use std::process::ExitCode;

/// Runs what was typed.
pub(crate) fn run(cli: Cli) -> Result<ExitCode, Failure> {
    match cli.command {
        Command::Open(args) => open::run(&args),
        Command::Render(args) => render::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Lint(args) => lint::run(&args),
        Command::New(args) => new::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Probe(args) => probe::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Completions(args) => completions::run(&args),
    }
}
