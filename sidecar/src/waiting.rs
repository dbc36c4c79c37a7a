//! What the sidecar or its streamer waits for: lines of `/readyz`, and a metric with the reason as its label.

use weir_feed::frames::ApiState;
use weir_feed::holder::answer::NotYet;
use weir_feed::holder::step::Holder;
use weir_feed::time::Now;

/// Declares the reasons, so that none is left out of [`Waiting::ALL`].
macro_rules! reasons {
    ($($name:ident: $means:literal, $then:literal, $advice:literal;)*) => {
        /// Why something waits.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Waiting {
            $($name,)*
        }

        impl Waiting {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// CamelCase, as everywhere in Kubernetes.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// What it means, what happens by itself, and what a person can do.
            pub const fn told(self) -> [&'static str; 3] {
                match self {
                    $(Self::$name => [$means, $then, $advice],)*
                }
            }
        }
    };
}

reasons! {
    NeverSynced: "No operator has filled this replica yet",
        "The streamer is told to wait (503) and keeps what it runs, until one has",
        "see to --feed and --token-file, and to the operator";
    JustStarted: "It has just started, and no operator was heard yet",
        "The streamer is told to wait (503); after ten seconds the replica answers, whoever is heard",
        "nothing: it passes";
    Superseded: "Another instance has taken this Streamer's name over",
        "It answers no more, and ends",
        "give each sidecar a name of its own";
    NameTaken: "Another instance has this Streamer's name",
        "The streamer is told to wait (503); it is let in when that one has said goodbye, or has been silent for a period",
        "give each sidecar a name of its own, unless that one is gone and this is to take its place";
    NoOperator: "No operator listens",
        "The replica serves what it has, and every address is asked again within seconds",
        "see to the operator, to the way there, and to --token-file: the log says what it answers";
    NoLease: "The lease has run out for streams with StopCapturing",
        "They are not served until a leader gives one; GET /lease fails while the streamer captures them, and it is killed",
        "see to the operator and the way there";
    Held: "The operator holds back streams that the streamer runs, or may run",
        "The streamer is told to wait (503) when it asks for them, and keeps what it has",
        "look at the conditions of these Streams";
    DocumentsRefused: "The streamer refuses the newest documents of streams",
        "They are served as it last took them, if ever; the others are not held up",
        "look at the condition Accepted of these Streams";
    ReplicaNotWritten: "The replica cannot be written",
        "Memory serves, which a restart loses; it is tried again with every change",
        "make room on the disk of --data, or let the sidecar write there";
    ForeignHost: "The streamer sends another host than its Streamer's hostname",
        "It is served all the same",
        "set --streamer-hostname, or the streamer's own";
    StreamerApiDown: "The streamer's own API does not answer",
        "It is asked again and again; what the streamer runs is not known meanwhile, and counts as running",
        "look whether the streamer runs, and at --streamer-api";
}

impl Waiting {
    /// As `/readyz` says it.
    pub fn line(self) -> String {
        let [means, then, advice] = self.told();
        let means = means.split_at_checked(1).map_or(String::new(), |(first, rest)| first.to_lowercase() + rest);
        format!("{}: {means}. {then}; {advice}", self.name())
    }
}

/// What there is to wait for now, in the order of [`Waiting::ALL`].
pub fn reasons(holder: &Holder, now: Now) -> Vec<Waiting> {
    let not_yet = holder.not_yet(now);
    let watch = holder.watch();
    let states = [
        (not_yet == Some(NotYet::NeverSynced), Waiting::NeverSynced),
        (not_yet == Some(NotYet::NoMarkYet), Waiting::JustStarted),
        (not_yet == Some(NotYet::Superseded), Waiting::Superseded),
        (holder.waits(), Waiting::NameTaken),
        (!holder.is_connected() && !holder.waits(), Waiting::NoOperator),
        (holder.unleased(now) > 0, Waiting::NoLease),
        (holder.withholds(), Waiting::Held),
        (holder.rows().refused() > 0, Waiting::DocumentsRefused),
        (holder.replica_error().is_some(), Waiting::ReplicaNotWritten),
        (watch.foreign_host.is_some(), Waiting::ForeignHost),
        (watch.api == ApiState::Down, Waiting::StreamerApiDown),
    ];
    states.into_iter().filter(|(is, _)| *is).map(|(_, reason)| reason).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../docs/waiting.md");

    #[test]
    fn the_page_has_every_reason_and_no_other() {
        let rows =
            Waiting::ALL.iter().map(|reason| format!("| `{}` | {} |\n", reason.name(), reason.told().join(" | ")));
        let head = "| sidecar's reason | what it means | what happens by itself | what to do |\n|---|---|---|---|\n";
        let table = head.to_owned() + &rows.collect::<String>();
        assert!(PAGE.contains(&table), "docs/waiting.md is to have this table:\n\n{table}");
        let behind = PAGE.split(&table).nth(1).unwrap_or_default();
        assert!(!behind.starts_with('|'), "docs/waiting.md has a row that no reason stands behind");
    }

    #[test]
    fn every_reason_is_a_metric_and_a_line_that_says_what_is_next() {
        for reason in Waiting::ALL {
            let metrics = crate::metrics::Metrics::default();
            metrics.wait(&[*reason]);
            let shown = metrics.encode().unwrap();
            let line = format!("weir_sidecar_waiting{{reason=\"{}\"}} 1\n", reason.name());
            assert!(shown.contains(&line), "{line} in\n{shown}");
            let [means, then, advice] = reason.told();
            assert!(!means.is_empty() && !then.is_empty() && !advice.is_empty());
            assert!(reason.line().contains(then) && reason.line().ends_with(advice));
        }
    }
}
