//! What users declare: Streams, Streamers and Secrets as they stand in the API.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use weir_crds::stream::Stream;
use weir_crds::streamer::Streamer;
use weir_operator::cluster::{Credentials, ObjectRef};

use crate::world::{NAMESPACE, STREAMERS, World};

/// Media names.
pub(crate) const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// One Stream object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) name: String,
    uid: u64,
    pub(crate) is_static: bool,
    /// `failover.after`, in ms.
    pub(crate) after: u64,
    pub(crate) disabled: bool,
    /// Its Secret is there.
    pub(crate) secret: bool,
    /// Counts edits of the spec.
    pub(crate) edit: u64,
    /// Only on streamers of this zone.
    pub(crate) zone: Option<String>,
    /// `StopCapturing`.
    pub(crate) stops: bool,
}

/// One Streamer object.
#[derive(Debug, Clone, Default)]
pub(crate) struct Server {
    pub(crate) zone: String,
    pub(crate) drain: bool,
    pub(crate) unschedulable: bool,
    pub(crate) capacity: Option<u32>,
    generation: i64,
}

/// Everything declared, by `metadata.name`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wishes {
    pub(crate) streams: BTreeMap<String, Wish>,
    pub(crate) streamers: BTreeMap<String, Server>,
    /// The list of Streams cannot be had.
    pub(crate) unknown: bool,
    uids: u64,
}

pub(crate) fn object(name: &str) -> ObjectRef {
    ObjectRef { namespace: NAMESPACE.into(), name: name.into() }
}

impl Wish {
    fn stream(&self, name: &str) -> Stream {
        let second = self.uid % 60;
        let mut stream = json!({
            "apiVersion": "weir.dev/v1alpha1", "kind": "Stream",
            "metadata": {
                "namespace": NAMESPACE, "name": name, "uid": format!("stream-{}", self.uid),
                "generation": self.edit + 1, "creationTimestamp": format!("2023-11-14T12:{:02}:{second:02}Z", self.uid / 60),
            },
            "spec": {
                "name": self.name, "static": self.is_static, "disabled": self.disabled,
                "inputs": [{"url": format!("rtsp://user:${{secret:{name}/password}}@cameras/{}/{}", self.name, self.edit)}],
                "failover": {
                    "after": format!("{}ms", self.after),
                    "partition": if self.stops { "StopCapturing" } else { "KeepCapturing" },
                },
            },
        });
        if let Some(zone) = &self.zone {
            stream["spec"]["placement"] = json!({"streamerSelector": {"matchLabels": {"zone": zone}}});
        }
        serde_json::from_value(stream).unwrap()
    }
}

impl Server {
    fn streamer(&self, name: &str) -> Streamer {
        let mut streamer = json!({
            "apiVersion": "weir.dev/v1alpha1", "kind": "Streamer",
            "metadata": {
                "namespace": NAMESPACE, "name": name, "uid": format!("streamer-{name}"), "generation": self.generation + 1,
                "labels": {"zone": self.zone},
            },
            "spec": {"drain": self.drain, "unschedulable": self.unschedulable},
        });
        if let Some(streams) = self.capacity {
            streamer["spec"]["capacity"] = json!({"streams": streams});
        }
        serde_json::from_value(streamer).unwrap()
    }
}

impl Wishes {
    /// Objects that want a media name to be captured.
    pub(crate) fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a String, &'a Wish)> {
        self.streams.iter().filter(move |(_, wish)| wish.name == name)
    }
}

impl World {
    /// Six streams, on streamers of which two are in zone `x`.
    pub(crate) fn declare(&mut self) {
        for at in 0..STREAMERS {
            let zone = if at < 2 { "x" } else { "y" };
            let server = Server { zone: zone.into(), ..Server::default() };
            self.wishes.streamers.insert(format!("s{at}"), server);
        }
        // One that never asks by name cannot run a stream that is not listed.
        let asking = self.streamers.iter().all(|streamer| streamer.view().habits.asks_by_name);
        let dynamic = asking && self.random.chance(70);
        for (at, name) in NAMES.iter().enumerate() {
            self.create(name, (*name).to_owned());
            let zone = (at == 2 && self.random.chance(50)).then(|| "x".to_owned());
            let wish = self.wishes.streams.get_mut(*name).unwrap();
            wish.is_static = !(dynamic && at >= 4);
            wish.zone = zone;
        }
        self.declared();
    }

    /// A user applies a new Stream.
    pub(crate) fn create(&mut self, object: &str, name: String) {
        self.wishes.uids += 1;
        let after = [3_000, 6_000, 10_000][self.random.index(3)];
        let uid = self.wishes.uids;
        let (is_static, disabled, secret) = (true, false, true);
        let stops = self.stops.contains(&name);
        let wish = Wish { name, uid, is_static, after, disabled, secret, edit: 0, zone: None, stops };
        self.wishes.streams.insert(object.to_owned(), wish);
    }

    pub(crate) fn server_changed(&mut self, name: &str) {
        if let Some(server) = self.wishes.streamers.get_mut(name) {
            server.generation += 1;
        }
    }

    /// Puts what is wished into the API.
    pub(crate) fn declared(&mut self) {
        let mut api = self.api.state();
        let declared = &mut api.declared;
        declared.unknown = self.wishes.unknown;
        declared.streams.retain(|id, _| self.wishes.streams.contains_key(&id.name));
        for (name, wish) in &self.wishes.streams {
            let mut stream = wish.stream(name);
            let old = declared.streams.get(&object(name)).filter(|old| old.metadata.uid == stream.metadata.uid);
            stream.status = old.and_then(|old| old.status.clone());
            declared.streams.insert(object(name), Arc::new(stream));
        }
        for (name, server) in &self.wishes.streamers {
            let mut streamer = server.streamer(name);
            streamer.status = declared.streamers.get(&object(name)).and_then(|old| old.status.clone());
            declared.streamers.insert(object(name), Arc::new(streamer));
        }
        let there = self.wishes.streams.iter().filter(|(_, wish)| wish.secret);
        let password = || Credentials([("password".to_owned(), b"hunter2".to_vec())].into());
        declared.secrets = there.map(|(name, _)| (object(name), password())).collect();
        api.declared_changed();
    }
}
