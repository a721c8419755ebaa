//! What `regent status` makes of what it gathered from a cluster: a headline, what needs a person, the exit code, a text
//! of a hundred columns and JSON. Pure: every case can be written down as facts.

use std::collections::{BTreeMap, BTreeSet};

use comfy_table::{ContentArrangement, Table, presets};
use regent_core::bootstrap::Bootstrap;
use regent_core::emit::Identity;
use regent_core::evidence::{
    AuthorityWitness, Clusters, DocumentList, HandoverWitness, Holder, Holds, ListedClass, ListedDocument, Mirror,
    Reading, WitnessedVault,
};
use regent_core::live::{self, Answer, Guard, LiveSecret, Next, Ruler, Standing, Tracking};
use regent_core::name::{AuthorityName, Namespace, SecretName};
use regent_core::phase::{Live, Phase};
use regent_core::render::Class;
use regent_core::survey::{Sealing, SurveyedDocument, SurveyedFile};
use serde_json::{Value, json};

use super::account::{self, Account};
use super::cluster::{Facts, Keys, Settled};
use super::{Ruled, holder_in_words};
use crate::cluster::installation::{InForce, Policy};
use crate::cluster::witness::witness_name;
use crate::failure::{Exit, one_line};

/// What is known, and what it means.
pub(super) struct Report {
    facts: Facts,
    holder: Holder,
    phase: Option<Phase>,
    ruled: Ruled,
    vault_here: Option<WitnessedVault>,
    root_here: Option<String>,
    authority: AuthorityName,
    secrets: Vec<Row>,
    warnings: Vec<Warning>,
    /// What changes no exit code.
    notes: Vec<Warning>,
}

/// One Secret.
struct Row {
    name: SecretName,
    file: Option<String>,
    class: &'static str,
    vault: Option<bool>,
    listed: Option<bool>,
    is_in_git: bool,
    live: Reading<LiveSecret>,
    /// The guards that it lacks; `None` where it has to bear none.
    missing: Option<Vec<Guard>>,
    contenders: Vec<String>,
    next: Next,
}

/// Something that needs a person; as a note, something that a person may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Warning {
    /// A stable word.
    pub(super) code: &'static str,
    /// The Secrets, files or objects that it is about.
    pub(super) about: Vec<String>,
    pub(super) text: String,
    pub(super) way_out: String,
}

/// Width of the text, in columns.
const WIDTH: u16 = 100;

/// Names of a warning that are shown in the text.
const NAMED: usize = 8;

/// Whether a listed kind is a Secret.
pub(super) fn is_secret(kind: &str) -> bool {
    kind == "Secret" || kind == "v1/Secret"
}

/// The name of an object that is a Secret in a namespace.
pub(in crate::command) fn secret_name(identity: &Identity) -> Option<SecretName> {
    let Identity { api_version, kind, namespace, name } = identity;
    if api_version != "v1" || kind != "Secret" {
        return None;
    }
    SecretName::new(Namespace::parse(namespace.as_deref()?).ok()?, name).ok()
}

/// What is known of the live Secrets of a root.
pub(super) fn live_of(facts: &Facts) -> Live {
    let readings = || facts.secrets.values();
    if readings().any(|live| matches!(live, Reading::Present(_))) {
        Live::Some
    } else if facts.labelled.is_ok() && readings().all(|live| *live == Reading::Absent) {
        Live::None
    } else {
        Live::Unknown
    }
}

impl Report {
    pub(super) fn of(
        facts: Facts,
        bootstrap: &Bootstrap,
        root_here: Option<String>,
        (phase, ruled): (Option<Phase>, Ruled),
        files: &[SurveyedFile],
        problems: &[String],
    ) -> Self {
        let holder = facts.evidence.holder();
        let vault_here = bootstrap.vault.as_ref().map(|vault| WitnessedVault {
            address: vault.address.clone(),
            namespace: vault.namespace.clone(),
            mount: vault.mount.clone(),
            prefix: vault.prefix.clone(),
        });
        let authority = bootstrap.name.clone();
        let secrets = Documents::of(files, &facts).rows(&facts, &holder, &ruled, &authority);
        let notes = account::note(&facts.account, &authority).into_iter().collect();
        let warnings = Vec::new();
        let report = Self { facts, holder, phase, ruled, vault_here, root_here, authority, secrets, warnings, notes };
        let mut warnings = report.about_the_cluster();
        warnings.extend(about_documents(files, problems));
        warnings.extend(report.about_secrets(files));
        warnings.extend(report.about_keys());
        warnings.extend(report.not_seen());
        Self { warnings, ..report }
    }

    /// What is recorded and not everywhere in the cluster.
    fn not_mirrored(&self) -> Option<String> {
        let Holder::Vault { epoch, handover, mirror: Mirror::Incomplete } = &self.holder else { return None };
        let name = witness_name(&self.authority, *epoch);
        let mut missing = Vec::new();
        match &self.facts.evidence.authority {
            Reading::Present(AuthorityWitness { holds: Holds::Vault(_), .. }) => {}
            Reading::Present(AuthorityWitness { holds: Holds::Git, .. }) => {
                missing.push("the Authority still says git".to_owned());
            }
            Reading::Absent => missing.push("the Authority is missing".to_owned()),
            Reading::Unreadable(why) => missing.push(format!("the Authority cannot be read ({why})")),
        }
        match self.facts.evidence.handovers.get(epoch) {
            Some(Reading::Present(_)) => {}
            Some(Reading::Absent) => missing.push(format!("ConfigMap {name} is missing")),
            Some(Reading::Unreadable(why)) => missing.push(why.clone()),
            None => missing.push(format!("ConfigMap {name} was not read")),
        }
        Some(format!(
            "recorded, not mirrored: handover {}; {}; run the handover again",
            handover.short(),
            missing.join(", ")
        ))
    }

