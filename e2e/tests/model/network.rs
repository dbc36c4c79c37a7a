//! Connections of the feed: each direction in order, silent while it is cut, and ended.

use std::collections::VecDeque;

use weir_feed::frames::{Down, Up};
use weir_feed::holder::step::Input;

use crate::clock::CONN;
use crate::world::World;

/// One connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Connection {
    pub(crate) id: u64,
    pub(crate) sidecar: usize,
    pub(crate) operator: usize,
    /// On their way; `None` is the end.
    up: VecDeque<Option<Up>>,
    down: VecDeque<Option<Down>>,
    /// Each end is open.
    sidecar_open: bool,
    operator_open: bool,
    /// The operator was told of the hello.
    greeted: bool,
}

/// Which ways between a sidecar and an operator are silent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Cut {
    pub(crate) up: bool,
    pub(crate) down: bool,
}

/// All connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Network {
    pub(crate) connections: Vec<Connection>,
    /// By sidecar and operator.
    pub(crate) cut: [[Cut; 2]; 2],
}

impl Network {
    pub(crate) fn is_cut(&self, sidecar: usize, operator: usize) -> bool {
        let cut = self.cut[sidecar][operator];
        cut.up || cut.down
    }
}

/// What arrives.
enum Arrival {
    Up(usize, u64, Option<Up>, bool),
    Down(usize, u64, Option<Down>),
}

impl World {
    /// Makes a connection; `None` where nobody answers. A frozen process's machine accepts all the same.
    pub(crate) fn connect(&mut self, sidecar: usize, operator: usize) -> Option<u64> {
        if !self.operators[operator].up || self.network.is_cut(sidecar, operator) {
            return None;
        }
        let newest = self.network.connections.iter().map(|connection| connection.id).max();
        let id = newest.unwrap_or(CONN) + 1;
        self.network.connections.push(Connection {
            id,
            sidecar,
            operator,
            up: VecDeque::new(),
            down: VecDeque::new(),
            sidecar_open: true,
            operator_open: true,
            greeted: false,
        });
        Some(id)
    }

    pub(crate) fn send_up(&mut self, id: u64, parcel: Option<Up>) {
        if let Some(connection) = self.network.connections.iter_mut().find(|connection| connection.id == id) {
            connection.sidecar_open &= parcel.is_some();
            connection.up.push_back(parcel);
        }
    }

    pub(crate) fn send_down(&mut self, id: u64, parcel: Option<Down>) {
        if let Some(connection) = self.network.connections.iter_mut().find(|connection| connection.id == id) {
            connection.operator_open &= parcel.is_some();
            connection.down.push_back(parcel);
        }
    }

    /// Ends connections of a process that is gone; `told`: its machine is there to tell the other end.
    pub(crate) fn end_connections(&mut self, of: impl Fn(&Connection) -> bool, told: bool) {
        let operators = [self.operators[0].up, self.operators[1].up];
        for connection in self.network.connections.iter_mut().filter(|connection| of(connection)) {
            if operators[connection.operator] {
                connection.sidecar_open = false;
                connection.down.clear();
                if told {
                    connection.up.push_back(None);
                }
            } else {
                connection.operator_open = false;
                connection.up.clear();
                connection.down.push_back(None);
            }
        }
    }

    /// Delivers everything that can be.
    pub(crate) fn deliver(&mut self) {
        while let Some(arrival) = self.next_arrival() {
            match arrival {
                Arrival::Up(operator, id, parcel, greeted) => {
                    if parcel.is_some() || greeted {
                        self.fed(operator, id, parcel);
                    }
                }
                Arrival::Down(sidecar, id, parcel) if self.sidecars[sidecar].link == Some(id) => match parcel {
                    Some(frame) => self.sidecar_step(sidecar, Input::Frame(frame)),
                    None => self.link_is_lost(sidecar),
                },
                Arrival::Down(..) => {}
            }
        }
        self.network.connections.retain(|connection| {
            let over = !connection.operator_open && (!connection.sidecar_open || connection.down.is_empty());
            let left = !connection.sidecar_open && !connection.operator_open;
            !(over || left)
        });
    }

    fn next_arrival(&mut self) -> Option<Arrival> {
        let operators = [self.operators[0].runs(), self.operators[1].runs()];
        let sidecars = [self.sidecars[0].runs(), self.sidecars[1].runs()];
        for connection in &mut self.network.connections {
            let cut = self.network.cut[connection.sidecar][connection.operator];
            if !connection.operator_open {
                connection.up.clear();
            }
            if operators[connection.operator]
                && !cut.up
                && let Some(parcel) = connection.up.pop_front()
            {
                connection.operator_open &= parcel.is_some();
                let greeted = std::mem::replace(&mut connection.greeted, true);
                return Some(Arrival::Up(connection.operator, connection.id, parcel, greeted));
            }
            if sidecars[connection.sidecar]
                && !cut.down
                && let Some(parcel) = connection.down.pop_front()
            {
                connection.sidecar_open &= parcel.is_some();
                return Some(Arrival::Down(connection.sidecar, connection.id, parcel));
            }
        }
        None
    }
}
