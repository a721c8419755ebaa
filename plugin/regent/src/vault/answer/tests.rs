use super::*;

fn told(text: &str) -> Vec<u8> {
    serde_json::json!({ "errors": [text] }).to_string().into_bytes()
}

fn unready(status: u16) -> VaultError {
    VaultError::Unready { status, said: String::new() }
}

const NOTHING: &[u8] = br#"{"errors":[]}"#;

/// Texts and statuses of OpenBao 2.7.2, and of Vault's sources.
#[test]
fn each_answer_has_one_meaning() {
    let data = Route::Data("write it");
    for (status, body, means, passes) in [
        (307, vec![], VaultError::Redirects(307), true),
        (308, vec![], VaultError::Redirects(308), true),
        (301, vec![], VaultError::Redirects(301), false),
        (412, NOTHING.to_vec(), VaultError::Busy(412), true),
        (429, NOTHING.to_vec(), VaultError::Busy(429), true),
        (429, told(r#"request path "secret/data/x": rate limit quota exceeded"#), VaultError::Busy(429), true),
        (502, b"<html>".to_vec(), unready(502), true),
        (503, told("Vault is sealed"), VaultError::Sealed, true),
        (503, vec![], unready(503), true),
        (504, vec![], unready(504), true),
        (500, told("local node not active but active cluster node not found"), unready(500), true),
        (500, told("internal error"), unready(500), true),
        (
            500,
            told("put failed due to value being too large; got 1048732 bytes, max 1048576 bytes"),
            VaultError::TooLarge(500),
            false,
        ),
        (
            400,
            told(
                "Upgrading from non-versioned to versioned data. This backend will be unavailable for a brief period and \
                 will resume service shortly.",
            ),
            VaultError::Upgrading,
            true,
        ),
        (
            400,
            told("Waiting for the primary to upgrade from non-versioned to versioned data."),
            VaultError::Upgrading,
            true,
        ),
        (400, told("check-and-set parameter did not match the current version"), VaultError::Conflict, false),
        (
            400,
            told("refused JSON input due to high complexity: exceeded maximum number of strings"),
            VaultError::TooManyStrings,
            false,
        ),
        (400, b"400 Bad Request".to_vec(), VaultError::Refused { status: 400, said: String::new() }, false),
        (
            400,
            told("check-and-set parameter required for this call"),
            VaultError::Refused { status: 400, said: String::new() },
            false,
        ),
        (403, told("1 error occurred:\n\t* permission denied\n\n"), VaultError::Denied("write it"), false),
        (403, told("permission denied"), VaultError::Denied("write it"), false),
        (404, told(r#"no handler for route "nomount/data/x". route entry not found."#), VaultError::NoRoute, false),
        (404, told("namespace not found"), VaultError::NoRoute, false),
        (413, told("http: request body too large"), VaultError::TooLarge(413), false),
        (415, vec![], VaultError::Refused { status: 415, said: String::new() }, false),
        (405, vec![], VaultError::Refused { status: 405, said: String::new() }, false),
    ] {
        let problem = refusal(data, status, &body);
        assert_eq!(problem, means, "{status} {}", String::from_utf8_lossy(&body));
        assert_eq!(problem.passes(), passes, "{problem}");
    }
    assert!(VaultError::Unreachable(String::new()).passes() && VaultError::Late(Duration::ZERO).passes());
    assert!(!VaultError::Untrusted(String::new()).passes());
}

#[test]
fn what_a_data_route_says_is_never_quoted() {
    for status in 200..=599 {
        let problem = refusal(Route::Data("read it"), status, &told("REGENT-CANARY"));
        assert!(!format!("{problem} {problem:?}").contains("CANARY"), "{status}");
    }
    let problem = refusal(Route::Plain("log in"), 400, &told("invalid role\n\tname \u{1b}[2J"));
    assert_eq!(problem.to_string(), "it answered 400: invalid role name \u{fffd}[2J");
    let problem = refusal(Route::Plain("log in"), 500, &told("could not load backend configuration"));
    assert_eq!(problem.to_string(), "it is not ready (500): could not load backend configuration");
}

#[test]
fn a_denied_policy_is_told_from_a_token_that_is_over() {
    assert!(denied_by_policy(&told("1 error occurred:\n\t* permission denied\n\n")));
    for body in
        [told("permission denied"), told("2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"), vec![]]
    {
        assert!(!denied_by_policy(&body), "{}", String::from_utf8_lossy(&body));
    }
}

#[test]
fn only_the_active_node_is_asked() {
    let live = br#"{"initialized":true,"sealed":false,"standby":false,"server_time_utc":1795508573,"version":"2.7.2","cluster_id":"9e12"}"#;
    let (cluster_id, version) = (Some("9e12".to_owned()), Some("2.7.2".to_owned()));
    let is = Active { cluster_id, version, server_time: Some(1_795_508_573) };
    assert_eq!(active(200, live), Ok(is));
    // Vault says more, OpenBao less.
    let bare = br#"{"initialized":true,"sealed":false,"standby":false,"performance_standby":false,"enterprise":true}"#;
    assert_eq!(active(200, bare), Ok(Active { cluster_id: None, version: None, server_time: None }));
    for (status, body, means, passes) in [
        (200, r#"{"initialized":true,"sealed":false,"standby":true}"#, VaultError::NotVault(200), false),
        (200, r#"{"initialized":true,"sealed":true,"standby":false}"#, VaultError::NotVault(200), false),
        (200, r#"{"initialized":true,"sealed":false}"#, VaultError::NotVault(200), false),
        (200, "<html>", VaultError::NotVault(200), false),
        (204, "", VaultError::NotVault(204), false),
        (307, "", VaultError::Redirects(307), true),
        (429, r#"{"initialized":true,"sealed":false,"standby":true}"#, VaultError::Standby(429), true),
        (472, "{}", VaultError::Standby(472), true),
        (473, "{}", VaultError::Standby(473), true),
        (474, "{}", VaultError::Standby(474), true),
        (501, r#"{"initialized":false,"sealed":true,"standby":true}"#, VaultError::NotInitialized, false),
        (503, r#"{"initialized":true,"sealed":true,"standby":true}"#, VaultError::Sealed, true),
        (503, "no server", unready(503), true),
        (530, "{}", VaultError::NotVault(530), false),
        (502, "", unready(502), true),
        (400, r#"{"errors":["operation unavailable in namespaces"]}"#, VaultError::NotVault(400), false),
    ] {
        let problem = active(status, body.as_bytes()).unwrap_err();
        assert_eq!(problem, means, "{status} {body}");
        assert_eq!(problem.passes(), passes, "{problem}");
    }
}

#[test]
fn storage_is_what_the_server_names() {
    assert_eq!(storage(200, br#"{"type":"shamir","storage_type":"inmem"}"#), Ok("inmem".to_owned()));
    assert!(storage(200, br#"{"type":"shamir"}"#).is_err() && storage(404, NOTHING).is_err());
}

#[test]
fn only_a_kv_store_of_version_2_is_a_place() {
    let says = |status, body: &str| versioned(status, body.as_bytes(), "team/kv");
    let kv = r#"{"data":{"type":"kv","options":{"version":"2"},"path":"team/kv/","uuid":"2bb7"}}"#;
    assert_eq!(says(200, kv), Ok(Store { uuid: Some("2bb7".to_owned()) }));
    for (status, body, means) in [
        (200, kv.replace("\"2\"", "\"1\""), VaultError::OtherStore("team/kv".to_owned())),
        (200, kv.replace(r#"{"version":"2"}"#, "null"), VaultError::OtherStore("team/kv".to_owned())),
        (200, kv.replace("\"kv\"", "\"transit\""), VaultError::OtherStore("team/kv".to_owned())),
        // A mount above: the rest would become a part of the key's path.
        (200, kv.replace("team/kv/", "team/"), VaultError::OtherStore("team/kv".to_owned())),
        (200, String::new(), VaultError::Incomplete("what a mount is")),
        (307, String::new(), VaultError::Redirects(307)),
        (
            403,
            r#"{"errors":["preflight capability check returned 403"]}"#.to_owned(),
            VaultError::NoMount("team/kv".to_owned()),
        ),
        (404, r#"{"errors":["namespace not found"]}"#.to_owned(), VaultError::NoRoute),
        (404, r#"{"errors":[]}"#.to_owned(), VaultError::NoRoute),
        (500, String::new(), unready(500)),
    ] {
        assert_eq!(says(status, &body), Err(means), "{status} {body}");
    }
}

#[test]
fn only_a_first_version_without_a_warning_counts_as_created() {
    let answer = r#"{"request_id":"r","data":{"created_time":"2026-11-24T08:23:28.612274215Z","custom_metadata":null,"deletion_time":"","destroyed":false,"version":1},"warnings":null}"#;
    let is = Created { created_time: "2026-11-24T08:23:28.612274215Z".to_owned() };
    assert_eq!(created(200, answer.as_bytes()), Ok(is));
    for (status, body) in [
        // A KV store of version 1, which has overwritten.
        (204, String::new()),
        (201, answer.to_owned()),
        (200, String::new()),
        (200, r#"{"data":null,"warnings":null}"#.to_owned()),
        (200, answer.replace("\"version\":1", "\"version\":2")),
        (200, answer.replace("\"version\":1", "\"version\":0")),
        (200, answer.replace(r#""deletion_time":"""#, r#""deletion_time":"2026-11-25T08:23:28Z""#)),
        (200, answer.replace("\"destroyed\":false", "\"destroyed\":true")),
        (
            200,
            answer.replace(
                "\"warnings\":null",
                r#""warnings":["Endpoint ignored these unrecognized parameters: [cas]"]"#,
            ),
        ),
        (200, answer.replace("\"warnings\":null", "\"warnings\":[]")),
        (200, answer.replace("2026-11-24T08:23:28.612274215Z", "")),
    ] {
        let problem = created(status, body.as_bytes()).unwrap_err();
        assert!(matches!(problem, VaultError::NotCreated(_)) && !problem.passes(), "{status} {body}: {problem}");
    }
    assert_eq!(
        created(403, &told("1 error occurred:\n\t* permission denied\n\n")),
        Err(VaultError::Denied("write it"))
    );
}

/// `data` of OpenBao 2.7.2, with what a test adds.
fn looked_up(more: serde_json::Value) -> Vec<u8> {
    let mut data = serde_json::json!({
        "accessor": "ngw7", "creation_time": 1_796_004_333, "creation_ttl": 3600, "display_name": "token", "entity_id": "",
        "expire_time": "2026-11-30T03:05:34Z", "explicit_max_ttl": 0, "id": "s.38ii", "issue_time": "2026-11-30T02:05:34Z",
        "meta": null, "num_uses": 0, "orphan": false, "path": "auth/token/create", "policies": ["own"], "renewable": true,
        "ttl": 3495, "type": "service",
    });
    let serde_json::Value::Object(more) = more else { panic!("an object") };
    data.as_object_mut().unwrap().extend(more);
    serde_json::json!({ "request_id": "x", "renewable": false, "data": data, "warnings": null, "auth": null })
        .to_string()
        .into()
}

#[test]
fn a_token_has_its_own_policies_and_those_of_its_identity() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let who = |more| bearer(200, &looked_up(more)).unwrap().unwrap();
    let own =
        Bearer { kept: Kept::Stored, namespace: String::new(), policies: names(&["own"]), elsewhere: BTreeSet::new() };
    assert_eq!(who(serde_json::json!({})), own);
    let with = serde_json::json!({ "identity_policies": ["of-a-group"], "external_namespace_policies": {} });
    assert_eq!(who(with), Bearer { policies: names(&["own", "of-a-group"]), ..own.clone() });
    let elsewhere =
        serde_json::json!({ "identity_policies": null, "external_namespace_policies": { "x7Yhs": ["admin"] } });
    assert_eq!(who(elsewhere), Bearer { elsewhere: names(&["x7Yhs"]), ..own.clone() });
    let team = serde_json::json!({ "namespace_path": "team/" });
    assert_eq!(who(team), Bearer { namespace: "team/".to_owned(), ..own.clone() });
    for kind in ["batch", "default-batch", ""] {
        assert_eq!(who(serde_json::json!({ "type": kind })), Bearer { kept: Kept::InItself, ..own.clone() });
    }
}

#[test]
fn what_is_not_known_of_a_token_is_not_left_out() {
    for more in [
        serde_json::json!({ "inline_policy": "" }),
        serde_json::json!({ "policies": "own" }),
        serde_json::json!({ "identity_policies": { "a": "b" } }),
        serde_json::json!({ "type": null }),
    ] {
        assert_eq!(bearer(200, &looked_up(more.clone())), Ok(None), "{more}");
    }
    assert_eq!(bearer(200, b"{}"), Ok(None));
    assert_eq!(bearer(403, &told("1 error occurred:\n\t* permission denied\n\n")), Ok(None));
    assert_eq!(bearer(503, &told("Vault is sealed")), Err(VaultError::Sealed));
}

#[test]
fn a_policy_has_a_text_or_is_not_known() {
    let body =
        br#"{"data":{"name":"own","policy":"path \"a\" {}\n","version":1,"cas_required":false},"warnings":null}"#;
    assert_eq!(policy(200, body), Ok(Some("path \"a\" {}\n".to_owned())));
    assert_eq!(policy(200, br#"{"data":{"name":"own"}}"#), Ok(None));
    assert_eq!((policy(403, NOTHING), policy(404, NOTHING)), (Ok(None), Ok(None)));
    assert!(policy(500, NOTHING).is_err());
}
