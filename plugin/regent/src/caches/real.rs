//! Against the real Redis, with what the real repo-server wrote, and against the real argocd-server.
//! `e2e/handover/caches` starts them, and names in a file what is where.

use regent_core::rules::RegentConfig;
use serde::Deserialize;
use serde_json::{Value, json};

use super::redis::Unlinked;
use super::server::Overwritten;
use super::*;

/// What `REGENT_TEST_CACHES` names: a file of JSON.
#[derive(Deserialize)]
struct Stage {
    /// The Application that was handed over: its name, and the revisions that it deployed.
    application: String,
    revisions: Vec<String>,
    /// Where its Secrets are, and what they are called.
    namespace: String,
    identities: BTreeSet<String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    /// The section `argocd` of the operator's file.
    argocd: Value,
    /// What comes of it: two numbers or one, or the error.
    counts: Vec<usize>,
    says: Option<Vec<String>>,
}

impl Stage {
    fn read() -> Self {
        let file = std::env::var_os("REGENT_TEST_CACHES").expect("e2e/handover/caches names it");
        serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
    }

    fn cached(&self) -> Cached {
        Cached {
            namespace: "argocd".to_owned(),
            name: self.application.clone(),
            destination_namespace: Some(self.namespace.clone()),
            revisions: self.revisions.iter().cloned().map(Revision::One).collect(),
        }
    }

    fn identities(&self) -> BTreeSet<SecretName> {
        self.identities.iter().map(|name| SecretName::parse(name).unwrap()).collect()
    }
}

impl Case {
    fn config(&self) -> regent_core::rules::ArgoCd {
        let file = json!({ "apiVersion": "regent.dev/v1alpha1", "kind": "RegentConfig", "store": { "kind": "kubernetes" },
                           "rules": [], "argocd": self.argocd });
        RegentConfig::parse("config.yaml", file.to_string().as_bytes()).unwrap().argocd
    }

    fn check(&self, outcome: Result<Vec<usize>, CachesError>) {
        let said = outcome.as_ref().err().map(ToString::to_string);
        match (&self.says, &said) {
            (Some(expected), Some(said)) => {
                assert!(expected.iter().any(|words| said.contains(words)), "{}: {said}", self.argocd);
            }
            (None, None) => assert_eq!(outcome.unwrap(), self.counts, "{}", self.argocd),
            (_, said) => panic!("{}: {said:?} instead of {:?}", self.argocd, self.says),
        }
    }
}

#[tokio::test]
#[ignore = "e2e/handover/caches runs it"]
async fn in_redis_nothing_is_left() {
    let facts = Stage::read();
    let (applications, identities) = ([facts.cached()], facts.identities());
    for case in &facts.cases {
        let config = case.config();
        let stale = Stale { applications: &applications, identities: &identities, control_plane: &config.namespace };
        let redis = Redis::new(&config.redis.unwrap()).unwrap();
        let outcome = in_redis(&redis, &stale).await;
        case.check(outcome.map(|Unlinked { looked_at, unlinked }| vec![looked_at, unlinked]));
    }
}

#[tokio::test]
#[ignore = "e2e/handover/caches runs it"]
async fn through_the_server_each_revision_is_rendered_again() {
    let facts = Stage::read();
    let (applications, identities) = ([facts.cached()], facts.identities());
    for case in &facts.cases {
        let config = case.config();
        let stale = Stale { applications: &applications, identities: &identities, control_plane: &config.namespace };
        let server = Server::new(&config.server.unwrap()).unwrap();
        let outcome = through_server(&server, &stale).await;
        case.check(outcome.map(|Overwritten { revisions }| vec![revisions]));
    }
}
