//! What is to be made, and when. Pure.
//!
//! An authority that is two thirds old gets a successor. That one is in every bundle for [`Lifetimes::overlap`] before it
//! signs, so a client whose bundle is no older than that knows whoever signed what it is shown. The old one stays in the
//! bundle until nothing that it signed is valid any more.

use super::stored::{Authority, Leaf, Stored};
use super::{Lifetimes, Purpose, Settings};

/// Certificates are valid from so long before they are made: a client's clock may be behind.
pub const BACKDATED: u64 = 3_600;

/// One thing to do; afterwards there may be another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    MakeAuthority {
        id: u64,
    },
    Issue {
        purpose: Purpose,
        by: u64,
    },
    /// It signs no more: nobody needs its key.
    DropKey {
        id: u64,
    },
    /// Nothing that it signed is valid any more.
    DropAuthority {
        id: u64,
    },
}

/// The next thing to do, if any.
pub fn next(stored: &Stored, settings: &Settings, now: u64) -> Option<Step> {
    let lifetimes = settings.lifetimes;
    let newest = stored.authorities.last();
    if newest.is_none_or(|newest| is_due(newest.made, newest.expires, now)) {
        return Some(Step::MakeAuthority { id: newest.map_or(1, |newest| newest.id + 1) });
    }
    let signer = signer(&stored.authorities, lifetimes, now)?;
    for (purpose, names) in [(Purpose::Feed, &settings.feed), (Purpose::Webhook, &settings.webhook)] {
        let leaf = stored.leaf(purpose);
        let is_well = |leaf: &Leaf| {
            let vouched = stored.authorities.iter().any(|authority| authority.id == leaf.authority);
            vouched && leaf.names == *names && !is_due(leaf.made, leaf.expires, now)
        };
        if !names.is_empty() && !leaf.is_some_and(is_well) {
            return Some(Step::Issue { purpose, by: signer.id });
        }
    }
    let older = stored.authorities.iter().filter(|authority| authority.id < signer.id);
    older.into_iter().find_map(|authority| match authority {
        authority if now > authority.signed_until => Some(Step::DropAuthority { id: authority.id }),
        authority if authority.key.is_some() => Some(Step::DropKey { id: authority.id }),
        _ => None,
    })
}

/// Two thirds of its time are over, or it is not its time yet (a clock went back).
fn is_due(made: u64, expires: u64, now: u64) -> bool {
    now + BACKDATED < made || now >= made + expires.saturating_sub(made) / 3 * 2
}

/// Who signs now: the newest that every client knows; otherwise the oldest that can, which most of them know.
fn signer(authorities: &[Authority], lifetimes: Lifetimes, now: u64) -> Option<&Authority> {
    let is_known = |authority: &Authority| authority.published.is_some_and(|since| since + lifetimes.overlap() <= now);
    let can = |authority: &&Authority| {
        authority.key.is_some() && authority.made <= now + BACKDATED && now + lifetimes.overlap() < authority.expires
    };
    let able = || authorities.iter().filter(can);
    able().rev().find(|authority| is_known(authority)).or_else(|| able().next())
}
