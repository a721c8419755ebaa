//! What Argo CD says of a request: the metadata in front of the upload.
//!
//! The names are those of Argo CD's environment for plugins. `ARGOCD_APP_*` is written by Argo CD itself;
//! `ARGOCD_ENV_*` and the parameters are whatever the Application says, so they can only narrow what a rule allows.

use std::collections::BTreeMap;

use regent_core::name::{AuthorityName, Namespace};
use regent_core::rules::{Asked, Rule, RuleRefusal};
use regent_core::{Refusal, repository};
use serde::Deserialize;

use super::proto::{ManifestRequestMetadata, ParameterAnnouncement};
use crate::failure::Failure;

/// An Application, as Argo CD sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Application {
    /// `ARGOCD_APP_NAME`; `<namespace>_<name>` for one outside Argo CD's own namespace.
    pub(crate) name: String,
    /// `ARGOCD_APP_PROJECT_NAME`.
    pub(crate) project: String,
    repo: String,
    /// The folder in the repository, as the Application names it.
    pub(crate) path: String,
    /// What the Application names: a branch, a tag, a commit.
    pub(crate) target_revision: String,
    /// The commit.
    pub(crate) revision: String,
    namespace: String,
    /// The folder in the upload, which need not start at the repository's top.
    pub(crate) folder: String,
    /// SHA-256 of the upload, lower-case hexadecimal.
    pub(crate) checksum: String,
    narrowed: Narrowed,
}

/// What an Application asks of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Narrowed {
    authority: Option<AuthorityName>,
    namespaces: Option<Vec<Namespace>>,
}

impl Application {
    /// Reads the metadata. Names that regent does not know are passed over, as Argo CD sends more with every
    /// version; what is said twice is refused.
    pub(crate) fn parse(metadata: &ManifestRequestMetadata) -> Result<Self, Failure> {
        let mut environment = BTreeMap::new();
        for entry in &metadata.env {
            let Ok(name) = std::str::from_utf8(&entry.name) else { continue };
            let known = name.starts_with("ARGOCD_");
            if known && environment.insert(name, text(name, &entry.value)?).is_some() {
                return Err(Failure::Request(format!("says {name} twice")));
            }
        }
        let get = |name: &str| environment.get(name).copied().unwrap_or_default();
        let narrowed = Narrowed::parse(get(AUTHORITY), get(NAMESPACES), get(PARAMETERS))?;
        if let Some(unknown) = environment
            .keys()
            .find(|name| name.starts_with("ARGOCD_ENV_REGENT_") && **name != AUTHORITY && **name != NAMESPACES)
        {
            return Err(Failure::Request(format!("sets {unknown}, which is unknown")));
        }
        Ok(Self {
            name: get("ARGOCD_APP_NAME").to_owned(),
            project: get("ARGOCD_APP_PROJECT_NAME").to_owned(),
            repo: get("ARGOCD_APP_SOURCE_REPO_URL").to_owned(),
            path: get("ARGOCD_APP_SOURCE_PATH").to_owned(),
            target_revision: get("ARGOCD_APP_SOURCE_TARGET_REVISION").to_owned(),
            revision: get("ARGOCD_APP_REVISION").to_owned(),
            namespace: get("ARGOCD_APP_NAMESPACE").to_owned(),
            folder: text("appRelPath", &metadata.app_rel_path)?.to_owned(),
            checksum: text("checksum", &metadata.checksum)?.to_owned(),
            narrowed,
        })
    }

