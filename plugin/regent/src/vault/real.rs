//! Against the real OpenBao: Raft storage, TLS, one node or three. `e2e/handover` starts it, and names in a file what is
//! where.

use std::sync::Arc;
use std::time::Instant;

use serde::Deserialize;
use serde_json::Value;

use super::*;

/// Outlasts the election of another active node, which took up to 20 s.
const PATIENCE: Duration = Duration::from_secs(90);

/// What `REGENT_TEST_VAULT` names: a file of JSON.
#[derive(Deserialize)]
struct Stage {
    address: String,
    ca: String,
    /// Tokens by their policy: `handover` (create and read), `update` (all of a key), `root`.
    tokens: BTreeMap<String, String>,
    /// A wrapped secret id; one that was unwrapped before; something else that is wrapped.
    #[serde(default)]
    wrapping: BTreeMap<String, String>,
    #[serde(default)]
    role_id: String,
    /// JWT logins by what their role gives: mount and role.
    #[serde(default)]
    logins: BTreeMap<String, (String, String)>,
    #[serde(default)]
    jwt: String,
    /// Other addresses: `drops` and `redirects`, or `standby`.
    at: BTreeMap<String, String>,
    /// The process of the active node.
    #[serde(default)]
    active: i32,
}

fn stage() -> Stage {
    let file = std::env::var_os("REGENT_TEST_VAULT").expect("e2e/handover names it");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

impl Stage {
    fn place(&self) -> WitnessedVault {
        let [address, mount, prefix] = [self.address.as_str(), "secret", "bootstrap/prod"].map(ToOwned::to_owned);
        WitnessedVault { address, namespace: String::new(), mount, prefix }
    }

    fn vault_at(&self, place: &WitnessedVault, login: Login) -> Vault {
        let access = VaultAccess { login, patience: PATIENCE, concurrency: 16 };
        let look = |name: &'static str| (name == "VAULT_CACERT").then(|| self.ca.clone().into());
        Vault::connect_in(place, access, look).unwrap()
    }

    fn vault(&self, policy: &str) -> Vault {
        self.vault_at(&self.place(), self.token(policy))
    }

    fn token(&self, policy: &str) -> Login {
        Login::Token(token(&self.tokens[policy]))
    }

    fn login(&self, what: &str) -> Login {
        let (mount, role) = self.logins[what].clone();
        Login::Jwt { mount, role, file: self.jwt.clone().into() }
    }

    fn app_role(&self, what: &str) -> Login {
        let wrapping = token(&self.wrapping[what]);
        Login::AppRole { mount: "approle".to_owned(), role_id: self.role_id.clone(), wrapping }
    }
}

fn token(text: &str) -> Token {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Token::read(file.path()).unwrap()
}

/// A key of this test alone.
fn key(name: &str) -> KeyPath {
    let unique = uuid_like();
    KeyPath::secret("bootstrap/prod", &SecretName::parse(&format!("app/{name}-{unique}")).unwrap()).unwrap()
}

fn uuid_like() -> u128 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos()
}

fn fields(pairs: &[(&str, &str)]) -> BTreeMap<String, Plaintext> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), Plaintext::new(value.as_bytes().to_vec()))).collect()
}

fn new_key(fields: &BTreeMap<String, Plaintext>) -> NewKey {
    NewKey::new(fields.iter().map(|(key, value)| (key.as_str(), value))).unwrap()
}

async fn present(vault: &Vault, key: &KeyPath) -> Present {
    match vault.read(key).await.unwrap() {
        Reading::Present(present) => present,
        Reading::Absent => panic!("{key} is absent"),
        Reading::Deleted => panic!("{key} is deleted"),
    }
}

fn same(present: &Present, fields: &BTreeMap<String, Plaintext>) -> bool {
    present.fields.len() == fields.len()
        && fields.iter().all(|(key, value)| {
            present.fields.get(key).and_then(Option::as_ref).is_some_and(|there| there.same_bytes(value))
        })
}

