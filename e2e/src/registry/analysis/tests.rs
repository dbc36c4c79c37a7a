use proptest::prelude::*;

use super::super::timeline::Timeline;
use super::*;

fn at(units: u64) -> Duration {
    Duration::from_millis(units)
}

fn reader(streamer: &str) -> Reader {
    Reader { streamer: streamer.to_owned(), instance: "1".to_owned() }
}

fn interval(stream: &str, streamer: &str, from: u64, to: Option<u64>) -> Interval {
    Interval {
        stream: stream.to_owned(),
        reader: reader(streamer),
        source: "udp://239.0.0.1:1234".to_owned(),
        from: at(from),
        to: to.map(at),
    }
}

fn overlap(stream: &str, streamers: &[&str], from: u64, to: Option<u64>) -> Overlap {
    Overlap {
        stream: stream.to_owned(),
        readers: streamers.iter().map(|s| reader(s)).collect(),
        from: at(from),
        to: to.map(at),
    }
}

/// Longer than any boot in these tests.
const BOOT: Duration = Duration::MAX;

fn booted(streamer: &str, from: u64, polled: Option<u64>) -> Instance {
    Instance { reader: reader(streamer), boot: true, from: at(from), polled: polled.map(at), to: None }
}

#[test]
fn one_after_the_other_is_no_overlap() {
    let reads = [interval("a", "s1", 0, Some(5)), interval("a", "s2", 5, None), interval("b", "s1", 0, None)];
    assert_eq!(overlaps(&reads, at(0)), []);
}

#[test]
fn an_overlap_is_cut_where_its_readers_change() {
    let reads = [interval("a", "s1", 0, Some(9)), interval("a", "s2", 3, None), interval("a", "s3", 6, None)];
    assert_eq!(
        overlaps(&reads, at(4)),
        [
            overlap("a", &["s1", "s2"], 4, Some(6)),
            overlap("a", &["s1", "s2", "s3"], 6, Some(9)),
            overlap("a", &["s2", "s3"], 9, None),
        ]
    );
}

#[test]
fn a_restarted_read_continues_the_same_overlap() {
    let reads = [interval("a", "s1", 0, None), interval("a", "s2", 2, Some(4)), interval("a", "s2", 4, None)];
    assert_eq!(overlaps(&reads, at(0)), [overlap("a", &["s1", "s2"], 2, None)]);
}

#[test]
fn a_cut_off_streamer_is_excused_while_it_is_cut_off() {
    let reads = [interval("a", "s1", 0, None), interval("a", "s2", 5, None)];
    let cut_off = |to| CutOff { streamer: "s1".to_owned(), from: at(3), to };
    assert_eq!(violations(&reads, &[], &[cut_off(None)], BOOT), []);
    assert_eq!(violations(&reads, &[], &[cut_off(Some(at(8)))], BOOT), [overlap("a", &["s1", "s2"], 8, None)]);
}

#[test]
fn a_streamer_that_booted_with_an_old_configuration_is_excused_until_its_first_poll() {
    let reads = [interval("a", "s1", 5, None), interval("a", "s2", 0, None)];
    assert_eq!(violations(&reads, &[booted("s1", 5, None)], &[], BOOT), []);
    assert_eq!(violations(&reads, &[booted("s1", 5, Some(7))], &[], BOOT), [overlap("a", &["s1", "s2"], 7, None)]);
    let mut fresh = booted("s1", 5, None);
    fresh.boot = false;
    assert_eq!(violations(&reads, &[fresh], &[], BOOT), [overlap("a", &["s1", "s2"], 5, None)]);
}

#[test]
fn a_cut_off_streamer_is_excused_only_for_what_it_read_when_that_began() {
    let later = [interval("a", "s1", 4, None), interval("a", "s2", 5, None)];
    let before = [interval("a", "s1", 0, Some(3)), interval("a", "s1", 4, None), interval("a", "s2", 5, None)];
    let cut_off = CutOff { streamer: "s1".to_owned(), from: at(3), to: None };
    for reads in [&later[..], &before[..]] {
        assert_eq!(
            violations(reads, &[], std::slice::from_ref(&cut_off), BOOT),
            [overlap("a", &["s1", "s2"], 5, None)]
        );
    }
    let mut again = before;
    again[0].to = Some(at(4));
    assert_eq!(violations(&again, &[], &[cut_off], BOOT), [], "it stopped and read again what it had");
}

