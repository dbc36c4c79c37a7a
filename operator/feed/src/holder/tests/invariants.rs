//! Random histories against an oracle that knows nothing of batches, journals or proofs.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Rig, names, put};
use crate::digest::SetDigest;
use crate::frames::{Down, Up, digest_entry};
use crate::holder::answer::Answer;
use crate::holder::step::{Input, Stored};

const NAMES: [&str; 3] = ["a", "b", "c"];

#[derive(Debug, Clone)]
enum Act {
    Put(usize, u64),
    Delete(usize, u64),
    Hold(usize, u64),
    /// True to what this sidecar holds, or to what a leader without **Keep** and **Final** thinks.
    Mark(bool),
    Cut,
    Restart,
    Ask(Option<usize>),
    Pass(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let name = 0..NAMES.len();
    let epoch = 1..6_u64;
    prop_oneof![
        3 => (name.clone(), epoch.clone()).prop_map(|(name, epoch)| Act::Put(name, epoch)),
        2 => (name.clone(), epoch.clone()).prop_map(|(name, epoch)| Act::Delete(name, epoch)),
        1 => (name.clone(), epoch).prop_map(|(name, epoch)| Act::Hold(name, epoch)),
        4 => any::<bool>().prop_map(Act::Mark),
        1 => Just(Act::Cut),
        1 => Just(Act::Restart),
        4 => proptest::option::of(name).prop_map(Act::Ask),
        1 => (1..20_000_u64).prop_map(Act::Pass),
    ]
}

/// The digest of what is held, computed from nothing.
fn digest(rig: &Rig) -> (u64, String) {
    let mut set = SetDigest::default();
    let rows = rig.holder.rows.all();
    let holds = rig.holder.rows.holds();
    for (name, row) in rows {
        digest_entry(&mut set, name, Some((row.epoch, &row.current.hash)), None);
    }
    for (name, epoch) in holds {
        digest_entry(&mut set, name, None, Some(*epoch));
    }
    ((rows.len() + holds.len()) as u64, set.text())
}

/// What is known for certain, whatever the code does: per name, the highest epoch whose delete was applied to a row.
#[derive(Default)]
struct Oracle {
    ended: BTreeMap<String, u64>,
    synced: bool,
}

fn play(acts: Vec<Act>) -> Result<(), TestCaseError> {
    let mut rig = Rig::new(false);
    let mut oracle = Oracle::default();
    let mut batch: Vec<Down> = Vec::new();
    rig.welcome(10);
    for act in acts {
        match act {
            Act::Put(name, epoch) => {
                rig.put(NAMES[name], epoch, &epoch.to_string());
                batch.push(Down::Put(put(NAMES[name], epoch, &epoch.to_string())));
            }
            Act::Delete(name, epoch) => {
                rig.delete(NAMES[name], epoch);
                let name = NAMES[name].to_owned();
                batch.push(Down::Delete { name, epoch });
            }
            Act::Hold(name, epoch) => rig.hold(NAMES[name], epoch),
            Act::Mark(true) => {
                let before = rig.holder.rows.clone();
                rig.mark();
                prop_assert!(rig.dropped.is_empty(), "{:?}", rig.dropped);
                oracle.synced = true;
                oracle.applied(&before, std::mem::take(&mut batch));
                prop_assert_eq!((rig.holder.rows.count(), rig.holder.rows.digest()), digest(&rig));
            }
            Act::Mark(false) => {
                let before = rig.holder.rows.clone();
                rig.hear(Down::Mark { revision: 99, count: u64::MAX, digest: String::new() });
                prop_assert_eq!(&rig.holder.rows, &before, "nothing of it is applied");
                reconnect(&mut rig, &mut batch);
            }
            Act::Cut => {
                rig.step(Input::Disconnected);
                reconnect(&mut rig, &mut batch);
            }
            Act::Restart => {
                let stored = Stored { rows: rig.holder.rows.clone(), meta: rig.holder.meta.clone() };
                rig = Rig::restarted(false, stored);
                reconnect(&mut rig, &mut batch);
            }
            Act::Ask(name) => {
                let asked: Vec<&str> = name.iter().map(|name| NAMES[*name]).collect();
                let answer = rig.ask(&asked);
                if matches!(answer, Answer::Streams(_)) {
                    prop_assert!(oracle.synced, "200 before the first mark");
                    for name in names(&answer) {
                        let epoch = rig.holder.rows.row(&name).unwrap().epoch;
                        let ended = oracle.ended.get(&name).copied().unwrap_or(0);
                        prop_assert!(epoch > ended, "{} at {} after a delete at {}", name, epoch, ended);
                    }
                }
            }
            Act::Pass(time) => {
                rig.tick_to(rig.now + time);
                if rig.holder.session.is_none() {
                    reconnect(&mut rig, &mut batch);
                }
            }
        }
        for up in std::mem::take(&mut rig.sent) {
            if let Up::Released { name, .. } = up {
                prop_assert!(rig.holder.rows.row(&name).is_none(), "{} is released and served", name);
            }
        }
    }
    Ok(())
}

/// A new connection: the leader starts from what the hello says.
fn reconnect(rig: &mut Rig, batch: &mut Vec<Down>) {
    batch.clear();
    rig.dropped.clear();
    rig.mirror = rig.holder.rows.clone();
    rig.welcome(10);
}

impl Oracle {
    /// Follows one name at a time: the epoch it is served under, and the highest at which it ended.
    fn applied(&mut self, before: &crate::holder::rows::Rows, batch: Vec<Down>) {
        let mut serving: BTreeMap<String, u64> =
            before.all().iter().map(|(name, row)| (name.clone(), row.epoch)).collect();
        for frame in batch {
            match frame {
                Down::Put(put) => {
                    let ended = self.ended.get(&put.name).copied().unwrap_or(0);
                    let serves = serving.get(&put.name).copied().unwrap_or(0);
                    if put.epoch > ended && put.epoch >= serves {
                        serving.insert(put.name, put.epoch);
                    }
                }
                Down::Delete { name, epoch } if serving.get(&name).is_some_and(|serves| epoch >= *serves) => {
                    serving.remove(&name);
                    self.ended.insert(name, epoch);
                }
                _ => {}
            }
        }
    }
}

proptest! {
    #[test]
    fn no_history_breaks_a_rule(acts in proptest::collection::vec(act(), 1..60)) {
        play(acts)?;
    }
}
