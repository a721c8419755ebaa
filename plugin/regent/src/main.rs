//! regent: opens a cluster's bootstrap secrets from Git until Vault rules, and never after.

mod argocd;
mod caches;
mod cli;
mod cluster;
mod command;
mod config;
mod durable;
mod failure;
mod flux;
mod follow;
mod keys;
mod local;
mod output;
mod reload;
mod source;
mod telemetry;
mod tls;
mod vault;
mod watch;
mod witnesses;

use failure::Failure;
use std::io::Write as _;
use std::process::ExitCode;

/// Every freed buffer is wiped: parsers and serializers make copies that no type of ours sees. Below it is mimalloc:
/// documents are trees of small pieces, which one thread makes and another one frees, and that is dear with the C
/// library's own.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<mimalloc::MiMalloc> = zeroizing_alloc::ZeroAlloc(mimalloc::MiMalloc);

fn main() -> ExitCode {
    keep_memory_private();
    std::panic::set_hook(Box::new(report_panic));
    // This ends the process with 2 for what cannot be parsed, with 0 for help and version.
    let cli = cli::Cli::read();
    cli.color.apply();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| command::run(cli)));
    match outcome {
        Ok(Ok(code)) => code,
        Ok(Err(failure)) => failure.report(),
        Err(_already_reported) => Failure::Bug.exit_code(),
    }
}

/// No core file and no debugger of the same user sees decrypted values. Best effort: where the
/// kernel refuses, regent is as exposed as any program, which is no reason not to run.
fn keep_memory_private() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

/// Tells where it happened and quotes nothing: a panic's message may hold what was being worked on.
fn report_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let place = panic.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
    let _ = writeln!(anstream::stderr(), "regent: error[bug]: regent met a case that it does not know{place}");
    let _ =
        writeln!(anstream::stderr(), "regent: hint: nothing was decided; please report this line and what was typed");
}
