use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::thread::JoinHandle;

use super::*;
use crate::cli::GitArgs;
use crate::source::git::Place;

/// A token that no word of ours may show.
const TOKEN: &str = "REGENT-CANARY-token";

/// Answers each connection with the next of these, and gives what was asked.
fn server(answers: Vec<String>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/infra.git", listener.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        let mut questions = Vec::new();
        for answer in answers {
            let (mut connection, _) = listener.accept().unwrap();
            let mut question = Vec::new();
            while !question.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                connection.read_exact(&mut byte).unwrap();
                question.push(byte[0]);
            }
            questions.push(String::from_utf8(question).unwrap());
            // Who has heard enough hangs up.
            let _ = connection.write_all(answer.as_bytes());
        }
        questions
    });
    (address, serving)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

const LIST: &str = "Content-Type: application/x-git-upload-pack-advertisement\r\n";

/// A list with one branch, as gitprotocol-http has it.
fn list() -> String {
    let line = |text: &str| format!("{:04x}{text}", text.len() + 4);
    let branch = line(&format!("{} refs/heads/main\0shallow agent=git/2.39\n", "1".repeat(40)));
    format!("{}0000{branch}0000", line("# service=git-upload-pack\n"))
}

fn token_file(folder: &Path, text: &str) -> GitArgs {
    std::fs::write(folder.join("token"), text).unwrap();
    GitArgs { token_file: Some(folder.join("token")), ..GitArgs::default() }
}

/// The commit of `main` as the server tells it, with a token and perhaps a user.
fn asked(answers: Vec<String>, user: Option<&str>) -> (Result<String, Failure>, Vec<String>) {
    let temp = tempfile::tempdir().unwrap();
    let (address, serving) = server(answers);
    let args = GitArgs { username: user.map(str::to_owned), ..token_file(temp.path(), &format!("{TOKEN}\n")) };
    let place = Place::typed(address.as_ref(), &args).ok().unwrap();
    let commit = crate::source::git::commit(&place, "main");
    (commit, serving.join().unwrap())
}

#[test]
fn a_branch_is_asked_for_with_the_credentials_of_the_files() {
    let (commit, questions) = asked(vec![answer("200 OK", LIST, &list())], None);
    assert_eq!(commit.ok().unwrap(), "1".repeat(40));
    assert!(
        questions[0].starts_with("GET /infra.git/info/refs?service=git-upload-pack HTTP/1.1\r\n"),
        "{}",
        questions[0]
    );
    assert!(questions[0].contains(&format!("authorization: Bearer {TOKEN}\r\n")), "{}", questions[0]);
    let (_, questions) = asked(vec![answer("200 OK", LIST, &list())], Some("jane"));
    // `printf %s jane:REGENT-CANARY-token | base64`
    assert!(questions[0].contains("authorization: Basic amFuZTpSRUdFTlQtQ0FOQVJZLXRva2Vu\r\n"), "{}", questions[0]);
}

#[test]
fn a_redirect_is_followed_on_the_same_server_and_no_credential_goes_elsewhere() {
    let to = |location: &str| answer("301 Moved", &format!("Location: {location}\r\n"), "");
    let there = to("/other.git/info/refs?service=git-upload-pack");
    let (commit, questions) = asked(vec![there, answer("200 OK", LIST, &list())], None);
    assert!(commit.is_ok() && questions[1].starts_with("GET /other.git/info/refs?"), "{}", questions[1]);
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let port = elsewhere.local_addr().unwrap().port();
    for location in [
        format!("http://127.0.0.1:{port}/infra.git/info/refs?service=git-upload-pack"),
        format!("//127.0.0.1:{port}/infra.git/info/refs?service=git-upload-pack"),
        "https://127.0.0.1/infra.git/info/refs?service=git-upload-pack".to_owned(),
        "/login".to_owned(),
    ] {
        let (commit, _) = asked(vec![to(&location)], None);
        let refused = commit.unwrap_err();
        assert!(matches!(&refused, Failure::Git { problem: RemoteProblem::Redirected, .. }), "{location}: {refused}");
    }
    assert!(elsewhere.accept().is_err(), "somebody came");
    let round = to("/infra.git/info/refs?service=git-upload-pack");
    let (commit, _) = asked(vec![round.clone(), round.clone(), round.clone(), round], None);
    assert!(matches!(commit, Err(Failure::Git { problem: RemoteProblem::Redirected, .. })));
}

