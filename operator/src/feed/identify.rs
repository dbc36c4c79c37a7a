//! Whose token it is: asked of the cluster.

use std::future::Future;
use std::sync::Arc;

use crate::cluster::{Cluster, Identity, TokenError};

/// The part of [`Cluster`] that the feed needs.
pub trait Identify: Send + Sync + 'static {
    /// Whose token this is.
    fn identify(&self, token: &str) -> impl Future<Output = Result<Identity, TokenError>> + Send;
}

impl<C: Cluster> Identify for C {
    fn identify(&self, token: &str) -> impl Future<Output = Result<Identity, TokenError>> + Send {
        Cluster::identify(self, token)
    }
}

/// How sidecars are told apart.
#[derive(Debug)]
pub enum Auth<I> {
    /// By their bearer tokens.
    Tokens(Arc<I>),
    /// A sidecar is who it says it is: on loopback only.
    Insecure,
}