/// Whatever else a story does, as root.
async fn root(stage: &Stage, method: Method, path: &str, body: Value) -> u16 {
    let vault = stage.vault("root");
    let question = Question { method, ..Question::post(path, Bytes::from(body.to_string())) };
    vault.ask(&question, |status, _| Ok(status)).await.unwrap()
}

mod one_node {
    use super::*;

    #[tokio::test]
    #[ignore = "needs a real OpenBao: e2e/handover runs it"]
    async fn before_anything_is_written() {
        let stage = stage();
        let vault = stage.vault("handover");
        let active = vault.active().await.unwrap();
        assert!(active.cluster_id.is_some_and(|id| id.len() == 36) && active.version.is_some());
        assert!(active.server_time.is_some());
        assert_eq!(vault.storage().await.as_deref(), Ok("raft"));
        assert!(vault.store().await.unwrap().uuid.is_some_and(|uuid| uuid.len() == 36));
        // The policy for a handover does not let it look at the mount's settings.
        assert_eq!(vault.delete_version_after().await, Ok(None));
        assert_eq!(stage.vault("root").delete_version_after().await, Ok(Some("0s".to_owned())));
        let record = KeyPath::record(&AuthorityName::parse("prod").unwrap(), Epoch::FIRST).unwrap();
        let elsewhere = KeyPath::secret("elsewhere", &SecretName::parse("app/a").unwrap()).unwrap();
        let keys = [key("a"), record, elsewhere];
        let set = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<BTreeSet<_>>();
        let (may, none) = (set(&["create", "read"]), set(&["deny"]));
        assert_eq!(vault.may(Of::Data, &keys).await, Ok(vec![may.clone(), may, none.clone()]));
        let read = set(&["read"]);
        assert_eq!(vault.may(Of::Metadata, &keys).await, Ok(vec![read.clone(), read, none]));
        assert!(stage.vault("update").may(Of::Data, &keys[..1]).await.unwrap()[0].contains("update"));
        assert_eq!(stage.vault("root").may(Of::Data, &keys[..1]).await.unwrap(), [set(&["root"])]);
    }

    #[tokio::test]
    #[ignore = "needs a real OpenBao: e2e/handover runs it"]
    async fn a_key_is_created_once_and_its_end_is_seen() {
        let stage = stage();
        // With and without the right to overwrite: 400 and 403.
        for policy in ["handover", "update"] {
            let (vault, key) = (stage.vault(policy), key("once"));
            assert!(matches!(vault.read(&key).await, Ok(Reading::Absent)));
            assert_eq!(vault.metadata(&key).await, Ok(None));
            let (first, second) = (fields(&[("a", "1"), ("b", "")]), fields(&[("a", "2")]));
            let Ok(Creation::Created(created)) = vault.create(&key, &new_key(&first)).await else { panic!("{policy}") };
            assert_eq!(vault.create(&key, &new_key(&second)).await, Ok(Creation::MaybeExists));
            assert_eq!(vault.create(&key, &new_key(&first)).await, Ok(Creation::MaybeExists));
            let there = present(&vault, &key).await;
            assert!(same(&there, &first));
            assert_eq!((there.version, there.deletion_time.as_str()), (1, ""));
            assert_eq!(there.created_time, created.created_time);
            let metadata = vault.metadata(&key).await.unwrap().unwrap();
            assert_eq!(metadata.current_version, 1);
            // Deleted and destroyed are no absence, and no second creation.
            assert_eq!(root(&stage, Method::DELETE, &format!("secret/data/{key}"), Value::Null).await, 204);
            assert!(matches!(vault.read(&key).await, Ok(Reading::Deleted)));
            assert_eq!(vault.create(&key, &new_key(&first)).await, Ok(Creation::MaybeExists));
            let first_version = serde_json::json!({ "versions": [1] });
            assert_eq!(root(&stage, Method::POST, &format!("secret/destroy/{key}"), first_version).await, 204);
            assert!(matches!(vault.read(&key).await, Ok(Reading::Deleted)));
            assert_eq!(vault.metadata(&key).await.unwrap().unwrap().created_time, metadata.created_time);
            // A key that was made again counts from 1 again, and says another time.
            assert_eq!(root(&stage, Method::DELETE, &format!("secret/metadata/{key}"), Value::Null).await, 204);
            assert!(matches!(vault.read(&key).await, Ok(Reading::Absent)));
            assert!(matches!(vault.create(&key, &new_key(&first)).await, Ok(Creation::Created(_))));
            let again = vault.metadata(&key).await.unwrap().unwrap();
            assert_eq!(again.current_version, 1);
            assert_ne!(again.created_time, metadata.created_time);
        }
    }