#[test]
fn what_the_server_says_is_told_without_the_credentials() {
    let refused = |text: &str| {
        let line = format!("ERR {text}");
        format!("{:04x}{line}", line.len() + 4)
    };
    let cases = [
        (answer("401 Unauthorized", "WWW-Authenticate: Basic\r\n", TOKEN), "does not accept the credentials"),
        (answer("403 Forbidden", "", ""), "does not accept the credentials"),
        (answer("404 Not Found", "", ""), "no such repository"),
        (answer("500 Oops", "", TOKEN), "answers 500"),
        (answer("200 OK", "Content-Type: text/html\r\n", "<html>"), "does not answer as Git's do"),
        (answer("200 OK", LIST, "<html>"), "cannot fetch"),
        (answer("200 OK", LIST, ""), "cannot fetch"),
        (answer("200 OK", LIST, &refused("the disk is full")), "the disk is full"),
        (answer("200 OK", LIST, &refused(&format!("no {TOKEN} for you"))), "repeats the credentials"),
        (answer("200 OK", LIST, &refused("no amFuZTpSRUdFTlQtQ0FOQVJZLXRva2Vu")), "repeats the credentials"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n".to_owned(), "cannot fetch"),
        ("nonsense\r\n\r\n".to_owned(), "cannot fetch"),
    ];
    for (answer, said) in cases {
        let (commit, _) = asked(vec![answer.clone()], Some("jane"));
        let failure = commit.unwrap_err();
        let all = format!("{failure} {failure:?} {}", failure.hint());
        assert!(all.contains(said), "{answer}: {all}");
        assert!(!all.contains("CANARY") && !all.contains("amFuZTpS"), "{all}");
    }
}

#[test]
fn a_list_without_end_is_given_up() {
    let line = |name: &str| format!("{:04x}{} refs/heads/{name}\n", name.len() + 57, "1".repeat(40));
    let long = line(&"x".repeat(60_000));
    let body = format!("{}0000{}", "001e# service=git-upload-pack\n", long.repeat(MAX_ADVERTISED / long.len() + 1));
    let (commit, _) = asked(vec![answer("200 OK", LIST, &body)], None);
    let refused = commit.unwrap_err();
    assert!(matches!(&refused, Failure::Git { problem: RemoteProblem::TooLarge(_), .. }), "{refused}");
}

#[test]
fn a_token_file_holds_one_line_and_no_error_shows_it() {
    let temp = tempfile::tempdir().unwrap();
    for text in ["", "\n", "CANARY\nCANARY", "CANARY CANARY", "CAN\u{0}ARY", "CAN\u{e9}RY"] {
        let place = Place::typed("http://127.0.0.1:1/x".as_ref(), &token_file(temp.path(), text)).ok().unwrap();
        let failure = crate::source::git::commit(&place, "main").unwrap_err();
        assert!(matches!(failure, Failure::World { .. }), "{text:?}: {failure}");
        assert!(!format!("{failure} {failure:?}").contains("CANARY"), "{failure:?}");
    }
}

#[test]
fn an_address_with_a_credential_is_refused_and_not_repeated() {
    for repo in ["https://jane:CANARY@git.example/x", "https://CANARY@git.example/x", "ssh://git:CANARY@git.example/x"]
    {
        let refused = Place::typed(repo.as_ref(), &GitArgs::default()).unwrap_err();
        assert!(matches!(refused, Failure::Usage(_)) && !refused.to_string().contains("CANARY"), "{refused}");
    }
}
