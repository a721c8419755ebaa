//! What one can type, and the help that teaches it.

mod handover;
mod import;
mod retire;
mod settle;
mod verify;

pub(crate) use self::handover::{HandoverArgs, RunArgs};
pub(crate) use self::import::ImportArgs;
pub(crate) use self::retire::RetireArgs;
pub(crate) use self::settle::{ProofArg, SettleArgs, application};
pub(crate) use self::verify::VerifyArgs;
use crate::config::{self, ENVIRONMENT, REGENT_CONFIG};
use crate::failure::EXIT_CODES;
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint, value_parser};
use std::path::PathBuf;

/// Git rules the secrets of a cluster only until Vault comes of age.
///
/// A cluster needs secrets before it has a secrets manager. People encrypt those in Git with SOPS, age
/// or PGP. regent opens them until Vault has taken them over, and never renders a value after.
#[derive(Parser)]
#[command(name = "regent", version, arg_required_else_help = true, max_term_width = 100)]
#[command(disable_help_subcommand = false, subcommand_required = true)]
#[command(after_help = "`regent COMMAND --help` shows examples; `regent --help` exit codes and environment variables.")]
#[command(after_long_help = after_long_help())]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// When to use colours.
    ///
    /// `auto`: on a terminal, unless `NO_COLOR` is set.
    // Behind the options of every command, however many one has.
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value = "auto", display_order = 900)]
    pub(crate) color: ColorArg,
}

/// The commands.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Open one encrypted file: the key holder's tool, no front door.
    ///
    /// Any SOPS file (YAML, JSON, dotenv, INI, binary) or a file that age or PGP encrypted as a whole
    /// (`.age`, `.asc`, `.gpg`, `.pgp`). The MAC is checked before anything is shown. No authority is
    /// asked: who holds the key can read the file, whoever rules.
    #[command(after_long_help = OPEN_EXAMPLES)]
    Open(OpenArgs),
    /// Show what the cluster would get.
    ///
    /// Renders a folder, or a revision of a Git repository without a checkout. Values are described, not
    /// written, unless `--reveal` is given; that needs an authority that says git, or `--assume git`.
    #[command(after_long_help = RENDER_EXAMPLES)]
    Render(Box<RenderArgs>),
    /// Serve a front door: Argo CD's plugin socket, or Flux's artifacts and data keys.
    #[command(subcommand_required = true, arg_required_else_help = true, after_long_help = SERVE_ARGOCD_EXAMPLES)]
    Serve(ServeArgs),
    /// Check every document, without a cluster.
    ///
    /// Opens each document, checks its MAC, its recipients, its class and its validity, and names all that
    /// is wrong. For pre-commit hooks and CI.
    #[command(after_long_help = LINT_EXAMPLES)]
    Lint(LintArgs),
    /// Write a first regent.yaml, .sops.yaml and an example Secret.
    ///
    /// Nothing that exists is overwritten.
    #[command(after_long_help = NEW_EXAMPLES)]
    New(NewArgs),
    /// Tell phase, authority, and what opens what.
    ///
    /// Compares the authority's witnesses with regent.yaml, and shows for each document its class, why it has
    /// that class, and which identities at hand open it. Only public parts are compared; nothing is decrypted.
    ///
    /// Against a cluster it shows the witnesses, the policies and the lock as they are, and each Secret: whether it is
    /// live, its guards, who would fight over it, and what happens to it next. Of a Secret its metadata is asked for and
    /// never its data. It tells what a person has to look at; `--exit-code` makes it a check.
    #[command(after_long_help = STATUS_EXAMPLES)]
    Status(StatusArgs),
    /// Create the authority: Git rules from here on. On purpose, once.
    ///
    /// Writes git(epoch) into the authority store, together with the root and the place in Vault that
    /// regent.yaml names. Refused where any witness of any epoch exists. In a Git repository the root is
    /// regent.yaml's folder in it.
    #[command(after_long_help = INIT_EXAMPLES)]
    Init(Box<InitArgs>),
    /// Move the values of a root to Vault, and the authority with them: once.
    ///
    /// Creates each value in Vault or finds it there, reads it back and compares it, writes the handover record, and mirrors
    /// that in the authority's witnesses. From the record on Vault rules, and no value is rendered any more. Nothing in
    /// Vault is ever overwritten. It may be stopped anywhere and run again, by anybody, from any machine: it goes on.
    #[command(after_long_help = handover::EXAMPLES)]
    Handover(Box<HandoverArgs>),
    /// Bring a document that came after the handover into Vault.
    ///
    /// A front door refuses a revision with an encrypted document that the handover does not list. This creates its value in
    /// Vault or finds it there, writes an entry beside the handover record, and adds it to the list in the authority's status;
    /// it is a stub from then on. The value goes to Vault and nowhere else. It may be stopped anywhere and run again.
    #[command(after_long_help = import::EXAMPLES)]
    Import(Box<ImportArgs>),
    /// Tell whether everything is still as the handover left it.
    ///
    /// Compares Vault's record with the witnesses (and mirrors one that is not mirrored), its copies with the record, live
    /// Secrets with the copies, and a heartbeat that it counts in Vault with what was seen before: an older backup of Vault is
    /// told by it. With `--repo` a revision is rendered and must hold no value, and permanent documents must be Vault's. Names
    /// and counts are told, never values.
    #[command(after_long_help = verify::EXAMPLES)]
    Verify(Box<VerifyArgs>),
    /// Tell the steps to leave, in order, and which of them is next.
    ///
    /// Once a handover is settled: what of regent is still in Git, in Argo CD and in the cluster, what to type for each, and what
    /// follows. A step is offered only where all before it are done, so that nothing live is lost at any point: Secrets stay,
    /// and rotation goes on. It changes nothing itself.
    #[command(after_long_help = retire::EXAMPLES)]
    Retire(Box<RetireArgs>),
    /// Let Git rule again after Vault was lost: raise the epoch. For break-glass.
    ///
    /// Only where regent.yaml asks for it in a commit: `epoch` raised by one, `supersedes` the handover that rules. Refused
    /// while Vault holds the record or does not answer, while an ExternalSecret or VaultStaticSecret still delivers one of
    /// the Secrets, and while a live value differs from Git's, unless a person gives each of them up by name. A handover
    /// that stopped before the Authority said so is completed first. Whatever stopped it, the same command goes on.
    #[command(after_long_help = REBOOTSTRAP_EXAMPLES)]
    Rebootstrap(Box<RebootstrapArgs>),
    /// Bring an absent permanent Secret back from Git while Vault rules.
    ///
    /// The one exception to the rule that no value is rendered any more, for a person with the key, never for a front door.
    /// Only what the handover and regent.yaml both call permanent; only created, never overwritten; refused where Vault
    /// holds another copy or does not answer. An Event beside the Secret tells of it.
    #[command(after_long_help = RESTORE_EXAMPLES)]
    Restore(Box<RestoreArgs>),
    /// Make Argo CD ask the plugin again.
    ///
    /// A soft refresh, a sync and a restart of Argo CD answer from its cache, and three failures in a row are kept for
    /// an hour. This asks for a hard refresh of every Application that uses the plugin, one that gets lost once more,
    /// and waits for what comes of it.
    #[command(after_long_help = REFRESH_EXAMPLES)]
    Refresh(RefreshArgs),
    /// Print the CustomResourceDefinition of the Authority.
    ///
    /// The same as `manifests/crd/authorities.regent.dev.yaml`.
    #[command(after_long_help = CRD_EXAMPLES)]
    Crd,
    /// Ask a running plugin whether it serves: for the probes of an image without a shell.
    ///
    /// Connects to the plugin's socket and asks gRPC's health service. Exit code 0 and the word `serving`, or
    /// an error.
    #[command(after_long_help = PROBE_EXAMPLES)]
    Probe(ProbeArgs),
    /// Explain a code, such as P5.
    ///
    /// Every error carries a code, as in `regent: error[P5]`. Without a code all of them are listed.
    #[command(after_long_help = EXPLAIN_EXAMPLES)]
    Explain(ExplainArgs),
    /// Print a shell completion script.
    #[command(after_long_help = COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArgs),
}