    #[tokio::test]
    #[ignore = "needs a real OpenBao: e2e/handover runs it"]
    async fn a_version_that_would_go_by_itself_is_no_creation() {
        let (stage, key) = (stage(), key("expires"));
        let expiry = serde_json::json!({ "delete_version_after": "1h" });
        assert_eq!(root(&stage, Method::POST, &format!("secret/metadata/{key}"), expiry).await, 204);
        let vault = stage.vault("update");
        let created = vault.create(&key, &new_key(&fields(&[("a", "1")]))).await;
        assert!(matches!(created, Err(VaultError::NotCreated(_))), "{created:?}");
        assert_ne!(present(&vault, &key).await.deletion_time, "");
    }

    #[tokio::test]
    #[ignore = "needs a real OpenBao: e2e/handover runs it"]
    async fn of_many_at_once_one_creates() {
        let stage = stage();
        for policy in ["handover", "update"] {
            let (vault, key) = (Arc::new(stage.vault(policy)), key("race"));
            let mut racers = tokio::task::JoinSet::new();
            for number in 0..64 {
                let (vault, key) = (Arc::clone(&vault), key.clone());
                let new = new_key(&fields(&[("a", &number.to_string())]));
                racers.spawn(async move { matches!(vault.create(&key, &new).await.unwrap(), Creation::Created(_)) });
            }
            let created = racers.join_all().await.into_iter().filter(|created| *created).count();
            assert_eq!(created, 1, "{policy}");
            assert_eq!(present(&vault, &key).await.version, 1);
        }
    }

    #[tokio::test]
    #[ignore = "needs a real OpenBao: e2e/handover runs it"]
    async fn values_come_back_as_they_went() {
        let (stage, key) = (stage(), key("values"));
        let vault = stage.vault("handover");
        let every: String = (0..=0x2fff).chain(0x1_f600..0x1_f700).filter_map(char::from_u32).collect();
        let mut sent = fields(&[
            ("", "empty name"),
            ("empty", ""),
            ("NUL", "a\0b"),
            ("crlf", "a\r\nb\r\n"),
            ("json", "{\"a\":[1,null]}\\\u{2028}<>&"),
            ("number", "9007199254740993"),
            ("float", "1.10"),
            ("true", "true"),
            ("schlüssel ☂", "wert ☂"),
            ("options", "cas"),
        ]);
        sent.insert("every".to_owned(), Plaintext::new(every.into_bytes()));
        assert!(matches!(vault.create(&key, &new_key(&sent)).await, Ok(Creation::Created(_))));
        assert!(same(&present(&vault, &key).await, &sent));
    }

    #[tokio::test]
    #[ignore = "needs a real OpenBao: e2e/handover runs it"]
    async fn its_limits_are_told_at_once_and_nothing_is_stored() {
        let stage = stage();
        let vault = stage.vault("handover");
        let many = |count: usize| (0..count).map(|n| (format!("k{n}"), Plaintext::new(b"v".to_vec()))).collect();
        let large = |bytes: usize| BTreeMap::from([("k".to_owned(), Plaintext::new(vec![b'x'; bytes]))]);
        let began = Instant::now();
        for (fits, too_much, problem) in [
            (many(498), many(499), VaultError::TooManyStrings),
            (large(1_040_000), large(1_048_576), VaultError::TooLarge(500)),
            (large(1_000), large(33 << 20), VaultError::TooLarge(413)),
        ] {
            let (first, second) = (key("fits"), key("too-much"));
            let created = vault.create(&first, &new_key(&fits)).await;
            assert!(matches!(created, Ok(Creation::Created(_))), "{created:?}");
            assert!(same(&present(&vault, &first).await, &fits));
            assert_eq!(vault.create(&second, &new_key(&too_much)).await, Err(problem));
            assert!(matches!(vault.read(&second).await, Ok(Reading::Absent)));
        }
        assert!(began.elapsed() < PATIENCE, "a limit was waited out");
    }

