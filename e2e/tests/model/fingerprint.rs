//! What makes two states the same: not when something happened, but how long ago; not which epoch, but which is greater.
//!
//! Epochs, terms and revisions are `max(highest + 1, now)`, so only their order matters to what follows; times are only
//! ever compared with the present and a period; numbers of operations, writes and connections only grow.

use std::hash::{Hash, Hasher};

use crate::clock::{CONN, MONO, WALL};

/// Older than this (ms) is just old: no period is as long.
const OLD: u64 = 20_000;

/// Counters of operations and of writes are below this; no period is as short.
const COUNTERS: u64 = 500;

/// A number, by what its size says that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Of operations, or of writes, of one process.
    Counter,
    Time,
    /// A connection, an epoch, a term, a revision.
    Order,
    Plain,
}

fn kind(number: u64) -> Kind {
    match number {
        1..COUNTERS => Kind::Counter,
        _ if (WALL / 2..WALL * 2).contains(&number) => Kind::Order,
        _ if (CONN..CONN * 2).contains(&number) => Kind::Order,
        _ if (MONO / 2..MONO * 2).contains(&number) => Kind::Time,
        _ => Kind::Plain,
    }
}

/// Takes a state in, one part after the other, and gives its fingerprint.
#[derive(Debug, Default)]
pub(crate) struct Fingerprint {
    words: Vec<u64>,
    /// Places of numbers that are not taken as they are.
    times: Vec<usize>,
    orders: Vec<usize>,
    counters: Vec<usize>,
}

impl Fingerprint {
    /// Takes a part in, whose counters are its own.
    pub(crate) fn part(&mut self, part: &impl Hash) {
        part.hash(self);
        let counters = std::mem::take(&mut self.counters);
        rank(&mut self.words, &counters);
    }

    /// The fingerprint at `now`, monotonic ms.
    pub(crate) fn at(mut self, now: u64) -> u64 {
        for place in &self.times {
            let time = self.words[*place];
            // What is yet to come has large numbers, as it wraps around.
            self.words[*place] = if time + OLD < now { OLD } else { now.wrapping_sub(time) };
        }
        rank(&mut self.words, &self.orders);
        self.words.iter().fold(0, |state, word| mix(state, *word))
    }
}

/// Replaces the numbers at `places` by their ranks.
fn rank(words: &mut [u64], places: &[usize]) {
    let mut numbers: Vec<u64> = places.iter().map(|place| words[*place]).collect();
    numbers.sort_unstable();
    numbers.dedup();
    for place in places {
        words[*place] = numbers.partition_point(|number| *number < words[*place]) as u64;
    }
}

fn mix(state: u64, number: u64) -> u64 {
    let wide = u128::from(state ^ number ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93_u128;
    #[allow(clippy::cast_possible_truncation, reason = "both halves are used")]
    let folded = (wide as u64) ^ ((wide >> 64) as u64);
    folded.rotate_left(23).wrapping_add(number)
}

impl Hasher for Fingerprint {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Digests and seals follow from what they are made of, which is taken in itself.
        if bytes.len() == 32 || (bytes.len() > 60 && bytes.starts_with(b"k1:")) {
            return;
        }
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            let word = u64::from_le_bytes(word);
            // Slices of numbers come as bytes.
            if chunk.len() == 8 && kind(word) == Kind::Time {
                self.times.push(self.words.len());
            }
            self.words.push(word);
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.words.push(u64::from(number));
    }

    fn write_u32(&mut self, number: u32) {
        self.words.push(u64::from(number));
    }

    fn write_usize(&mut self, number: usize) {
        self.words.push(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.words.push(number.cast_unsigned() as u64);
    }

    fn write_u64(&mut self, number: u64) {
        let place = self.words.len();
        match kind(number) {
            Kind::Counter => self.counters.push(place),
            Kind::Time => self.times.push(place),
            Kind::Order => self.orders.push(place),
            Kind::Plain => {}
        }
        self.words.push(number);
    }
}