    fn headline(&self) -> String {
        let name = &self.authority;
        let live = self.secrets.iter().filter(|row| matches!(row.live, Reading::Present(_))).count();
        let live = format!("{live} of {} Secrets live", self.secrets.len());
        let phase = self.phase.map_or(String::new(), |phase| format!("phase {}, {}", phase.number(), phase.name()));
        match &self.ruled {
            Ruled::Values => match self.phase {
                Some(Phase::Bootstrap) => format!("{name}: Git rules ({phase}). Its values are rendered; {live}"),
                Some(_) | None => format!("{name}: Git rules ({phase}). Its values are rendered; none was seen live"),
            },
            Ruled::Stubs => {
                let then = match self.phase {
                    Some(Phase::SteadyState) if self.settled().is_some_and(|settled| settled.left_behind) => {
                        "no old value can come back but for what was left behind (see `settled`)"
                    }
                    Some(Phase::SteadyState) => "no old value can come back, so rotation is safe",
                    Some(_) | None => "caches may still hold old values, so do not rotate yet",
                };
                format!("{name}: Vault rules ({phase}). No value comes from Git; {then}; {live}")
            }
            Ruled::Unasked => format!("{name}: nobody was asked who rules"),
            Ruled::Refused(failure) => {
                let code = failure.code().entry().name;
                format!("{name}: nothing is rendered, and nothing live changes. {code}: {failure}")
            }
        }
    }

    /// How a check ends: by a refusal first, then by what has to be run again, then by what needs a person.
    pub(super) fn exit(&self) -> Exit {
        match &self.ruled {
            Ruled::Refused(failure) => failure.exit(),
            Ruled::Unasked => Exit::Authority,
            Ruled::Values | Ruled::Stubs => match (&self.holder, self.phase) {
                (Holder::Vault { mirror: Mirror::Incomplete, .. }, _) | (_, Some(Phase::Activation)) => Exit::Underway,
                _done if self.warnings.is_empty() => Exit::Done,
                _done => Exit::Refused,
            },
        }
    }

    /// Whether it could tell who rules.
    pub(super) fn could_tell(&self) -> bool {
        match self.holder {
            Holder::Unreadable(_) => false,
            Holder::None | Holder::Git { .. } | Holder::Vault { .. } | Holder::Disagree(_) => true,
        }
    }

    fn is_there(&self) -> bool {
        match self.holder {
            Holder::Git { .. } | Holder::Vault { .. } | Holder::Disagree(_) => true,
            Holder::None | Holder::Unreadable(_) => false,
        }
    }

    fn about_the_cluster(&self) -> Vec<Warning> {
        let facts = &self.facts;
        let mut warnings = Vec::new();
        let clusters = [(&facts.witnesses, &facts.policies)].into_iter();
        for (cluster, policies) in clusters.chain(facts.target.as_ref().map(|target| (target, &facts.target_policies)))
        {
            let wrong: Vec<&Policy> = policies.iter().filter(|policy| is_wrong(&policy.in_force)).collect();
            if !wrong.is_empty() {
                let said: Vec<String> = wrong.iter().map(|policy| policy_in_words(policy)).collect();
                warnings.push(Warning {
                    code: "policies",
                    about: wrong.iter().map(|policy| policy.name.clone()).collect(),
                    text: format!("{cluster} does not keep the witnesses safe: {}", said.join("; ")),
                    way_out: "`kubectl apply --server-side -k manifests/cluster`, as a cluster administrator"
                        .to_owned(),
                });
            }
        }
        if self.is_there() && is_wrong(&facts.lock.in_force) {
            warnings.push(Warning {
                code: "lock",
                about: vec![facts.lock.name.clone()],
                text: format!(
                    "old values from caches are not locked out of the API server: {}",
                    policy_in_words(&facts.lock)
                ),
                way_out: "`regent init DIR --complete`".to_owned(),
            });
        }
        if let Some(doors) = &facts.doors
            && doors.is_empty()
        {
            warnings.push(Warning {
                code: "lock",
                about: vec![facts.lock.name.clone()],
                text: format!("the lock {} is there and locks nobody out", facts.lock.name),
                way_out: "`regent init DIR --complete --door USER`".to_owned(),
            });
        }
        if let Ok(Some(noted)) = &facts.noted {
            let Tracking { argocd, flux } = &noted.tracking;
            let argocd = argocd.as_ref().map(|application| format!("Argo CD's Application {application}"));
            for tool in argocd.iter().chain(flux) {
                warnings.push(Warning {
                    code: "tracked",
                    about: vec![format!("Authority {}", self.authority)],
                    text: format!(
                        "the Authority is tracked by {tool}, which would put back what Git says of it, or prune it"
                    ),
                    way_out: "take it out of Git, and remove the tool's annotation and labels from it".to_owned(),
                });
            }
        }
        warnings.extend(self.about_places());
        match &facts.copy {
            Some(Reading::Present(copy)) if self.witness().is_some_and(|witness| self.is_copied(witness, copy)) => {}
            None => {}
            Some(Reading::Absent) if !self.is_there() => {}
            Some(copy) => {
                let what = match copy {
                    Reading::Present(_) => "says something else",
                    Reading::Absent => "is missing, so nobody can write its Secrets once they are locked",
                    Reading::Unreadable(_) => "cannot be read",
                };
                warnings.push(Warning {
                    code: "copy",
                    about: vec![format!("Authority {}", self.authority)],
                    text: format!("the copy of the Authority in the Secrets' cluster, which its lock asks, {what}"),
                    way_out: "`regent init DIR --complete --target-context NAME`".to_owned(),
                });
            }
        }
        if let (Holder::Vault { .. }, DocumentList::Unreadable) = (&self.holder, self.facts.evidence.documents()) {
            warnings.push(Warning {
                code: "list",
                about: Vec::new(),
                text: "the list of what was handed over cannot be read, so documents whose names are encrypted are refused"
                    .to_owned(),
                way_out: "run the handover again, which mirrors it".to_owned(),
            });
        }
        warnings
    }

