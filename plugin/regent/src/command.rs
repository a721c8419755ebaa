//! One file a command; this one only dispatches.
mod completions;
mod crd;
mod explain;
mod handover;
mod import;
mod init;
mod lint;
mod new;
mod open;
mod probe;
mod rebootstrap;
mod refresh;
mod render;
mod restore;
mod retire;
mod root;
mod serve;
mod status;
mod verify;

pub(crate) use self::handover::{HandoverStop, JobStop};
pub(crate) use self::import::ImportStop;
use crate::cli::{Cli, Command};
use crate::failure::Failure;
use crate::source::git;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Asks a person before `command` writes. Where nobody can answer, `--yes` has to be typed.
fn confirmed(command: &str, question: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage(format!(
            "`regent {command}` asks before it writes, and standard input is no terminal: `--yes` answers"
        )));
    }
    let mut stderr = anstream::stderr();
    // A standard error that cannot be written does not make the answer another.
    let _ = write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush());
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|error| Failure::World {
        what: "read",
        name: "standard input".to_owned(),
        reason: crate::failure::reason(&error),
    })?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// The end that somebody asks for, by Ctrl-C or as an orchestrator does. From here on a signal does not end the process.
fn interrupted() -> Result<impl Future<Output = ()>, Failure> {
    let signals = signal(SignalKind::terminate()).and_then(|term| Ok((term, signal(SignalKind::interrupt())?)));
    let (mut terminate, mut interrupt) =
        signals.map_err(|error| Failure::io("wait for", "signals".as_ref(), &error))?;
    Ok(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    })
}

/// Ends early where somebody asks for it; whatever was sent is then on its way.
async fn unless_interrupted<T>(run: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let stop = interrupted()?;
    tokio::select! {
        outcome = run => outcome,
        () = stop => {
            git::abandon();
            Err(handover::stopped(HandoverStop::Interrupted))
        }
    }
}

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
        Command::Handover(args) => handover::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Retire(args) => retire::run(&args),
        Command::Rebootstrap(args) => rebootstrap::run(&args),
        Command::Restore(args) => restore::run(&args),
        Command::Refresh(args) => refresh::run(&args),
        Command::Crd => crd::run(),
        Command::Probe(args) => probe::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Completions(args) => completions::run(&args),
    }
}
