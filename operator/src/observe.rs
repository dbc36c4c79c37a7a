//! What was observed and what the leader knows, as the planner's world and the leader's wants. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use weir_crds::stream::Stream;
use weir_crds::streamer::Streamer;
use weir_feed::leader::Leader;
use weir_feed::leader::step::Want;
use weir_feed::leader::view::StreamerView;
use weir_feed::periods::Periods;
use weir_feed::record::{StreamId, StreamerId};
use weir_feed::time::Now;
use weir_placement::selector::{Operator, Requirement, Selector};
use weir_placement::world::{self, Namespace, Removal, World};

use crate::cluster::{Credentials, Object, ObjectRef, Observed, Pod};
use crate::document::{self, Rendered};

/// The world of one plan.
pub fn world(observed: &Observed, leader: &Leader, periods: &Periods, now: Now) -> World {
    let mut namespaces: BTreeMap<String, Namespace> = BTreeMap::new();
    for (object, stream) in observed.streams.iter().flatten() {
        let namespace = namespaces.entry(object.namespace.clone()).or_default();
        match stream {
            Object::Readable(stream) => namespace.streams.push(stream_facts(stream)),
            Object::Malformed { .. } => {
                namespace.unreadable.insert(object.name.clone());
            }
        }
    }
    for (object, streamer) in observed.streamers.iter().flatten() {
        if let Object::Readable(streamer) = streamer {
            let id = StreamerId { namespace: object.namespace.clone(), name: object.name.clone() };
            let view = leader.streamer(&id, now);
            let facts = streamer_facts(streamer, view.as_ref(), going(observed, object, view.as_ref()));
            namespaces.entry(object.namespace.clone()).or_default().streamers.insert(object.name.clone(), facts);
        }
    }
    for (namespace, known) in leader.known(now) {
        namespaces.entry(namespace).or_default().known = known;
    }
    for (name, namespace) in &mut namespaces {
        namespace.unheard = leader.unheard(name, now);
    }
    let mut world =
        World { settled: leader.is_settled(), settles_in: leader.settles_in(now), periods: *periods, namespaces };
    look_at_removals(&mut world, observed, leader, now);
    world
}

/// What the leader knows of Streams that vanish, which changes when it is told what is wanted.
pub fn look_at_removals(world: &mut World, observed: &Observed, leader: &Leader, now: Now) {
    for (name, namespace) in &mut world.namespaces {
        let view = leader.removal(name, now);
        namespace.removal = Removal {
            unknown: observed.streams.is_none(),
            until: view.until,
            confirmed: view.confirmed,
            namespace_terminating: observed.terminating.contains(name),
            recent: view.recent,
            wait: view.wait,
        };
    }
}

fn stream_facts(stream: &Stream) -> world::Stream {
    world::Stream {
        object: stream.metadata.name.clone().unwrap_or_default(),
        uid: stream.metadata.uid.clone().unwrap_or_default(),
        name: stream.media_name().to_owned(),
        created: stream.metadata.creation_timestamp.as_ref().map_or(0, millis),
        labels: stream.metadata.labels.clone().unwrap_or_default(),
        streamer_selector: selector(stream.spec.placement.streamer_selector.as_ref()),
        disabled: stream.spec.disabled,
        after: stream.spec.failover.after.as_ms(),
        partition: document::partition(stream),
    }
}

/// The pod of a Streamer's instance, if that is being deleted.
pub fn going<'a>(observed: &'a Observed, streamer: &ObjectRef, view: Option<&StreamerView>) -> Option<&'a Pod> {
    let pod = observed.pods.as_ref()?.get(streamer)?;
    let its_own = view.is_some_and(|view| view.instance.as_ref() == Some(&pod.uid));
    Some(pod).filter(|pod| pod.going && its_own)
}

/// Instances that have ended for good: pods whose kubelet says so, and that nobody brings back under their name.
pub fn ended(observed: &Observed) -> BTreeMap<StreamerId, String> {
    let ended = observed.pods.iter().flatten().filter(|(_, pod)| pod.ended && !pod.returns);
    ended
        .map(|(object, pod)| {
            let id = StreamerId { namespace: object.namespace.clone(), name: object.name.clone() };
            (id, pod.uid.clone())
        })
        .collect()
}

fn streamer_facts(streamer: &Streamer, view: Option<&StreamerView>, going: Option<&Pod>) -> world::Streamer {
    world::Streamer {
        labels: streamer.metadata.labels.clone().unwrap_or_default(),
        stream_selector: selector(streamer.spec.stream_selector.as_ref()),
        capacity: streamer.spec.capacity.streams,
        unschedulable: streamer.spec.unschedulable,
        drain: streamer.spec.drain || going.is_some_and(|pod| pod.drains),
        not_ready: going.map(|_| "is being deleted with its pod".to_owned()).or_else(|| not_ready(view)),
        supervised: view.is_some_and(StreamerView::is_supervised),
    }
}

/// Why a Streamer can be given no streams, if so.
fn not_ready(view: Option<&StreamerView>) -> Option<String> {
    let why = match view {
        Some(view) if view.connected && view.alive => return None,
        Some(view) if view.connected => "is not polled by its streamer",
        Some(view) if view.reported => "is silent",
        _ => "has not reported yet",
    };
    Some(why.to_owned())
}