/// Identities.
#[derive(Args, Clone, Default)]
pub(crate) struct KeyArgs {
    /// Key file, or folder of key files (repeatable).
    ///
    /// age identities, SSH private keys, PGP secret keys. Of a folder every file is read, except
    /// dot-files and `*.pub`; one that cannot be used is an error. Where `-i` is given, nothing else is
    /// used. Otherwise the keys that `sops` would use are: `SOPS_AGE_KEY`, `SOPS_AGE_KEY_FILE`,
    /// `SOPS_AGE_SSH_PRIVATE_KEY_FILE`, `~/.config/sops/age/keys.txt`, `~/.ssh/id_ed25519`, `~/.ssh/id_rsa`.
    #[arg(short = 'i', long = "identity", value_name = "FILE|DIR", value_hint = ValueHint::AnyPath)]
    #[arg(help_heading = "Identities")]
    pub(crate) identities: Vec<PathBuf>,
    /// File with the passphrase of protected key files.
    ///
    /// Tried on every key file that is protected; a line break at its end is not part of it. regent never
    /// asks on a terminal.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Identities")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

/// Where manifests are read from.
#[derive(Args, Clone, Default)]
pub(crate) struct SourceArgs {
    /// Folder with manifests; the current one where nothing is given.
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with_all = ["repo", "revision", "path"])]
    pub(crate) dir: Option<PathBuf>,
    /// Git repository, read from its object database (no checkout): a folder, `https://..`, `ssh://..`, `git@host:..`.
    ///
    /// One elsewhere is fetched into a private folder that is removed at the end.
    #[arg(long, value_name = "PATH|URL", requires = "revision", value_hint = ValueHint::DirPath, help_heading = "Git")]
    pub(crate) repo: Option<PathBuf>,
    /// Branch, tag or commit.
    #[arg(long, value_name = "REV", requires = "repo", help_heading = "Git")]
    pub(crate) revision: Option<String>,
    /// Folder in the repository.
    #[arg(long, value_name = "PATH", requires = "repo", help_heading = "Git")]
    pub(crate) path: Option<String>,
    #[command(flatten)]
    pub(crate) git: GitArgs,
}

