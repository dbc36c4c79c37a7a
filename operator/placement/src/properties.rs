//! What every plan of every world fulfils, against [`crate::oracle`].

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;
use weir_feed::frames::Partition;
use weir_feed::periods::Periods;
use weir_feed::record::{Change, Phase, Record, StreamId, StreamerId};

use crate::fixture::{NOW, labels, selector};
use crate::oracle;
use crate::plan::{Outlook, Plan, plan};
use crate::reason;
use crate::selector::Selector;
use crate::world::{Known, Namespace, Removal, Stream, Streamer, World};

fn rarely() -> impl Strategy<Value = bool> {
    proptest::bool::weighted(0.15)
}

fn zone() -> impl Strategy<Value = BTreeMap<String, String>> {
    select(vec![labels("zone", "a"), labels("zone", "b"), BTreeMap::new()])
}

fn wish() -> impl Strategy<Value = Selector> {
    prop_oneof![
        4 => Just(Selector::default()),
        1 => Just(selector("zone", "a")),
        1 => Just(selector("zone", "b")),
    ]
}

/// s0–s4 may have an object; s5 never has.
fn a_streamer(known: usize) -> impl Strategy<Value = String> {
    (0..known).prop_map(|at| format!("s{at}"))
}

fn a_time() -> impl Strategy<Value = u64> {
    select(vec![0, 5_000, 12_000, 29_999, 30_000, 57_999, 60_000])
}

fn policy() -> impl Strategy<Value = Partition> {
    prop_oneof![3 => Just(Partition::KeepCapturing), 1 => Just(Partition::StopCapturing)]
}

prop_compose! {
    fn streamers()(streamers in btree_map(
        a_streamer(5),
        (
            zone(), wish(), weighted(0.5, 0_u32..5), rarely(), rarely(),
            weighted(0.15, Just("does not poll".to_owned())), proptest::bool::weighted(0.7),
        ),
        0..=5,
    )) -> BTreeMap<String, Streamer> {
        streamers.into_iter().map(|(name, (labels, stream_selector, capacity, unschedulable, drain, not_ready, supervised))| {
            (name, Streamer { labels, stream_selector, capacity, unschedulable, drain, not_ready, supervised })
        }).collect()
    }
}

prop_compose! {
    fn streams()(streams in btree_map(
        0_usize..12, (0_usize..9, 0_u64..3, zone(), wish(), rarely(), a_time(), 0_usize..2, policy()), 0..12,
    )) -> Vec<Stream> {
        streams.into_iter().map(|(at, (name, created, labels, streamer_selector, disabled, after, uid, partition))| Stream {
            object: format!("o{at}"),
            uid: format!("u{uid}"),
            name: format!("m{name}"),
            created,
            labels,
            streamer_selector,
            disabled,
            after,
            partition,
        }).collect()
    }
}

prop_compose! {
    fn a_record()(
        object in 0_usize..12,
        uid in 0_usize..2,
        streamer in a_streamer(6),
        releasing in proptest::bool::weighted(0.4),
        to in weighted(0.7, a_streamer(6)),
        previous in weighted(0.2, a_streamer(6)),
        partition in policy(),
    ) -> Record {
        Record {
            name: String::new(),
            stream: format!("o{object}"),
            uid: format!("u{uid}"),
            streamer: streamer.clone(),
            epoch: 7,
            phase: if releasing { Phase::Releasing } else { Phase::Active },
            to: to.filter(|to| releasing && *to != streamer),
            previous: previous.filter(|previous| *previous != streamer),
            partition,
        }
    }
}

prop_compose! {
    fn known()(
        record in weighted(0.7, a_record()),
        holder_lost in weighted(0.3, a_time()),
        not_polling in rarely(),
        released in proptest::bool::weighted(0.3),
        ended in rarely(),
        releasing_for in weighted(0.5, a_time()),
        called_off in weighted(0.15, a_time()),
        may_run in btree_map(a_streamer(6), weighted(0.4, a_time()), 0..2),
        disputed in weighted(0.1, a_streamer(6)),
        runs in any::<bool>(),
    ) -> Known {
        let mut known = Known { record, holder_lost, not_polling, released, ended, releasing_for, called_off, may_run, disputed };
        if let Some(record) = known.record.as_ref().filter(|_| runs) {
            known.may_run.insert(record.streamer.clone(), known.holder_lost);
        }
        if let Some(record) = known.record.as_ref().filter(|_| known.ended) {
            known.may_run.remove(&record.streamer);
        }
        known
    }
}

