//! `regent new`: a first root, ready to be encrypted with `sops`.

use crate::cli::NewArgs;
use crate::failure::Failure;
use regent_core::bootstrap::Bootstrap;
use regent_core::name::AuthorityName;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

/// Where the example stands in the new root.
const EXAMPLE: &str = "secrets/example.sops.yaml";

pub(super) fn run(args: &NewArgs) -> Result<ExitCode, Failure> {
    let recipients = recipients(&args.recipient)?;
    let name = authority_name(args)?;
    refuse_a_root_around(&args.dir)?;
    let files = [
        (Bootstrap::FILE_NAME, bootstrap(&name, &recipients)),
        (".sops.yaml", sops_configuration(&recipients)),
        (EXAMPLE, EXAMPLE_SECRET.to_owned()),
    ];
    // All of them or none, as far as can be told beforehand.
    for (file, _) in &files {
        let path = args.dir.join(file);
        if fs::symlink_metadata(&path).is_ok() {
            return Err(exists(&path));
        }
    }
    let secrets = args.dir.join("secrets");
    fs::create_dir_all(&secrets).map_err(|error| Failure::io("make", &secrets, &error))?;
    let mut stdout = anstream::stdout().lock();
    for (file, text) in &files {
        let path = args.dir.join(file);
        write_new(&path, text)?;
        writeln!(stdout, "wrote {}", path.display()).map_err(|error| Failure::output(&error))?;
    }
    next_steps(&mut stdout, args).map_err(|error| Failure::output(&error))?;
    Ok(ExitCode::SUCCESS)
}

/// The recipients as SOPS names them: an SSH key without its comment.
fn recipients(typed: &[String]) -> Result<Vec<String>, Failure> {
    if typed.is_empty() {
        return Err(Failure::Usage(
            "`regent new` needs `--recipient`; `age-keygen -o key.txt` makes an identity and prints its recipient"
                .to_owned(),
        ));
    }
    let number = |position: usize| format!("`--recipient` number {}", position + 1);
    typed
        .iter()
        .enumerate()
        .map(|(position, text)| {
            let text = text.trim();
            // Not quoted: it is a secret, which the person did not mean to show.
            if text.to_ascii_uppercase().contains("SECRET") || text.contains("PRIVATE KEY") {
                return Err(Failure::Usage(format!(
                    "{} is a secret key; `age-keygen -y FILE` prints its recipient",
                    number(position)
                )));
            }
            let key = text
                .split_whitespace()
                .take(if text.starts_with("ssh-") { 2 } else { 1 })
                .collect::<Vec<_>>()
                .join(" ");
            is_recipient(&key).then_some(key).ok_or_else(|| {
                Failure::Usage(format!(
                    "{} is no age recipient; `age1..`, `ssh-ed25519 ..` and `ssh-rsa ..` are",
                    number(position)
                ))
            })
        })
        .collect()
}

fn is_recipient(text: &str) -> bool {
    // Post-quantum recipients are long and parsed by `sops` alone: letters of Bech32 will do.
    let post_quantum = text
        .strip_prefix("age1pq1")
        .is_some_and(|data| !data.is_empty() && data.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    post_quantum
        || text.parse::<age::x25519::Recipient>().is_ok()
        || text.parse::<age::ssh::Recipient>().is_ok()
        || text.parse::<age::plugin::Recipient>().is_ok()
}

/// `--name`, else the folder's own name.
fn authority_name(args: &NewArgs) -> Result<AuthorityName, Failure> {
    let from_folder = || {
        let folder = std::path::absolute(&args.dir).unwrap_or_else(|_| args.dir.clone());
        folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let name = args.name.clone().unwrap_or_else(from_folder);
    AuthorityName::parse(&name).map_err(|bad| match args.name {
        Some(_) => Failure::Usage(bad.to_string()),
        None => Failure::Usage(format!("{bad}; the folder's name does not do, so give `--name`")),
    })
}

/// Two roots inside each other would speak for the same documents (P0).
fn refuse_a_root_around(dir: &Path) -> Result<(), Failure> {
    let Ok(dir) = std::path::absolute(dir) else { return Ok(()) };
    let Some(top) = dir.ancestors().find(|folder| folder.join(".git").exists()) else { return Ok(()) };
    let around = |folder: &&Path| folder.join(Bootstrap::FILE_NAME).exists();
    match dir.ancestors().skip(1).take_while(|folder| folder.starts_with(top)).find(around) {
        Some(folder) => Err(Failure::Usage(format!(
            "{} lies above, and one root may not lie in another",
            folder.join(Bootstrap::FILE_NAME).display()
        ))),
        None => Ok(()),
    }
}

fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let mut file = fs::File::create_new(path).map_err(|error| {
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            exists(path)
        } else {
            Failure::io("write", path, &error)
        }
    })?;
    file.write_all(text.as_bytes()).map_err(|error| Failure::io("write", path, &error))
}

