//! Reasons of the operator itself: lines of its `/readyz`.

use super::Event::Quiet;
use super::{Reason, reasons, to};
use crate::report::advice::Act;

/// An operator is no object, and what it cannot read it cannot write an Event on either.
const READYZ: super::Event = Quiet("/readyz and the log tell it");
const SEE_API: super::Advice = to("to mend it", Act::Say("see to the API server, and to the operator's rights (RBAC)"));

reasons! {
    STANDBY = Reason::waits(
        "Standby",
        READYZ,
        "Another operator leads, or none does yet",
        "It takes over when the Lease is free; sidecars are sent on to the leader",
        &[to("to see who leads", Act::Say("kubectl get lease, in the operator's namespace; without Kubernetes the lock file's"))],
    );
    LEASE_NOT_SEEN = Reason::waits(
        "LeaseNotSeen",
        READYZ,
        "The Lease has not been seen yet",
        "It is asked for again and again; sidecars serve their replicas meanwhile",
        &[SEE_API],
    );
    KEYS_MISSING = Reason::waits(
        "KeysMissing",
        READYZ,
        "The grants' keys are not known",
        "They are asked for every few seconds; nothing is taken over before they are there",
        &[to("to mend it", Act::Say("let the operator read and make the Secret with its key ring"))],
    );
    TAKING_OVER = Reason::waits(
        "TakingOver",
        READYZ,
        "Placements are being taken over from the last leader",
        "It takes a moment: each is written once before anything is decided",
        &[SEE_API],
    );
    HEARING_OUT = Reason::waits(
        "HearingOut",
        READYZ,
        "A new leader waits for the streamers to report",
        "Nothing moves and nothing new is placed before they have, or one period is over; everything is captured as it was",
        &[to("to see who has not", Act::Say("kubectl get wsr -A; without Kubernetes weir-operator get streamers -A"))],
    );
    STREAMS_UNKNOWN = Reason::waits(
        "StreamsUnknown",
        READYZ,
        "The list of Streams is not known",
        "Everything is captured as it was, and nothing is decided until it is",
        &[SEE_API],
    );
    STREAMERS_UNKNOWN = Reason::waits(
        "StreamersUnknown",
        READYZ,
        "The list of Streamers is not known",
        "Everything is captured as it was, and nothing is decided until it is",
        &[SEE_API],
    );
    SECRETS_UNKNOWN = Reason::waits(
        "SecretsUnknown",
        READYZ,
        "The list of Secrets is not known",
        "Everything is captured as it was, and no report is written until it is",
        &[SEE_API],
    );
    OBSERVATION_TROUBLED = Reason::waits(
        "ObservationTroubled",
        READYZ,
        "Something of what users declare cannot be read: a note says what",
        "What was read before stays in force, and it is tried again",
        &[to("to mend it", Act::Say("do what the note says"))],
    );
}
