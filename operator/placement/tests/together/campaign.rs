//! The campaign for the Lease, as `operator/src/cluster/kubernetes/` leads it: taken only after it stood still for as
//! long as it holds, on the candidate's own clock; given up locally before anybody takes it.

use weir_feed::leader::step::Input;
use weir_feed::periods::Periods;

use crate::api::{Call, Lease, Reply};
use crate::operator::{Event, keys};
use crate::world::World;

/// What a candidate knows.
#[derive(Debug, Default)]
pub(crate) struct Campaign {
    ours: Option<Lease>,
    pub(crate) deadline: u64,
    /// The version last seen, and since when.
    sighting: Option<(u64, u64)>,
    highest_term: u64,
    /// The term that is to stand in the Lease.
    term: u64,
    /// When the request under way was sent.
    sent: Option<u64>,
    again: bool,
    rounds: u64,
    /// It was said that the Lease is somebody else's, and whose.
    lost: bool,
    leader: Option<usize>,
    keys_known: bool,
}

impl World {
    /// A look at the Lease, and what follows from it.
    pub(crate) fn round(&mut self, at: usize, number: u64) {
        let campaign = &mut self.operators[at].campaign;
        if number != campaign.rounds || campaign.sent.is_some() {
            return;
        }
        campaign.again = false;
        match campaign.ours.take() {
            Some(lease) => self.decide(at, &lease),
            None => self.ask_lease(at, &Call::ReadLease),
        }
    }

    fn ask_lease(&mut self, at: usize, call: &Call) {
        let sent = self.operator_now(at).mono;
        self.operators[at].campaign.sent = Some(sent);
        self.call(at, call);
    }

    pub(crate) fn campaign_answered(&mut self, at: usize, reply: Reply) {
        let now = self.operator_now(at).mono;
        let Some(sent) = self.operators[at].campaign.sent.take() else {
            return;
        };
        let periods = Periods::default();
        match reply {
            Reply::Lease(Some(lease)) => self.decide(at, &lease),
            Reply::LeaseWritten(Some(lease)) => {
                let us = (at, self.operators[at].process.life);
                let campaign = &mut self.operators[at].campaign;
                campaign.sighting = None;
                if lease.holder == Some(us) {
                    campaign.deadline = sent + periods.lease - periods.lease / 5;
                    campaign.ours = Some(lease);
                    self.held(at);
                }
                self.next_round(at, periods.lease / 3);
            }
            Reply::LeaseRefused => self.next_round(at, periods.ping / 10),
            Reply::Lease(None) | Reply::LeaseWritten(None) => {
                if self.operators[at].campaign.deadline <= now {
                    self.lost(at, None);
                }
                self.next_round(at, periods.ping);
            }
            Reply::Slices(_) => {}
        }
    }

    fn decide(&mut self, at: usize, lease: &Lease) {
        let now = self.operator_now(at).mono;
        let us = (at, self.operators[at].process.life);
        let campaign = &mut self.operators[at].campaign;
        campaign.highest_term = campaign.highest_term.max(lease.term);
        let free = match lease.holder {
            None => true,
            Some(holder) if holder == us => true,
            Some(_) => {
                let sighting = campaign.sighting.filter(|(version, _)| *version == lease.version);
                let (_, since) = *campaign.sighting.insert(sighting.unwrap_or((lease.version, now)));
                now >= since + Periods::default().lease
            }
        };
        if free {
            let term = lease.term.max(campaign.term).max(campaign.highest_term);
            let claim = Lease { holder: Some(us), term, version: lease.version };
            self.ask_lease(at, &Call::WriteLease(claim));
        } else {
            self.lost(at, lease.holder.map(|(leader, _)| leader));
            self.next_round(at, Periods::default().ping);
        }
    }

    fn next_round(&mut self, at: usize, pause: u64) {
        let jitter = self.sim.random.range(80, 121);
        let campaign = &mut self.operators[at].campaign;
        campaign.rounds += 1;
        let (number, again) = (campaign.rounds, campaign.again);
        self.operator_after(at, if again { 1 } else { pause * jitter / 120 }, Event::Round(number));
    }

    fn held(&mut self, at: usize) {
        let campaign = &mut self.operators[at].campaign;
        campaign.lost = false;
        let (deadline, highest_term) = (campaign.deadline, campaign.highest_term);
        if !std::mem::replace(&mut campaign.keys_known, true) {
            self.operator_step(at, Input::Keys { ring: keys() });
        }
        self.operator_step(at, Input::Lease { deadline, highest_term });
    }

    fn lost(&mut self, at: usize, leader: Option<usize>) {
        let campaign = &mut self.operators[at].campaign;
        let said = (std::mem::replace(&mut campaign.lost, true), std::mem::replace(&mut campaign.leader, leader));
        if said != (true, leader) {
            self.operator_step(at, Input::NoLease { leader: leader.map(|leader| leader.to_string()) });
        }
    }

    /// A new leader's term stands in the Lease at once.
    pub(crate) fn publish(&mut self, at: usize, term: u64) {
        let campaign = &mut self.operators[at].campaign;
        if std::mem::replace(&mut campaign.term, term) == term {
            return;
        }
        if campaign.sent.is_some() {
            campaign.again = true;
        } else {
            self.next_round(at, 1);
        }
    }

    /// Gives the Lease back, and rests.
    pub(crate) fn resign(&mut self, at: usize) {
        let now = self.operator_now(at).mono;
        let campaign = &mut self.operators[at].campaign;
        let was_ours = campaign.deadline > now;
        campaign.deadline = 0;
        let ours = campaign.ours.take();
        let term = campaign.term.max(campaign.highest_term);
        if was_ours {
            self.lost(at, None);
        }
        if let Some(lease) = ours {
            self.call(at, &Call::WriteLease(Lease { holder: None, term, version: lease.version }));
        }
        let campaign = &mut self.operators[at].campaign;
        campaign.sent = None;
        self.next_round(at, Periods::default().lease / 2);
    }
}