#[test]
fn a_boot_is_excused_no_longer_than_it_may_last() {
    let reads = [interval("a", "s1", 5, None), interval("a", "s2", 0, None)];
    for polled in [None, Some(9)] {
        let found = violations(&reads, &[booted("s1", 5, polled)], &[], at(3));
        assert_eq!(found, [overlap("a", &["s1", "s2"], 8, None)], "{polled:?}");
    }
    let found = violations(&reads, &[booted("s1", 5, Some(7))], &[], at(3));
    assert_eq!(found, [overlap("a", &["s1", "s2"], 7, None)]);
}

#[test]
fn one_excuse_does_not_cover_two_others() {
    let reads = [interval("a", "s1", 0, None), interval("a", "s2", 0, None), interval("a", "s3", 0, None)];
    assert_eq!(violations(&reads, &[booted("s3", 0, None)], &[], BOOT), [overlap("a", &["s1", "s2"], 0, None)]);
}

#[test]
fn dark_is_what_no_reader_covers() {
    let gap = |from, to| Gap { from: at(from), to: at(to) };
    let reads = [interval("a", "s1", 2, Some(4)), interval("a", "s2", 3, Some(5)), interval("a", "s3", 7, None)];
    assert_eq!(dark(&reads, at(0), at(9)), [gap(0, 2), gap(5, 7)]);
    assert_eq!(dark(&[], at(1), at(3)), [gap(1, 3)]);
    assert_eq!(dark(&reads, at(8), at(9)), []);
    let times = dark_times(&reads, at(0), at(9));
    assert_eq!(times["a"], DarkTime { total: at(4), longest: at(2), gaps: 2 });
}

/// What happens at one instant.
#[derive(Debug, Clone)]
enum Event {
    Hello { streamer: u8, boot: bool },
    Open { streamer: u8, stream: u8 },
    Close { streamer: u8, stream: u8 },
    Polled { streamer: u8 },
    Gone { streamer: u8 },
}

fn event() -> impl Strategy<Value = Event> {
    let (streamer, stream) = (0..3_u8, 0..2_u8);
    prop_oneof![
        2 => (streamer.clone(), any::<bool>()).prop_map(|(streamer, boot)| Event::Hello { streamer, boot }),
        6 => (streamer.clone(), stream.clone()).prop_map(|(streamer, stream)| Event::Open { streamer, stream }),
        3 => (streamer.clone(), stream).prop_map(|(streamer, stream)| Event::Close { streamer, stream }),
        1 => streamer.clone().prop_map(|streamer| Event::Polled { streamer }),
        1 => streamer.prop_map(|streamer| Event::Gone { streamer }),
    ]
}

/// The naive oracle: who reads what in one unit of time, and who of them has no excuse.
#[derive(Debug, Clone, Default)]
struct Snapshot {
    reads: BTreeSet<(u8, Reader)>,
    /// And since when.
    booting: BTreeMap<Reader, u64>,
}

