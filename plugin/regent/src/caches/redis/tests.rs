use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// What HELLO answers: one server with everything.
const WHOLE: &str = "*4\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n";
const NO_KEYS: &str = "*2\r\n$1\r\n0\r\n*0\r\n";

/// A server with an answer for each command, in their order; then it says nothing more.
async fn scripted(answers: &[&str]) -> (Redis, tokio::task::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = HostPort::parse(&listener.local_addr().unwrap().to_string()).unwrap();
    let answers: Vec<_> = answers.iter().map(|answer| answer.as_bytes().to_vec()).collect();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = Vec::new();
        for answer in answers {
            let mut buffer = [0; 4096];
            let read = stream.read(&mut buffer).await.unwrap();
            heard.extend_from_slice(&buffer[..read]);
            stream.write_all(&answer).await.unwrap();
        }
        heard
    });
    (Redis::new(&rules::Redis::from(address)).unwrap(), server)
}

async fn answered(answers: &[&str]) -> Result<Unlinked, CachesError> {
    let (redis, _server) = scripted(answers).await;
    let stale = Stale { applications: &[], identities: &BTreeSet::new(), control_plane: &namespace() };
    in_redis(&redis, &stale).await
}

fn namespace() -> regent_core::name::Namespace {
    regent_core::name::Namespace::parse("argocd").unwrap()
}

#[tokio::test]
async fn an_empty_cache_needs_nothing() {
    assert_eq!(answered(&[WHOLE, NO_KEYS]).await, Ok(Unlinked { looked_at: 0, unlinked: 0 }));
}

#[tokio::test]
async fn each_no_of_redis_says_what_is_wrong() {
    let closed = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    for (said, problem) in [
        ("-NOAUTH HELLO must be called with the client already authenticated", CachesError::PasswordMissing),
        ("-WRONGPASS invalid username-password pair or user is disabled.", CachesError::PasswordRefused),
        ("-ERR AUTH <password> called without any password configured", CachesError::PasswordRefused),
        ("-NOPERM this user has no permissions", CachesError::NotPermitted("this user has no permissions".to_owned())),
        ("-READONLY You can't write against a read only replica.", CachesError::Replica),
        ("-MOVED 3999 127.0.0.1:6381", CachesError::NotWhole("cluster (MOVED)".to_owned())),
        ("-LOADING Redis is loading", CachesError::Refused("LOADING Redis is loading".to_owned())),
        ("HTTP/1.1 400 Bad Request", CachesError::Strange("Redis")),
        (":1", CachesError::Strange("Redis")),
        ("$99999999999", CachesError::Oversized(MAX_ANSWER_BYTES)),
        ("*99999999", CachesError::Unreachable(closed.to_string())),
    ] {
        let got = answered(&[&format!("{said}\r\n")]).await.unwrap_err();
        assert_eq!(got, problem, "{said}");
        assert!(answered(&[WHOLE, &format!("{said}\r\n")]).await.is_err(), "{said}");
    }
}

/// A Redis that does not know AUTH, by a renamed command, quotes its arguments.
#[tokio::test]
async fn no_answer_to_a_login_is_quoted() {
    for said in [
        "-ERR unknown command 'AUTH', with args beginning with: 'user' 'the-password' ",
        "-ERR the-password",
        "-NOPERM the-password",
        "-the-password",
    ] {
        let (mut redis, _server) = scripted(&[&format!("{said}\r\n")]).await;
        redis.login =
            Some(Login { username: Some("user".to_owned()), password: Zeroizing::new("the-password".to_owned()) });
        assert_eq!(reachable(&redis).await, Err(CachesError::PasswordRefused), "{said}");
    }
}

#[tokio::test]
async fn to_look_whether_it_can_be_reached_unlinks_nothing() {
    // Nobody could say what this entry holds.
    let page = "*2\r\n$1\r\n0\r\n*1\r\n$6\r\nmfst|x\r\n";
    let (redis, server) = scripted(&[WHOLE, page, "$1\r\n?\r\n"]).await;
    reachable(&redis).await.unwrap();
    let heard = String::from_utf8(server.await.unwrap()).unwrap();
    assert!(heard.contains("GETRANGE") && !heard.contains("UNLINK"), "{heard}");
    let (redis, _server) = scripted(&[WHOLE, NO_KEYS, "-NOPERM no permissions\r\n"]).await;
    assert!(matches!(reachable(&redis).await, Err(CachesError::NotPermitted(_))));
}

#[tokio::test]
async fn a_part_of_a_cluster_a_sentinel_and_a_replica_are_not_the_cache() {
    let hello = |mode: &str, role: &str| {
        let [mode_length, role_length] = [mode.len(), role.len()];
        format!("*4\r\n$4\r\nmode\r\n${mode_length}\r\n{mode}\r\n$4\r\nrole\r\n${role_length}\r\n{role}\r\n")
    };
    for (mode, role, problem) in [
        ("cluster", "master", CachesError::NotWhole("cluster".to_owned())),
        ("sentinel", "sentinel", CachesError::NotWhole("sentinel".to_owned())),
        ("standalone", "replica", CachesError::Replica),
    ] {
        assert_eq!(answered(&[&hello(mode, role), NO_KEYS]).await, Err(problem));
    }
    assert_eq!(answered(&["*0\r\n"]).await, Err(STRANGE));
}

#[tokio::test]
async fn an_entry_that_comes_back_each_time_is_an_error_in_the_end() {
    let page = "*2\r\n$1\r\n0\r\n*1\r\n$6\r\nmfst|x\r\n";
    let mut answers = vec![WHOLE];
    for _ in 0..MAX_ROUNDS {
        answers.extend([page, "$1\r\n?\r\n", ":1\r\n"]);
    }
    assert_eq!(answered(&answers).await, Err(CachesError::ComeBack(1)));
}

#[tokio::test]
async fn what_a_prefix_would_mean_in_a_pattern_is_escaped() {
    let (mut redis, server) = scripted(&[WHOLE, NO_KEYS]).await;
    redis.prefix = "a*[b]?^\\".to_owned();
    let stale = Stale { applications: &[], identities: &BTreeSet::new(), control_plane: &namespace() };
    in_redis(&redis, &stale).await.unwrap();
    let heard = String::from_utf8(server.await.unwrap()).unwrap();
    assert!(heard.contains("\r\na\\*\\[b\\]\\?\\^\\\\mfst|*\r\n"), "{heard}");
}

#[tokio::test]
async fn a_cache_without_a_trace_of_an_application_is_another_one() {
    let cached = |namespace: &str| Cached {
        namespace: namespace.to_owned(),
        name: "shop".to_owned(),
        destination_namespace: None,
        revisions: Vec::new(),
    };
    let traces = "*2\r\n$1\r\n0\r\n*1\r\n$29\r\napp|resources-tree|team_shop|1\r\n";
    for (namespace_of, found, problem) in [
        ("argocd", NO_KEYS, Some("shop")),
        ("team", NO_KEYS, Some("team_shop")),
        ("team", &traces.replace("$29", "$30"), None),
    ] {
        let (redis, _server) = scripted(&[WHOLE, NO_KEYS, found]).await;
        let applications = [cached(namespace_of)];
        let stale = Stale { applications: &applications, identities: &BTreeSet::new(), control_plane: &namespace() };
        let got = in_redis(&redis, &stale).await;
        assert_eq!(got.err(), problem.map(|name| CachesError::NotArgoCds(name.to_owned())));
    }
}
