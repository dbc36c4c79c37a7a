//! What the sources saw, held against what must be.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use weir_feed::periods::Periods;

use crate::registry::{Interval, Registry, boot_lasts};

/// What a streamer did that was started again at `back`, as lines.
pub fn of_return(registry: &Registry, streamer: &str, back: Duration) -> Vec<String> {
    let mut instances = registry.instances().into_iter();
    let Some(instance) = instances.find(|instance| instance.reader.streamer == streamer && instance.from >= back)
    else {
        return vec![format!("{streamer} did not come up")];
    };
    let reads = registry.timeline().into_iter().filter(|read| read.reader == instance.reader);
    let (old, new): (Vec<Interval>, Vec<Interval>) =
        reads.partition(|read| instance.polled.is_none_or(|polled| read.from < polled));
    let stopped: Vec<Duration> = old.iter().filter_map(|read| Some(read.to?.saturating_sub(read.from))).collect();
    let mut lines = Vec::new();
    if let Some(longest) = stopped.iter().max() {
        lines.push(format!(
            "it captured {} of its old streams again for {} ms: streamers start what they have saved, before they ask",
            stopped.len(),
            longest.as_millis()
        ));
        lines.push("its first answered poll left them out, and it stopped them".to_owned());
    }
    let kept = old.len() - stopped.len();
    if kept > 0 {
        lines.push(format!("{kept} it still captures: they had not moved"));
    }
    match new.len() {
        0 => lines.push("no stream moved back (failover.back: Stay): their new streamers never stopped".to_owned()),
        count => lines.push(format!("{count} streams were given to it")),
    }
    lines
}

/// Judges the whole run, all captured since `lit`: nothing was read twice without excuse, and nothing but the killed streamer's
/// streams stood dark, those only once. The words for how dark it was, or an error that says what was wrong.
pub fn judge(
    registry: &Registry,
    expected: &BTreeSet<String>,
    moved: &BTreeSet<String>,
    lit: Duration,
    killed: Duration,
) -> Result<String> {
    let violations = registry.violations(&[], boot_lasts(&Periods::default()));
    if let Some(overlap) = violations.first() {
        let readers: Vec<String> = overlap.readers.iter().map(ToString::to_string).collect();
        let from = overlap.from.as_secs_f64();
        bail!(
            "{} was read twice, by {} from {from:.1} s on ({} such overlaps)",
            overlap.stream,
            readers.join(" and "),
            violations.len()
        );
    }
    let now = registry.now();
    let (mut shortest, mut longest) = (Duration::MAX, Duration::ZERO);
    for stream in expected {
        let gaps = registry.dark(stream, lit, now);
        match &gaps[..] {
            [] => {}
            [gap] if moved.contains(stream) && gap.from >= killed => {
                let dark = gap.to.saturating_sub(gap.from);
                (shortest, longest) = (shortest.min(dark), longest.max(dark));
            }
            gaps => bail!("nobody read {stream} for a time, {} times, though its streamer was there", gaps.len()),
        }
    }
    ensure!(shortest <= longest, "no stream stood dark: the killed streamer captured nothing");
    let (shortest, longest) = (shortest.as_secs_f64(), longest.as_secs_f64());
    let others = expected.difference(moved).count();
    Ok(format!(
        "{} streams of the killed streamer stood dark for {shortest:.1} to {longest:.1} s, the other {others} never",
        moved.len()
    ))
}

#[cfg(test)]
mod tests;