    /// Where the Authority was made for, compared with where we are.
    fn about_places(&self) -> Vec<Warning> {
        let Some(witness) = self.witness() else { return Vec::new() };
        let mut warnings = Vec::new();
        if let Some(clusters) = self.clusters_now(witness) {
            let pairs = [
                ("its witnesses", &clusters.witness, &self.facts.witness_uid),
                ("its Secrets", &clusters.target, &self.facts.target_uid),
            ];
            for (what, recorded, real) in pairs {
                if let Ok(real) = real
                    && real != recorded
                {
                    warnings.push(Warning {
                        code: "other-cluster",
                        about: vec![real.clone()],
                        text: format!(
                            "the Authority was made for another cluster of {what}: {recorded}, and this one is {real}"
                        ),
                        way_out:
                            "check the contexts (`--context`, `--target-context`); after a loss see the README, \"After a loss\""
                                .to_owned(),
                    });
                }
            }
        }
        if self.names_vault_as_it_is() == Some(false) {
            let shown = |vault: Option<&WitnessedVault>| vault.map_or("none".to_owned(), ToString::to_string);
            warnings.push(Warning {
                code: "vault-place",
                about: Vec::new(),
                text: format!(
                    "regent.yaml names another place in Vault than the Authority: {}, and {}",
                    shown(self.vault_here.as_ref()),
                    shown(self.facts.evidence.place().present())
                ),
                way_out:
                    "correct `vault` in regent.yaml; or `regent init DIR --move` while Git rules, `regent handover \
                          --accept-vault-identity` where Vault rules and moved there"
                        .to_owned(),
            });
        }
        warnings
    }

    fn about_secrets(&self, files: &[SurveyedFile]) -> Vec<Warning> {
        let there = |row: &Row, holds: &dyn Fn(&LiveSecret) -> bool| match &row.live {
            Reading::Present(secret) => holds(secret),
            Reading::Absent | Reading::Unreadable(_) => false,
        };
        let matching = |holds: &dyn Fn(&Row) -> bool| self.secrets.iter().filter(|row| holds(row)).collect::<Vec<_>>();
        let mut warnings = Vec::new();
        let mut warn = |code, rows: &[&Row], text: &str, way_out: &str, each: &dyn Fn(&Row) -> String| {
            if !rows.is_empty() {
                let about: Vec<String> = rows.iter().map(|row| row.name.to_string()).collect();
                let said: Vec<String> = rows.iter().map(|row| each(row)).collect();
                let text = format!("{text}: {}", few(&said));
                warnings.push(Warning { code, about, text, way_out: way_out.to_owned() });
            }
        };
        let name = |row: &Row| row.name.to_string();
        let contended = matching(&|row| !row.contenders.is_empty());
        warn(
            "contended",
            &contended,
            "somebody else would write or delete it",
            "let one of them go: take it out of the other's care, or out of Git",
            &|row| format!("{} ({})", row.name, row.contenders.join(", ")),
        );
        if self.is_there() {
            let unguarded = matching(&|row| row.missing.as_ref().is_some_and(|missing| !missing.is_empty()));
            warn(
                "unguarded",
                &unguarded,
                "live without its guards, which a sync from Git would have written",
                "sync it from Git while Git rules; afterwards write annotations and label by hand",
                &|row| format!("{} (no {})", row.name, guards(row.missing.as_deref().unwrap_or_default())),
            );
        }
        let foreign = matching(&|row| {
            row.is_in_git
                && there(row, &|secret| {
                    secret.authority.as_deref().is_some_and(|named| named != self.authority.as_str())
                })
        });
        warn(
            "other-authority",
            &foreign,
            "live under another authority's label",
            "two roots must not hold one Secret: take it out of one of them",
            &|row| match &row.live {
                Reading::Present(LiveSecret { authority: Some(named), .. }) => format!("{} ({named})", row.name),
                Reading::Present(_) | Reading::Absent | Reading::Unreadable(_) => row.name.to_string(),
            },
        );
        let hides = files.iter().any(hides_names);
        let unlisted =
            matching(&|row| !row.is_in_git && row.listed != Some(true) && matches!(row.live, Reading::Present(_)));
        warn(
            "unlisted",
            &unlisted,
            if hides {
                "it bears this authority's label, and no document names it (some documents hide their names)"
            } else {
                "it bears this authority's label, and no document names it"
            },
            "delete it if nobody needs it, or take the label off; its guards keep it alive",
            &name,
        );
        let absent = matching(&|row| matches!(row.next, Next::Restore | Next::Delivered));
        warn(
            "absent",
            &absent,
            "not live, and not from Git any more",
            "let Vault's operator deliver it, or `regent restore NS/NAME` where it is permanent",
            &|row| format!("{} ({})", row.name, row.class),
        );
        let not_listed = matching(&|row| row.next == Next::NotListed);
        warn(
            "not-listed",
            &not_listed,
            "committed after the handover, so an Application that covers it renders nothing",
            "put the value into Vault and take the document out of Git",
            &name,
        );
        let copied = matching(&|row| there(row, &|secret| secret.has_clear_copy));
        warn(
            "clear-copy",
            &copied,
            "client-side apply left a copy of its values in an annotation, which rotation does not change",
            "`kubectl annotate secret -n NS NAME kubectl.kubernetes.io/last-applied-configuration-`",
            &name,
        );
        warnings
    }

    fn about_keys(&self) -> Vec<Warning> {
        let Keys::Left { files, mounted } = &self.facts.keys else { return Vec::new() };
        let mut warnings = Vec::new();
        let mut warn = |about: Vec<String>, text: String, how: &str| {
            if !about.is_empty() {
                let way_out = format!("{how}: front doors need none once Vault rules; keep the root key offline");
                warnings.push(Warning { code: "keys", about, text, way_out });
            }
        };
        let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        let text = format!("nobody needs the rule's identities any more, and they are here: {}", few(&files));
        warn(files, text, "remove them there");
        let mounted = mounted.clone().unwrap_or_default();
        let text = format!(
            "nobody needs the keys any more, and what runs beside the controllers mounts them: {}",
            few(&mounted)
        );
        warn(
            mounted,
            text,
            "`regent handover --retire-keys` removes them, and `regent retire` tells the command for each",
        );
        warnings
    }