prop_compose! {
    fn namespace()(
        streams in streams(),
        unreadable in btree_set((0_usize..12).prop_map(|at| format!("o{at}")), 0..2),
        streamers in streamers(),
        mut known in btree_map((0_usize..9).prop_map(|at| format!("m{at}")), known(), 0..9),
        unheard in weighted(0.1, a_streamer(6)),
        (unknown, confirmed, recent, until) in (
            rarely(), rarely(), select(vec![0, 0, 20]), weighted(0.2, select(vec![NOW.wall - 1, NOW.wall + 1_000])),
        ),
    ) -> Namespace {
        for (name, known) in &mut known {
            if let Some(record) = &mut known.record {
                record.name.clone_from(name);
            }
        }
        let unreadable: BTreeSet<String> =
            unreadable.into_iter().filter(|object| streams.iter().all(|s| s.object != *object)).collect();
        let removal = Removal { unknown, until, confirmed, namespace_terminating: false, recent, wait: 0 };
        let unheard = unheard.into_iter().map(|name| (name, 20_000)).collect();
        Namespace { streams, unreadable, streamers, known, removal, unheard }
    }
}

prop_compose! {
    fn world()(namespaces in vec(namespace(), 1..3), settled in proptest::bool::weighted(0.95)) -> World {
        World {
            settled,
            settles_in: (!settled).then_some(1_000),
            periods: Periods::default(),
            namespaces: namespaces.into_iter().enumerate().map(|(at, n)| (format!("n{at}"), n)).collect(),
        }
    }
}

