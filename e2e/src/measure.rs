//! What the benchmarks of the README measure, and how it is told.

pub mod api_writes;
pub mod cameras;
pub mod captured;
pub mod failover;
pub mod machine;
pub mod numbers;
pub mod placements;
pub mod replica;
pub mod told;
pub mod usage;
