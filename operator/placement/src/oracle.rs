//! What the rules say of one world, written a second time and the slow way, to hold a plan against.

use std::collections::BTreeMap;

use weir_feed::frames::Partition;
use weir_feed::record::{Change, Phase, Record};

use crate::plan::{Plan, Planned};
use crate::world::{Known, Namespace, Stream, World};

/// Streams in the order in which they may have a media name, the rightful one first.
pub(crate) fn owner<'a>(namespace: &'a Namespace, name: &str) -> Option<&'a Stream> {
    let named = record_of(namespace, name).map(|record| record.stream.clone());
    let mut rivals: Vec<&Stream> = namespace.streams.iter().filter(|s| s.name == name).collect();
    if let Some(named) = named {
        if let Some(at) = rivals.iter().position(|s| s.object == named) {
            return Some(rivals[at]);
        }
        if namespace.removal.unknown || namespace.unreadable.contains(&named) {
            return None;
        }
    }
    rivals.sort_by(|a, b| a.object.cmp(&b.object));
    rivals.sort_by_key(|s| s.created);
    rivals.first().copied()
}

pub(crate) fn record_of<'a>(namespace: &'a Namespace, name: &str) -> Option<&'a Record> {
    namespace.known.get(name)?.record.as_ref()
}

/// Places taken at each streamer: by holders and by streams on their way.
pub(crate) fn places<'a>(records: impl Iterator<Item = &'a Record>) -> BTreeMap<&'a str, usize> {
    let mut places = BTreeMap::new();
    for record in records {
        *places.entry(record.streamer.as_str()).or_default() += 1;
        if let Some(to) = &record.to {
            *places.entry(to.as_str()).or_default() += 1;
        }
    }
    places
}

/// Whether a streamer would do for a stream but for its capacity.
pub(crate) fn suits(namespace: &Namespace, stream: &Stream, known: &Known, streamer: &str) -> bool {
    let Some(at) = namespace.streamers.get(streamer) else {
        return false;
    };
    let silent = matches!(known.may_run.get(streamer), Some(Some(_)));
    let open = at.not_ready.is_none() && !at.unschedulable && !at.drain;
    let wanted = stream.streamer_selector.matches(&at.labels);
    let killed = at.supervised || stream.partition == Partition::KeepCapturing;
    killed && open && !silent && wanted && at.stream_selector.matches(&stream.labels)
}

/// For how long a streamer must have been lost; `None`: however long, it is not gone.
pub(crate) fn bound(world: &World, stream: &Stream, known: &Known) -> Option<u64> {
    let periods = &world.periods;
    let mut waits = vec![stream.after, periods.silence + periods.poll + periods.ping];
    if stream.partition == Partition::StopCapturing {
        if known.record.as_ref().is_some_and(|record| record.partition == Partition::KeepCapturing) {
            return None;
        }
        waits.push(periods.stream_lease + periods.poll + periods.kill);
    }
    waits.into_iter().max()
}

/// **Adopt**, of a stream that goes to `target` and whose old holder `except` is gone or lets go first.
pub(crate) fn adopt_allows(
    world: &World,
    namespace: &Namespace,
    stream: &Stream,
    known: &Known,
    target: &str,
    except: Option<&str>,
) -> bool {
    let bound = bound(world, stream, known);
    let runs = known.may_run.iter().all(|(streamer, lost)| {
        let gone = lost.is_some_and(|lost| bound.is_some_and(|bound| lost >= bound));
        streamer == target || Some(streamer.as_str()) == except || gone
    });
    runs && (stream.partition == Partition::KeepCapturing || namespace.unheard.is_empty())
}

/// Whether the stream is to be placed where it may be running already: there it takes no new place.
pub(crate) fn is_adopted(known: &Known, change: &Change) -> bool {
    match change {
        Change::Place { streamer, .. } => known.may_run.get(streamer) == Some(&None),
        _ => false,
    }
}

/// Whether nothing is the matter with the stream where it is.
pub(crate) fn is_content(namespace: &Namespace, stream: &Stream, known: &Known) -> bool {
    let Some(record) = &known.record else {
        return false;
    };
    let settled_there = namespace.streamers.get(&record.streamer).is_none_or(|at| {
        let wanted = stream.streamer_selector.matches(&at.labels);
        !at.drain && wanted && at.stream_selector.matches(&stream.labels)
    });
    record.phase == Phase::Active && !stream.disabled && known.holder_lost.is_none() && !known.ended && settled_there
}

/// The namespace's records after those changes of the plan that `carried_out` lets through.
pub(crate) fn after(
    name: &str,
    namespace: &Namespace,
    plan: &Plan,
    carried_out: impl Fn(usize, &Planned) -> bool,
) -> Vec<Record> {
    let mut records: BTreeMap<String, Record> =
        namespace.known.iter().filter_map(|(name, known)| Some((name.clone(), known.record.clone()?))).collect();
    for (at, planned) in plan.changes.iter().enumerate() {
        let stream = &planned.stream;
        if stream.namespace != name || !carried_out(at, planned) {
            continue;
        }
        let old = records.remove(&stream.name);
        if let Some(new) = Record::apply(&stream.name, old.as_ref(), &planned.change, 99) {
            records.insert(stream.name.clone(), new);
        }
    }
    records.into_values().collect()
}

/// What a leader would know once the plan is written and nothing else has happened; with `prompt`, holders that were
/// told to let go have.
pub(crate) fn next(world: &World, plan: &Plan, prompt: bool) -> World {
    let mut world = world.clone();
    for Planned { stream, change, .. } in &plan.changes {
        let namespace = world.namespaces.get_mut(&stream.namespace).unwrap();
        let known = namespace.known.entry(stream.name.clone()).or_default();
        let old = known.record.take();
        known.record = Record::apply(&stream.name, old.as_ref(), change, 99);
        let leaves = matches!(change, Change::Place { .. } | Change::Move { .. } | Change::Remove);
        let released = std::mem::take(&mut known.released) || known.ended;
        known.ended &= !leaves;
        let holder = old.as_ref().map(|old| old.streamer.clone());
        match change {
            Change::Place { streamer, .. } | Change::Move { streamer, .. } => {
                if let Some(holder) = holder.filter(|_| released) {
                    known.may_run.remove(&holder);
                }
                known.may_run.insert(streamer.clone(), None);
                (known.holder_lost, known.not_polling) = (None, false);
                (known.releasing_for, known.called_off) = (None, None);
            }
            Change::Release { .. } => known.releasing_for = Some(0),
            Change::Keep => (known.releasing_for, known.called_off) = (None, Some(0)),
            Change::Remove => {
                if let Some(holder) = holder.filter(|_| released) {
                    known.may_run.remove(&holder);
                }
                (known.holder_lost, known.releasing_for) = (None, None);
            }
            Change::Clear | Change::Rename { .. } | Change::Policy { .. } | Change::Correct { .. } => {}
        }
    }
    for known in world.namespaces.values_mut().flat_map(|n| n.known.values_mut()) {
        let there = known.holder_lost.is_none();
        if let Some(record) = known.record.as_ref().filter(|r| r.phase == Phase::Releasing)
            && prompt
            && there
        {
            known.may_run.remove(&record.streamer);
            known.released = true;
        }
    }
    world
}