    /// What could not be looked at is not as it should be until somebody looked.
    fn not_seen(&self) -> Vec<Warning> {
        let facts = &self.facts;
        let mut unseen: Vec<(String, &String)> = Vec::new();
        let uids = [
            ("the uid of the witnesses' cluster", &facts.witness_uid),
            ("the uid of the Secrets' cluster", &facts.target_uid),
        ];
        let uids = uids.into_iter().take(if facts.target.is_some() { 2 } else { 1 });
        unseen.extend(uids.filter_map(|(what, uid)| Some((what.to_owned(), uid.as_ref().err()?))));
        for policy in facts.policies.iter().chain(&facts.target_policies).chain([&facts.lock]) {
            if let InForce::Unknown(why) = &policy.in_force {
                unseen.push((format!("policy {}", policy.name), why));
            }
        }
        unseen.extend(facts.labelled.as_ref().err().map(|why| ("Secrets by label".to_owned(), why)));
        if let Keys::Left { mounted: Err(why), .. } = &facts.keys {
            unseen.push(("whether a front door mounts keys".to_owned(), why));
        }
        if let Account::Unseen(why) = &facts.account {
            unseen.push(("whether the account that handed over is gone".to_owned(), why));
        }
        unseen.extend(facts.flux.unseen().map(|why| ("Flux' Kustomizations".to_owned(), why)));
        let secrets = self.secrets.iter().filter_map(|row| match &row.live {
            Reading::Unreadable(why) => Some((format!("Secret {}", row.name), why)),
            Reading::Present(_) | Reading::Absent => None,
        });
        unseen.extend(secrets);
        // One reason for many is told once.
        let mut by_reason: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (what, why) in unseen {
            by_reason.entry(general(why, &what)).or_default().push(what);
        }
        let warning = |(why, about): (String, Vec<String>)| Warning {
            code: "not-seen",
            text: format!("it could not be looked at: {} ({why})", few(&about)),
            about,
            way_out: "ask as somebody who may (`--context`, `--as`)".to_owned(),
        };
        by_reason.into_iter().map(warning).collect()
    }

    fn witness(&self) -> Option<&AuthorityWitness> {
        match &self.facts.evidence.authority {
            Reading::Present(witness) => Some(witness),
            Reading::Absent | Reading::Unreadable(_) => None,
        }
    }

    /// The clusters that it is about now: a target may have been taken over.
    fn clusters_now<'a>(&'a self, witness: &'a AuthorityWitness) -> Option<&'a Clusters> {
        witness.clusters_now(&self.holder, self.facts.copy.as_ref().and_then(present))
    }

    /// Whether the copy beside the Secrets is that of this Authority.
    fn is_copied(&self, witness: &AuthorityWitness, copy: &AuthorityWitness) -> bool {
        *copy == AuthorityWitness { clusters: self.clusters_now(witness).cloned(), ..witness.clone() }
    }

    /// For people: what is wrong first, then everything, a hundred columns wide.
    pub(super) fn for_people(&self, store: &str) -> String {
        let mut text = String::new();
        for line in self.not_mirrored().into_iter().chain([self.headline()]) {
            text.push_str(&wrapped(&[("", line)], 0));
        }
        if let Ruled::Refused(failure) = &self.ruled {
            text.push_str(&wrapped(&[("", format!("way out: {}", failure.hint()))], 2));
        }
        match self.warnings.len() {
            0 if self.exit() == Exit::Done => text.push_str("All is as it should be.\n"),
            0 => {}
            1 => text.push_str("\nOne thing needs a person:\n"),
            many => text.extend([format!("\n{many} things need a person:\n")]),
        }
        let told = |Warning { code, text, way_out, .. }: &Warning| {
            wrapped(&[("-", format!("{code}: {text}")), ("", format!("way out: {way_out}"))], 2)
        };
        text.extend(self.warnings.iter().map(told));
        if !self.notes.is_empty() {
            text.push_str("\nFor whoever looks after it:\n");
        }
        text.extend(self.notes.iter().map(told));
        text.push('\n');
        text.push_str(&wrapped(&self.lines(store), 14));
        if !self.secrets.is_empty() {
            text.push('\n');
            text.push_str(&self.table());
        }
        let flux = self.facts.flux.for_people();
        if !flux.is_empty() {
            text.push('\n');
            text.push_str(&flux);
        }
        text
    }