    #[tokio::test]
    #[ignore = "needs a real OpenBao: e2e/handover runs it"]
    async fn other_mounts_and_namespaces_are_no_place() {
        let stage = stage();
        let at = |namespace: &str, mount: &str| {
            let place = WitnessedVault { namespace: namespace.to_owned(), mount: mount.to_owned(), ..stage.place() };
            stage.vault_at(&place, stage.token("root"))
        };
        let other = |mount: &str| Err(VaultError::OtherStore(mount.to_owned()));
        assert_eq!(at("", "old").store().await, other("old"));
        assert_eq!(at("", "transit").store().await, other("transit"));
        assert!(at("", "nowhere").store().await.is_err());
        assert!(at("nowhere", "secret").store().await.is_err());
        // A folder of keys is no mount.
        assert_eq!(at("", "secret/bootstrap").store().await, other("secret/bootstrap"));
        let key = key("elsewhere");
        let new = new_key(&fields(&[("a", "1")]));
        // A KV store of version 1 would overwrite, and answers 204.
        let created = at("", "old").create(&key, &new).await;
        assert!(matches!(created, Err(VaultError::NotCreated(_))), "{created:?}");
        for (namespace, mount) in [("", "nowhere"), ("nowhere", "secret")] {
            assert_eq!(at(namespace, mount).create(&key, &new).await, Err(VaultError::NoRoute), "{namespace}/{mount}");
            assert_eq!(at(namespace, mount).read(&key).await.err(), Some(VaultError::NoRoute));
        }
        // The same key in two namespaces is two keys.
        let (root, team) = (at("", "secret"), at("team", "kv/deep"));
        assert!(team.store().await.unwrap().uuid.is_some());
        assert!(matches!(team.create(&key, &new).await, Ok(Creation::Created(_))));
        assert!(same(&present(&team, &key).await, &fields(&[("a", "1")])));
        assert!(matches!(root.read(&key).await, Ok(Reading::Absent)));
        assert!(team.active().await.is_ok() && team.storage().await.is_ok());
    }

