//! What to type to decide otherwise: commands with the real names in them, or what to change where there is no
//! `kubectl`.

use serde_json::{Value, json};

use crate::cluster::{CONFIRM_REMOVAL, Declared};

/// A kind of object that can be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Stream,
    Streamer,
}

/// One thing that a person can do, and what it is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advice {
    /// `to end the drain`.
    pub to: &'static str,
    pub act: Act,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// A field of `spec` is given a value.
    Set(Kind, &'static str, &'static str),
    /// The field of the Streamer that the plan names is given the value that it names.
    SetPlanned,
    Edit(Kind),
    Delete(Kind),
    /// Everything that is known of one.
    Describe(Kind),
    /// All Streamers, to compare.
    ListStreamers,
    /// The streamer's process is ended, wherever it runs.
    StopStreamer,
    MakeSecret,
    SetSecretKey,
    ConfirmRemoval,
    /// Nothing that a command does: the same everywhere.
    Say(&'static str),
}

/// The names that are put in. Advice that needs one which is not known is left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Names<'a> {
    pub namespace: &'a str,
    pub stream: Option<&'a str>,
    pub streamer: Option<&'a str>,
    /// A Secret, and a key of it.
    pub secret: Option<(&'a str, &'a str)>,
    pub placement: Option<&'a str>,
    /// A field of the Streamer's `spec`, and its value.
    pub set: Option<(&'a str, &'a str)>,
}

/// What stands in the place of real names where none are known.
pub const PLACEHOLDERS: Names<'_> = Names {
    namespace: "NS",
    stream: Some("NAME"),
    streamer: Some("STREAMER"),
    secret: Some(("SECRET", "KEY")),
    placement: Some("placement-X"),
    set: Some(("FIELD", "VALUE")),
};

impl Advice {
    /// `to end the drain: kubectl …`
    pub fn sentence(&self, names: &Names<'_>, declared: Declared) -> Option<String> {
        let command = self.command(names, declared)?;
        Some(format!("{}: {command}", self.to))
    }

    /// The command alone.
    pub fn command(&self, names: &Names<'_>, declared: Declared) -> Option<String> {
        match declared {
            Declared::WithKubectl => self.act.with_kubectl(names),
            Declared::InManifests => self.act.in_manifests(names),
        }
    }
}

impl Kind {
    fn short(self) -> &'static str {
        match self {
            Self::Stream => "wst",
            Self::Streamer => "wsr",
        }
    }

    fn plural(self) -> &'static str {
        match self {
            Self::Stream => "streams",
            Self::Streamer => "streamers",
        }
    }

    fn name<'a>(self, names: &Names<'a>) -> Option<&'a str> {
        match self {
            Self::Stream => names.stream,
            Self::Streamer => names.streamer,
        }
    }
}

impl Act {
    fn with_kubectl(self, names: &Names<'_>) -> Option<String> {
        let namespace = names.namespace;
        let on = |verb: &str, kind: Kind| {
            let name = kind.name(names)?;
            Some(format!("kubectl -n {namespace} {verb} {} {name}", kind.short()))
        };
        let set = |kind: Kind, field: &str, value: &str| {
            let patch = merge_patch(&format!("spec.{field}"), value);
            Some(format!("{} --type merge -p '{patch}'", on("patch", kind)?))
        };
        match self {
            Self::Set(kind, field, value) => set(kind, field, value),
            Self::SetPlanned => names.set.and_then(|(field, value)| set(Kind::Streamer, field, value)),
            Self::Edit(kind) => on("edit", kind),
            Self::Delete(kind) => on("delete", kind),
            Self::Describe(kind) => on("describe", kind),
            Self::ListStreamers => Some(format!("kubectl -n {namespace} get wsr")),
            Self::StopStreamer => Some(format!("kubectl -n {namespace} delete pod {}", names.streamer?)),
            Self::MakeSecret => names.secret.map(|(secret, key)| {
                format!(
                    "kubectl -n {namespace} create secret generic {secret} --type weir.dev/credentials \
                     --from-literal {key}=VALUE"
                )
            }),
            Self::SetSecretKey => names.secret.map(|(secret, key)| {
                let patch = merge_patch(&format!("stringData.{key}"), "VALUE");
                format!("kubectl -n {namespace} patch secret {secret} --type merge -p '{patch}'")
            }),
            Self::ConfirmRemoval => names.placement.map(|placement| {
                format!("kubectl -n {namespace} annotate placements.weir.dev {placement} {CONFIRM_REMOVAL}=true")
            }),
            Self::Say(what) => Some(what.to_owned()),
        }
    }

