//! Sidecars whose Streamer nobody has declared: it is made for them, and tried again until it is there. Pure.

use std::collections::BTreeMap;

use weir_feed::frames::About;
use weir_feed::leader::step::Conn;
use weir_feed::record::StreamerId;

use crate::cluster::{ObjectRef, Observed};

/// What a sidecar has said of its Streamer, and the uid of its pod where that is vouched for.
type Said = (About, Option<String>);

/// The sidecars that are connected, and when the making of each one's Streamer was begun last.
#[derive(Debug, Default)]
pub struct Unregistered {
    connected: BTreeMap<Conn, (StreamerId, Said)>,
    /// Monotonic ms.
    begun: BTreeMap<StreamerId, u64>,
}

impl Unregistered {
    /// A sidecar has said what it is.
    pub fn connected(&mut self, conn: Conn, streamer: &StreamerId, about: &About, pod: Option<&str>) {
        self.connected.insert(conn, (streamer.clone(), (about.clone(), pod.map(str::to_owned))));
    }

    /// It has gone.
    pub fn disconnected(&mut self, conn: Conn) {
        if let Some((streamer, _)) = self.connected.remove(&conn) {
            self.begun.remove(&streamer);
        }
    }

    /// The Streamers that are to be made now: those that a known list does not have, each again when `pause` ms have passed without it.
    pub fn due(&mut self, observed: &Observed, now: u64, pause: u64) -> Vec<(StreamerId, Said)> {
        let Some(known) = &observed.streamers else {
            return Vec::new();
        };
        let mut due = Vec::new();
        for (streamer, said) in self.connected.values() {
            let object = ObjectRef { namespace: streamer.namespace.clone(), name: streamer.name.clone() };
            if known.contains_key(&object) {
                self.begun.remove(streamer);
            } else if self.begun.get(streamer).is_none_or(|begun| now >= begun + pause) {
                self.begun.insert(streamer.clone(), now);
                due.push((streamer.clone(), said.clone()));
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Object;

    fn observed(names: Option<&[&str]>) -> Observed {
        let malformed = || Object::Malformed { uid: String::new(), generation: 1, message: String::new() };
        let object = |name: &&str| (ObjectRef { namespace: "media".into(), name: (*name).into() }, malformed());
        Observed { streamers: names.map(|names| names.iter().map(object).collect()), ..Observed::default() }
    }

    fn due(unregistered: &mut Unregistered, observed: &Observed, now: u64) -> Vec<String> {
        unregistered.due(observed, now, 100).into_iter().map(|(streamer, _)| streamer.name).collect()
    }

    #[test]
    fn a_streamer_is_made_once_the_list_is_known_not_to_have_it_and_again_until_it_does() {
        let mut unregistered = Unregistered::default();
        for (conn, name) in [(1, "s1"), (2, "s2")] {
            let streamer = StreamerId { namespace: "media".into(), name: name.into() };
            let about = About { hostname: name.into(), addresses: vec![] };
            unregistered.connected(conn, &streamer, &about, None);
        }
        assert_eq!(due(&mut unregistered, &observed(None), 0), [""; 0]);
        assert_eq!(due(&mut unregistered, &observed(Some(&["s2"])), 10), ["s1"]);
        assert_eq!(due(&mut unregistered, &observed(Some(&["s2"])), 109), [""; 0]);
        assert_eq!(due(&mut unregistered, &observed(Some(&["s2"])), 110), ["s1"]);
        assert_eq!(due(&mut unregistered, &observed(Some(&["s1", "s2"])), 300), [""; 0]);
        // Deleted by hand while its sidecar is there: made again.
        assert_eq!(due(&mut unregistered, &observed(Some(&["s1"])), 301), ["s2"]);
        unregistered.disconnected(2);
        assert_eq!(due(&mut unregistered, &observed(Some(&["s1"])), 900), [""; 0]);
    }
}
