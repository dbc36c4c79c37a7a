//! Decides which streamer captures each stream and feeds the sidecars. A library, so that tests can reach its parts; the binary is thin.

pub mod certificates;
pub mod check;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod document;
pub mod export;
pub mod feed;
pub mod forgotten;
pub mod get;
pub mod http;
pub mod inject;
pub mod metrics;
pub mod observe;
pub mod reconcile;
pub mod report;
pub mod reporter;
pub mod run;
mod text;
pub mod token;
pub mod unregistered;
pub mod webhook;