/// Plays the events into a timeline and, beside it, into one plain set per unit of time.
fn play(events: &[(u64, Event)]) -> (Timeline, Vec<Snapshot>) {
    let mut timeline = Timeline::default();
    let mut connected: BTreeMap<u8, Reader> = BTreeMap::new();
    let mut now = Snapshot::default();
    let mut snapshots = Vec::new();
    for (number, (wait, event)) in events.iter().enumerate() {
        for _ in 0..*wait {
            snapshots.push(now.clone());
        }
        let instant = at(snapshots.len() as u64);
        let name = |stream: u8| format!("stream-{stream}");
        match *event {
            Event::Hello { streamer, boot } => {
                if connected.contains_key(&streamer) {
                    continue;
                }
                let new = Reader { streamer: format!("s{streamer}"), instance: number.to_string() };
                timeline.hello(instant, &new, boot).unwrap();
                if boot {
                    now.booting.insert(new.clone(), snapshots.len() as u64);
                }
                connected.insert(streamer, new);
            }
            Event::Open { streamer, stream } => {
                let Some(reader) = connected.get(&streamer) else {
                    continue;
                };
                let done = timeline.open(instant, reader, &name(stream), "fake://fake");
                assert_eq!(done.is_ok(), now.reads.insert((stream, reader.clone())));
            }
            Event::Close { streamer, stream } => {
                let Some(reader) = connected.get(&streamer) else {
                    continue;
                };
                let done = timeline.close(instant, reader, &name(stream));
                assert_eq!(done.is_ok(), now.reads.remove(&(stream, reader.clone())));
            }
            Event::Polled { streamer } => {
                if let Some(reader) = connected.get(&streamer) {
                    timeline.polled(instant, reader).unwrap();
                    now.booting.remove(reader);
                }
            }
            Event::Gone { streamer } => {
                if let Some(reader) = connected.remove(&streamer) {
                    timeline.gone(instant, &reader);
                    now.booting.remove(&reader);
                    now.reads.retain(|(_, r)| *r != reader);
                }
            }
        }
    }
    snapshots.push(now);
    (timeline, snapshots)
}

/// Who overlaps on `stream` in the unit after `instant`, read off the analysis.
fn found(overlaps: &[Overlap], stream: &str, instant: Duration) -> Vec<BTreeSet<Reader>> {
    let covering =
        overlaps.iter().filter(|o| o.stream == stream && o.from <= instant && o.to.is_none_or(|to| instant < to));
    covering.map(|o| o.readers.clone()).collect()
}

proptest! {
    #[test]
    fn every_instant_agrees_with_the_naive_oracle(
        events in prop::collection::vec((0..3_u64, event()), 0..60),
        cut_from in 0..60_u64,
        cut_length in 0..30_u64,
        boot in 0..60_u64,
    ) {
        let (timeline, snapshots) = play(&events);
        let cut_off = CutOff { streamer: "s0".to_owned(), from: at(cut_from), to: Some(at(cut_from + cut_length)) };
        let overlaps = overlaps(timeline.intervals(), at(0));
        let violations =
            violations(timeline.intervals(), timeline.instances(), std::slice::from_ref(&cut_off), at(boot));
        for stream in 0..2_u8 {
            let name = format!("stream-{stream}");
            let reads: Vec<_> = timeline.intervals().iter().filter(|i| i.stream == name).collect();
            let gaps = dark(reads, at(0), at(snapshots.len() as u64));
            for (unit, snapshot) in snapshots.iter().enumerate() {
                let instant = at(unit as u64);
                let readers: BTreeSet<Reader> =
                    snapshot.reads.iter().filter(|(s, _)| *s == stream).map(|(_, r)| r.clone()).collect();
                let cut = instant >= at(cut_from) && instant < at(cut_from + cut_length);
                let had = usize::try_from(cut_from).ok().and_then(|from| snapshots.get(from));
                let had = had.is_some_and(|had| had.reads.iter().any(|(s, r)| *s == stream && r.streamer == "s0"));
                let counted: BTreeSet<Reader> = readers
                    .iter()
                    .filter(|r| snapshot.booting.get(r).is_none_or(|since| instant >= at(since + boot)))
                    .filter(|r| r.streamer != "s0" || !cut || !had)
                    .cloned()
                    .collect();
                let expect = |set: &BTreeSet<Reader>| if set.len() > 1 { vec![set.clone()] } else { vec![] };
                prop_assert_eq!(found(&overlaps, &name, instant), expect(&readers));
                prop_assert_eq!(found(&violations, &name, instant), expect(&counted));
                let is_dark = gaps.iter().any(|g| g.from <= instant && instant < g.to);
                prop_assert_eq!(is_dark, readers.is_empty());
            }
        }
        let last = snapshots.last().unwrap();
        let now: BTreeSet<(String, Reader)> = timeline
            .now_reading()
            .iter()
            .flat_map(|(s, readers)| readers.iter().map(|r| (s.clone(), r.clone())))
            .collect();
        let expected: BTreeSet<(String, Reader)> =
            last.reads.iter().map(|(s, r)| (format!("stream-{s}"), r.clone())).collect();
        prop_assert_eq!(now, expected);
    }
}
