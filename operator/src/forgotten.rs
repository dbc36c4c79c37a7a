//! Streamers that registration made for pods which nobody brings back: they go with them. Pure.

use std::collections::BTreeMap;

use weir_feed::leader::Leader;
use weir_feed::record::StreamerId;
use weir_feed::time::Now;

use crate::cluster::{GOES_WITH_POD, Object, ObjectRef, Observed};

/// When the taking away of each was begun last, monotonic ms.
#[derive(Debug, Default)]
pub struct Forgotten {
    begun: BTreeMap<StreamerId, u64>,
}

impl Forgotten {
    /// The Streamers that are to be taken away now, each with the uid of its pod: that pod is not there any more or has ended,
    /// no sidecar speaks for it, and no record names it. Each again when `pause` ms have passed.
    pub fn due(&mut self, observed: &Observed, leader: &Leader, now: Now, pause: u64) -> Vec<(StreamerId, String)> {
        let mut gone = gone(observed);
        gone.retain(|id, _| !leader.streamer(id, now).is_some_and(|view| view.connected));
        self.begun.retain(|id, _| gone.contains_key(id));
        if gone.is_empty() {
            return Vec::new();
        }
        let named = leader.named();
        gone.retain(|id, _| {
            !named.contains(id) && self.begun.get(id).is_none_or(|begun| now.mono >= begun.saturating_add(pause))
        });
        self.begun.extend(gone.keys().map(|id| (id.clone(), now.mono)));
        gone.into_iter().collect()
    }
}

/// Streamers whose pod is gone, as far as the lists tell.
fn gone(observed: &Observed) -> BTreeMap<StreamerId, String> {
    let Some(pods) = &observed.pods else {
        return BTreeMap::new();
    };
    let its_pod = |object: &ObjectRef, streamer: &Object<weir_crds::Streamer>| {
        let Object::Readable(streamer) = streamer else {
            return None;
        };
        let uid = streamer.metadata.annotations.as_ref()?.get(GOES_WITH_POD)?;
        let there = pods.get(object).is_some_and(|pod| pod.uid == *uid && !pod.ended);
        let id = StreamerId { namespace: object.namespace.clone(), name: object.name.clone() };
        (!there).then(|| (id, uid.clone()))
    };
    observed.streamers.iter().flatten().filter_map(|(object, streamer)| its_pod(object, streamer)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Pod;
    use serde_json::json;
    use weir_feed::periods::Periods;

    const NOW: Now = Now { mono: 10_000, wall: 1_800_000_000_000 };

    fn object(name: &str) -> ObjectRef {
        ObjectRef { namespace: "media".into(), name: name.into() }
    }

    /// A Streamer, and the pod that it goes with.
    fn streamer(name: &str, pod: Option<&str>) -> (ObjectRef, Object<weir_crds::Streamer>) {
        let annotations = pod.map(|uid| json!({GOES_WITH_POD: uid})).unwrap_or_default();
        let streamer = json!({
            "apiVersion": "weir.dev/v1alpha1", "kind": "Streamer", "spec": {},
            "metadata": {"namespace": "media", "name": name, "annotations": annotations},
        });
        let streamer: weir_crds::Streamer = serde_json::from_value(streamer).unwrap();
        (object(name), Object::Readable(streamer.into()))
    }

    fn observed() -> Observed {
        let pod = |uid: &str, ended| Pod { uid: uid.into(), going: ended, ended, returns: false, drains: false };
        let streamers = [
            streamer("gone", Some("u1")),
            streamer("ended", Some("u2")),
            streamer("there", Some("u3")),
            streamer("made-anew", Some("u4")),
            streamer("declared", None),
        ];
        let pods = [("ended", pod("u2", true)), ("there", pod("u3", false)), ("made-anew", pod("u5", false))];
        Observed {
            streamers: Some(streamers.into()),
            pods: Some(pods.map(|(name, pod)| (object(name), pod)).into()),
            ..Observed::default()
        }
    }

    #[test]
    fn what_was_registered_for_a_pod_goes_with_it_and_nothing_else_does() {
        let leader = Leader::new(Periods::default());
        let mut forgotten = Forgotten::default();
        let mut due = |observed: &Observed, after| {
            let now = Now { mono: NOW.mono + after, ..NOW };
            let due = forgotten.due(observed, &leader, now, 100);
            due.into_iter().map(|(id, pod)| format!("{} {pod}", id.name)).collect::<Vec<_>>()
        };
        assert_eq!(due(&Observed { pods: None, ..observed() }, 0), [""; 0], "what is not known is not gone");
        assert_eq!(due(&observed(), 0), ["ended u2", "gone u1", "made-anew u4"]);
        assert_eq!(due(&observed(), 99), [""; 0]);
        assert_eq!(due(&observed(), 100), ["ended u2", "gone u1", "made-anew u4"]);
    }
}