/// The files that a repository elsewhere is reached with. A command that takes them has `--repo`.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct GitArgs {
    /// `https`: a file with a token, or with the password of `--git-username`.
    #[arg(id = "git_token_file", long = "git-token-file", value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(requires = "repo", group = "git_credential", help_heading = "Git")]
    pub(crate) token_file: Option<PathBuf>,
    /// `https`: the user whose password or token that is; without it the token is sent as a bearer token.
    ///
    /// GitHub takes `x-access-token`, GitLab `oauth2`.
    #[arg(id = "git_username", long = "git-username", value_name = "NAME", requires = "git_credential")]
    #[arg(help_heading = "Git")]
    pub(crate) username: Option<String>,
    /// `https`: CA certificates (PEM) instead of the system's.
    #[arg(id = "git_ca_file", long = "git-ca-file", value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(requires = "repo", help_heading = "Git")]
    pub(crate) ca_file: Option<PathBuf>,
    /// `ssh`: the private key, without passphrase. `ssh` itself is looked for in `PATH`.
    #[arg(id = "ssh_key_file", long = "ssh-key-file", value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(requires = "ssh_known_hosts_file", help_heading = "Git")]
    pub(crate) key_file: Option<PathBuf>,
    /// `ssh`: the server's public keys, as `ssh-keyscan` writes them. No other server is trusted.
    #[arg(id = "ssh_known_hosts_file", long = "ssh-known-hosts-file", value_name = "FILE")]
    #[arg(requires = "ssh_key_file", requires = "repo", value_hint = ValueHint::FilePath, help_heading = "Git")]
    pub(crate) known_hosts_file: Option<PathBuf>,
}

/// Where the authority's witnesses are.
#[derive(Args, Clone, Default)]
pub(crate) struct StoreArgs {
    /// The operator's file (`kind: RegentConfig`); by default what `REGENT_CONFIG` names.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Authority")]
    pub(crate) config: Option<PathBuf>,
    /// Folder of the authority store, instead of the one in the operator's file.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, help_heading = "Authority")]
    #[arg(conflicts_with_all = ["kubeconfig", "context", "user", "groups"])]
    pub(crate) store: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

/// A cluster, found as `kubectl` finds it, and as whom it is asked.
#[derive(Args, Clone, Default)]
pub(crate) struct ClusterArgs {
    /// A kubeconfig; by default what `KUBECONFIG` names, `~/.kube/config`, or the pod's own account.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Cluster")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The context of the cluster where the authority lives; by default the current one.
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    pub(crate) context: Option<String>,
    /// Ask as this user (impersonation).
    #[arg(long = "as", value_name = "USER", help_heading = "Cluster")]
    pub(crate) user: Option<String>,
    /// Ask as a member of this group (repeatable; with `--as`).
    #[arg(long = "as-group", value_name = "GROUP", requires = "user", help_heading = "Cluster")]
    pub(crate) groups: Vec<String>,
}

/// `regent open`.
#[derive(Args)]
pub(crate) struct OpenArgs {
    /// The file, `-` for standard input.
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    /// Input type; by file name where not given, as `sops` does.
    #[arg(long, value_enum, value_name = "TYPE")]
    pub(crate) input_type: Option<FormatArg>,
    /// Output type; the input's where not given.
    #[arg(long, value_enum, value_name = "TYPE")]
    pub(crate) output_type: Option<FormatArg>,
    /// Write the values instead of describing them.
    #[arg(long)]
    pub(crate) reveal: bool,
}

/// A store of SOPS.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum FormatArg {
    Yaml,
    Json,
    Dotenv,
    Ini,
    Binary,
}

/// `regent render`.
#[derive(Args)]
pub(crate) struct RenderArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Who is authoritative, instead of asking.
    ///
    /// `git` is refused against a readable store that says vault.
    #[arg(long, value_enum, value_name = "WHO", help_heading = "Authority")]
    pub(crate) assume: Option<AssumeArg>,
    /// Write the values instead of describing them.
    #[arg(long)]
    pub(crate) reveal: bool,
    /// Output encoding: YAML documents, or one JSON object a line.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "yaml")]
    pub(crate) output: OutputArg,
    /// Render again when files, keys or the branch change, and print what changed.
    #[arg(long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) via: ViaArgs,
}

/// A plugin to ask instead.
#[derive(Args)]
#[command(next_help_heading = "Argo CD")]
pub(crate) struct ViaArgs {
    /// Ask a plugin's socket what it would answer Argo CD.
    ///
    /// Sends what Argo CD's repo-server would send: the whole Git work tree around DIR as it is on disk, or the
    /// files of a revision. Keys and evidence are the plugin's own. The packed repository is held in memory.
    #[arg(long, value_name = "SOCKET", value_hint = ValueHint::FilePath)]
    #[arg(conflicts_with_all = ["assume", "store", "watch", "identities", "passphrase_file"])]
    pub(crate) via: Option<PathBuf>,
    /// Name of the Application; the folder's own name where not given.
    #[arg(long, value_name = "NAME", requires = "via")]
    pub(crate) app: Option<String>,
    /// Project of the Application; `default` where not given.
    #[arg(long, value_name = "NAME", requires = "via")]
    pub(crate) project: Option<String>,
    /// `repoURL` of its source; the address of the remote `origin`, else a `file://` address.
    #[arg(long, value_name = "URL", requires = "via")]
    pub(crate) repo_url: Option<String>,
    /// `targetRevision` of its source; the branch that is checked out, else `HEAD`, or what `--revision` says.
    #[arg(long, value_name = "REV", requires = "via")]
    pub(crate) target_revision: Option<String>,
    /// Namespace of its destination; none where not given.
    #[arg(long, value_name = "NAMESPACE", requires = "via")]
    pub(crate) namespace: Option<String>,
    /// An entry of its `plugin.env`, which the plugin sees as `ARGOCD_ENV_NAME` (repeatable).
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value, requires = "via")]
    pub(crate) env: Vec<(String, String)>,
    /// How long to wait for the answer, in seconds; the plugin is told.
    #[arg(long, value_name = "SECONDS", requires = "via")]
    #[arg(default_value = "60", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) timeout: u64,
}