    /// Name and value, a line each.
    fn lines(&self, store: &str) -> Vec<(&'static str, String)> {
        let facts = &self.facts;
        let mut lines = vec![("authority", self.authority.to_string())];
        let target = facts.target.as_ref().map_or(String::new(), |target| format!("; Secrets in {target}"));
        lines.push(("cluster", format!("{} ({store}){target}", facts.witnesses)));
        lines.push(("K", holder_in_words(&self.holder)));
        let phase = self.phase.map(|phase| format!("{} {}: {}", phase.number(), phase.name(), phase.meaning()));
        lines.push(("phase", phase.unwrap_or_else(|| "not known".to_owned())));
        let (code, meaning) = self.ruled.in_words();
        lines.push(("rule", format!("{code}: {meaning}")));
        lines.push((
            "Authority",
            match &facts.evidence.authority {
                Reading::Absent => "absent".to_owned(),
                Reading::Present(witness) => witness_in_words(witness),
                Reading::Unreadable(why) => format!("unreadable: {why}"),
            },
        ));
        for (epoch, reading) in &facts.evidence.handovers {
            let what = match reading {
                Reading::Absent => "absent".to_owned(),
                Reading::Present(witness) => handover_in_words(witness),
                Reading::Unreadable(why) => format!("unreadable: {why}"),
            };
            lines.push(("ConfigMap", format!("{}: {what}", witness_name(&self.authority, *epoch))));
        }
        lines.extend(self.witness().into_iter().flat_map(|witness| self.compared(witness)));
        lines.push((
            "settled",
            match self.of_status(&facts.evidence.settled) {
                Reading::Present(()) => match self.settled() {
                    Some(settled) => format!("yes: {}", one_line(&settled.message)),
                    None => "yes: no old value can come back".to_owned(),
                },
                Reading::Absent => "no".to_owned(),
                Reading::Unreadable(why) => format!("unreadable, so no: {why}"),
            },
        ));
        lines.push((
            "imported",
            match self.of_status(&facts.evidence.imported) {
                Reading::Present(imported) => format!("{} since the handover", counted(imported.len())),
                Reading::Absent => "none".to_owned(),
                Reading::Unreadable(why) => format!("unreadable: {why}"),
            },
        ));
        lines.push((
            "heartbeat",
            match (self.heartbeat(), &facts.noted) {
                (Some(at), _) => format!("{} ago", age(facts.now.saturating_sub(at))),
                (None, Ok(_)) => "none yet".to_owned(),
                (None, Err(_)) => "not known".to_owned(),
            },
        ));
        if let Some(copy) = &facts.copy {
            lines.push((
                "copy",
                match copy {
                    Reading::Present(copy) => format!("in the Secrets' cluster: {}", witness_in_words(copy)),
                    Reading::Absent => "in the Secrets' cluster: absent".to_owned(),
                    Reading::Unreadable(why) => format!("in the Secrets' cluster: unreadable: {why}"),
                },
            ));
        }
        let policies = |policies: &[Policy]| policies.iter().map(policy_in_words).collect::<Vec<_>>().join(", ");
        lines.push(("policies", policies(&facts.policies)));
        if facts.target.is_some() {
            lines.push(("", format!("in the Secrets' cluster: {}", policies(&facts.target_policies))));
        }
        lines.push(("lock", policy_in_words(&facts.lock)));
        lines.extend(facts.doors.iter().flatten().map(|door| ("", format!("locks out {door}"))));
        match &facts.keys {
            Keys::Needed => {}
            Keys::Left { files, mounted: Ok(mounted) } => {
                lines.push((
                    "keys",
                    match files.len() + mounted.len() {
                        0 => "none is left where a front door could use it".to_owned(),
                        left => format!("{left} left, see above"),
                    },
                ));
            }
            Keys::Left { mounted: Err(why), .. } => {
                lines.push(("keys", format!("whether any is mounted cannot be told: {why}")));
            }
        }
        lines
    }

    /// What the Authority was made for, beside what is here.
    fn compared(&self, witness: &AuthorityWitness) -> Vec<(&'static str, String)> {
        let facts = &self.facts;
        let mut lines = Vec::new();
        let same = |same: bool| if same { "as here" } else { "not as here" };
        let root = |root: Option<&str>| root.unwrap_or("outside a repository").to_owned();
        lines.push((
            "root",
            format!(
                "{}, {}",
                root(witness.root.as_deref()),
                if witness.root == self.root_here {
                    "as here".to_owned()
                } else {
                    format!("and here {}", root(self.root_here.as_deref()))
                }
            ),
        ));
        let vault = witness.vault.as_ref().map_or("none named".to_owned(), ToString::to_string);
        let moved = match &facts.evidence.moved {
            Reading::Present(place) => format!(", moved to {place}"),
            Reading::Absent => String::new(),
            Reading::Unreadable(why) => format!(", and whether it moved cannot be read: {why}"),
        };
        let is_here = if self.names_vault_as_it_is() == Some(true) { "as" } else { "not as" };
        lines.push(("vault", format!("{vault}{moved}, {is_here} in regent.yaml")));
        if let Some(clusters) = &witness.clusters {
            let compared = |recorded: &String, real: &Result<String, String>| match real {
                Ok(real) => same(real == recorded).to_owned(),
                Err(_) => "which could not be compared".to_owned(),
            };
            lines.push((
                "made for",
                format!("witnesses in {}, {}", clusters.witness, compared(&clusters.witness, &facts.witness_uid)),
            ));
            let now = self.clusters_now(witness).map_or(&clusters.target, |now| &now.target);
            let taken_over = if now == &clusters.target { String::new() } else { format!("taken over by {now}, ") };
            lines.push((
                "",
                format!("Secrets in {}, {taken_over}{}", clusters.target, compared(now, &facts.target_uid)),
            ));
        }
        lines
    }

    /// Whether `regent.yaml` names the place where Vault is asked; `None` where that cannot be read.
    fn names_vault_as_it_is(&self) -> Option<bool> {
        match self.facts.evidence.place() {
            Reading::Present(place) => Some(self.vault_here.as_ref() == Some(&place)),
            Reading::Absent => Some(self.vault_here.is_none()),
            Reading::Unreadable(_) => None,
        }
    }

    /// What the Authority's status says. Nothing is read out of an Authority that cannot be read.
    fn of_status<T: Clone>(&self, said: &Reading<T>) -> Reading<T> {
        match (&self.facts.evidence.authority, said) {
            (Reading::Unreadable(why), Reading::Absent) => Reading::Unreadable(why.clone()),
            (Reading::Absent | Reading::Present(_) | Reading::Unreadable(_), said) => said.clone(),
        }
    }

    /// What was seen, and what was left behind.
    fn settled(&self) -> Option<&Settled> {
        self.facts.noted.as_ref().ok()?.as_ref()?.settled.as_ref()
    }

    fn heartbeat(&self) -> Option<u64> {
        self.facts.noted.as_ref().ok()?.as_ref()?.heartbeat
    }

