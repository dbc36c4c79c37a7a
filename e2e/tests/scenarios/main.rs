//! Weir as its users meet it: a real API server, real processes, and a source registry that sees who captures what. One file for each
//! scenario, named after it. They are one program, so that they share a control plane and run side by side, each in a namespace of its own.

mod streamer_and_sidecar_killed;
mod two_hundred_streams;