fn name_and_value(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err("NAME=VALUE is expected"),
    }
}

/// `--assume`.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AssumeArg {
    /// Values are rendered.
    Git,
    /// No value is rendered.
    Vault,
}

/// `--output`.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputArg {
    Yaml,
    Json,
}

/// `regent lint`.
#[derive(Args)]
pub(crate) struct LintArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// A file with the Flux Kustomizations that apply the folder (repeatable).
    ///
    /// The folder is then judged as their builds make it, by the rules of `regent serve flux`: generators, components,
    /// prefixes and `targetNamespace` are followed. Kustomizations of the file that reach nothing of the folder are passed
    /// over. They have to be as Flux applies them. Needs the whole repository: the work tree around DIR, or the revision.
    #[arg(long = "kustomization-file", value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Flux")]
    pub(crate) kustomization_files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    /// Output format.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "human")]
    pub(crate) output: LintOutputArg,
}

/// `regent lint --output`.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LintOutputArg {
    /// A line a finding.
    Human,
    /// For programs.
    Json,
    /// For code scanning.
    Sarif,
}

/// Output for people or for programs.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportOutputArg {
    /// For people: a table on a terminal, plain columns elsewhere.
    Human,
    /// For programs.
    Json,
}

/// `regent new`.
#[derive(Args)]
pub(crate) struct NewArgs {
    /// Folder to write into; made where it does not exist.
    #[arg(default_value = ".", value_hint = ValueHint::DirPath)]
    pub(crate) dir: PathBuf,
    /// Name of the authority; the folder's own name where not given.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// age recipient that every Secret is encrypted to (repeatable).
    #[arg(long, value_name = "age1..|ssh-..")]
    pub(crate) recipient: Vec<String>,
}

/// `regent status`.
#[derive(Args)]
pub(crate) struct StatusArgs {
    /// Folder with regent.yaml.
    #[arg(default_value = ".", value_hint = ValueHint::DirPath)]
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// The context of the cluster where the Secrets live, where that is another one (a hub).
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    pub(crate) target_context: Option<String>,
    /// End with what was found: 0 if all is as it should be.
    ///
    /// 1 where something needs a person, 7 where a handover is recorded but not yet mirrored or settled, and where a rule
    /// refuses the root with that rule's own code. Without this option it ends with 0 once it could tell who rules.
    #[arg(long)]
    pub(crate) exit_code: bool,
    /// Output format.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "human")]
    pub(crate) output: ReportOutputArg,
}

