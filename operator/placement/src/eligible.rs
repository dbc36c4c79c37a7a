//! Hard constraints: who can be given a stream at all.

use weir_feed::frames::Partition;

use crate::claim::Claim;
use crate::draft::{Draft, Seat};
use crate::plan::Setting;
use crate::world::{Stream, Streamer};

/// A streamer that might be given a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub(crate) seat: &'a Seat<'a>,
    pub(crate) stream: &'a Stream,
    /// The stream leaves it, or has lost it.
    left: bool,
    /// It may be running the stream and is lost.
    lost: bool,
    /// A place is reserved on it for this stream.
    reserved: bool,
}

/// What a streamer must fulfil to be given a stream.
#[derive(Debug)]
pub(crate) struct Constraint {
    holds: fn(&Candidate<'_>) -> bool,
    /// "1 …": of one streamer that does not fulfil it.
    one: &'static str,
    /// "2 …": of several.
    many: &'static str,
    /// What a person can do about it.
    remedy: fn(&Stream) -> String,
    /// The field of the streamer that does it, and its value.
    set: Option<fn(&Seat<'_>) -> Setting>,
}

/// Why no streamer can be given a stream.
#[derive(Debug)]
pub(crate) struct Refusals {
    pub(crate) sentence: String,
    /// A streamer that is nearest to being available.
    pub(crate) about: Option<String>,
    /// The field of it that would make it so, and its value.
    pub(crate) set: Option<Setting>,
}

/// All of them, the least curable first: a streamer is counted under the first that it does not fulfil.
pub(crate) const CONSTRAINTS: [Constraint; 9] = [
    Constraint {
        holds: |candidate| !candidate.left,
        one: "is the one that it leaves",
        many: "are the one that it leaves",
        remedy: |_| "add a streamer".to_owned(),
        set: None,
    },
    Constraint {
        holds: |candidate| streamer_selected(candidate.stream, candidate.seat.streamer),
        one: "does not match the stream's selector",
        many: "do not match the stream's selector",
        remedy: |stream| {
            format!(
                "label a streamer {}, or change the Stream's spec.placement.streamerSelector",
                stream.streamer_selector
            )
        },
        set: None,
    },
    Constraint {
        holds: |candidate| stream_selected(candidate.stream, candidate.seat.streamer),
        one: "does not select the stream's labels",
        many: "do not select the stream's labels",
        remedy: |_| "label the Stream to match a Streamer's spec.streamSelector or change that".to_owned(),
        set: None,
    },
    Constraint {
        holds: |candidate| !candidate.seat.streamer.drain,
        one: "draining",
        many: "draining",
        remedy: |_| "end a drain by setting the Streamer's spec.drain to false".to_owned(),
        set: Some(|_| ("drain", "false".to_owned())),
    },
    Constraint {
        holds: |candidate| !candidate.seat.streamer.unschedulable,
        one: "unschedulable",
        many: "unschedulable",
        remedy: |_| "uncordon a Streamer by setting its spec.unschedulable to false".to_owned(),
        set: Some(|_| ("unschedulable", "false".to_owned())),
    },
    Constraint {
        holds: |candidate| candidate.stream.partition == Partition::KeepCapturing || candidate.seat.streamer.supervised,
        one: "not supervised",
        many: "not supervised",
        remedy: |_| {
            "the Stream's failover.partition is StopCapturing: have the liveness check of a streamer ask its sidecar's \
             GET /lease, or set KeepCapturing"
                .to_owned()
        },
        set: None,
    },
    Constraint {
        holds: |candidate| candidate.seat.streamer.not_ready.is_none(),
        one: "not ready",
        many: "not ready",
        remedy: |_| "see the condition Ready of the Streamers".to_owned(),
        set: None,
    },
    Constraint {
        holds: |candidate| !candidate.lost,
        one: "silent",
        many: "silent",
        remedy: |_| "bring the silent streamer or its sidecar back".to_owned(),
        set: None,
    },
    Constraint {
        holds: |candidate| candidate.reserved || candidate.seat.has_room(),
        one: "at capacity",
        many: "at capacity",
        remedy: |_| "raise spec.capacity.streams of a Streamer or add one".to_owned(),
        set: Some(|seat| ("capacity.streams", seat.used().saturating_add(1).to_string())),
    },
];

impl<'a> Candidate<'a> {
    /// `from` is whom the stream leaves, `to` where it has a place reserved.
    pub(crate) fn new(
        name: &'a str,
        seat: &'a Seat<'a>,
        claim: &Claim<'a>,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Self {
        Self {
            seat,
            stream: claim.stream,
            left: from == Some(name),
            lost: claim.known.may_run.get(name).is_some_and(Option::is_some),
            reserved: to == Some(name),
        }
    }

    /// The first constraint that it does not fulfil, as its place in [`CONSTRAINTS`].
    fn refused_by(&self) -> Option<usize> {
        CONSTRAINTS.iter().position(|constraint| !(constraint.holds)(self))
    }

    pub(crate) fn is_eligible(&self) -> bool {
        self.refused_by().is_none()
    }

    /// Why it cannot be given the stream, in a few words.
    pub(crate) fn refusal(&self) -> Option<&'static str> {
        self.refused_by().map(|at| CONSTRAINTS[at].one)
    }
}

/// Every streamer of the namespace as a candidate for `claim`.
pub(crate) fn candidates<'d, 'a: 'd>(
    draft: &'d Draft<'a>,
    claim: &'d Claim<'a>,
    from: Option<&'d str>,
    to: Option<&'d str>,
) -> impl Iterator<Item = (&'a str, Candidate<'d>)> {
    draft.seats.iter().map(move |(name, seat)| (*name, Candidate::new(name, seat, claim, from, to)))
}

