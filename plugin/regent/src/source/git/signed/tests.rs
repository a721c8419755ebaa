use std::time::Duration;

use super::*;
use crate::source::git::{GitArgs, History, Place};

/// What `tests/signed/make` made with the real programs.
fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/signed/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn signers(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| String::from_utf8(fixture(name)).unwrap().trim().to_owned()).collect()
}

/// The fixtures are of the first of June 2026, twelve o'clock.
const MADE: u64 = 1_780_315_200;
const DAY: u64 = 24 * 60 * 60;

fn day(days: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(MADE + days * DAY + 60)
}

/// A repository whose branch `main` is at these bytes.
fn repository(commit: &[u8]) -> (tempfile::TempDir, Oid) {
    let temp = tempfile::tempdir().unwrap();
    let repository = Repository::init_bare(temp.path()).unwrap();
    let id = repository.odb().unwrap().write(ObjectType::Commit, commit).unwrap();
    std::fs::write(temp.path().join("refs/heads/main"), format!("{id}\n")).unwrap();
    std::fs::write(temp.path().join("HEAD"), "ref: refs/heads/main\n").unwrap();
    (temp, id)
}

fn verdict_of(commit: &[u8], allowed: &[&str], now: SystemTime) -> Result<String, SignatureProblem> {
    let (temp, id) = repository(commit);
    signed(&Repository::open(temp.path()).unwrap(), id, &Signers::read(&signers(allowed))?, now)
}

fn verdict(commit: &str, allowed: &[&str]) -> Result<String, SignatureProblem> {
    verdict_of(&fixture(commit), allowed, day(1))
}

#[test]
fn a_commit_that_git_signed_is_its_signers() {
    for name in ["ssh-ed25519", "ssh-ecdsa", "ssh-rsa"] {
        let by = verdict(&format!("{name}.commit"), &[&format!("{name}.pub")]);
        assert!(by.as_ref().is_ok_and(|by| by.starts_with("SHA256:")), "{name}: {by:?}");
    }
    for name in ["pgp-primary", "pgp-rsa", "pgp-subkey", "pgp-expires"] {
        let by = verdict(&format!("{name}.commit"), &["ssh-other.pub", "pgp-rsa.asc", &format!("{name}.asc")]);
        assert!(by.as_ref().is_ok_and(|by| by.len() == 40), "{name}: {by:?}");
    }
}

#[test]
fn every_changed_byte_of_a_signed_commit_is_noticed() {
    for name in ["ssh-ed25519", "pgp-primary"] {
        let key = if name.starts_with("ssh") { format!("{name}.pub") } else { format!("{name}.asc") };
        let whole = fixture(&format!("{name}.commit"));
        let text = String::from_utf8(whole.clone()).unwrap();
        let signature = text.find("gpgsig ").unwrap()..text.find("\n\n").unwrap();
        for at in (0..whole.len()).filter(|at| !signature.contains(at)) {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(verdict_of(&changed, &[&key], day(1)).is_err(), "{name} at {at}");
        }
        let longer = [&whole[..], b"more"].concat();
        assert!(matches!(verdict_of(&longer, &[&key], day(1)), Err(SignatureProblem::Bad { .. })), "{name}");
    }
}

#[test]
fn each_way_in_which_a_signature_does_not_count_has_its_own_name() {
    use SignatureProblem as P;
    assert_eq!(verdict("unsigned.commit", &["ssh-ed25519.pub"]), Err(P::Unsigned));
    for (commit, others) in [("ssh-ed25519.commit", "ssh-other.pub"), ("pgp-primary.commit", "pgp-rsa.asc")] {
        let refused = verdict(commit, &[others]).unwrap_err();
        let P::NotAllowed { signer } = &refused else { panic!("{commit}: {refused}") };
        assert!(signer.starts_with("SHA256:") || signer.len() == 40, "{signer}");
    }
    assert!(matches!(verdict("ssh-purpose.commit", &["ssh-ed25519.pub"]), Err(P::Unusable(_))));
    assert!(matches!(verdict("pgp-sha1.commit", &["pgp-rsa.asc"]), Err(P::Unusable(why)) if why.contains("SHA-1")));
    assert!(matches!(verdict("pgp-revoked.commit", &["pgp-revoked.asc"]), Err(P::Revoked { .. })));
    let expires = |now| verdict_of(&fixture("pgp-expires.commit"), &["pgp-expires.asc"], now);
    assert!(expires(day(29)).is_ok());
    assert!(matches!(expires(day(30)), Err(P::Expired { .. })));
    // A clock before the key was made knows nothing of it.
    assert!(matches!(expires(SystemTime::UNIX_EPOCH + Duration::from_secs(MADE - DAY)), Err(P::Expired { .. })));
}

