//! How much the API server is asked to take: so many at once, and so many a second after that. Pure.

/// A token bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    /// A second.
    rate: u64,
    /// At once, in thousandths.
    burst: u64,
    /// What is there, in thousandths.
    level: u64,
    /// When that was, monotonic ms.
    at: u64,
}

impl Bucket {
    /// A full one: `burst` at once, `rate` a second.
    pub(super) const fn new(rate: u64, burst: u64) -> Self {
        Self { rate, burst: burst * 1_000, level: burst * 1_000, at: 0 }
    }

    /// Takes one; where there is none, the answer is in how many ms there will be.
    pub(super) fn take(&mut self, now: u64) -> Result<(), u64> {
        let gained = now.saturating_sub(self.at).saturating_mul(self.rate);
        self.level = self.level.saturating_add(gained).min(self.burst);
        self.at = self.at.max(now);
        match self.level.checked_sub(1_000) {
            Some(left) => {
                self.level = left;
                Ok(())
            }
            None => Err((1_000 - self.level).div_ceil(self.rate.max(1))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_its_rate() {
        let mut bucket = Bucket::new(50, 3);
        let start = 3_600_000;
        let (mut now, mut taken) = (start, vec![]);
        while taken.len() < 6 {
            match bucket.take(now) {
                Ok(()) => taken.push(now - start),
                Err(wait) => now += wait,
            }
        }
        assert_eq!(taken, [0, 0, 0, 20, 40, 60]);
        assert_eq!(bucket.take(now), Err(20));
        // However long nothing came, no more than the burst.
        let later = now + 1_000_000;
        assert_eq!((0..9).filter(|_| bucket.take(later).is_ok()).count(), 3);
    }
}