    fn table(&self) -> String {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
        table.set_header(["SECRET", "CLASS", "LIVE", "GUARDS", "WHO", "NEXT"]);
        for row in &self.secrets {
            let (live, who) = match &row.live {
                Reading::Present(secret) if secret.is_leaving => ("leaving", who(secret)),
                Reading::Present(secret) => ("yes", who(secret)),
                Reading::Absent => ("no", String::new()),
                Reading::Unreadable(_) => ("?", String::new()),
            };
            let guards = match &row.missing {
                None => String::new(),
                Some(missing) if missing.is_empty() => "all".to_owned(),
                Some(missing) if missing.len() == Guard::ALL.len() => "none".to_owned(),
                Some(missing) => format!("no {}", guards(missing)),
            };
            table.add_row([
                one_line(&row.name.to_string()),
                row.class.to_owned(),
                live.to_owned(),
                guards,
                one_line(&who),
                row.next.meaning().to_owned(),
            ]);
        }
        trimmed(&table)
    }

    /// For programs. Keys are only added.
    pub(super) fn as_json(&self) -> Value {
        let facts = &self.facts;
        let witness = self.witness();
        let handovers = facts.evidence.handovers.iter().map(|(epoch, reading)| {
            let mut json = reading_as_json(reading);
            json["epoch"] = json!(epoch.get());
            json["name"] = json!(witness_name(&self.authority, *epoch));
            let witness = present(reading);
            json["handoverId"] = json!(witness.map(|witness| witness.handover.to_string()));
            json["documents"] = json!(witness.map(|witness| witness.documents.len()));
            json
        });
        let mut authority = reading_as_json(&facts.evidence.authority);
        authority["witness"] = json!(witness.map(witness_as_json));
        let mut imported = reading_as_json(&self.of_status(&facts.evidence.imported));
        imported["documents"] = json!(present(&facts.evidence.imported).map_or(0, Vec::len));
        let tracking =
            facts.noted.as_ref().ok().and_then(Option::as_ref).map(|noted| tracking_as_json(&noted.tracking));
        let compared = |recorded: Option<&String>, now: Option<&String>, real: &Result<String, String>| {
            json!({
                "recorded": recorded, "now": now, "real": real.as_ref().ok(), "why": real.as_ref().err(),
                "same": now.zip(real.as_ref().ok()).map(|(now, real)| now == real),
            })
        };
        let clusters = witness.and_then(|witness| witness.clusters.as_ref());
        let now = witness.and_then(|witness| self.clusters_now(witness));
        let heartbeat = self.heartbeat();
        let mut settled = reading_as_json(&self.of_status(&facts.evidence.settled));
        settled["message"] = json!(self.settled().map(|settled| &settled.message));
        json!({
            "headline": self.headline(),
            "recordedNotMirrored": self.not_mirrored(),
            "exitCode": self.exit() as u8,
            "cluster": { "witnesses": facts.witnesses, "secrets": facts.target.as_ref().unwrap_or(&facts.witnesses) },
            "evidence": {
                "authority": authority,
                "handovers": handovers.collect::<Vec<_>>(),
                "copy": facts.copy.as_ref().map(|copy| {
                    let mut json = reading_as_json(copy);
                    json["witness"] = json!(present(copy).map(witness_as_json));
                    json
                }),
                "settled": settled,
                "imported": imported,
                "heartbeat": heartbeat.map(|at| json!({ "unix": at, "ageSeconds": facts.now.saturating_sub(at) })),
                "tracking": tracking,
                "clusters": {
                    "witnesses": compared(
                        clusters.map(|clusters| &clusters.witness), now.map(|now| &now.witness), &facts.witness_uid,
                    ),
                    "secrets": compared(
                        clusters.map(|clusters| &clusters.target), now.map(|now| &now.target), &facts.target_uid,
                    ),
                },
                "root": {
                    "recorded": witness.and_then(|witness| witness.root.as_ref()), "here": self.root_here,
                    "same": witness.map(|witness| witness.root == self.root_here),
                },
                "vault": {
                    "recorded": witness.and_then(|witness| witness.vault.as_ref()).map(vault_as_json),
                    "moved": present(&facts.evidence.moved).map(vault_as_json),
                    "here": self.vault_here.as_ref().map(vault_as_json),
                    "same": witness.and(self.names_vault_as_it_is()),
                },
            },
            "policies": facts.policies.iter().map(policy_as_json).collect::<Vec<_>>(),
            "targetPolicies": facts.target_policies.iter().map(policy_as_json).collect::<Vec<_>>(),
            "lock": { "policy": policy_as_json(&facts.lock), "doors": facts.doors },
            "keys": match &facts.keys {
                Keys::Needed => Value::Null,
                Keys::Left { files, mounted } => json!({
                    "files": files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>(),
                    "mounted": mounted.as_ref().ok(), "why": mounted.as_ref().err(),
                }),
            },
            "warnings": self.warnings.iter().map(Warning::as_json).collect::<Vec<_>>(),
            "notes": self.notes.iter().map(Warning::as_json).collect::<Vec<_>>(),
            "secrets": self.secrets.iter().map(Row::as_json).collect::<Vec<_>>(),
            "flux": facts.flux.as_json(),
        })
    }
}

impl Warning {
    fn as_json(&self) -> Value {
        let Self { code, about, text, way_out } = self;
        json!({ "code": code, "about": about, "text": text, "wayOut": way_out })
    }
}

impl Row {
    fn as_json(&self) -> Value {
        let mut json = json!({
            "name": self.name.to_string(),
            "file": self.file,
            "class": self.class,
            "vault": self.vault,
            "inGit": self.is_in_git,
            "listed": self.listed,
            "live": reading_as_json(&self.live),
            "guards": self.missing.as_ref().map(|missing| json!({
                "complete": missing.is_empty(),
                "missing": missing.iter().map(|guard| guard.name()).collect::<Vec<_>>(),
            })),
            "contenders": self.contenders,
            "next": { "code": self.next.name(), "meaning": self.next.meaning() },
        });
        let secret = present(&self.live);
        json["managers"] = json!(secret.map(|secret| {
            secret
                .managers
                .iter()
                .map(|manager| {
                    json!({
                        "name": manager.name, "operation": if manager.applies { "Apply" } else { "Update" },
                        "writesValues": manager.writes_values,
                    })
                })
                .collect::<Vec<_>>()
        }));
        json["owners"] = json!(secret.map(|secret| {
            secret
                .owners
                .iter()
                .map(|owner| {
                    json!({
                        "kind": owner.kind, "name": owner.name, "controller": owner.is_controller,
                    })
                })
                .collect::<Vec<_>>()
        }));
        json["tracking"] = json!(secret.map(|secret| tracking_as_json(&secret.tracking)));
        json["label"] = json!(secret.and_then(|secret| secret.authority.as_ref()));
        json["leaving"] = json!(secret.map(|secret| secret.is_leaving));
        json["clearCopy"] = json!(secret.map(|secret| secret.has_clear_copy));
        json
    }
}

