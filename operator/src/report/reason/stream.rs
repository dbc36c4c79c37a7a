//! Reasons of a Stream's conditions.

use super::Event::{Quiet, UnlessTrue, Warning};
use super::{EDIT_STREAM, LOOK_AT_STREAMER, Reason, reasons, to};
use crate::report::advice::{Act, Kind};

const SEE_STREAMERS: super::Advice = to("to compare the streamers", Act::ListStreamers);
const STOP_STREAMER: super::Advice = to("to end what it runs", Act::StopStreamer);
const ITS_CHANGE: &str = "the change's own Event tells it";

reasons! {
    ACCEPTED = Reason::well("Accepted");
    PLACED = Reason::well("Placed");
    RUNNING = Reason::well("Running");
    ON_DEMAND = Reason::well("OnDemand");
    DISABLED = Reason::well("Disabled");
    NOT_PLACED = Reason::well("NotPlaced");

    // Accepted: what is wrong with the Stream itself.
    CONFLICT = Reason::waits(
        "Conflict",
        Warning,
        "Another Stream of the namespace has its media name",
        "Nobody captures this one; when the other is deleted it takes the name over",
        &[to("to give it up", Act::Delete(Kind::Stream))],
    );
    MALFORMED = Reason::waits(
        "Malformed",
        Warning,
        "The Stream cannot be read",
        "What was captured goes on as it was; it is read again with every change",
        &[EDIT_STREAM],
    );
    SECRET_NOT_FOUND = Reason::waits(
        "SecretNotFound",
        Warning,
        "A Secret that it names is not there, or is not of type `weir.dev/credentials`",
        "Its streamer goes on with what it took last. One that runs it and has nothing of it in its replica is told to wait \
         (503), and all of that request with it. It is mended as soon as the Secret is there",
        &[to("to make it", Act::MakeSecret)],
    );
    SECRET_KEY_NOT_FOUND = Reason::waits(
        "SecretKeyNotFound",
        Warning,
        "A Secret that it names has not that key",
        "As SecretNotFound",
        &[to("to add it", Act::SetSecretKey)],
    );
    INVALID_SECRET_VALUE = Reason::waits(
        "InvalidSecretValue",
        Warning,
        "A Secret's value cannot stand where the Stream has it",
        "As SecretNotFound",
        &[to("to replace it", Act::SetSecretKey)],
    );
    INVALID_REFERENCE = Reason::waits(
        "InvalidReference",
        Warning,
        "A `${secret:NAME/KEY}` in it cannot be read",
        "Its streamer goes on with what it took last, until the Stream is mended",
        &[EDIT_STREAM],
    );
    INVALID_CONFIG = Reason::waits(
        "InvalidConfig",
        Warning,
        "Its `config` has what no streamer takes",
        "Its streamer goes on with what it took last, until the Stream is mended",
        &[EDIT_STREAM],
    );
    DOCUMENT_TOO_LARGE = Reason::waits(
        "DocumentTooLarge",
        Warning,
        "With its Secrets filled in it is larger than a streamer is given",
        "Its streamer goes on with what it took last, until the Stream is mended",
        &[EDIT_STREAM],
    );
    REJECTED_BY_STREAMER = Reason::waits(
        "RejectedByStreamer",
        Warning,
        "Its streamer refuses its configuration, in the words that stand in the message",
        "The streamer goes on with the last one that it took, if any; the next change is tried again. Other streams are not \
         held up",
        &[EDIT_STREAM],
    );

    // Placed: where it is to be.
    UNSCHEDULABLE = Reason::waits(
        "Unschedulable",
        Warning,
        "Nobody has it, and no streamer can be given it: the message counts why",
        "It is placed as soon as one can take it",
        &[to("to let that one take it", Act::SetPlanned), SEE_STREAMERS],
    );
    NO_DESTINATION = Reason::waits(
        "NoDestination",
        Warning,
        "It has to leave its streamer, or has lost it, and no other can be given it",
        "It stays where it is, and moves as soon as one can take it",
        &[to("to let that one take it", Act::SetPlanned), SEE_STREAMERS],
    );
    MAY_STILL_RUN = Reason::waits(
        "MayStillRun",
        UnlessTrue("after a failover it is the rule, and the Event FailedOver tells it"),
        "A streamer other than its own may still be capturing it",
        "Nobody else is given it before that one's sidecar says that it has let go, or it is gone. With Placed=True its own \
         streamer captures it meanwhile",
        &[LOOK_AT_STREAMER, STOP_STREAMER],
    );
    DISPUTED = Reason::waits(
        "Disputed",
        Warning,
        "A sidecar says that the stream is its own, under a key that the operator does not have",
        "Whoever captures it goes on; it is not placed anew until that claim is withdrawn",
        &[
            to("to prove the claim", Act::Say("restore the Secret with the key ring (the state directory without Kubernetes)")),
            to("to drop it, wipe its sidecar's data directory after", Act::StopStreamer),
        ],
    );
    HOLDER_LOST = Reason::waits(
        "HolderLost",
        Quiet("the Streamer's own Event, Silent or StreamerDown, tells it once for all of its streams"),
        "Its streamer is silent, and not yet for as long as `failover.after`",
        "It moves at the time in the message, unless the streamer comes back",
        &[to("to give the streamer more time", Act::Set(Kind::Stream, "failover.after", "1h")), LOOK_AT_STREAMER],
    );
    POLICY_PENDING = Reason::waits(
        "PolicyPending",
        Warning,
        "Its streamer is silent, and has not heard yet that the stream's `failover.partition` is `StopCapturing`",
        "It stays there until the streamer is back: it may go on capturing",
        &[to("to let it move all the same", Act::Set(Kind::Stream, "failover.partition", "KeepCapturing")), LOOK_AT_STREAMER],
    );
    NOT_POLLING = Reason::waits(
        "NotPolling",
        Warning,
        "Its streamer does not ask its sidecar, and its own API shows that it captures the stream",
        "It stays there, or two would capture it, until the streamer asks again or is stopped",
        &[LOOK_AT_STREAMER, to("to move it", Act::StopStreamer)],
    );
    RELEASING = Reason::waits(
        "Releasing",
        Quiet(ITS_CHANGE),
        "It is on its way: its streamer lets go of it first, then the next one has it",
        "That takes a poll or two; a move that takes longer than the release period is called off",
        &[LOOK_AT_STREAMER],
    );
    RELEASE_TIMED_OUT = Reason::waits(
        "ReleaseTimedOut",
        Warning,
        "Its streamer did not let go of it in time",
        "It stays there and is captured; a move is tried again at the time in the message. One that is deleted or disabled \
         keeps its record until the streamer has let go or is gone",
        &[LOOK_AT_STREAMER, STOP_STREAMER],
    );
    WAITING = Reason::waits(
        "Waiting",
        Quiet("it takes one period at most, and a streamer that keeps it waiting has an Event Silent"),
        "A new leader hears the streamers out, or a streamer lets go first",
        "It goes on when they have reported, at the latest at the time in the message",
        &[SEE_STREAMERS],
    );
    LETTING_GO = Reason::waits(
        "LettingGo",
        Quiet(ITS_CHANGE),
        "It is taken off its streamer, because it was deleted or disabled, and is wanted again",
        "It is placed anew when the streamer has let go of it",
        &[LOOK_AT_STREAMER],
    );
    SLICE_FULL = Reason::waits(
        "SliceFull",
        Warning,
        "The Placement that it belongs to has no room for further streams",
        "It is placed when streams of the same Placement were deleted; those that are placed are not touched",
        &[to("to make room", Act::Say("put further streams into another namespace"))],
    );
    WRITE_REFUSED = Reason::waits(
        "WriteRefused",
        Warning,
        "The API server refuses to write its Placement, as it does while a namespace is being deleted",
        "It stays as it was, and is tried again at the time in the message",
        &[to("to see why", Act::Say("look at the operator's log and at the namespace"))],
    );
    WRITE_POSTPONED = Reason::waits(
        "WritePostponed",
        Quiet("it takes seconds: what Weir writes of its own accord is spread over time, and failovers go first"),
        "It was decided, and is not written yet",
        "It is written in a moment",
        &[to("to look", Act::Describe(Kind::Stream))],
    );

    // Captured: whether it runs.
    HELD = Reason::waits(
        "Held",
        Warning,
        "Its streamer is not given it yet, because another one may still be capturing it",
        "It is given to it when the other has let go or is gone",
        &[LOOK_AT_STREAMER],
    );
    NO_LEASE = Reason::waits(
        "NoLease",
        Warning,
        "Its `failover.partition` is `StopCapturing`, and its streamer has no lease to capture it under",
        "It is captured when the leader gives one: when every Streamer was heard or is surely stopped",
        &[
            to("to see who was not heard", Act::ListStreamers),
            to("to capture it without a lease", Act::Set(Kind::Stream, "failover.partition", "KeepCapturing")),
        ],
    );
    NOT_REPORTED = Reason::waits(
        "NotReported",
        Quiet("the Streamer's own Event, Silent or StreamerDown, tells it once for all of its streams"),
        "Its streamer does not tell what it runs",
        "It is known again when the sidecar is connected and reads its streamer's API",
        &[LOOK_AT_STREAMER],
    );
    NOT_RUNNING = Reason::waits(
        "NotRunning",
        Quiet("every stream passes through it; after a minute it is NotStarting"),
        "Its streamer has it and does not run it yet",
        "It runs after the streamer's next poll",
        &[LOOK_AT_STREAMER],
    );
    NOT_STARTING = Reason::waits(
        "NotStarting",
        Warning,
        "Its streamer has had it for more than a minute and does not run it",
        "It stays there: a streamer that is there and polls is not gone. It is captured as soon as the streamer runs it",
        &[LOOK_AT_STREAMER, EDIT_STREAM],
    );
}