/// `regent init`.
#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "options that one types")]
pub(crate) struct InitArgs {
    /// Folder with regent.yaml.
    #[arg(default_value = ".", value_hint = ValueHint::DirPath)]
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// The context of the cluster where the Secrets live, where that is another one (a hub).
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    pub(crate) target_context: Option<String>,
    /// A user name under which a GitOps tool writes Secrets, `system:serviceaccount:NAMESPACE:NAME` (repeatable).
    ///
    /// Added to the accounts of Argo CD and Flux as their own manifests name them, and to those that Argo CD's
    /// AppProjects and Flux's Kustomizations impersonate. Once Vault rules, the API server refuses the authority's
    /// Secrets to all of them.
    #[arg(long = "door", value_name = "USER", help_heading = "Cluster")]
    pub(crate) doors: Vec<String>,
    /// What kustomize-controller has as `--default-service-account`, where its Deployment does not show it.
    ///
    /// It writes as this account of the Kustomization's own namespace, wherever a Kustomization names none.
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    pub(crate) default_service_account: Option<String>,
    /// The account that a front door reads the authority with (repeatable); by default Argo CD's repo-server's.
    #[arg(long = "reader", value_name = "USER", help_heading = "Cluster")]
    pub(crate) readers: Vec<String>,
    /// A file with a Vault token that may read `<mount>/data/regent/<name>/authority/<epoch>`.
    ///
    /// Vault is asked whether it holds a handover record already; without an answer nothing is created.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Vault")]
    pub(crate) vault_token_file: Option<PathBuf>,
    /// There is no Vault to ask yet; noted in the authority.
    #[arg(long, conflicts_with = "vault_token_file", help_heading = "Vault")]
    pub(crate) no_vault_yet: bool,
    /// Correct root and place in Vault of an authority that still says git, and nothing else (break-glass).
    #[arg(long = "move", conflicts_with_all = ["complete"])]
    pub(crate) moves: bool,
    /// Make what belongs to an existing authority and is missing: accounts, rights, the lock. It is not touched itself.
    #[arg(long)]
    pub(crate) complete: bool,
    /// The cluster is lost, and Vault is not: begin with vault, straight from its handover record.
    ///
    /// No value of Git is rendered in between. As an administrator; the witnesses are written as the account
    /// `regent-handover-NAME`, which this identity must be able to impersonate. The token must be able to read the record and
    /// what lies beside it, and with `--adopt` to create there.
    #[arg(long, conflicts_with_all = ["moves", "complete", "no_vault_yet"], requires = "vault_token_file", group = "from_record", help_heading = "Vault")]
    pub(crate) from_vault: bool,
    /// The target of a hub is lost, and Vault is not: give the new one its copy of the Authority, and the lock.
    ///
    /// As `--from-vault`, where the hub says vault already. Its Authority keeps the uid of the cluster that was.
    #[arg(long, conflicts_with_all = ["moves", "complete", "no_vault_yet"], group = "from_record", help_heading = "Vault")]
    #[arg(requires_all = ["vault_token_file", "target_context"])]
    pub(crate) target_only: bool,
    /// Take this handover over for a cluster that was rebuilt.
    #[arg(long, value_name = "ID", requires = "from_record", help_heading = "Vault")]
    pub(crate) adopt: Option<String>,
    /// Show what would be written, and write nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask; needed where standard input is no terminal.
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// One commit of a repository.
#[derive(Args, Clone)]
pub(crate) struct CommitArgs {
    /// Git repository, read from its object database (no checkout): a folder, `https://..`, `ssh://..`, `git@host:..`.
    #[arg(long, value_name = "PATH|URL", default_value = ".", value_hint = ValueHint::DirPath, help_heading = "Git")]
    pub(crate) repo: PathBuf,
    /// The commit by its full id; or a branch, where `handover.signers` of regent.yaml says who may sign it.
    #[arg(long, value_name = "REV", help_heading = "Git")]
    pub(crate) revision: String,
    /// The root's folder in the repository.
    #[arg(long, value_name = "PATH", default_value = ".", help_heading = "Git")]
    pub(crate) path: String,
    #[command(flatten)]
    pub(crate) git: GitArgs,
}

/// How Vault is asked.
#[derive(Args, Clone)]
#[command(next_help_heading = "Vault")]
pub(crate) struct VaultArgs {
    /// How to log in.
    #[arg(long = "vault-auth", value_enum, value_name = "METHOD", default_value = "token")]
    pub(crate) auth: VaultAuthArg,
    /// A file with a token; for `approle` with the token that wraps the secret id.
    ///
    /// Each run of `approle` uses such a token up, with `--plan` too. A run without `--plan` shows its plan as well, and asks.
    #[arg(long = "vault-token-file", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) token_file: Option<PathBuf>,
    /// The role to log in with; for `approle` its id.
    #[arg(long = "vault-role", value_name = "ROLE")]
    pub(crate) role: Option<String>,
    /// The signed token of the platform; by default a pod's own.
    #[arg(long = "vault-jwt-file", value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(default_value = "/var/run/secrets/kubernetes.io/serviceaccount/token")]
    pub(crate) jwt_file: PathBuf,
    /// How long each request is tried again while Vault elects another active node or is restarted, in seconds.
    #[arg(long = "vault-patience", value_name = "SECONDS", default_value = "90", value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub(crate) patience: u64,
    /// Where the method is mounted below `auth/`; by default as it is called.
    #[arg(long = "vault-auth-mount", value_name = "PATH")]
    pub(crate) mount: Option<String>,
}

impl VaultArgs {
    /// With a token that somebody made, and nothing else out of the ordinary.
    pub(crate) fn with_token(token_file: Option<PathBuf>) -> Self {
        let (role, jwt_file, mount) = (None, PathBuf::new(), None);
        Self { auth: VaultAuthArg::Token, token_file, role, jwt_file, patience: 90, mount }
    }
}

/// Ways into Vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum VaultAuthArg {
    /// A token that somebody made.
    Token,
    /// A service account of Kubernetes.
    Kubernetes,
    /// Any signed token, as a CI has it.
    Jwt,
    /// A role, and a secret id that came wrapped.
    Approle,
}

