use super::*;

fn place() -> WitnessedVault {
    WitnessedVault {
        address: "https://vault.example:8200".to_owned(),
        namespace: "team/app".to_owned(),
        mount: "secret".to_owned(),
        prefix: "bootstrap/prod".to_owned(),
    }
}

fn read(variables: &[(&str, &str)]) -> Result<Environment, String> {
    let look = |name: &str| variables.iter().find(|(set, _)| *set == name).map(|(_, value)| OsString::from(value));
    Environment::read(&place(), look).map_err(|failure| failure.to_string())
}

fn problem(variables: &[(&str, &str)]) -> String {
    read(variables).err().unwrap_or_default()
}

#[test]
fn an_environment_that_means_another_vault_stops_the_run() {
    for (variable, other) in [
        ("VAULT_ADDR", "https://vault.other:8200"),
        ("BAO_ADDR", "https://vault.example:8201"),
        ("VAULT_ADDR", "http://vault.example:8200"),
        ("VAULT_NAMESPACE", "team"),
        ("BAO_NAMESPACE", "root"),
    ] {
        let said = problem(&[(variable, other)]);
        assert!(said.starts_with(&format!("cannot follow {variable}: it says `{other}`")), "{said}");
    }
    for same in [
        &[][..],
        &[("VAULT_ADDR", "https://vault.example:8200/"), ("VAULT_NAMESPACE", "team/app/")],
        &[("BAO_ADDR", "https://Vault.Example:8200"), ("BAO_NAMESPACE", "team/app")],
        &[("VAULT_ADDR", ""), ("VAULT_NAMESPACE", "")],
    ] {
        assert_eq!(problem(same), "", "{same:?}");
    }
}

#[test]
fn openbaos_name_counts_wherever_it_is_set_even_to_nothing() {
    let other = "https://vault.other";
    assert_eq!(problem(&[("VAULT_ADDR", other), ("BAO_ADDR", "https://vault.example:8200")]), "");
    assert_eq!(problem(&[("VAULT_ADDR", other), ("BAO_ADDR", "")]), "");
    let said = problem(&[("VAULT_ADDR", "https://vault.example:8200"), ("BAO_ADDR", other)]);
    assert!(said.contains("BAO_ADDR"), "{said}");
    let roots = |variables: &[(&str, &str)]| read(variables).unwrap().roots;
    assert_eq!(roots(&[("VAULT_CACERT", "/v"), ("BAO_CACERT", "/b")]), Roots::File("/b".into()));
    assert_eq!(roots(&[("VAULT_CACERT", "/v"), ("BAO_CACERT", "")]), Roots::System);
    assert_eq!(roots(&[("VAULT_CACERT", "/v")]), Roots::File("/v".into()));
}

#[test]
fn of_several_ways_to_name_certificates_the_file_counts_then_they_themselves_then_the_folder() {
    let roots = |variables: &[(&str, &str)]| read(variables).unwrap().roots;
    let (file, bytes, folder) = (("VAULT_CACERT", "/f"), ("VAULT_CACERT_BYTES", "PEM"), ("VAULT_CAPATH", "/d"));
    assert_eq!(roots(&[file, bytes, folder]), Roots::File("/f".into()));
    assert_eq!(roots(&[bytes, folder]), Roots::Pem { variable: "VAULT_CACERT_BYTES", pem: "PEM".into() });
    assert_eq!(roots(&[folder]), Roots::Folder("/d".into()));
    assert_eq!(roots(&[]), Roots::System);
}

#[test]
fn verification_cannot_be_switched_off() {
    // What Go's ParseBool takes.
    for yes in ["1", "t", "T", "true", "TRUE", "True"] {
        assert!(problem(&[("VAULT_SKIP_VERIFY", yes)]).contains("always verified"), "{yes}");
    }
    for no in ["", "0", "f", "F", "false", "FALSE", "False"] {
        assert_eq!(problem(&[("VAULT_SKIP_VERIFY", no)]), "", "{no}");
    }
    for neither in ["no", "yes", "tRUE", " true", "2"] {
        assert!(problem(&[("BAO_SKIP_VERIFY", neither)]).contains("neither true nor false"), "{neither}");
    }
}

#[test]
fn a_name_and_a_client_certificate_are_whole_or_an_error() {
    assert_eq!(problem(&[("VAULT_TLS_SERVER_NAME", "vault.internal")]), "");
    assert!(problem(&[("VAULT_TLS_SERVER_NAME", "no name!")]).contains("no name of a server"));
    assert_eq!(problem(&[("VAULT_CLIENT_CERT", "/c"), ("BAO_CLIENT_KEY", "/k")]), "");
    assert!(problem(&[("VAULT_CLIENT_CERT", "/c")]).contains("its key is missing"));
    assert!(problem(&[("BAO_CLIENT_KEY", "/k")]).contains("its certificate is missing"));
}

#[test]
fn certificates_that_are_named_and_not_there_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, "no certificate\n").unwrap();
    let (file, dir) = (file.to_str().unwrap(), folder.path().to_str().unwrap());
    for variables in [
        [("VAULT_CACERT", "/nowhere")],
        [("VAULT_CACERT", file)],
        [("VAULT_CACERT_BYTES", "no certificate")],
        [("VAULT_CAPATH", "/nowhere")],
        [("VAULT_CAPATH", dir)],
    ] {
        let failure = read(&variables).unwrap().tls().unwrap_err();
        assert!(matches!(failure, Failure::World { .. }), "{variables:?}: {failure}");
    }
}

#[test]
fn a_token_leaves_this_machine_only_encrypted() {
    let is = |address: &str| is_private(&address.parse().unwrap());
    for private in [
        "https://vault.example",
        "https://10.0.0.1:8200",
        "http://127.0.0.1:8200",
        "http://[::1]:8200",
        "http://localhost",
    ] {
        assert!(is(private), "{private}");
    }
    for open in ["http://vault.example", "http://10.0.0.1:8200", "http://localhost.example", "ftp://localhost", "/v1"] {
        assert!(!is(open), "{open}");
    }
}
