//! Ports for processes that must come back at the same address after they were killed.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use rand::Rng as _;

/// Below the ports that systems give to outgoing connections (from 32768, and from 49152): while the owner is down, nobody gets its port
/// by chance.
const PORTS: std::ops::Range<u16> = 10_240..32_768;

/// How many are tried.
const TRIES: usize = 1_000;

/// A loopback address whose port nobody has, and that is given out once by this process.
pub fn free_address() -> Result<SocketAddr> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut random = rand::rng();
    let free = (0..TRIES).map(|_| random.random_range(PORTS)).find(|port| {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
        !given.contains(port) && TcpListener::bind(address).is_ok()
    });
    let port = free.with_context(|| format!("no free port on 127.0.0.1 in {PORTS:?} after {TRIES} tries"))?;
    given.insert(port);
    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}
