//! `regent crd`: the CustomResourceDefinition, for whoever installs it without the repository.

use std::process::ExitCode;

use crate::cluster::authority;
use crate::failure::Failure;
use crate::output;

pub(super) fn run() -> Result<ExitCode, Failure> {
    output::text(&authority::definition_as_yaml())?;
    Ok(ExitCode::SUCCESS)
}