/// As the scheduler of Kubernetes says it: `0/3 streamers are available: 1 at capacity, 2 unschedulable`, and the remedy
/// for those that are nearest to being available.
pub(crate) fn explain<'c>(stream: &Stream, candidates: impl Iterator<Item = (&'c str, Candidate<'c>)>) -> Refusals {
    let mut refused = [0_usize; CONSTRAINTS.len()];
    let mut nearest: Option<(usize, &str, Candidate<'_>)> = None;
    for (name, candidate) in candidates {
        if let Some(at) = candidate.refused_by() {
            refused[at] += 1;
            if nearest.is_none_or(|(before, ..)| before < at) {
                nearest = Some((at, name, candidate));
            }
        }
    }
    let Some((at, name, candidate)) = nearest else {
        let sentence = "0/0 streamers are available: start a streamer with its sidecar in this namespace".to_owned();
        return Refusals { sentence, about: None, set: None };
    };
    let reasons: Vec<String> = CONSTRAINTS
        .iter()
        .zip(refused)
        .filter(|(_, count)| *count > 0)
        .map(|(constraint, count)| match count {
            1 => format!("1 {}", constraint.one),
            _ => format!("{count} {}", constraint.many),
        })
        .collect();
    let (total, reasons) = (refused.iter().sum::<usize>(), reasons.join(", "));
    let remedy = (CONSTRAINTS[at].remedy)(stream);
    Refusals {
        sentence: format!("0/{total} streamers are available: {reasons}; {remedy}"),
        about: Some(name.to_owned()),
        set: CONSTRAINTS[at].set.map(|set| set(candidate.seat)),
    }
}

/// Whether `streamer` is one that `stream` may be on, and the other way round: what keeps a stream where it is.
pub(crate) fn is_valid(stream: &Stream, streamer: &Streamer) -> bool {
    streamer_selected(stream, streamer) && stream_selected(stream, streamer)
}

fn streamer_selected(stream: &Stream, streamer: &Streamer) -> bool {
    stream.streamer_selector.matches(&streamer.labels)
}

fn stream_selected(stream: &Stream, streamer: &Streamer) -> bool {
    streamer.stream_selector.matches(&stream.labels)
}
