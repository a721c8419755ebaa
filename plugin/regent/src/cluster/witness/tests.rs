//! Against a server on the loopback that answers as the API server does, and counts. What the real one answers is
//! shown in `e2e/cluster`.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use regent_core::evidence::Holder;
use serde_json::json;

use super::*;
use crate::cluster::Access;
use crate::telemetry::Metrics;

/// What the server saw: reads of the Authority under way, the most at one time, and all of them.
#[derive(Default)]
struct Seen {
    now: AtomicUsize,
    most: AtomicUsize,
    all: AtomicUsize,
    handovers: AtomicUsize,
}

fn name() -> AuthorityName {
    AuthorityName::parse("prod").unwrap()
}

/// Each read of the Authority takes a while, and finds the number of the read in `root`.
async fn authority(State(seen): State<Arc<Seen>>) -> impl IntoResponse {
    seen.most.fetch_max(seen.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
    let number = seen.all.fetch_add(1, Ordering::SeqCst) + 1;
    tokio::time::sleep(Duration::from_millis(20)).await;
    seen.now.fetch_sub(1, Ordering::SeqCst);
    let spec =
        json!({ "schema": 1, "authorityId": "prod", "authority": "git", "epoch": 1, "root": number.to_string() });
    axum::body::Body::from(json!({ "kind": "Authority", "spec": spec }).to_string())
}

async fn config_map(State(seen): State<Arc<Seen>>, Path(name): Path<String>) -> impl IntoResponse {
    seen.handovers.fetch_add(1, Ordering::SeqCst);
    // Of this epoch it takes a while, and is there from the tenth reading on.
    if name == witness_name(&self::name(), Epoch::new(7).unwrap()) {
        seen.most.fetch_max(seen.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let number = seen.handovers.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(10)).await;
        seen.now.fetch_sub(1, Ordering::SeqCst);
        if number >= 10 {
            let object = json!({ "kind": "ConfigMap", "immutable": false });
            return (StatusCode::OK, object.to_string());
        }
    }
    let status = json!({ "kind": "Status", "reason": "NotFound", "details": { "name": name } });
    (StatusCode::NOT_FOUND, status.to_string())
}

async fn serve() -> (Arc<Seen>, Arc<Reader>, tempfile::NamedTempFile) {
    let seen = Arc::<Seen>::default();
    let routes = Router::new()
        .route("/apis/regent.dev/v1alpha1/authorities/prod", axum::routing::get(authority))
        .route("/api/v1/namespaces/kube-system/configmaps/{name}", axum::routing::get(config_map))
        .with_state(Arc::clone(&seen));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let kubeconfig = tempfile::NamedTempFile::new().unwrap();
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [],
        "clusters": [{ "name": "c", "cluster": { "server": format!("http://127.0.0.1:{port}") } }],
        "contexts": [{ "name": "c", "context": { "cluster": "c" } }],
    });
    std::fs::write(kubeconfig.path(), config.to_string()).unwrap();
    let access = Access { kubeconfig: Some(kubeconfig.path().to_owned()), ..Access::default() };
    let cluster = Cluster::connect(&access).await.unwrap();
    (seen, Arc::new(Reader::new(cluster, name(), Metrics::new())), kubeconfig)
}

