//! One file a command; this one only dispatches.
mod completions;
mod crd;
mod explain;
mod init;
mod lint;
mod new;
mod open;
mod probe;
mod rebootstrap;
mod refresh;
mod render;
mod restore;
mod root;
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
        Command::Rebootstrap(args) => rebootstrap::run(&args),
        Command::Restore(args) => restore::run(&args),
        Command::Refresh(args) => refresh::run(&args),
        Command::Crd => crd::run(),
        Command::Probe(args) => probe::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Completions(args) => completions::run(&args),
    }
}