/// `regent rebootstrap`.
#[derive(Args)]
pub(crate) struct RebootstrapArgs {
    /// Folder with regent.yaml.
    #[arg(default_value = ".", value_hint = ValueHint::DirPath)]
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// The context of the cluster where the Secrets live, where that is another one (a hub).
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    pub(crate) target_context: Option<String>,
    /// A file with a Vault token that may read `<mount>/data/regent/<name>/authority/<epoch>`.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Vault")]
    pub(crate) vault_token_file: Option<PathBuf>,
    /// Give up a Vault that still holds this handover, or does not answer.
    #[arg(long, value_name = "HANDOVER", help_heading = "Vault")]
    pub(crate) abandon_vault: Option<String>,
    /// Save the live Secrets that differ from Git's, encrypted to `recipients.root` of regent.yaml.
    ///
    /// One new age file, readable by its owner alone, with a list that `kubectl apply` takes. Nothing lies on disk in the
    /// clear. `regent open FILE --reveal` shows it, and so does `age -d`.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Live Secrets")]
    pub(crate) save_live: Option<PathBuf>,
    /// Let Git's values replace the live ones of this Secret (repeatable).
    #[arg(long, value_name = "NAMESPACE/NAME", help_heading = "Live Secrets")]
    pub(crate) overwrite_live: Vec<String>,
    /// Show what would be written, and write nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask; needed where standard input is no terminal.
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// `regent restore`.
#[derive(Args)]
pub(crate) struct RestoreArgs {
    /// The Secret.
    #[arg(value_name = "NAMESPACE/NAME")]
    pub(crate) secret: String,
    /// Folder with regent.yaml.
    #[arg(default_value = ".", value_hint = ValueHint::DirPath)]
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// The context of the cluster where the Secret lives, where that is another one (a hub).
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    pub(crate) target_context: Option<String>,
    /// A file with a Vault token that may read `<mount>/data/<prefix>/<namespace>/<name>`.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Vault")]
    pub(crate) vault_token_file: Option<PathBuf>,
    /// Take Git's values although Vault holds others, or does not say.
    #[arg(long, help_heading = "Vault")]
    pub(crate) stale_ok: bool,
    /// Show what would be created, and create nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `regent refresh`.
#[derive(Args)]
pub(crate) struct RefreshArgs {
    /// Applications, `NAME` or `NAMESPACE/NAME`; where none is given, all that use the plugin.
    #[arg(value_name = "APPLICATION")]
    pub(crate) applications: Vec<String>,
    /// The operator's file, which names plugin and cluster; by default what `REGENT_CONFIG` names.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// How long to wait for all of them, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) timeout: u64,
    /// Output format.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "human")]
    pub(crate) output: ReportOutputArg,
}

/// `regent serve`.
#[derive(Args)]
pub(crate) struct ServeArgs {
    /// Which door.
    #[command(subcommand)]
    pub(crate) door: ServeDoor,
}

/// The doors.
#[derive(Subcommand)]
pub(crate) enum ServeDoor {
    /// Argo CD's config management plugin, as a sidecar of argocd-repo-server.
    ///
    /// Serves the plugin's socket `<name>-<version>.sock` in the folder that Argo CD looks into. What is mounted is
    /// read again when it changes. Whatever is missing or wrong is an error of each request, never of the process,
    /// which ends with SIGTERM once the calls under way are answered.
    #[command(after_long_help = SERVE_ARGOCD_EXAMPLES)]
    Argocd(ServeArgocdArgs),
    /// Flux: an artifact for each Kustomization, and the data keys that kustomize-controller asks for.
    ///
    /// Follows the repositories of the operator's `flux` section and publishes each Kustomization's tree as an
    /// ExternalArtifact, its encrypted documents encrypted to regent alone. The endpoint answers as Vault's transit engine
    /// does, over TLS or a unix socket: it gives a data key while Git rules, and refuses from the moment Vault does. What was
    /// built lies in a folder, and is served after a restart although nothing else can be reached.
    #[command(after_long_help = SERVE_FLUX_EXAMPLES)]
    Flux(ServeFluxArgs),
}

/// `regent serve flux`.
#[derive(Args)]
pub(crate) struct ServeFluxArgs {
    /// The operator's file (`kind: RegentConfig`); by default what `REGENT_CONFIG` names.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// Where artifacts are kept: a volume of this replica's own.
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(crate) data: PathBuf,
    /// Address on which artifacts are served, over plain HTTP: nothing in them is secret.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:9790")]
    pub(crate) artifacts_listen: std::net::SocketAddr,
    /// Address of the endpoint for data keys, over TLS.
    #[arg(long, value_name = "ADDRESS:PORT", requires = "tls_cert", required_unless_present = "endpoint_socket")]
    pub(crate) endpoint_listen: Option<std::net::SocketAddr>,
    /// The endpoint's certificate chain (PEM). Read again when it changes.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its key (PEM).
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// A unix socket for the endpoint, instead or beside: for a sidecar of kustomize-controller (`VAULT_AGENT_ADDR`).
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(crate) endpoint_socket: Option<PathBuf>,
    /// Permissions of the socket, in octal.
    #[arg(long, value_name = "MODE", default_value = "0660", value_parser = octal)]
    pub(crate) socket_mode: u32,
    /// Address of `/metrics`, `/healthz` and `/readyz`; without it they are not served.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<std::net::SocketAddr>,
    #[command(flatten)]
    pub(crate) logs: LogArgs,
}

/// `regent serve argocd`.
#[derive(Args)]
pub(crate) struct ServeArgocdArgs {
    /// The operator's file (`kind: RegentConfig`); by default what `REGENT_CONFIG` names.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// Permissions of the socket, in octal.
    #[arg(long, value_name = "MODE", default_value = "0660", value_parser = octal)]
    pub(crate) socket_mode: u32,
    /// Address of `/metrics`, `/healthz` and `/readyz`; without it they are not served.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<std::net::SocketAddr>,
    #[command(flatten)]
    pub(crate) logs: LogArgs,
    /// Allow an authority store that this process could write, and one in a folder of a pod.
    ///
    /// For a demo: whoever takes such a server over can undo a handover.
    #[arg(long)]
    pub(crate) single_process_demo: bool,
}

/// How a server logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// `regent probe`.
#[derive(Args)]
pub(crate) struct ProbeArgs {
    /// The plugin's socket; where not given, the one that the operator's file names.
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(crate) socket: Option<PathBuf>,
    /// The operator's file (`kind: RegentConfig`); by default what `REGENT_CONFIG` names.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// Longest wait for the answer. Keep it below the probe's `timeoutSeconds`, or nobody sees why it failed.
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = value_parser!(u64).range(1..=60))]
    pub(crate) timeout: u64,
}

/// `regent explain`.
#[derive(Args)]
pub(crate) struct ExplainArgs {
    /// The code, such as P5; all of them where not given.
    pub(crate) code: Option<String>,
    /// Output format.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "human")]
    pub(crate) output: ReportOutputArg,
}