fn number_of(asked: &Asked) -> usize {
    match &asked.0.authority {
        Reading::Present(authority) => authority.root.as_deref().unwrap_or_default().parse().unwrap(),
        other @ (Reading::Absent | Reading::Unreadable(_)) => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_checks_share_few_reads_and_never_two_at_a_time() {
    let (seen, reader, _kubeconfig) = serve().await;
    let mut checks = tokio::task::JoinSet::new();
    for number in 0..250_u64 {
        let reader = Arc::clone(&reader);
        checks.spawn(async move {
            tokio::time::sleep(Duration::from_millis(number / 5)).await;
            reader.check(None).await.0.holder()
        });
    }
    while let Some(holder) = checks.join_next().await {
        assert_eq!(holder.unwrap(), Holder::Git { epoch: Epoch::FIRST, supersedes: None });
    }
    assert_eq!(seen.most.load(Ordering::SeqCst), 1);
    // They came in 50 ms, and a read takes 20.
    assert!((2..=8).contains(&seen.all.load(Ordering::SeqCst)), "{}", seen.all.load(Ordering::SeqCst));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_is_never_answered_by_a_read_that_began_before_it() {
    let (seen, reader, _kubeconfig) = serve().await;
    let mut checks = tokio::task::JoinSet::new();
    for number in 0..60_u64 {
        let (reader, seen) = (Arc::clone(&reader), Arc::clone(&seen));
        checks.spawn(async move {
            tokio::time::sleep(Duration::from_millis(number * 3)).await;
            let (sent_before, began) = (seen.all.load(Ordering::SeqCst), Instant::now());
            let asked = reader.check(None).await;
            (sent_before, began, number_of(&asked), asked.1)
        });
    }
    while let Some(check) = checks.join_next().await {
        let (sent_before, began, answered_by, asked) = check.unwrap();
        assert!(answered_by > sent_before, "read {answered_by} answers, and {sent_before} were sent before");
        assert!(asked >= began);
    }
}

/// The same line, for one witness alone.
#[tokio::test(flavor = "multi_thread")]
async fn one_epochs_witness_is_read_alone_never_twice_at_a_time_and_after_it_was_asked_for() {
    let (seen, reader, _kubeconfig) = serve().await;
    let epoch = Epoch::new(7).unwrap();
    let mut asked = tokio::task::JoinSet::new();
    for number in 0..250_u64 {
        let (reader, seen) = (Arc::clone(&reader), Arc::clone(&seen));
        asked.spawn(async move {
            tokio::time::sleep(Duration::from_millis(number)).await;
            let sent_before = seen.handovers.load(Ordering::SeqCst);
            (sent_before, reader.handover(epoch).await)
        });
    }
    let (mut absent, mut unreadable) = (0, 0);
    while let Some(reading) = asked.join_next().await {
        match reading.unwrap() {
            (sent_before, Reading::Absent) => {
                assert!(sent_before < 9, "answered by a reading that began before");
                absent += 1;
            }
            (_, Reading::Unreadable(why)) => {
                assert!(why.contains("regent-authority-prod-7: it is not immutable"), "{why}");
                unreadable += 1;
            }
            (_, other @ Reading::Present(_)) => panic!("{other:?}"),
        }
    }
    assert!(absent > 0 && unreadable > 0, "{absent} {unreadable}");
    assert_eq!((seen.most.load(Ordering::SeqCst), seen.all.load(Ordering::SeqCst)), (1, 0));
    assert!(seen.handovers.load(Ordering::SeqCst) < 50, "{}", seen.handovers.load(Ordering::SeqCst));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_was_given_up_leaves_the_others_their_answer() {
    let (_seen, reader, _kubeconfig) = serve().await;
    let given_up = tokio::time::timeout(Duration::ZERO, reader.check(None)).await;
    assert!(given_up.is_err());
    assert_eq!(number_of(&reader.check(None).await), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_witnesses_around_the_epoch_of_regent_yaml_are_asked_for_too() {
    let (seen, reader, _kubeconfig) = serve().await;
    let (evidence, _) = reader.check(Some(Epoch::new(4).unwrap())).await;
    let asked: Vec<u32> = evidence.handovers.keys().map(|epoch| epoch.get()).collect();
    assert_eq!(asked, [1, 2, 3, 4, 5]);
    assert_eq!(seen.handovers.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn a_config_map_is_a_witness_only_if_it_cannot_change_and_says_what_it_is() {
    let json = json!({
        "schema": 1, "authorityId": "prod", "authority": "vault", "epoch": 1, "documents": [],
        "handoverId": "0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f",
    });
    let with = |immutable: Value, data: Value| {
        let object = json!({ "kind": "ConfigMap", "immutable": immutable, "data": data });
        match handover_of(&name(), Epoch::FIRST, Ok(Some(object))) {
            Reading::Absent => "absent".to_owned(),
            Reading::Present(witness) => witness.handover.to_string(),
            Reading::Unreadable(why) => why,
        }
    };
    let witness = json!({ "witness.json": json.to_string() });
    assert_eq!(with(json!(true), witness.clone()), "0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f");
    for (immutable, data, why) in [
        (json!(false), witness.clone(), "it is not immutable"),
        (Value::Null, witness, "it is not immutable"),
        (json!(true), json!({}), "it has no `witness.json`"),
        (json!(true), Value::Null, "it has no `witness.json`"),
        (json!(true), json!({ "witness.json": "{}" }), "no witness of this version"),
    ] {
        let said = with(immutable, data);
        assert!(said.contains(why) && said.contains("regent-authority-prod-1"), "{said}");
    }
}

#[test]
fn what_was_not_answered_is_unreadable_and_says_why_in_a_few_words() {
    for (error, why) in [
        (ClusterError::Late(PATIENCE), "no answer within 3 s"),
        (ClusterError::Unauthorized, "the token is not accepted (401)"),
        (ClusterError::Forbidden("x".repeat(300)), "no right to read it (403)"),
        (ClusterError::NotServed("/apis".to_owned()), "the API server does not serve it (404)"),
        (ClusterError::Unreachable("Connection refused".to_owned()), "Connection refused"),
        (ClusterError::Status { status: 504, message: "Timeout".to_owned() }, "it answered 504: Timeout"),
    ] {
        let (reading, status) = authority_of(&name(), Err(error));
        assert_eq!((reading, status), (Reading::Unreadable(format!("Authority `prod`: {why}")), None));
    }
}