    #[tokio::test]
    #[ignore = "needs a real OpenBao: e2e/handover runs it"]
    async fn whom_it_does_not_know_it_does_not_let_in() {
        let stage = stage();
        let bad = stage.vault_at(&stage.place(), Login::Token(token("s.nobody")));
        assert_eq!(bad.read(&key("a")).await.err(), Some(VaultError::Denied("read it")));
        assert_eq!(bad.store().await, Err(VaultError::NoMount("secret".to_owned())));
        // A certificate that nobody vouches for, or of another name.
        let access = |login| VaultAccess { login, patience: PATIENCE, concurrency: 1 };
        let began = Instant::now();
        for variables in [vec![], vec![("VAULT_CACERT", stage.ca.as_str()), ("VAULT_TLS_SERVER_NAME", "other.example")]]
        {
            let look = |name: &'static str| {
                variables.iter().find(|(set, _)| *set == name).map(|(_, value)| std::ffi::OsString::from(value))
            };
            let vault = Vault::connect_in(&stage.place(), access(stage.token("root")), look).unwrap();
            let problem = vault.active().await.unwrap_err();
            assert!(matches!(problem, VaultError::Untrusted(_)), "{problem:?}");
        }
        assert!(began.elapsed() < PATIENCE, "a certificate was waited for");
        // Its certificate is for `vault.test`, too.
        let look = |name: &'static str| match name {
            "VAULT_CACERT_BYTES" => Some(std::fs::read_to_string(&stage.ca).unwrap().into()),
            "BAO_TLS_SERVER_NAME" => Some("vault.test".into()),
            _ => None,
        };
        let vault = Vault::connect_in(&stage.place(), access(stage.token("root")), look).unwrap();
        vault.active().await.unwrap();
    }

    #[tokio::test]
    #[ignore = "needs a real OpenBao: e2e/handover runs it"]
    async fn a_platforms_token_logs_in_and_what_it_got_is_revoked() {
        let stage = stage();
        for method in ["jwt", "kubernetes"] {
            let (vault, key) = (stage.vault_at(&stage.place(), stage.login(method)), key(method));
            let new = new_key(&fields(&[("a", "1")]));
            let created = vault.create(&key, &new).await;
            assert!(matches!(created, Ok(Creation::Created(_))), "{method}: {created:?}");
            let given = vault.token(None).await.unwrap();
            vault.leave().await.unwrap();
            let after = stage.vault_at(&stage.place(), Login::Token(given.duplicate()));
            assert_eq!(after.read(&key).await.err(), Some(VaultError::Denied("read it")), "{method}");
        }
        // A batch token cannot be revoked, and need not be.
        let batch = stage.vault_at(&stage.place(), stage.login("batch"));
        assert!(matches!(batch.read(&key("batch")).await, Ok(Reading::Absent)));
        assert_eq!(batch.leave().await, Ok(()));
        for wrong in ["no role", "no mount"] {
            let problem = stage.vault_at(&stage.place(), stage.login(wrong)).store().await.unwrap_err();
            assert!(matches!(problem, VaultError::Login { .. }), "{wrong}: {problem:?}");
        }
    }

    #[tokio::test]
    #[ignore = "needs a real OpenBao: e2e/handover runs it"]
    async fn a_long_handover_outlives_its_tokens() {
        let stage = stage();
        // Two seconds, renewable up to three; two seconds, not renewable; revoked in the middle.
        for what in ["short", "batch"] {
            let vault = stage.vault_at(&stage.place(), stage.login(what));
            let first = vault.token(None).await.unwrap();
            let end = Instant::now() + Duration::from_secs(6);
            while Instant::now() < end {
                let new = new_key(&fields(&[("a", "1")]));
                let created = vault.create(&key(what), &new).await;
                assert!(matches!(created, Ok(Creation::Created(_))), "{what}: {created:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            assert!(!Arc::ptr_eq(&first, &vault.token(None).await.unwrap()), "{what}");
        }
        let vault = stage.vault_at(&stage.place(), stage.login("jwt"));
        let given = vault.token(None).await.unwrap();
        stage.vault_at(&stage.place(), Login::Token(given.duplicate())).revoke().await;
        assert!(matches!(vault.read(&key("revoked")).await, Ok(Reading::Absent)));
        assert!(!Arc::ptr_eq(&given, &vault.token(None).await.unwrap()));
    }

    impl Vault {
        async fn revoke(&self) {
            let question = Question::post("auth/token/revoke-self", Bytes::new());
            assert_eq!(self.ask(&question, |status, _| Ok(status)).await, Ok(204));
        }
    }

    #[tokio::test]
    #[ignore = "needs a real OpenBao: e2e/handover runs it"]
    async fn a_wrapped_secret_id_is_good_once() {
        let stage = stage();
        let vault = stage.vault_at(&stage.place(), stage.app_role("fresh"));
        assert!(matches!(vault.read(&key("wrapped")).await, Ok(Reading::Absent)));
        vault.leave().await.unwrap();
        // The secret id is kept for another login; the wrapping token is spent.
        assert!(matches!(vault.read(&key("wrapped")).await, Ok(Reading::Absent)));
        for (what, means) in [
            ("fresh", VaultError::Unwrapped),
            ("used", VaultError::Unwrapped),
            ("other", VaultError::OtherWrapping { mount: "approle".into(), made_by: "sys/wrapping/wrap".into() }),
        ] {
            let problem = stage.vault_at(&stage.place(), stage.app_role(what)).read(&key("wrapped")).await.err();
            assert_eq!(problem, Some(means), "{what}");
        }
    }

    #[tokio::test]
    #[ignore = "needs a real OpenBao: e2e/handover runs it"]
    async fn lost_answers_and_redirects_are_waited_out() {
        let stage = stage();
        for what in ["drops", "redirects"] {
            let place = WitnessedVault { address: stage.at[what].clone(), ..stage.place() };
            let vault = Arc::new(stage.vault_at(&place, stage.token("handover")));
            let mut all = tokio::task::JoinSet::new();
            for number in 0..40 {
                let (vault, key) = (Arc::clone(&vault), key(what));
                all.spawn(async move {
                    let sent = fields(&[("a", &number.to_string())]);
                    let creation = vault.create(&key, &new_key(&sent)).await.unwrap();
                    let Reading::Present(there) = vault.read_existing(&key).await.unwrap() else { panic!("{key}") };
                    assert!(same(&there, &sent));
                    matches!(creation, Creation::MaybeExists)
                });
            }
            let lost = all.join_all().await.into_iter().filter(|lost| *lost).count();
            assert_eq!(lost > 0, what == "drops", "{lost} of {what}");
        }
    }
}

mod three_nodes {
    use super::*;

    #[tokio::test]
    #[ignore = "needs a real OpenBao: e2e/handover runs it"]
    async fn a_standby_is_no_place_and_yet_what_is_written_through_it_is_read_through_it() {
        let stage = stage();
        let place = WitnessedVault { address: stage.at["standby"].clone(), ..stage.place() };
        let vault = stage.vault_at(&place, stage.token("handover"));
        let once = Vault { patience: Duration::ZERO, ..stage.vault_at(&place, stage.token("handover")) };
        assert_eq!(once.active().await, Err(VaultError::Standby(429)));
        // Without the index every one of these reads would come too early.
        for number in 0..100 {
            let (key, sent) = (key("standby"), fields(&[("a", &number.to_string())]));
            assert!(matches!(vault.create(&key, &new_key(&sent)).await, Ok(Creation::Created(_))));
            assert!(same(&present(&vault, &key).await, &sent), "{number}");
        }
        // Who met a key that another one has just made knows of no state yet.
        let mut early = 0;
        for number in 0..20 {
            let (key, sent) = (key("met"), fields(&[("a", &number.to_string())]));
            vault.create(&key, &new_key(&sent)).await.unwrap();
            let other = stage.vault_at(&place, stage.token("handover"));
            assert_eq!(other.create(&key, &new_key(&sent)).await, Ok(Creation::MaybeExists));
            early += usize::from(matches!(other.read(&key).await, Ok(Reading::Absent)));
            let Ok(Reading::Present(there)) = other.read_existing(&key).await else { panic!("{key}") };
            assert!(same(&there, &sent));
        }
        assert!(early > 0, "no read came too early, so nothing was shown");
    }

    #[tokio::test]
    #[ignore = "needs a real OpenBao: e2e/handover runs it"]
    async fn a_handover_outlives_the_active_node() {
        let stage = stage();
        let place = WitnessedVault { address: stage.at["standby"].clone(), ..stage.place() };
        let vault = stage.vault_at(&place, stage.token("handover"));
        let (mut written, mut longest) = (Vec::new(), Duration::ZERO);
        for number in 0..200 {
            if number == 50 {
                let active = rustix::process::Pid::from_raw(stage.active).unwrap();
                rustix::process::kill_process(active, rustix::process::Signal::KILL).unwrap();
            }
            let (key, sent) = (key("failover"), fields(&[("a", &number.to_string())]));
            let asked = Instant::now();
            vault.create(&key, &new_key(&sent)).await.unwrap();
            longest = longest.max(asked.elapsed());
            written.push((key, sent));
        }
        assert!(longest > Duration::from_secs(1), "nobody had to wait for another active node");
        for (key, sent) in &written {
            let there = present(&vault, key).await;
            assert!(same(&there, sent) && there.version == 1, "{key}");
        }
    }
}