    /// What the rules are asked.
    pub(crate) fn asked(&self) -> Asked<'_> {
        Asked {
            project: &self.project,
            repo: &self.repo,
            path: &self.path,
            target_revision: &self.target_revision,
            revision: &self.revision,
            namespace: &self.namespace,
        }
    }

    /// The folder of the repository at which the upload starts (`""` for its top): what the Application's path has
    /// more than the folder in the upload.
    pub(crate) fn start(&self) -> Result<String, Failure> {
        let components = |path: &str| -> Vec<String> {
            path.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect()
        };
        let (path, folder) = (components(&self.path), components(&self.folder));
        match path.strip_suffix(folder.as_slice()) {
            Some(start) if !path.iter().chain(&folder).any(|part| part == "..") => Ok(start.join("/")),
            Some(_) | None => Err(Failure::Request(format!(
                "names the folder `{}`, and `{}` in its upload: one has to end with the other",
                self.path, self.folder
            ))),
        }
    }

    /// The namespaces of the rule, as far as the Application wants them.
    pub(crate) fn namespaces(&self, rule: &Rule) -> Result<Vec<String>, Failure> {
        if let Some(expected) = &self.narrowed.authority
            && *expected != rule.authority
        {
            let what = format!("authority `{expected}` here: the rule is for `{}`", rule.authority);
            return Err(Refusal::from(RuleRefusal::NotAllowed { what }).into());
        }
        Ok(match &self.narrowed.namespaces {
            None => rule.namespaces.clone(),
            Some(wanted) => {
                let wanted = wanted.iter().map(Namespace::as_str);
                wanted.filter(|namespace| rule.allows_namespace(namespace)).map(str::to_owned).collect()
            }
        })
    }

    /// The command that makes Argo CD ask again: it caches answers for a day and failures for an hour.
    pub(crate) fn refresh(&self, argocd: &Namespace) -> String {
        let (namespace, name) = self.name.split_once('_').unwrap_or((argocd.as_str(), &self.name));
        // A line that people copy holds no more than names.
        let is_name = |text: &str| {
            text.len() <= 63 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
        };
        let (namespace, name) =
            if is_name(namespace) && is_name(name) { (namespace, name) } else { ("argocd", "NAME") };
        let command = format!("kubectl -n {namespace} annotate app {name} argocd.argoproj.io/refresh=hard");
        // The whole error is one line of less than 200 characters, and half a command is none.
        if command.len() <= 95 {
            command
        } else {
            "kubectl annotate app NAME argocd.argoproj.io/refresh=hard".to_owned()
        }
    }

    /// The repository without what may be a password in its address.
    pub(crate) fn repository(&self) -> String {
        repository::shown(&self.repo)
    }
}

/// What a person can set in an Application, for Argo CD's user interface.
pub(crate) fn announcements() -> Vec<ParameterAnnouncement> {
    let announce = |name: &str, title: &str, tooltip: &str, collection: &str| ParameterAnnouncement {
        name: name.to_owned(),
        title: title.to_owned(),
        tooltip: tooltip.to_owned(),
        item_type: "string".to_owned(),
        collection_type: collection.to_owned(),
        ..ParameterAnnouncement::default()
    };
    vec![
        announce(
            "authority",
            "Authority",
            "The authority that this Application expects. Another one is an error; none is asked for where it is empty.",
            "",
        ),
        announce(
            "namespaces",
            "Namespaces",
            "Only these namespaces, of those that the operator allows. A document of another one is an error.",
            "array",
        ),
    ]
}

const AUTHORITY: &str = "ARGOCD_ENV_REGENT_AUTHORITY";
const NAMESPACES: &str = "ARGOCD_ENV_REGENT_NAMESPACES";
const PARAMETERS: &str = "ARGOCD_APP_PARAMETERS";

/// A parameter as `ARGOCD_APP_PARAMETERS` lists it.
#[derive(Deserialize)]
struct Parameter {
    name: String,
    string: Option<String>,
    array: Option<Vec<String>>,
}

impl Narrowed {
    fn parse(authority: &str, namespaces: &str, parameters: &str) -> Result<Self, Failure> {
        let refused = |what: &str| Failure::Request(what.to_owned());
        let mut narrowed = Self::default();
        if !authority.is_empty() {
            narrowed.authority = Some(AuthorityName::parse(authority).map_err(|bad| refused(&bad.to_string()))?);
        }
        let parse = |list: Vec<&str>| {
            let names = list.into_iter().map(|name| Namespace::parse(name.trim()));
            names.collect::<Result<Vec<_>, _>>().map_err(|bad| refused(&bad.to_string()))
        };
        if !namespaces.is_empty() {
            narrowed.namespaces = Some(parse(namespaces.split(',').collect())?);
        }
        if parameters.is_empty() {
            return Ok(narrowed);
        }
        let list: Option<Vec<Parameter>> =
            serde_json::from_str(parameters).map_err(|_| refused("has parameters that are not Argo CD's JSON"))?;
        for parameter in list.unwrap_or_default() {
            match (parameter.name.as_str(), parameter.string, parameter.array) {
                ("authority", Some(name), None) if narrowed.authority.is_none() => {
                    narrowed.authority = Some(AuthorityName::parse(&name).map_err(|bad| refused(&bad.to_string()))?);
                }
                ("namespaces", None, Some(list)) if narrowed.namespaces.is_none() => {
                    narrowed.namespaces = Some(parse(list.iter().map(String::as_str).collect())?);
                }
                ("authority" | "namespaces", _, _) => {
                    return Err(refused(&format!(
                        "sets the parameter `{}` twice, or with a value of another type",
                        parameter.name
                    )));
                }
                // A slip in a name must not leave something open that was meant to be narrow.
                (unknown, _, _) => return Err(refused(&format!("sets the parameter `{unknown}`, which is unknown"))),
            }
        }
        Ok(narrowed)
    }
}

