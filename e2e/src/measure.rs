//! What the benchmarks of the README measure, and how it is told.

pub mod api_writes;
pub mod cameras;
pub mod failover;
pub mod machine;
pub mod numbers;
pub mod placements;
pub mod replica;
pub mod usage;
