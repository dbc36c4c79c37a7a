//! Whoever supervises a streamer: asks its sidecar whether it may live, and kills it if not, as a kubelet does.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio_util::task::AbortOnDropHandle;
use weir_sidecar::connect::Connect;

use crate::network::{HEALTH, HostId, Network, address};
use crate::world::PERIODS;

/// So many checks in a row fail before it kills: two waits and two time-outs are less than `kill`.
const FAILURES: u32 = 2;

/// Streamers that are to be killed.
pub(crate) type Orders = Arc<Mutex<BTreeSet<usize>>>;

/// What a supervisor has.
pub(crate) struct Life {
    pub(crate) host: HostId,
    /// Its sidecar, as a process.
    pub(crate) sidecar: HostId,
    /// Its streamer.
    pub(crate) at: usize,
    pub(crate) network: Network,
    pub(crate) orders: Orders,
}

/// Runs for ever.
pub(crate) async fn run(life: Life) -> String {
    let pause = Duration::from_millis(PERIODS.kill / 5);
    let mut failures = 0;
    loop {
        tokio::time::sleep(pause).await;
        let may_live = matches!(tokio::time::timeout(pause, life.asks()).await, Ok(Ok(StatusCode::OK)));
        failures = if may_live { 0 } else { failures + 1 };
        if failures == FAILURES {
            failures = 0;
            life.orders.lock().unwrap().insert(life.at);
        }
    }
}

impl Life {
    async fn asks(&self) -> anyhow::Result<StatusCode> {
        let sidecar = address(self.sidecar, HEALTH);
        let stream = self.network.dialer(self.host).connect(sidecar).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let request = Request::get("/lease").header("host", sidecar.to_string()).body(Body::empty())?;
        Ok(sender.send_request(request).await?.status())
    }
}