#[test]
fn a_key_that_does_not_sign_by_its_owners_will_is_not_taken() {
    // The certificate's own key is for certifying alone; its subkey signs.
    let subkey = verdict("pgp-subkey.commit", &["pgp-subkey.asc"]).unwrap();
    let certificate = &openpgp::certificates(&signers(&["pgp-subkey.asc"])[0]).unwrap()[0];
    assert_ne!(subkey, format!("{:X}", pgp::types::KeyDetails::fingerprint(certificate)));
    // Without its binding it is nobody's.
    let mut stray = certificate.clone();
    stray.public_subkeys[0].signatures[0] =
        openpgp::certificates(&signers(&["pgp-rsa.asc"])[0]).unwrap()[0].details.users[0].signatures[0].clone();
    let signature = Split::of(&fixture("pgp-subkey.commit")).unwrap();
    let armored = String::from_utf8(signature.signature).unwrap();
    let refused = openpgp::signer(&armored, &signature.payload, &[stray], day(1));
    assert!(matches!(refused, Err(SignatureProblem::NotForSigning { .. })), "{refused:?}");
}

#[test]
fn a_signature_is_a_header_once_and_no_text_of_the_message() {
    let in_message = b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n\ntitle\n\ngpgsig -----BEGIN\n x\n";
    assert_eq!(Split::of(in_message).unwrap_err(), SignatureProblem::Unsigned);
    let whole = String::from_utf8(fixture("ssh-ed25519.commit")).unwrap();
    let header = &whole[whole.find("gpgsig ").unwrap()..=whole.find("\n\n").unwrap()];
    for bad in [whole.replacen(header, &format!("{header}{header}"), 1), whole.replacen("a title", "a\0title", 1)] {
        assert!(matches!(verdict_of(bad.as_bytes(), &["ssh-ed25519.pub"], day(1)), Err(SignatureProblem::Unusable(_))));
    }
    // libgit2 takes the beginning of such a word away, and what it gives is what was signed.
    let hidden = whole.replacen("tree ", "gpgsigtree ", 1);
    assert!(verdict_of(hidden.as_bytes(), &["ssh-ed25519.pub"], day(1)).is_err());
    // Git leaves the signature of the commit's other id out too.
    let both = whole.replacen("gpgsig ", "gpgsig-sha256 x\n y\ngpgsig ", 1);
    assert!(verdict_of(both.as_bytes(), &["ssh-ed25519.pub"], day(1)).is_ok());
}

#[test]
fn a_handover_begins_from_a_full_id_or_from_what_an_allowed_signer_signed() {
    let (temp, id) = repository(&fixture("ssh-ed25519.commit"));
    let place = Place::typed(temp.path(), &GitArgs::default()).ok().unwrap();
    let pin = |revision: &str, names: &[&str]| {
        let held = Held::open(&place, revision, History::None).ok().unwrap();
        pinned(&held, revision, &signers(names), day(1)).map_err(|failure| format!("{failure}; {}", failure.hint()))
    };
    let full = id.to_string();
    assert_eq!(pin(&full, &[]), Ok(Pin::Id));
    assert_eq!(pin(&full, &["ssh-other.pub"]), Ok(Pin::Id));
    assert!(matches!(pin("main", &["ssh-ed25519.pub"]), Ok(Pin::Signed { .. })));
    assert!(matches!(pin("HEAD", &["ssh-other.pub", "ssh-ed25519.pub"]), Ok(Pin::Signed { .. })));
    let refused = pin("main", &[]).unwrap_err();
    assert!(
        refused.contains("`main`")
            && refused.ends_with(&format!("`--revision {full}`, if that is the commit that was reviewed")),
        "{refused}"
    );
    // A part of an id is a name like any other.
    assert!(pin(&full[..12], &[]).is_err());
    assert!(pin("main", &["ssh-other.pub"]).unwrap_err().contains("not among the signers: SHA256:"));
}

#[test]
fn an_artifact_begins_only_from_what_a_signer_signed() {
    let (temp, id) = repository(&fixture("ssh-ed25519.commit"));
    let place = Place::typed(temp.path(), &GitArgs::default()).ok().unwrap();
    // As a follower opens it; the id alone, which a person typed for a handover, is nobody's word here.
    let held = Held::open(&place, &id.to_string(), History::None).ok().unwrap();
    assert!(vouched(&held, &signers(&["ssh-other.pub", "ssh-ed25519.pub"]), day(1)).is_ok());
    for nobody in [&[][..], &["ssh-other.pub"]] {
        let refused = vouched(&held, &signers(nobody), day(1)).unwrap_err();
        let line = refused.public_line();
        assert!(matches!(refused, Failure::Unvouched { .. }) && line.contains(&id.to_string()), "{line}");
    }
    let (temp, _) = repository(&fixture("unsigned.commit"));
    let place = Place::typed(temp.path(), &GitArgs::default()).ok().unwrap();
    let held = Held::open(&place, "main", History::None).ok().unwrap();
    let line = vouched(&held, &signers(&["ssh-ed25519.pub"]), day(1)).unwrap_err().public_line();
    assert!(line.contains("it is not signed") && line.ends_with("the last artifact stays"), "{line}");
}

#[test]
fn an_entry_that_is_no_public_key_is_named_by_its_position() {
    let good = signers(&["ssh-ed25519.pub"])[0].clone();
    for bad in ["ssh-ed25519 AAAA", "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIA", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nx"] {
        let read = Signers::read(&[good.clone(), bad.to_owned()]).err();
        assert!(matches!(read, Some(SignatureProblem::Signer { position: 2, .. })), "{bad}: {read:?}");
    }
}
