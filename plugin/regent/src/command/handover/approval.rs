//! Who agrees to what a run does: a digest that somebody read, an option, or whoever sits there.

use super::super::confirmed;
use super::stop::{HandoverStop, stopped};
use crate::cli::RunArgs;
use crate::failure::Failure;

/// A command that asks, by its name.
pub(in super::super) struct Asked(pub(in super::super) &'static str);

impl Asked {
    /// What is carried out is the plan of this digest.
    pub(in super::super) async fn approved(
        &self,
        run: &RunArgs,
        digest: &str,
        question: &'static str,
    ) -> Result<(), Failure> {
        match &run.approve {
            Some(given) if given == digest => Ok(()),
            Some(given) => Err(stopped(HandoverStop::NotApproved { given: given.clone(), found: digest.to_owned() })),
            None => self.agreed(run, question).await,
        }
    }

    /// Asks from a thread of its own: a signal ends the program all the same.
    pub(in super::super) async fn agreed(&self, run: &RunArgs, question: &'static str) -> Result<(), Failure> {
        if run.yes {
            return Ok(());
        }
        let (answer, answered) = tokio::sync::oneshot::channel();
        let command = self.0;
        std::thread::spawn(move || drop(answer.send(confirmed(command, question))));
        let is_agreed = answered.await.map_err(|_| Failure::Bug)??;
        if is_agreed { Ok(()) } else { Err(stopped(HandoverStop::Declined)) }
    }
}
