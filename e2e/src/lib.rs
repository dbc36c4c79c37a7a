//! Weir against real parts: a real control plane, streamers with the protocol's habits, and the source registry that sees who captures what.

pub mod api_proxy;
pub mod child;
pub mod cluster;
pub mod control_plane;
pub mod demo;
pub mod feed_peer;
pub mod measure;
pub mod node;
pub mod one_way_proxy;
pub(crate) mod part;
pub mod programs;
pub mod registry;
pub mod scratch_folder;
pub mod site;
pub mod small_disk;
pub mod streamer;
pub mod tools;
pub mod vendor_operator;
