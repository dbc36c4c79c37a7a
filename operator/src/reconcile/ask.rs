//! The calls on the API: what the leader wants done, and how it ended.

use weir_feed::leader::step::{Effect, Input, SliceId};

use crate::cluster::Cluster;

/// Carries out one call on the API.
pub(super) async fn ask<C: Cluster>(cluster: &C, effect: Effect) -> Option<Input> {
    let written = |op, id: SliceId, outcome| Some(Input::Written { op, id, outcome });
    match effect {
        Effect::ListSlices { op } => Some(match cluster.list_slices().await {
            Ok((slices, version)) => Input::Listed { op, slices, version },
            Err(trouble) => Input::ListFailed { op, message: trouble.to_string() },
        }),
        Effect::ReadSlice { op, id } => Some(match cluster.read_slice(&id).await {
            Ok(slice) => Input::Read { op, id, slice },
            Err(trouble) => Input::ReadFailed { op, id, message: trouble.to_string() },
        }),
        Effect::CreateSlice { op, id, term } => {
            let outcome = cluster.create_slice(&id, term).await;
            written(op, id, outcome)
        }
        Effect::TakeSlice { op, id, version, old_term, term } => {
            let outcome = cluster.take_slice(&id, version, old_term, term).await;
            written(op, id, outcome)
        }
        Effect::WriteSlice { op, id, version, term, records, removal_until } => {
            let outcome = cluster.write_slice(&id, version, term, &records, removal_until).await;
            written(op, id, outcome)
        }
        _ => None,
    }
}
