//! A streamer that keeps the `config_external` protocol's habits exactly, and captures from the source registry.
//!
//! [`configuration`] decides what runs and why, [`answer`] judges what the backend says, [`request`] words what is asked: values in,
//! values out. [`engine`] carries the decisions out, [`poll`] asks, [`api`] is the streamer's own API.

pub mod answer;
pub mod api;
pub mod configuration;
pub mod document;
pub mod engine;
pub mod poll;
pub mod request;
pub mod saved;
pub mod settings;
pub mod stats;