/// What the folder, the list and the labels know of Secrets.
struct Documents<'a> {
    /// In Git: file, and class or a refusal.
    written: BTreeMap<SecretName, (String, Option<Class>)>,
    /// By the handover's list, where it can be read.
    listed: Option<BTreeMap<SecretName, ListedDocument>>,
    /// Files that hide names.
    hiding: BTreeSet<String>,
    labelled: Option<&'a BTreeSet<SecretName>>,
}

impl<'a> Documents<'a> {
    fn of(files: &[SurveyedFile], facts: &'a Facts) -> Self {
        let mut written = BTreeMap::new();
        for file in files {
            for SurveyedDocument { identity, class } in file.documents.iter().flatten() {
                if let Some(name) = identity.as_ref().and_then(secret_name) {
                    let class = class.as_ref().ok().map(|(class, _)| *class);
                    written.entry(name).or_insert((file.file.to_string(), class));
                }
            }
        }
        let listed = match facts.evidence.documents() {
            DocumentList::Readable(listed) => {
                let secrets = listed.into_iter().filter(|one| is_secret(&one.kind));
                Some(secrets.map(|one| (one.name.clone(), one)).collect())
            }
            DocumentList::Unreadable => None,
        };
        let hiding = files.iter().filter(|file| hides_names(file)).map(|file| file.file.to_string()).collect();
        Self { written, listed, hiding, labelled: facts.labelled.as_ref().ok() }
    }

    fn rows(&self, facts: &Facts, holder: &Holder, ruled: &Ruled, authority: &AuthorityName) -> Vec<Row> {
        let names: BTreeSet<&SecretName> = self
            .written
            .keys()
            .chain(self.listed.iter().flat_map(BTreeMap::keys))
            .chain(self.labelled.into_iter().flatten())
            .collect();
        names.into_iter().map(|name| self.row(name, facts, holder, ruled, authority)).collect()
    }

    fn row(&self, name: &SecretName, facts: &Facts, holder: &Holder, ruled: &Ruled, authority: &AuthorityName) -> Row {
        let listed = self.listed.as_ref().map(|listed| listed.get(name));
        let entry = listed.flatten();
        let is_listed = listed.map(|entry| entry.is_some());
        let (file, standing) = match (self.written.get(name), entry) {
            (Some((file, Some(class))), _) => {
                (Some(file.clone()), Standing::Written { class: *class, listed: is_listed })
            }
            (Some((file, None)), _) => (Some(file.clone()), Standing::Refused),
            // Its name does not show in Git, but its file is there.
            (None, Some(entry)) if self.hiding.contains(entry.path.as_str()) => {
                (Some(entry.path.to_string()), Standing::Written { class: listed_class(entry), listed: Some(true) })
            }
            (None, Some(_) | None) => (None, Standing::Gone),
        };
        let (class, vault) = match (standing, entry) {
            (Standing::Written { class, .. }, _) => super::class_name(class),
            (Standing::Refused, _) => super::REFUSED,
            (Standing::Gone, Some(entry)) => super::class_name(listed_class(entry)),
            (Standing::Gone, None) => ("?", None),
        };
        let missing_reading = || Reading::Unreadable("it was not looked at".to_owned());
        let live = facts.secrets.get(name).cloned().unwrap_or_else(missing_reading);
        let answer = match ruled {
            Ruled::Values => Answer::Values,
            Ruled::Stubs => Answer::Stubs,
            Ruled::Unasked | Ruled::Refused(_) => Answer::Refused,
        };
        // What stands in Git in the clear is nobody's to guard.
        let is_ours = !matches!(standing, Standing::Written { class: Class::Plain, listed: Some(false) | None });
        let secret = present(&live);
        let missing = secret.filter(|_| is_ours).map(|secret| secret.missing_guards(authority));
        let contenders =
            secret.filter(|_| is_ours).map(|secret| secret.contenders(Ruler::of(holder))).unwrap_or_default();
        Row {
            name: name.clone(),
            file,
            class,
            vault,
            listed: is_listed,
            is_in_git: !matches!(standing, Standing::Gone),
            next: live::next(standing, &live, answer, authority),
            contenders: contenders.iter().map(ToString::to_string).collect(),
            missing,
            live,
        }
    }
}

fn listed_class(entry: &ListedDocument) -> Class {
    match entry.class {
        ListedClass::Handover => Class::Handover,
        ListedClass::Permanent => Class::Permanent { vault: true },
    }
}

/// Whether a file holds a document whose name shows only when it is opened.
fn hides_names(file: &SurveyedFile) -> bool {
    let unnamed = |document: &SurveyedDocument| document.identity.is_none() && document.class.is_ok();
    matches!(file.sealing, Sealing::Whole)
        || file.documents.as_ref().is_ok_and(|documents| documents.iter().any(unnamed))
}