/// `regent completions`.
#[derive(Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// How a server tells of itself.
#[derive(Args)]
pub(crate) struct LogArgs {
    /// How logs are written, to standard error.
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "json", help_heading = "Logs")]
    pub(crate) log_format: LogFormat,
    /// What is logged: `error`, `warn`, `info`, `debug` or `trace`. The audit lines are `info`.
    #[arg(long, value_name = "LEVEL", default_value = "info", help_heading = "Logs")]
    pub(crate) log_level: String,
    /// OpenTelemetry collector that spans are exported to (OTLP over gRPC, no TLS).
    #[cfg(feature = "otlp")]
    #[arg(long, value_name = "HOST:PORT", help_heading = "Logs")]
    pub(crate) otlp_address: Option<String>,
}

/// A file mode such as `0660`.
fn octal(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode @ 0..=0o777) => Ok(mode),
        Ok(_) | Err(_) => Err("expects permissions in octal, such as 0660".to_owned()),
    }
}

/// `--color`.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorArg {
    Auto,
    Always,
    Never,
}

impl ColorArg {
    /// Makes every stream of `anstream` follow the choice.
    pub(crate) fn apply(self) {
        match self {
            Self::Auto => anstream::ColorChoice::Auto,
            Self::Always => anstream::ColorChoice::AlwaysAnsi,
            Self::Never => anstream::ColorChoice::Never,
        }
        .write_global();
    }
}

impl Cli {
    /// Parses what was typed; what may also stand in the environment is filled in. An empty variable counts as not
    /// set, which clap's own `env` would refuse.
    pub(crate) fn read() -> Self {
        let mut cli = Self::parse();
        let config = match &mut cli.command {
            Command::Render(args) => Some(&mut args.store.config),
            Command::Status(args) => Some(&mut args.store.config),
            Command::Init(args) => Some(&mut args.store.config),
            Command::Handover(args) => Some(&mut args.run.store.config),
            Command::Import(args) => Some(&mut args.run.store.config),
            Command::Verify(args) => Some(&mut args.store.config),
            Command::Retire(args) => Some(&mut args.store.config),
            Command::Rebootstrap(args) => Some(&mut args.store.config),
            Command::Restore(args) => Some(&mut args.store.config),
            Command::Refresh(args) => Some(&mut args.config),
            Command::Probe(args) => Some(&mut args.config),
            Command::Serve(ServeArgs { door: ServeDoor::Argocd(args) }) => Some(&mut args.config),
            Command::Serve(ServeArgs { door: ServeDoor::Flux(args) }) => Some(&mut args.config),
            Command::Open(_)
            | Command::Lint(_)
            | Command::New(_)
            | Command::Crd
            | Command::Explain(_)
            | Command::Completions(_) => None,
        };
        if let Some(config) = config.filter(|config| config.is_none()) {
            *config = config::variable(REGENT_CONFIG).map(PathBuf::from);
        }
        cli
    }
}

/// What `regent --help` ends with.
fn after_long_help() -> String {
    let widest = ENVIRONMENT.iter().map(|variable| variable.name.len()).max().unwrap_or_default();
    let exits: Vec<String> = EXIT_CODES.iter().map(|(code, meaning)| format!("  {code:<4}{meaning}\n")).collect();
    let variables: Vec<String> =
        ENVIRONMENT.iter().map(|variable| format!("  {:<widest$}  {}", variable.name, variable.meaning)).collect();
    format!("{START_HERE}\n\nExit codes:\n{}\nEnvironment:\n{}", exits.concat(), variables.join("\n"))
}

const START_HERE: &str = "\
Start here:
  regent new clusters/prod --recipient age1..   write regent.yaml, .sops.yaml and an example
  regent render clusters/prod -i key.txt        what the cluster would get, values described
  regent explain                                every rule and every error code";

const SERVE_ARGOCD_EXAMPLES: &str = "\
Examples:
  regent serve argocd --config /etc/regent/regent.yaml --listen 0.0.0.0:8087
  regent serve argocd --config regent.yaml --log-format text --single-process-demo   on a laptop";

const SERVE_FLUX_EXAMPLES: &str = "\
Examples:
  regent serve flux --config /etc/regent/regent.yaml --data /data --endpoint-listen 0.0.0.0:8200 \
      --tls-cert /tls/tls.crt --tls-key /tls/tls.key --listen 0.0.0.0:8087
  regent serve flux --config regent.yaml --data data --endpoint-socket /run/regent/endpoint.sock --log-format text";

const OPEN_EXAMPLES: &str = "\
Examples:
  regent open db.sops.yaml                          values described, with the keys that `sops` would use
  regent open db.sops.yaml -i key.txt --reveal      the file as it was before encryption
  regent open .env.sops --input-type dotenv --output-type json
  ssh host cat db.sops.json | regent open - --input-type json
  regent open backup.tar.age -i keys/ --reveal > backup.tar";

const RENDER_EXAMPLES: &str = "\
Examples:
  regent render clusters/prod -i key.txt            any folder of SOPS manifests, values described
  regent render --repo . --revision main --path clusters/prod
  regent render --repo https://git.example/infra.git --git-token-file token --revision main --path clusters/prod
  regent render clusters/prod --config regent-config.yaml --reveal | kubectl apply --server-side -f -
  regent render clusters/prod --assume vault        what is left once Vault rules: no value
  regent render clusters/prod --watch
  regent render clusters/prod --via regent-v1.sock  what that plugin would answer Argo CD";

