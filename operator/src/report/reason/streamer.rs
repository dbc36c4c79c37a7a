//! Reasons of a Streamer's conditions.

use super::Event::{Normal, Quiet, Warning};
use super::{LOOK_AT_STREAMER, Reason, reasons, to};
use crate::report::advice::{Act, Kind};

const EDIT_STREAMER: super::Advice = to("to mend it", Act::Edit(Kind::Streamer));
const SIDECAR_LOG: super::Advice = to("to see why", Act::Say("look at the sidecar's log and its /readyz"));

reasons! {
    POLLING = Reason::well("Polling");
    SYNCED = Reason::well("Synced");
    LOADED = Reason::well("Loaded");
    NOT_TOLD = Reason::well("NotTold");
    SUPERVISED = Reason::well("Supervised");
    // Its own condition Ready says why.
    NOT_READY = Reason::well("NotReady");

    // Ready: whether it can be given streams.
    NEVER_REPORTED = Reason::waits(
        "NeverReported",
        Normal,
        "Its sidecar was never heard",
        "It gets streams when its sidecar has connected and its streamer polls",
        &[to("to connect it", Act::Say("start weir-sidecar beside the streamer, with --streamer and this name"))],
    );
    SILENT = Reason::waits(
        "Silent",
        Warning,
        "Its sidecar is not connected",
        "Its streams move, each after its `failover.after`, unless it comes back; what the streamer captures goes on",
        &[SIDECAR_LOG],
    );
    STREAMER_DOWN = Reason::waits(
        "StreamerDown",
        Warning,
        "The streamer does not poll, and its own API does not answer",
        "Its streams move, each after its `failover.after`, unless it comes back",
        &[to("to bring it back", Act::Say("look whether the streamer runs, and start it"))],
    );
    NOT_POLLING = Reason::waits(
        "NotPolling",
        Warning,
        "The streamer does not ask its sidecar for its streams",
        "What its own API shows as captured stays there, everything else moves after its `failover.after`; it gets no new \
         streams",
        &[to("to mend it", Act::Say("set config_external on the streamer to its sidecar's address"))],
    );
    INSTANCE_CONFLICT = Reason::waits(
        "InstanceConflict",
        Warning,
        "A second sidecar says that it is this Streamer",
        "The first one stays; the second is let in when the first has been silent for a period, and nothing moves meanwhile",
        &[to("to end it", Act::Say("give each sidecar a name of its own (--streamer), or stop one of them"))],
    );
    FOREIGN_HOST = Reason::waits(
        "ForeignHost",
        Warning,
        "The streamer calls itself by another name than the Streamer's hostname",
        "It is served all the same",
        &[to("to make them the same, in spec.hostname", Act::Edit(Kind::Streamer))],
    );
    MALFORMED = Reason::waits(
        "Malformed",
        Warning,
        "The Streamer cannot be read",
        "It gets no new streams and keeps those that it has; it is read again with every change",
        &[EDIT_STREAMER],
    );
    TERMINATING = Reason::waits(
        "Terminating",
        Normal,
        "Its pod is being deleted",
        "It gets no new streams. With `weir.dev/drain-on-stop` those that it has move before it ends; the others wait for a pod of its name \
         for as long as their `failover.after`, or move when it has ended where none comes back",
        &[to("to see why", Act::Say("look at its pod and at what owns that"))],
    );
    SCHEDULING_DISABLED = Reason::waits(
        "SchedulingDisabled",
        Normal,
        "It is cordoned",
        "It keeps its streams and gets no new ones",
        &[to("to give it new ones", Act::Set(Kind::Streamer, "unschedulable", "false"))],
    );
    DRAINING = Reason::waits(
        "Draining",
        Normal,
        "Its streams are being moved away",
        "Each moves as soon as another streamer can take it: one that cannot says NoDestination",
        &[to("to end the drain", Act::Set(Kind::Streamer, "drain", "false"))],
    );
    DRAINED = Reason::waits(
        "Drained",
        Normal,
        "Its streams have been moved away: it can be taken down",
        "It gets no streams",
        &[to("to give it streams again", Act::Set(Kind::Streamer, "drain", "false"))],
    );
    AT_CAPACITY = Reason::waits(
        "AtCapacity",
        Normal,
        "It has as many streams as `capacity.streams` allows",
        "It gets new ones when others have left it",
        &[to("to give it more", Act::SetPlanned)],
    );

    // Synced: whether its replica is the leader's view.
    NEVER_SYNCED = Reason::waits(
        "NeverSynced",
        Quiet("it takes seconds, and the streamer keeps what it runs"),
        "Its replica is being filled for the first time",
        "Until then its streamer is told to wait (503) and keeps what it runs",
        &[SIDECAR_LOG],
    );
    BEHIND = Reason::waits(
        "Behind",
        Quiet("it passes by itself, and the metric counts it"),
        "Its replica does not have everything yet",
        "It serves what it has, and catches up as fast as it can write",
        &[SIDECAR_LOG],
    );
    REPLICA_NOT_WRITTEN = Reason::waits(
        "ReplicaNotWritten",
        Warning,
        "Its sidecar cannot write its replica",
        "It answers from memory, and tries again with every change; what is in memory only is lost when it restarts, and it \
         then waits for an operator",
        &[to("to mend it", Act::Say("make room on the disk of its --data directory, or let the sidecar write there"))],
    );
    STRAYS_HELD = Reason::waits(
        "StraysHeld",
        Warning,
        "Its sidecar has streams that neither a record nor a Stream stands behind, as after a lost API",
        "They run on until the time in the message; then they are stopped, unless their Streams are there again",
        &[to("to keep them", Act::Say("apply their Streams again, from wherever they are kept"))],
    );

    // ConfigAccepted: whether the streamer takes what it is given.
    INVALID_STREAMS = Reason::waits(
        "InvalidStreams",
        Warning,
        "The streamer refuses the documents of the streams that the message names",
        "Those are served as it last took them, if ever; the others are not held up",
        &[to("to see its words", Act::Say("look at the condition Accepted of those Streams"))],
    );
    REFUSED = Reason::waits(
        "Refused",
        Warning,
        "The streamer refuses what it fetched, and does not say which stream",
        "It captures what it had, and takes nothing new until it is given something that it takes",
        &[to("to end it", Act::Say("undo the latest change of a Stream that it holds, or see to what the message says"))],
    );
    WITHHELD = Reason::waits(
        "Withheld",
        Warning,
        "It runs streams that it cannot be given now, and is told to wait (503) when it asks for them",
        "It keeps everything as it is: other streams asked for in the same request wait too, until those can be given",
        &[to("to see why", Act::Say("look at the conditions of those Streams")), LOOK_AT_STREAMER],
    );

    // Supervised: whether StopCapturing can be kept.
    NOT_SUPERVISED = Reason::waits(
        "NotSupervised",
        Quiet("only streams with StopCapturing need it, and one that finds no streamer says Unschedulable"),
        "Nobody asks its sidecar's `GET /lease`: nobody would kill a streamer that captures on when it is cut off",
        "Streams with `StopCapturing` are not placed here until somebody asks; for all others it does not matter",
        &[to("to change that", Act::Say("have the streamer's liveness check ask its sidecar's GET /lease"))],
    );
    BOOTS_WITH_CONFIGURATION = Reason::waits(
        "BootsWithConfiguration",
        Warning,
        "The streamer captured streams when it had started and was not answered yet",
        "A stream with `StopCapturing` that has moved meanwhile is captured twice until its first poll; no other is placed here until \
         it has started with none",
        &[to("to mend it", Act::Say("have the streamer boot with an empty configuration"))],
    );
}