/// Every change with its namespace and what is known of its stream.
fn changes<'a>(world: &'a World, plan: &'a Plan) -> impl Iterator<Item = (&'a Namespace, &'a str, Known, &'a Change)> {
    plan.changes.iter().map(|planned| {
        let namespace = &world.namespaces[&planned.stream.namespace];
        let name = planned.stream.name.as_str();
        let known = namespace.known.get(name).cloned().unwrap_or_default();
        (namespace, name, known, &planned.change)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_order_of_the_input_does_not_matter(world in world(), seed in any::<u64>()) {
        let mut shuffled = world.clone();
        for namespace in shuffled.namespaces.values_mut() {
            namespace.streams.sort_by_cached_key(|s| {
                use std::hash::{DefaultHasher, Hash, Hasher};
                let mut hasher = DefaultHasher::new();
                (seed, &s.object).hash(&mut hasher);
                hasher.finish()
            });
        }
        prop_assert_eq!(plan(&world, NOW), plan(&shuffled, NOW));
    }

    #[test]
    fn everyone_hears_and_each_stream_changes_once_at_most_in_order(world in world()) {
        let plan = plan(&world, NOW);
        let ids: Vec<&StreamId> = plan.changes.iter().map(|planned| &planned.stream).collect();
        prop_assert!(ids.is_sorted_by(|a, b| a < b));
        let mut heard = BTreeSet::new();
        for (name, namespace) in &world.namespaces {
            for stream in &namespace.streams {
                let id = StreamId { namespace: name.clone(), name: stream.object.clone() };
                prop_assert!(plan.streams.contains_key(&id), "{} heard nothing", id);
                heard.insert(id);
            }
            for streamer in namespace.streamers.keys() {
                let id = StreamerId { namespace: name.clone(), name: streamer.clone() };
                prop_assert!(plan.streamers.contains_key(&id), "{} heard nothing", id);
            }
        }
        prop_assert_eq!(heard.len(), plan.streams.len());
    }

    #[test]
    fn namespaces_are_walls(world in world()) {
        let whole = plan(&world, NOW);
        let mut parts = Plan::default();
        for (name, namespace) in &world.namespaces {
            let alone = World { namespaces: BTreeMap::from([(name.clone(), namespace.clone())]), ..world.clone() };
            let part = plan(&alone, NOW);
            parts.changes.extend(part.changes);
            parts.streams.extend(part.streams);
            parts.streamers.extend(part.streamers);
            parts.held_removals.extend(part.held_removals);
            parts.wake_in = parts.wake_in.into_iter().chain(part.wake_in).min();
        }
        prop_assert_eq!(whole, parts);
    }

    #[test]
    fn capacity_is_never_exceeded_whichever_of_the_changes_are_written(world in world(), written in any::<u64>()) {
        let plan = plan(&world, NOW);
        for (name, namespace) in &world.namespaces {
            for mask in [u64::MAX, written] {
                let before = oracle::after(name, namespace, &plan, |_, _| false);
                let after = oracle::after(name, namespace, &plan, |at, _| mask >> (at % 64) & 1 == 1);
                let (before, after) = (oracle::places(before.iter()), oracle::places(after.iter()));
                for (streamer, at) in &namespace.streamers {
                    let adopted = changes(&world, &plan).filter(|(of, _, known, change)| {
                        let here = matches!(change, Change::Place { streamer: target, .. } if target == streamer);
                        std::ptr::eq(*of, namespace) && here && oracle::is_adopted(known, change)
                    });
                    let had = before.get(streamer.as_str()).copied().unwrap_or(0) + adopted.count();
                    let has = after.get(streamer.as_str()).copied().unwrap_or(0);
                    let capacity = at.capacity.map_or(usize::MAX, |c| c as usize);
                    prop_assert!(has <= capacity.max(had), "{} has {} of {}", streamer, has, capacity);
                }
            }
        }
    }

    #[test]
    fn outlooks_count_what_is_there_when_the_plan_is_carried_out(world in world()) {
        let plan = plan(&world, NOW);
        for (name, namespace) in &world.namespaces {
            let after = oracle::after(name, namespace, &plan, |_, _| true);
            let places = oracle::places(after.iter());
            for streamer in namespace.streamers.keys() {
                let outlook = &plan.streamers[&StreamerId { namespace: name.clone(), name: streamer.clone() }];
                let told = (outlook.streams + outlook.reserved) as usize;
                prop_assert_eq!(told, places.get(streamer.as_str()).copied().unwrap_or(0));
            }
            for stream in &namespace.streams {
                let record = after.iter().find(|record| record.name == stream.name);
                match &plan.streams[&StreamId { namespace: name.clone(), name: stream.object.clone() }] {
                    Outlook::Placed { streamer, .. } => {
                        let record = record.unwrap();
                        prop_assert_eq!((&record.streamer, record.phase), (streamer, Phase::Active));
                    }
                    Outlook::Releasing { streamer, to, note } => {
                        if let Some(record) = record {
                            let stands = (&record.streamer, &record.to, record.phase);
                            prop_assert_eq!(stands, (streamer, to, Phase::Releasing));
                        } else {
                            prop_assert_eq!(note.as_ref().unwrap().reason, reason::MAY_STILL_RUN);
                        }
                    }
                    Outlook::Disabled => prop_assert!(record.is_none() && stream.disabled),
                    Outlook::Pending(_) => prop_assert!(record.is_none() && !stream.disabled),
                    Outlook::Conflict { with } => prop_assert_ne!(with, &stream.object),
                }
            }
        }
    }

    #[test]
    fn a_stream_only_goes_where_it_may_and_adopt_allows(world in world()) {
        let plan = plan(&world, NOW);
        for (namespace, name, known, change) in changes(&world, &plan) {
            let record = known.record.as_ref();
            let holder = record.map(|record| record.streamer.as_str());
            let (target, except) = match change {
                Change::Place { streamer, .. } => {
                    prop_assert!(record.is_none() && known.disputed.is_none());
                    (streamer, None)
                }
                Change::Move { streamer, previous: Some(previous) } => {
                    prop_assert_eq!(Some(previous.as_str()), holder);
                    (streamer, holder)
                }
                Change::Move { streamer, previous: None } => {
                    prop_assert!(known.released || known.ended);
                    (streamer, None)
                }
                Change::Release { to: Some(to) } => (to, holder),
                _ => continue,
            };
            let stream = oracle::owner(namespace, name).unwrap();
            prop_assert!(!stream.disabled && Some(target.as_str()) != holder);
            if oracle::is_adopted(&known, change) {
                continue;
            }
            prop_assert!(oracle::suits(namespace, stream, &known, target), "{} to {}", name, target);
            prop_assert!(oracle::adopt_allows(&world, namespace, stream, &known, target, except), "{} to {}", name, target);
        }
    }

    #[test]
    fn a_record_leaves_its_holder_only_when_that_is_gone_or_has_let_go(world in world()) {
        let plan = plan(&world, NOW);
        for (namespace, name, known, change) in changes(&world, &plan) {
            let stream = oracle::owner(namespace, name);
            let after = stream.map_or(Some(30_000), |stream| oracle::bound(&world, stream, &known));
            let lost = known.holder_lost.is_some_and(|lost| after.is_some_and(|after| lost >= after));
            let gone = known.ended || (lost && !known.not_polling);
            let releasing = known.record.as_ref().is_some_and(|record| record.phase == Phase::Releasing);
            match change {
                Change::Move { previous: Some(_), .. } => prop_assert!(gone && !known.ended),
                Change::Move { previous: None, .. } => prop_assert!(known.ended || (releasing && known.released)),
                Change::Remove => prop_assert!(releasing && (gone || known.released)),
                Change::Keep => prop_assert!(releasing && !gone && known.record.unwrap().to.is_some()),
                _ => {}
            }
        }
    }

    #[test]
    fn what_is_valid_stays(world in world()) {
        let plan = plan(&world, NOW);
        for (namespace, name, known, change) in changes(&world, &plan) {
            if oracle::owner(namespace, name).is_some_and(|stream| oracle::is_content(namespace, stream, &known)) {
                prop_assert!(matches!(change, Change::Rename { .. } | Change::Clear), "{}: {:?}", name, change);
            }
        }
    }

    #[test]
    fn without_a_visible_owner_nothing_is_touched_and_without_settling_nothing_at_all(world in world()) {
        let plan = plan(&world, NOW);
        prop_assert!(world.settled || plan.changes.is_empty());
        for (namespace, name, known, change) in changes(&world, &plan) {
            if oracle::owner(namespace, name).is_none() {
                let hidden = namespace.unreadable.contains(&known.record.unwrap().stream);
                prop_assert!(!namespace.removal.unknown && !hidden);
                let lets_go = matches!(change, Change::Release { to: None } | Change::Remove);
                prop_assert!(lets_go);
            }
        }
    }

    #[test]
    fn only_what_ends_darkness_is_urgent(world in world()) {
        for planned in plan(&world, NOW).changes {
            prop_assert_eq!(planned.urgent, matches!(planned.change, Change::Move { .. } | Change::Keep));
        }
    }

    #[test]
    fn who_waits_for_want_of_a_streamer_finds_none(world in world()) {
        let plan = plan(&world, NOW);
        for (id, outlook) in &plan.streams {
            let (Outlook::Pending(note) | Outlook::Placed { note: Some(note), .. }) = outlook else { continue };
            if note.reason != reason::UNSCHEDULABLE && note.reason != reason::NO_DESTINATION {
                continue;
            }
            let namespace = &world.namespaces[&id.namespace];
            let stream = namespace.streams.iter().find(|stream| stream.object == id.name).unwrap();
            let known = namespace.known.get(&stream.name).cloned().unwrap_or_default();
            let before = oracle::after(&id.namespace, namespace, &plan, |_, _| false);
            let gains = |_: usize, planned: &crate::plan::Planned| {
                matches!(planned.change, Change::Place { .. } | Change::Move { .. } | Change::Release { .. })
            };
            let after = oracle::after(&id.namespace, namespace, &plan, gains);
            let (before, after) = (oracle::places(before.iter()), oracle::places(after.iter()));
            for (name, streamer) in &namespace.streamers {
                let holder = known.record.as_ref().is_some_and(|record| record.streamer == *name);
                // A place freed by this plan is only free in the next, which is then asked for at once.
                let had = before.get(name.as_str()).copied().unwrap_or(0);
                let has = after.get(name.as_str()).copied().unwrap_or(0);
                let full = streamer.capacity.is_some_and(|capacity| had.max(has) >= capacity as usize);
                let vacated = streamer.capacity.is_some() && plan.wake_in == Some(1);
                prop_assert!(
                    holder || full || vacated || !oracle::suits(namespace, stream, &known, name),
                    "{} says {} and could go to {}", id, note.message, name
                );
            }
        }
    }

    #[test]
    fn planning_again_comes_to_rest(world in world(), prompt in any::<bool>()) {
        let mut world = world;
        let mut rounds = 0;
        loop {
            let plan = plan(&world, NOW);
            if plan.changes.is_empty() {
                break;
            }
            rounds += 1;
            prop_assert!(rounds <= 8, "still changing after {} rounds: {:?}", rounds, plan.changes);
            world = oracle::next(&world, &plan, prompt);
        }
    }

    #[test]
    fn equal_streamers_are_filled_evenly(streams in 0_usize..120, streamers in 1_usize..8) {
        let mut scene = crate::fixture::Scene::new(&["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"][..streamers]);
        for at in 0..streams {
            scene = scene.with_new(&format!("m{at}"));
        }
        let plan = scene.plan();
        prop_assert_eq!(plan.changes.len(), streams);
        let counts: Vec<u32> = plan.streamers.values().map(|streamer| streamer.streams).collect();
        prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{:?}", counts);
    }
}