/// What the folder itself has wrong: each Application that covers it renders nothing.
fn about_documents(files: &[SurveyedFile], problems: &[String]) -> Vec<Warning> {
    let mut refused: Vec<(String, String)> = Vec::new();
    for file in files {
        match &file.documents {
            Err(problem) => refused.push((file.file.to_string(), problem.to_string())),
            Ok(documents) => {
                let problems = documents.iter().filter_map(|document| document.class.as_ref().err());
                refused.extend(problems.map(|problem| (file.file.to_string(), problem.to_string())));
            }
        }
    }
    let said = refused.iter().map(|(file, problem)| format!("{file} ({problem})"));
    let said: Vec<String> = said.chain(problems.iter().cloned()).collect();
    if said.is_empty() {
        return Vec::new();
    }
    vec![Warning {
        code: "documents",
        about: refused.into_iter().map(|(file, _)| file).collect(),
        text: format!("refused, so an Application that covers it renders nothing: {}", few(&said)),
        way_out: "`regent lint DIR` tells file, line and what to do".to_owned(),
    }]
}

/// Whether it certainly does not count.
fn is_wrong(in_force: &InForce) -> bool {
    match in_force {
        InForce::Yes | InForce::Unknown(_) => false,
        InForce::Missing | InForce::Differs | InForce::Toothless => true,
    }
}

fn policy_in_words(Policy { name, in_force }: &Policy) -> String {
    match in_force {
        InForce::Yes => format!("{name} is in force"),
        InForce::Missing => format!("{name} is missing"),
        InForce::Differs => format!("{name} is not this version's"),
        InForce::Toothless => format!("{name} does not deny"),
        InForce::Unknown(why) => format!("{name} cannot be looked at ({why})"),
    }
}

fn policy_as_json(Policy { name, in_force }: &Policy) -> Value {
    let (word, why) = match in_force {
        InForce::Yes => ("yes", None),
        InForce::Missing => ("missing", None),
        InForce::Differs => ("differs", None),
        InForce::Toothless => ("toothless", None),
        InForce::Unknown(why) => ("unknown", Some(why)),
    };
    json!({ "name": name, "inForce": word, "why": why })
}

fn witness_in_words(witness: &AuthorityWitness) -> String {
    let supersedes = witness.supersedes.as_ref().map_or(String::new(), |handover| format!(", supersedes {handover}"));
    let no_vault = if witness.no_vault_yet { ", made without a Vault to ask" } else { "" };
    match &witness.holds {
        Holds::Git => format!("git, epoch {}{supersedes}{no_vault}", witness.epoch),
        Holds::Vault(handover) => format!("vault, epoch {}, handover {handover}{supersedes}{no_vault}", witness.epoch),
    }
}

fn handover_in_words(witness: &HandoverWitness) -> String {
    format!("vault, epoch {}, handover {}, {}", witness.epoch, witness.handover, counted(witness.documents.len()))
}

fn witness_as_json(witness: &AuthorityWitness) -> Value {
    let (authority, handover) = match &witness.holds {
        Holds::Git => ("git", None),
        Holds::Vault(handover) => ("vault", Some(handover.to_string())),
    };
    json!({
        "authority": authority, "epoch": witness.epoch.get(), "handoverId": handover,
        "supersedes": witness.supersedes.as_ref().map(ToString::to_string), "noVaultYet": witness.no_vault_yet,
    })
}

fn vault_as_json(WitnessedVault { address, namespace, mount, prefix }: &WitnessedVault) -> Value {
    json!({ "address": address, "namespace": namespace, "mount": mount, "prefix": prefix })
}

fn tracking_as_json(Tracking { argocd, flux }: &Tracking) -> Value {
    json!({ "argocd": argocd, "flux": flux })
}

fn reading_as_json<T>(reading: &Reading<T>) -> Value {
    let (word, why) = match reading {
        Reading::Absent => ("absent", None),
        Reading::Present(_) => ("present", None),
        Reading::Unreadable(why) => ("unreadable", Some(why)),
    };
    json!({ "reading": word, "why": why })
}

fn present<T>(reading: &Reading<T>) -> Option<&T> {
    match reading {
        Reading::Present(there) => Some(there),
        Reading::Absent | Reading::Unreadable(_) => None,
    }
}

/// Who wrote its values, who owns it and who delivers it.
fn who(secret: &LiveSecret) -> String {
    let writers = secret.managers.iter().filter(|manager| manager.writes_values).map(|manager| manager.name.clone());
    let owners = secret.owners.iter().map(|owner| format!("{} {}", owner.kind, owner.name));
    let Tracking { argocd, flux } = &secret.tracking;
    let argocd = argocd.as_ref().map(|application| format!("Application {application}"));
    let mut all: Vec<String> = writers.chain(owners).chain(argocd).chain(flux.clone()).collect();
    all.dedup();
    all.join(", ")
}

fn guards(missing: &[Guard]) -> String {
    missing.iter().map(|guard| guard.name()).collect::<Vec<_>>().join(", ")
}

/// The first few of many.
fn few(names: &[String]) -> String {
    let shown = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// A reason without the name of what it is about, so that the same reason of many reads the same.
fn general(why: &str, what: &str) -> String {
    let name = what.rsplit(['/', ' ']).next().unwrap_or_default();
    why.replace(&format!(" \"{name}\""), "")
}

fn counted(documents: usize) -> String {
    let ending = if documents == 1 { "" } else { "s" };
    format!("{documents} document{ending}")
}

/// A time span as people say it.
fn age(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _days => format!("{} d", seconds / 86400),
    }
}

/// Names and values in two columns, the second one folded.
fn wrapped(lines: &[(&str, String)], indent: u16) -> String {
    let mut text = String::new();
    let room = usize::from(WIDTH - indent);
    for (name, value) in lines {
        let value = one_line(value);
        let mut line = String::new();
        let mut first = true;
        let mut put = |line: &str| {
            let name = if std::mem::take(&mut first) { *name } else { "" };
            let width = usize::from(indent);
            text.push_str(format!("{name:<width$}{line}").trim_end());
            text.push('\n');
        };
        for word in value.split(' ') {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
                put(&line);
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        put(&line);
    }
    text
}

/// A table without what fills its lines up.
fn trimmed(table: &Table) -> String {
    let mut text = String::new();
    for line in table.to_string().lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests;
