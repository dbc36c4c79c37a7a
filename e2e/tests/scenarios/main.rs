//! Weir as its users meet it: a real API server, real processes, and a source registry that sees who captures what. One file for each
//! scenario, named after it. They are one program, so that they share a control plane and run side by side, each in a namespace of its own.

mod api_server_down;
mod canary_password;
mod conflict;
mod drain;
mod drain_unanswered;
mod flapping_streamer;
mod foreign_token;
mod invalid_document;
mod killed_streamer_comes_back;
mod leader_frozen;
mod leader_killed;
mod lease_deleted;
mod manifest_with_every_error;
mod manifests_mode;
mod manifests_unreadable;
mod one_way_partition;
mod replica_corrupted;
mod replica_of_another_streamer;
mod replica_on_a_full_disk;
mod replica_on_a_read_only_disk;
mod replica_wiped;
mod second_instance;
mod secret_missing_then_there;
mod sidecar_killed_at_every_write;
mod sidecar_restarted_alone;
mod stop_capturing_frozen_sidecar;
mod stop_capturing_hung_streamer;
mod stop_capturing_no_operator;
mod stream_edited_disabled_deleted;
mod streamer_and_sidecar_killed;
mod streamer_restarted_with_its_old_configuration;
mod two_hundred_streams;
mod versions_one_apart;
