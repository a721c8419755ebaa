//! The heartbeat: read on both sides, compared, and counted once. Vault is written before its mirror, and the mirror is
//! brought up to Vault before Vault is written again.

use std::time::{Duration, SystemTime};

use regent_core::name::Epoch;
use regent_core::verify::{Beat, Pulse, pulse};

use super::Run;
use crate::cluster::authority::Heartbeat;
use crate::failure::Failure;
use crate::vault::{KeyPath, NextBeat, Reading};

/// How long a standby lags behind at the most, with room: only what lasts longer is an older Vault.
const LONGEST_LAG: Duration = Duration::from_secs(3);

/// Beats that an accepted restore makes up for: more than eleven years, one an hour.
const MOST_BEATS: u64 = 100_000;

impl Run<'_> {
    /// Compares, and counts one where both sides go together, or a person says that they should.
    pub(super) async fn pulse(&self, epoch: Epoch) -> Result<Pulse, Failure> {
        let found = self.compared(epoch).await?;
        let found = match found {
            Pulse::RolledBack { .. } => {
                tokio::time::sleep(LONGEST_LAG).await;
                self.compared(epoch).await?
            }
            Pulse::Steady { .. }
            | Pulse::Accepted { .. }
            | Pulse::Ahead { .. }
            | Pulse::Deleted
            | Pulse::Unknown(_) => found,
        };
        match (found, self.args.accept_restored) {
            (Pulse::Steady { version }, _) => Ok(Pulse::Steady { version: self.count(version, epoch).await? }),
            (Pulse::RolledBack { .. } | Pulse::Ahead { .. }, true) => self.accept(epoch).await,
            (found @ (Pulse::RolledBack { .. } | Pulse::Ahead { .. }), false)
            | (found @ (Pulse::Accepted { .. } | Pulse::Deleted | Pulse::Unknown(_)), _) => Ok(found),
        }
    }

    async fn compared(&self, epoch: Epoch) -> Result<Pulse, Failure> {
        let before = self.mirrored(epoch).await?;
        let vault = self.in_vault().await?;
        let after = self.mirrored(epoch).await?;
        Ok(pulse(before, vault, after))
    }

    /// What the mirror says of this epoch.
    async fn mirrored(&self, epoch: Epoch) -> Result<Option<u64>, Failure> {
        let noted = self.keeper.status(self.name).await?.heartbeat;
        let of_epoch = noted.filter(|noted| noted.epoch == i64::from(epoch.get()));
        Ok(of_epoch.and_then(|noted| u64::try_from(noted.version).ok()))
    }

    async fn in_vault(&self) -> Result<Beat, Failure> {
        let failed = |problem| self.vault.failed(problem);
        let key = KeyPath::heartbeat(self.name).map_err(failed)?;
        Ok(match self.vault.vault.read(&key).await.map_err(failed)? {
            Reading::Absent => Beat::At(0),
            Reading::Deleted => Beat::Deleted,
            Reading::Present(present) => Beat::At(present.version),
        })
    }

    /// The next heartbeat, in Vault and then in its mirror; the count that Vault is at.
    async fn count(&self, version: u64, epoch: Epoch) -> Result<u64, Failure> {
        self.note(version, epoch).await?;
        let counted = self.beat(version).await?;
        self.note(counted, epoch).await?;
        Ok(counted)
    }

    /// Vault's own count. Where another run was quicker its beat is as good.
    async fn beat(&self, version: u64) -> Result<u64, Failure> {
        let failed = |problem| self.vault.failed(problem);
        let next = NextBeat::after(version, self.name).map_err(failed)?;
        if self.vault.vault.beat(&next).await.map_err(failed)? {
            return Ok(next.version());
        }
        match self.in_vault().await? {
            Beat::At(there) => Ok(there.max(version)),
            Beat::Deleted => Ok(version),
        }
    }

    async fn note(&self, version: u64, epoch: Epoch) -> Result<(), Failure> {
        let number = |number: u64| i64::try_from(number).map_err(|_| Failure::Bug);
        let time = SystemTime::UNIX_EPOCH.elapsed().as_ref().map(Duration::as_secs).unwrap_or_default();
        let heartbeat = Heartbeat { epoch: epoch.get().into(), version: number(version)?, time: number(time)? };
        self.keeper.note(self.name, heartbeat).await
    }

    /// Brings the lower of the two up to the higher one: the mirror never goes down, and Vault only counts.
    async fn accept(&self, epoch: Epoch) -> Result<Pulse, Failure> {
        let mirrored = self.mirrored(epoch).await?.unwrap_or_default();
        let Beat::At(mut version) = self.in_vault().await? else { return Ok(Pulse::Deleted) };
        if mirrored.saturating_sub(version) > MOST_BEATS {
            return Ok(Pulse::Unknown(format!(
                "the mirror is more than {MOST_BEATS} ahead of Vault, which no restore explains"
            )));
        }
        while version < mirrored {
            let counted = self.beat(version).await?;
            if counted == version {
                return Ok(Pulse::Unknown("somebody else writes it meanwhile".to_owned()));
            }
            version = counted;
        }
        Ok(Pulse::Accepted { version: self.count(version, epoch).await? })
    }
}