fn exists(path: &Path) -> Failure {
    Failure::World {
        what: "write",
        name: path.display().to_string(),
        reason: "it exists, and nothing is overwritten".to_owned(),
    }
}

fn next_steps(out: &mut impl std::io::Write, args: &NewArgs) -> std::io::Result<()> {
    let dir = args.dir.display();
    let (bold, off) = ("\x1b[1m", "\x1b[0m");
    writeln!(out, "\n{bold}next{off}")?;
    writeln!(out, "  cd {dir}")?;
    let steps = [
        (format!("sops encrypt --in-place {EXAMPLE}"), "once it holds a value of your own"),
        ("regent render . -i KEY".to_owned(), "what the cluster would get, values described"),
        ("regent lint . -i KEY".to_owned(), "before every commit"),
    ];
    let widest = steps.iter().map(|(command, _)| command.len()).max().unwrap_or_default();
    for (command, why) in steps {
        writeln!(out, "  {command:<widest$}   {why}")?;
    }
    Ok(())
}

fn bootstrap(name: &AuthorityName, recipients: &[String]) -> String {
    let recipients: Vec<String> = recipients.iter().map(|recipient| format!("    - {}\n", quoted(recipient))).collect();
    format!(
        r#"# What this folder says of itself: the root of one authority. Unknown keys are errors.
apiVersion: regent.dev/v1alpha1
kind: Bootstrap
name: {}
epoch: 1
# Whom every document must be encrypted to; `regent lint` insists.
recipients:
  root:
{}secrets:
  # For documents without a namespace of their own:
  # namespace: app
  # Needed again before Vault runs, whenever the cluster is built:
  # permanent: [{{ name: argocd/repo-creds }}, {{ name: vault/unseal, vault: false }}]
  exclude: ["**/*.md"]
# Where the values go when Vault takes over:
# vault: {{ address: "https://vault.vault.svc:8200", mount: secret, prefix: "bootstrap/{name}" }}
# after: {{ emit: stub }}
"#,
        quoted(name.as_str()),
        recipients.concat(),
    )
}

fn sops_configuration(recipients: &[String]) -> String {
    format!(
        "# Read by `sops` when it is started in this folder: what it encrypts, and to whom.\n\
         creation_rules:\n\
         - path_regex: secrets/.*\\.sops\\.yaml$\n  \
           encrypted_regex: ^(data|stringData)$\n  \
           age: {}\n",
        quoted(&recipients.join(",")),
    )
}

const EXAMPLE_SECRET: &str = "\
apiVersion: v1
kind: Secret
metadata:
  name: example
  namespace: app
type: Opaque
stringData:
  password: change-me
";

/// A YAML double-quoted scalar; every recipient and name that got here is plain ASCII.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_key_as_a_recipient_is_refused_without_being_quoted() {
        let typed = ["AGE-SECRET-KEY-1QQQQQQ".to_owned()];
        let told = recipients(&typed).unwrap_err().to_string();
        assert!(told.contains("is a secret key") && !told.contains("QQQQ"), "{told}");
    }

    #[test]
    fn an_ssh_recipient_loses_its_comment() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN";
        assert_eq!(recipients(&[format!("{key} me, at work")]).unwrap(), [key]);
    }

    #[test]
    fn what_is_no_recipient_is_refused() {
        for text in [
            "",
            "age1",
            "me",
            "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8q",
            "ecdsa-sha2-nistp256 AAAA",
        ] {
            assert!(recipients(&[text.to_owned()]).is_err(), "{text}");
        }
    }
}