/// Milliseconds since the Unix epoch.
pub fn millis(time: &Time) -> u64 {
    u64::try_from(time.0.as_millisecond()).unwrap_or(0)
}

fn selector(selector: Option<&LabelSelector>) -> Selector {
    let Some(selector) = selector else { return Selector::default() };
    let labels = selector
        .match_labels
        .iter()
        .flatten()
        .map(|(key, value)| Requirement { key: key.clone(), operator: Operator::In(BTreeSet::from([value.clone()])) });
    let expressions = selector.match_expressions.iter().flatten().map(|expression| {
        let values = || expression.values.iter().flatten().cloned().collect();
        let operator = match expression.operator.as_str() {
            "NotIn" => Operator::NotIn(values()),
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            _ => Operator::In(values()),
        };
        Requirement { key: expression.key.clone(), operator }
    });
    Selector(labels.chain(expressions).collect())
}

/// Streamers that a new leader waits for: those that were ever ready.
pub fn expected(observed: &Observed) -> Option<BTreeSet<StreamerId>> {
    let streamers = observed.streamers.as_ref()?;
    let ready = streamers.iter().filter(|(_, streamer)| match streamer {
        Object::Readable(streamer) => streamer.status.as_ref().is_some_and(|status| status.first_ready.is_some()),
        Object::Malformed { .. } => true,
    });
    Some(
        ready
            .map(|(object, _)| StreamerId { namespace: object.namespace.clone(), name: object.name.clone() })
            .collect(),
    )
}

/// A hash of what plans and documents depend on: our own status writes leave it as it is.
pub fn fingerprint(observed: &Observed) -> u64 {
    let mut hash = DefaultHasher::new();
    observed.streams.is_some().hash(&mut hash);
    for (object, stream) in observed.streams.iter().flatten() {
        object.hash(&mut hash);
        match stream {
            Object::Readable(stream) => {
                let metadata = &stream.metadata;
                (&metadata.uid, metadata.generation, &metadata.labels).hash(&mut hash);
            }
            Object::Malformed { uid, generation, .. } => (uid, generation).hash(&mut hash),
        }
    }
    observed.streamers.is_some().hash(&mut hash);
    for (object, streamer) in observed.streamers.iter().flatten() {
        object.hash(&mut hash);
        if let Object::Readable(streamer) = streamer {
            let metadata = &streamer.metadata;
            (&metadata.uid, metadata.generation, &metadata.labels).hash(&mut hash);
        }
    }
    observed.pods.hash(&mut hash);
    observed.terminating.hash(&mut hash);
    hash.finish()
}

/// Every Stream's document, rendered anew only where the Stream or the Secrets changed.
#[derive(Debug, Default)]
pub struct Documents {
    secrets: Option<BTreeMap<ObjectRef, Credentials>>,
    rendered: BTreeMap<ObjectRef, (String, i64, Arc<Rendered>)>,
}

impl Documents {
    /// Brings the documents up to what was observed; `false`: nothing has changed.
    pub fn update(&mut self, observed: &Observed) -> bool {
        let secrets = observed.secrets.clone();
        let mut changed = secrets != self.secrets;
        if changed {
            self.secrets = secrets;
            self.rendered.clear();
        }
        let nothing = BTreeMap::new();
        let secrets = self.secrets.as_ref().unwrap_or(&nothing);
        let streams = observed.streams.iter().flatten().filter_map(|(object, stream)| match stream {
            Object::Readable(stream) => Some((object, stream)),
            Object::Malformed { .. } => None,
        });
        let mut fresh = BTreeMap::new();
        for (object, stream) in streams {
            let uid = stream.metadata.uid.clone().unwrap_or_default();
            let generation = stream.metadata.generation.unwrap_or(0);
            let entry = match self.rendered.remove(object) {
                Some(known) if known.0 == uid && known.1 == generation => known,
                _ => {
                    changed = true;
                    (uid, generation, Arc::new(document::want(stream, secrets)))
                }
            };
            fresh.insert(object.clone(), entry);
        }
        changed |= !self.rendered.is_empty();
        self.rendered = fresh;
        changed
    }

    /// What came of one Stream's document.
    pub fn get(&self, object: &ObjectRef) -> Option<&Rendered> {
        self.rendered.get(object).map(|(_, _, rendered)| rendered.as_ref())
    }

    /// What users want, by media name: of Streams in conflict only the one that has the name.
    pub fn wants(&self, world: &World) -> BTreeMap<StreamId, Want> {
        let mut wants = BTreeMap::new();
        for (namespace, facts) in &world.namespaces {
            for (name, owner) in weir_placement::owners(facts) {
                let object = ObjectRef { namespace: namespace.clone(), name: owner.object.clone() };
                if let Some(rendered) = self.get(&object) {
                    let stream = StreamId { namespace: namespace.clone(), name: name.to_owned() };
                    wants.insert(stream, rendered.want.clone());
                }
            }
        }
        wants
    }
}