const LINT_EXAMPLES: &str = "\
Examples:
  regent lint                                       the current folder
  regent lint --repo . --revision HEAD --path clusters/prod
  regent lint clusters/prod --output sarif > regent.sarif
  regent lint apps/prod --kustomization-file clusters/prod/apps.yaml
                                                    as Flux builds it";

const NEW_EXAMPLES: &str = "\
Examples:
  regent new clusters/prod --recipient age1..       the authority is called `prod`
  regent new . --name staging --recipient \"$(age-keygen -y root.txt)\" --recipient \"$(age-keygen -y cluster.txt)\"";

const STATUS_EXAMPLES: &str = "\
Examples:
  regent status clusters/prod                       without an authority: what opens what
  regent status clusters/prod --store /var/lib/regent
  regent status clusters/prod --context prod        a cluster: witnesses, policies, lock, live Secrets
  regent status clusters/prod --context hub --target-context prod
  regent status clusters/prod --config regent-config.yaml --exit-code --output json";

const INIT_EXAMPLES: &str = "\
Examples:
  regent init clusters/prod --store /var/lib/regent --dry-run
  regent init clusters/prod --config regent-config.yaml

  regent init clusters/prod --context prod --no-vault-yet --dry-run   what it found, and would make
  regent init clusters/prod --context prod --vault-token-file token   asks Vault for a record first
  regent init clusters/eu --context hub --target-context eu           the Secrets live elsewhere
  regent init clusters/prod --context prod --complete                 makes what is missing
  regent init clusters/prod --context prod --from-vault --vault-token-file token
  regent init clusters/prod --context prod --move --as me --as-group regent:break-glass

First, once a cluster: `kubectl apply --server-side -k manifests/cluster`.";

const CRD_EXAMPLES: &str = "\
Examples:
  regent crd | kubectl apply --server-side -f -      without the policies; `manifests/cluster` has both";

const REFRESH_EXAMPLES: &str = "\
Examples:
  regent refresh                             every Application that uses the plugin, in the current context
  regent refresh bootstrap team-a/secrets    these two; the first in Argo CD's namespace
  regent refresh --context prod -o json

Exit code 1 where one was not refreshed, or the plugin refuses it.";

const REBOOTSTRAP_EXAMPLES: &str = "\
Examples:
  regent rebootstrap clusters/prod -i root.txt --context prod --dry-run
  regent rebootstrap clusters/prod -i root.txt --context prod --as $USER --as-group regent:break-glass \\
    --abandon-vault 0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f --save-live live.json.age --overwrite-live app/db
  regent open live.json.age -i root.txt --reveal | kubectl apply --server-side -f -    what was overwritten, back again";

const RESTORE_EXAMPLES: &str = "\
Examples:
  regent restore argocd/repo-creds clusters/prod -i root.txt --context prod --vault-token-file token
  regent restore vault/unseal clusters/prod -i root.txt --context prod    one with `vault: false`: Vault is not asked";

const PROBE_EXAMPLES: &str = "\
Examples:
  regent probe                                      the socket of a plugin with default settings

  regent probe --config /etc/regent/config.yaml --timeout 1
  regent probe --socket /home/argocd/cmp-server/plugins/regent-v1.sock";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  regent explain                                    every code in a line
  regent explain P5                                 what it means, why, and what to do
  regent explain --output json";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  regent completions bash > /etc/bash_completion.d/regent
  regent completions zsh > \"${fpath[1]}/_regent\"
  regent completions fish > ~/.config/fish/completions/regent.fish";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_has_no_contradiction() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_every_option_has_help_and_examples() {
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name}");
            assert!(command.get_after_long_help().is_some_and(|help| help.to_string().contains("Examples:")), "{name}");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{name} {}", argument.get_id());
                assert!(!argument.is_hide_set(), "{name} {}", argument.get_id());
            }
        }
    }

    #[test]
    fn a_plugin_is_asked_with_its_own_keys_and_evidence() {
        let typed = |more: &[&str]| {
            Cli::try_parse_from(["regent", "render", "prod"].iter().chain(more)).map(drop).map_err(|error| error.kind())
        };
        let via = ["--via", "p.sock"];
        assert!(typed(&[&via[..], &["--app", "a", "--env", "A=b=c", "--env", "B="]].concat()).is_ok());
        for other in [&["--assume", "git"][..], &["--store", "s"], &["--watch"], &["-i", "k"]] {
            let refused = typed(&[&via, other].concat());
            assert_eq!(refused, Err(clap::error::ErrorKind::ArgumentConflict), "{other:?}");
        }
        for alone in [&["--app", "a"][..], &["--env", "A=b"], &["--timeout", "1"]] {
            assert_eq!(typed(alone), Err(clap::error::ErrorKind::MissingRequiredArgument), "{alone:?}");
        }
        for bad in [["--env", "A"], ["--env", "=b"], ["--timeout", "0"]] {
            let refused = typed(&[via, bad].concat());
            assert_eq!(refused, Err(clap::error::ErrorKind::ValueValidation), "{bad:?}");
        }
    }

    #[test]
    fn the_help_names_every_environment_variable_and_exit_code() {
        let help = Cli::command().render_long_help().to_string();
        for variable in &ENVIRONMENT {
            assert!(help.contains(variable.name), "{}", variable.name);
        }
        for (_, meaning) in EXIT_CODES {
            assert!(help.contains(meaning), "{meaning}");
        }
    }
}