fn text<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a str, Failure> {
    std::str::from_utf8(bytes).map_err(|_| Failure::Request(format!("says a {name} that is not UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::argocd::proto::EnvEntry;

    fn application(entries: &[(&str, &str)]) -> Result<Application, Failure> {
        let entry = |(name, value): &(&str, &str)| EnvEntry { name: (*name).into(), value: (*value).into() };
        Application::parse(&ManifestRequestMetadata {
            env: entries.iter().map(entry).collect(),
            app_rel_path: "prod".into(),
            ..ManifestRequestMetadata::default()
        })
    }

    fn refusal(entries: &[(&str, &str)]) -> String {
        application(entries).err().unwrap().to_string()
    }

    #[test]
    fn the_upload_starts_where_the_two_folders_differ() {
        let start = |path: &str, folder: &str| {
            let mut application = application(&[]).unwrap();
            (application.path, application.folder) = (path.to_owned(), folder.to_owned());
            application.start().ok()
        };
        assert_eq!(start("clusters/prod", "clusters/prod").as_deref(), Some(""));
        assert_eq!(start("./clusters//prod/", "prod").as_deref(), Some("clusters"));
        assert_eq!(start("clusters/prod", ".").as_deref(), Some("clusters/prod"));
        assert_eq!(start(".", ".").as_deref(), Some(""));
        assert_eq!(start("clusters/prod", "clusters/test"), None);
        assert_eq!(start("prod", "clusters/prod"), None);
        assert_eq!(start("../prod", "../prod"), None);
    }

    #[test]
    fn what_is_said_twice_is_refused_and_what_is_unknown_passed_over() {
        assert_eq!(
            refusal(&[("ARGOCD_APP_PROJECT_NAME", "a"), ("ARGOCD_APP_PROJECT_NAME", "b")]),
            "the request says ARGOCD_APP_PROJECT_NAME twice"
        );
        let known = application(&[("KUBE_VERSION", "1"), ("KUBE_VERSION", "2"), ("ARGOCD_ENV_X", ""), ("", "")]);
        assert!(known.is_ok());
    }

    #[test]
    fn parameters_and_environment_can_only_narrow() {
        let rule = |namespaces: &str| {
            let config = format!(
                "apiVersion: regent.dev/v1alpha1\nkind: RegentConfig\nstore: {{kind: kubernetes}}\nrules: [{{authority: \
                 prod, bootstrap: prod/regent.yaml, namespaces: {namespaces}}}]\n"
            );
            regent_core::rules::RegentConfig::parse("f", config.as_bytes()).unwrap().rules.remove(0)
        };
        let namespaces = |entries: &[(&str, &str)], allowed: &str| {
            application(entries).unwrap().namespaces(&rule(allowed)).map_err(|failure| failure.to_string())
        };
        assert_eq!(namespaces(&[], "[a, b]").unwrap(), ["a", "b"]);
        assert_eq!(namespaces(&[(NAMESPACES, "b, c")], "[a, b]").unwrap(), ["b"]);
        assert_eq!(namespaces(&[(NAMESPACES, "b")], "['*']").unwrap(), ["b"]);
        let parameters = r#"[{"name":"namespaces","array":["a"]},{"name":"authority","string":"prod"}]"#;
        assert_eq!(namespaces(&[(PARAMETERS, parameters)], "['*']").unwrap(), ["a"]);
        assert_eq!(namespaces(&[(PARAMETERS, "null")], "[a]").unwrap(), ["a"]);
        assert_eq!(
            namespaces(&[(AUTHORITY, "test")], "[a]").unwrap_err(),
            "no rule allows authority `test` here: the rule is for `prod`"
        );
        for bad in [
            r#"[{"name":"namespace","string":"a"}]"#,
            r#"[{"name":"namespaces","string":"a"}]"#,
            r#"[{"name":"namespaces","array":["*"]}]"#,
            "{}",
        ] {
            assert!(refusal(&[(PARAMETERS, bad)]).starts_with("the request "), "{bad}");
        }
        assert!(refusal(&[("ARGOCD_ENV_REGENT_NAMESPACE", "a")]).ends_with("which is unknown"));
    }

    #[test]
    fn the_refresh_command_names_the_application_where_it_is() {
        let refresh = |name: &str| application(&[("ARGOCD_APP_NAME", name)]).unwrap().refresh(&Namespace::argocd());
        assert_eq!(refresh("web"), "kubectl -n argocd annotate app web argocd.argoproj.io/refresh=hard");
        assert_eq!(refresh("team_web"), "kubectl -n team annotate app web argocd.argoproj.io/refresh=hard");
    }
}
