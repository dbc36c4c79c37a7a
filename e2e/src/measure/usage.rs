//! What a process takes, as the kernel counts it.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// A process's memory and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory now, in bytes.
    pub resident: u64,
    /// The most that it ever was.
    pub peak: u64,
    /// CPU time of all its threads, of system and user.
    pub cpu: Duration,
}

impl Usage {
    /// Of the process with that id.
    pub fn of(pid: u32) -> Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            fs::read_to_string(&path)
                .with_context(|| format!("{path} cannot be read: what a process takes is only known on Linux"))
        };
        let status = read("status")?;
        let stat = read("stat")?;
        let cpu = ticks(&stat).with_context(|| format!("/proc/{pid}/stat is not as expected: {stat}"))?;
        let per_second = rustix::param::clock_ticks_per_second();
        #[expect(clippy::cast_precision_loss, reason = "ticks of a test's processes")]
        let cpu = Duration::from_secs_f64(cpu as f64 / per_second as f64);
        Ok(Self { resident: kib(&status, "VmRSS:")? << 10, peak: kib(&status, "VmHWM:")? << 10, cpu })
    }
}

fn kib(status: &str, name: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
    number.with_context(|| format!("there is no {name} in a process's status"))
}

/// utime and stime, the 14th and 15th field; the 2nd, in brackets, may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_takes_memory_and_time() {
        let mut usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.resident > 100_000 && usage.peak >= usage.resident, "{usage:?}");
        while usage.cpu.is_zero() {
            usage = Usage::of(std::process::id()).unwrap();
        }
    }

    #[test]
    fn a_program_may_be_called_anything() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 31 11 0 0 20 0 1 0 5 0 0";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("7 (a"), None);
    }
}
