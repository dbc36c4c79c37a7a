//! What the operator itself waits for, as `/readyz` and a metric say it. Pure.

use weir_feed::leader::Role;

use crate::cluster::{Declared, LeaseEvent};
use crate::http::Standing;
use crate::report::advice::Names;
use crate::report::reason::{Reason, operator as reasons};

/// What is known of the operator.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    /// The lists that are known.
    pub(super) streams: bool,
    pub(super) streamers: bool,
    pub(super) secrets: bool,
    pub(super) role: Role,
    pub(super) settled: bool,
    /// What the election said last.
    pub(super) lease: Option<&'a LeaseEvent>,
    /// The grants' keys are there.
    pub(super) keys: bool,
    /// What is wrong with the observation.
    pub(super) problems: &'a [String],
}

/// What it waits for, first what keeps it from its work.
pub(super) fn reasons(facts: &Facts<'_>) -> Vec<Reason> {
    let holds = matches!(facts.lease, Some(LeaseEvent::Held { .. }));
    let states = [
        (!facts.streams, reasons::STREAMS_UNKNOWN),
        (!facts.streamers, reasons::STREAMERS_UNKNOWN),
        (!facts.secrets, reasons::SECRETS_UNKNOWN),
        (facts.role == Role::Taking, reasons::TAKING_OVER),
        (facts.lease.is_none(), reasons::LEASE_NOT_SEEN),
        (holds && !facts.keys, reasons::KEYS_MISSING),
        (facts.role == Role::Standby && matches!(facts.lease, Some(LeaseEvent::Lost { .. })), reasons::STANDBY),
        (facts.role == Role::Leading && !facts.settled, reasons::HEARING_OUT),
        (!facts.problems.is_empty(), reasons::OBSERVATION_TROUBLED),
    ];
    states.into_iter().filter(|(is, _)| *is).map(|(_, reason)| reason).collect()
}

/// What `/readyz` says of it.
pub(super) fn standing(waits: &[Reason], problems: &[String], declared: Declared) -> Standing {
    // These do not keep it from its work.
    let working = [reasons::STANDBY, reasons::HEARING_OUT, reasons::OBSERVATION_TROUBLED];
    let (notes, missing): (Vec<&Reason>, Vec<&Reason>) = waits.iter().partition(|reason| working.contains(reason));
    let lines = |reasons: Vec<&Reason>| reasons.into_iter().map(|reason| line(reason, declared)).collect::<Vec<_>>();
    let mut notes = lines(notes);
    notes.extend(problems.iter().cloned());
    Standing { missing: lines(missing), notes }
}

fn line(reason: &Reason, declared: Declared) -> String {
    let Some(waits) = reason.waiting() else { return reason.name().to_owned() };
    let advice: Vec<String> =
        waits.advice.iter().filter_map(|advice| advice.sentence(&Names::default(), declared)).collect();
    let means = waits.means.split_at_checked(1).map_or(String::new(), |(first, rest)| first.to_lowercase() + rest);
    format!("{}: {means}. {}; {}", reason.name(), waits.then, advice.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Facts<'_> = Facts {
        streams: true,
        streamers: true,
        secrets: true,
        role: Role::Leading,
        settled: true,
        lease: Some(&LeaseEvent::Held { deadline: 9, highest_term: 1 }),
        keys: true,
        problems: &[],
    };

    /// Facts for which that reason, and no other, is given.
    fn facts(reason: &Reason) -> Facts<'static> {
        const LOST: LeaseEvent = LeaseEvent::Lost { leader: None };
        match reason.name() {
            "Standby" => Facts { role: Role::Standby, lease: Some(&LOST), ..WELL },
            "LeaseNotSeen" => Facts { role: Role::Standby, lease: None, ..WELL },
            "KeysMissing" => Facts { role: Role::Standby, keys: false, ..WELL },
            "TakingOver" => Facts { role: Role::Taking, ..WELL },
            "HearingOut" => Facts { settled: false, ..WELL },
            "StreamsUnknown" => Facts { streams: false, ..WELL },
            "StreamersUnknown" => Facts { streamers: false, ..WELL },
            "SecretsUnknown" => Facts { secrets: false, ..WELL },
            "ObservationTroubled" => {
                let problems: &'static [String] = Box::leak(Box::new(["a.yaml: is bad".to_owned()]));
                Facts { problems, ..WELL }
            }
            other => panic!("nothing brings {other} about: add it here"),
        }
    }

    #[test]
    fn every_reason_of_the_operator_is_a_line_a_metric_and_says_what_is_next() {
        assert!(super::reasons(&WELL).is_empty());
        for reason in reasons::ALL {
            let facts = facts(reason);
            assert_eq!(super::reasons(&facts), [*reason]);
            let standing = standing(&[*reason], facts.problems, Declared::WithKubectl);
            let line = standing.missing.first().or(standing.notes.first()).unwrap();
            let waits = reason.waiting().unwrap();
            assert!(line.starts_with(&format!("{}: ", reason.name())) && line.contains(waits.then), "{line}");
            assert!(waits.advice.iter().any(|advice| line.contains(advice.to)), "{line}");
            let mut registry = prometheus_client::registry::Registry::default();
            crate::metrics::Metrics::registered(&mut registry).operator(&[*reason]);
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            let metric = format!("weir_operator_waiting{{reason=\"{}\"}} 1\n", reason.name());
            assert!(text.contains(&metric), "{metric} in\n{text}");
        }
    }
}
