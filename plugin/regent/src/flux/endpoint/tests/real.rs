//! By Vault's real clients: `sops`, which has the one that kustomize-controller has, and `bao`. Both are in `PATH` where
//! `e2e/flux` runs this.

use std::process::Output;

use super::*;

async fn run(stage: &Stage, program: &str, token: &str, words: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", stage.folder.path());
    for name in ["VAULT", "BAO"] {
        command.env(format!("{name}_CACERT"), given("one.crt")).env(format!("{name}_TOKEN"), token);
    }
    command.env("BAO_ADDR", format!("https://localhost:{}", stage.address.port()));
    command.current_dir(stage.folder.path()).args(words).output().await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the real sops: e2e/flux runs it"]
async fn sops_encrypts_to_it_and_decrypts_until_vault_rules() {
    let stage = stage().await;
    let token = stage.token(1, "team");
    std::fs::write(stage.folder.path().join("db.yaml"), "data:\n  password: REGENT-CANARY\n").unwrap();
    let key = format!("https://localhost:{}/v1/regent/prod/keys/app", stage.address.port());
    let encrypted =
        run(&stage, "sops", &token, &["encrypt", "--in-place", "--hc-vault-transit", &key, "db.yaml"]).await;
    assert!(encrypted.status.success(), "{}", text(&encrypted.stderr));
    let document = std::fs::read_to_string(stage.folder.path().join("db.yaml")).unwrap();
    assert!(document.contains("enc: regent:v1:prod:1:team:app:") && !document.contains("REGENT-CANARY"), "{document}");
    let decrypted = run(&stage, "sops", &token, &["decrypt", "db.yaml"]).await;
    assert!(text(&decrypted.stdout).contains("password: REGENT-CANARY"), "{}", text(&decrypted.stderr));

    let other = run(&stage, "sops", &stage.token(1, "other"), &["decrypt", "db.yaml"]).await;
    assert!(text(&other.stderr).contains("regent[release]") && other.stdout.is_empty(), "{}", text(&other.stderr));
    stage.says(vault());
    let refused = run(&stage, "sops", &token, &["decrypt", "db.yaml"]).await;
    let said = text(&refused.stderr);
    assert!(!refused.status.success() && refused.stdout.is_empty(), "{said}");
    assert!(said.contains("Code: 403") && said.contains("regent[release]"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the real bao: e2e/flux runs it"]
async fn baos_client_reads_answers_and_refusals() {
    let stage = stage().await;
    let enc = format!("ciphertext={}", stage.enc(1, "team/app"));
    let path = "regent/prod/decrypt/app";
    let answer = run(&stage, "bao", &stage.token(1, "team"), &["write", "-field=plaintext", path, &enc]).await;
    assert_eq!(text(&answer.stdout).trim(), STANDARD.encode(KEY), "{}", text(&answer.stderr));
    let refused = run(&stage, "bao", "s.another", &["write", "-field=plaintext", path, &enc]).await;
    let said = text(&refused.stderr);
    assert!(said.contains("Code: 403") && said.contains("* regent[token]: "), "{said}");
    let none = run(&stage, "bao", "s.another", &["write", "regent/prod/rewrap/app", &enc]).await;
    assert!(text(&none.stderr).contains("Code: 404"), "{}", text(&none.stderr));
}
