//! Weir's resources (`weir.dev/v1alpha1`): [`Stream`], [`Streamer`] and [`Placement`], the CustomResourceDefinitions
//! generated from them, and the same validation without an API server.
//!
//! The schema and its CEL rules are written once, on the Rust types; [`crds`] is what is installed and what
//! [`validate()`] applies.

pub mod condition;
pub mod config;
pub mod crds;
pub mod duration;
pub mod label_selector;
pub mod name;
pub mod placement;
pub mod schema;
pub mod secret_ref;
pub mod stream;
pub mod streamer;
pub mod url;
pub mod validate;

pub use condition::Condition;
pub use crds::{crds, crds_yaml};
pub use duration::Duration;
pub use placement::{Placement, PlacementSpec, PlacementStatus, Removal};
pub use stream::{Back, Failover, Input, Partition, Stream, StreamPlacement, StreamSpec, StreamStatus};
pub use streamer::{Capacity, Load, Streamer, StreamerSpec, StreamerStatus};
pub use validate::{Problem, check_stream, decode, validate};

/// The API group of every resource here.
pub const GROUP: &str = "weir.dev";
/// The only version served.
pub const VERSION: &str = "v1alpha1";