    fn in_manifests(self, names: &Names<'_>) -> Option<String> {
        let namespace = names.namespace;
        let get = |plural: &str| format!("weir-operator get {plural} -n {namespace}");
        let manifest = |kind: Kind| Some(format!("the manifest of {kind:?} {}", kind.name(names)?));
        let set =
            |kind: Kind, field: &str, value: &str| Some(format!("set spec.{field} to {value} in {}", manifest(kind)?));
        match self {
            Self::Set(kind, field, value) => set(kind, field, value),
            Self::SetPlanned => names.set.and_then(|(field, value)| set(Kind::Streamer, field, value)),
            Self::Edit(kind) => Some(format!("edit {}", manifest(kind)?)),
            Self::Delete(kind) => Some(format!("remove {}", manifest(kind)?)),
            Self::Describe(kind) => Some(format!("{} {} -o yaml", get(kind.plural()), kind.name(names)?)),
            Self::ListStreamers => Some(get("streamers")),
            Self::StopStreamer => Some(format!("stop the streamer {} on its server", names.streamer?)),
            Self::MakeSecret => names.secret.map(|(secret, key)| {
                format!("add a manifest of Secret {secret}, of type weir.dev/credentials and with the key {key}")
            }),
            Self::SetSecretKey => {
                names.secret.map(|(secret, key)| format!("set the key {key} in the manifest of Secret {secret}"))
            }
            Self::ConfirmRemoval => names.placement.map(|placement| {
                format!(
                    "set the annotation {CONFIRM_REMOVAL} to \"true\" in placements/{namespace}/{placement}.json of the \
                     state directory"
                )
            }),
            Self::Say(what) => Some(what.to_owned()),
        }
    }
}

/// `{"spec":{"failover":{"after":"1h"}}}`
fn merge_patch(path: &str, value: &str) -> Value {
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
    path.rsplit('.').fold(value, |inner, key| json!({ key: inner }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: Names<'_> = Names {
        namespace: "media",
        stream: Some("bunny"),
        streamer: Some("s1"),
        secret: Some(("cam", "password")),
        placement: Some("placement-7"),
        set: Some(("capacity.streams", "5")),
    };

    fn both(act: Act) -> (String, String) {
        let advice = Advice { to: "to", act };
        let command = |declared| advice.command(&NAMES, declared).unwrap();
        (command(Declared::WithKubectl), command(Declared::InManifests))
    }

    #[test]
    fn a_field_is_patched_or_set_in_the_manifest() {
        let (kubectl, manifest) = both(Act::Set(Kind::Stream, "failover.after", "1h"));
        assert_eq!(
            kubectl,
            r#"kubectl -n media patch wst bunny --type merge -p '{"spec":{"failover":{"after":"1h"}}}'"#
        );
        assert_eq!(manifest, "set spec.failover.after to 1h in the manifest of Stream bunny");
        let (kubectl, _) = both(Act::Set(Kind::Streamer, "drain", "false"));
        assert_eq!(kubectl, r#"kubectl -n media patch wsr s1 --type merge -p '{"spec":{"drain":false}}'"#);
        let (kubectl, manifest) = both(Act::SetPlanned);
        assert_eq!(kubectl, r#"kubectl -n media patch wsr s1 --type merge -p '{"spec":{"capacity":{"streams":5}}}'"#);
        assert_eq!(manifest, "set spec.capacity.streams to 5 in the manifest of Streamer s1");
    }

    #[test]
    fn nothing_says_kubectl_where_there_is_none() {
        for act in [
            Act::Edit(Kind::Stream),
            Act::Delete(Kind::Stream),
            Act::Describe(Kind::Streamer),
            Act::ListStreamers,
            Act::StopStreamer,
            Act::MakeSecret,
            Act::SetSecretKey,
            Act::ConfirmRemoval,
        ] {
            let (kubectl, manifest) = both(act);
            assert!(kubectl.starts_with("kubectl -n media ") && !manifest.contains("kubectl"), "{act:?}: {manifest}");
        }
    }

    #[test]
    fn advice_without_its_name_is_left_out() {
        let advice = Advice { to: "to look", act: Act::Describe(Kind::Streamer) };
        assert_eq!(advice.sentence(&Names { streamer: None, ..NAMES }, Declared::WithKubectl), None);
        let sentence = advice.sentence(&NAMES, Declared::WithKubectl).unwrap();
        assert_eq!(sentence, "to look: kubectl -n media describe wsr s1");
    }
}
