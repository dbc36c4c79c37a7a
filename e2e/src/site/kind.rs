//! The kinds of objects that scenarios look at.

use anyhow::{Result, bail};
use kube::api::ApiResource;
use kube::core::GroupVersionKind;
use serde_json::Value;

/// A kind of namespaced object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Stream,
    Streamer,
    Placement,
    Secret,
    Event,
    Lease,
}

impl Kind {
    const ALL: [Self; 6] = [Self::Stream, Self::Streamer, Self::Placement, Self::Secret, Self::Event, Self::Lease];

    /// Group, version, kind, plural.
    const fn names(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Self::Stream => ("weir.dev", "v1alpha1", "Stream", "streams"),
            Self::Streamer => ("weir.dev", "v1alpha1", "Streamer", "streamers"),
            Self::Placement => ("weir.dev", "v1alpha1", "Placement", "placements"),
            Self::Secret => ("", "v1", "Secret", "secrets"),
            Self::Event => ("events.k8s.io", "v1", "Event", "events"),
            Self::Lease => ("coordination.k8s.io", "v1", "Lease", "leases"),
        }
    }

    /// The kind that an object says it is of.
    pub fn of(object: &Value) -> Result<Self> {
        let Some(kind) = Self::ALL.into_iter().find(|kind| object["kind"] == kind.names().2) else {
            bail!("an object of kind {} is none of a site's", object["kind"]);
        };
        Ok(kind)
    }

    /// As the API server has it.
    pub(super) fn resource(self) -> ApiResource {
        let (group, version, kind, plural) = self.names();
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
    }

    /// As it stands in a path.
    pub(super) fn plural(self) -> &'static str {
        self.names().3
    }
}
