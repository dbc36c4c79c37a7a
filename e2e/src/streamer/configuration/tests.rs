use serde_json::{Value, json};

use super::super::answer::check;
use super::*;

fn document(value: Value) -> Document {
    check(value, 0).unwrap()
}

fn stream(name: &str) -> Document {
    document(json!({"name": name, "inputs": [{"url": format!("udp://{name}:1234")}]}))
}

fn on_demand(name: &str) -> Document {
    document(json!({"name": name, "static": false, "inputs": [{"url": "udp://x:1"}]}))
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

/// A streamer that runs what it was listed.
fn running(streams: &[Document]) -> Configuration {
    let mut configuration = Configuration::default();
    configuration.step(Event::Listed(streams.to_vec()));
    configuration
}

fn runs(configuration: &Configuration) -> Vec<&str> {
    configuration.running().keys().map(String::as_str).collect()
}

fn start(name: &str, reason: Reason) -> Change {
    Change {
        stream: name.to_owned(),
        kind: Kind::Start,
        reason,
        closes: false,
        opens: Some(format!("udp://{name}:1234")),
    }
}

fn stop(name: &str, reason: Reason) -> Change {
    Change { stream: name.to_owned(), kind: Kind::Stop, reason, closes: true, opens: None }
}

#[test]
fn what_is_listed_as_static_starts_and_the_rest_is_only_known() {
    let mut configuration = Configuration::default();
    let actions = configuration.step(Event::Listed(vec![stream("a"), on_demand("b")]));
    assert_eq!(actions.changes, [start("a", Reason::Listed)]);
    assert!(actions.save && actions.ask.is_empty());
    assert!(configuration.known("b").is_some());
}

#[test]
fn the_same_answer_again_changes_nothing() {
    let list = || vec![stream("a"), on_demand("b")];
    let mut configuration = running(&list());
    assert_eq!(configuration.step(Event::Listed(list())), Actions::default());
}

#[test]
fn what_runs_and_was_not_listed_is_asked_for_by_name_and_runs_on() {
    let mut configuration = running(&[stream("a"), stream("b"), stream("c")]);
    let actions = configuration.step(Event::Listed(vec![stream("b")]));
    assert_eq!(actions.ask, [names(&["a", "c"])]);
    assert!(actions.changes.is_empty());
    assert_eq!(runs(&configuration), ["a", "b", "c"]);
}

#[test]
fn long_lists_are_asked_for_in_parts_of_a_kilobyte() {
    let many: Vec<_> = (0..300).map(|n| stream(&format!("mylive/stream-{n:05}"))).collect();
    let mut configuration = running(&many);
    let actions = configuration.step(Event::Listed(vec![]));
    assert_eq!(actions.ask.concat().len(), 300);
    assert!(actions.ask.len() > 5, "{}", actions.ask.len());
}

#[test]
fn what_an_answer_by_name_leaves_out_stops_at_once() {
    let mut configuration = running(&[stream("a"), stream("b")]);
    configuration.step(Event::Listed(vec![]));
    let actions = configuration.step(Event::Named { asked: names(&["a", "b"]), answered: vec![stream("b")] });
    assert_eq!(actions.changes, [stop("a", Reason::LeftOut)]);
    assert!(actions.save);
    assert_eq!(runs(&configuration), ["b"]);
    assert!(configuration.known("a").is_none());
}

#[test]
fn a_part_says_nothing_of_names_that_were_not_in_it() {
    let mut configuration = running(&[stream("a"), stream("b")]);
    configuration.step(Event::Named { asked: names(&["a"]), answered: vec![] });
    assert_eq!(runs(&configuration), ["b"]);
}

#[test]
fn an_answer_by_name_starts_nothing_that_was_not_running() {
    let mut configuration = running(&[stream("a")]);
    let actions = configuration.step(Event::Named {
        asked: names(&["a", "gone"]),
        answered: vec![stream("a"), stream("gone"), stream("not-asked")],
    });
    assert_eq!(actions, Actions::default());
}

#[test]
fn what_its_own_configuration_has_runs_on_in_its_own_version() {
    let own = document(json!({"name": "a", "inputs": [{"url": "file://a.mp4"}]}));
    let mut configuration = Configuration::new(Habits::default(), [own], []);
    let boot = configuration.step(Event::Booted { running: BTreeSet::new() });
    assert_eq!(boot.changes[0].reason, Reason::OwnConfiguration);
    assert_eq!(configuration.running()["a"].named_by, NamedBy::Config);

    let given = configuration.step(Event::Listed(vec![stream("a")]));
    assert_eq!(given.changes[0].opens.as_deref(), Some("udp://a:1234"));
    assert_eq!(configuration.running()["a"].named_by, NamedBy::External);

    let unlisted = configuration.step(Event::Listed(vec![]));
    assert_eq!(unlisted.ask, [names(&["a"])]);
    let left_out = configuration.step(Event::Named { asked: names(&["a"]), answered: vec![] });
    assert_eq!(
        left_out.changes,
        [Change {
            stream: "a".to_owned(),
            kind: Kind::Restart,
            reason: Reason::BackToOwnConfiguration,
            closes: true,
            opens: Some("file://a.mp4".to_owned()),
        }]
    );
    assert_eq!(configuration.running()["a"].named_by, NamedBy::Config);
}

#[test]
fn one_that_never_asks_by_name_stops_what_the_plain_answer_leaves_out() {
    let habits = Habits { never_asks_by_name: true };
    let own = stream("own");
    let mut configuration = Configuration::new(habits, [own], []);
    configuration.step(Event::Booted { running: BTreeSet::new() });
    configuration.step(Event::Listed(vec![stream("a"), stream("b")]));
    let actions = configuration.step(Event::Listed(vec![stream("b")]));
    assert_eq!(actions.changes, [stop("a", Reason::LeftOutOfList)]);
    assert!(actions.ask.is_empty());
    assert_eq!(runs(&configuration), ["b", "own"]);
}

#[test]
fn changed_inputs_restart_the_capture_and_other_fields_do_not() {
    let mut configuration = running(&[stream("a")]);
    let mut changed = json!({"name": "a", "inputs": [{"url": "udp://a:1234"}], "title": "A"});
    let titled = configuration.step(Event::Listed(vec![document(changed.clone())]));
    assert!(titled.changes.is_empty() && titled.save);

    changed["inputs"] = json!([{"url": "udp://other:1"}]);
    let moved = configuration.step(Event::Listed(vec![document(changed)]));
    assert_eq!(
        moved.changes,
        [Change {
            stream: "a".to_owned(),
            kind: Kind::Restart,
            reason: Reason::InputsChanged,
            closes: true,
            opens: Some("udp://other:1".to_owned()),
        }]
    );
}

#[test]
fn a_viewer_starts_what_is_known_and_has_the_rest_asked_for() {
    let mut configuration = running(&[on_demand("known")]);
    let known = configuration.step(Event::Requested("known".to_owned()));
    assert_eq!(known.changes[0].reason, Reason::Requested);

    let unknown = configuration.step(Event::Requested("x".to_owned()));
    assert_eq!(unknown.ask, [names(&["x"])]);
    assert!(unknown.changes.is_empty());
    let nowhere = configuration.step(Event::Found { name: "x".to_owned(), answered: vec![stream("y")] });
    assert_eq!(nowhere, Actions::default());
    let found = configuration.step(Event::Found { name: "x".to_owned(), answered: vec![stream("x")] });
    assert_eq!(found.changes, [start("x", Reason::Requested)]);
}

#[test]
fn a_boot_captures_the_saved_configuration_before_any_poll() {
    let saved = [stream("a"), on_demand("viewed"), on_demand("idle")];
    let mut configuration = Configuration::new(Habits::default(), [], saved);
    let running: BTreeSet<String> = names(&["a", "viewed"]).into_iter().collect();
    let actions = configuration.step(Event::Booted { running });
    let started = |c: &Change| (c.stream.clone(), c.reason);
    assert_eq!(
        actions.changes.iter().map(started).collect::<Vec<_>>(),
        [("a".to_owned(), Reason::SavedConfiguration), ("viewed".to_owned(), Reason::SavedConfiguration)]
    );
}

#[test]
fn what_is_known_and_does_not_run_is_forgotten_when_it_is_no_longer_listed() {
    let mut configuration = running(&[on_demand("a")]);
    let actions = configuration.step(Event::Listed(vec![]));
    assert!(actions.save && actions.ask.is_empty());
    assert!(configuration.known("a").is_none());
}

#[test]
fn a_stream_that_is_published_runs_and_reads_nothing() {
    let published = document(json!({"name": "a", "inputs": [{"url": "publish://"}]}));
    let mut configuration = Configuration::default();
    let actions = configuration.step(Event::Listed(vec![published]));
    assert_eq!(actions.changes[0].opens, None);
    let left_out = configuration.step(Event::Named { asked: names(&["a"]), answered: vec![] });
    assert!(!left_out.changes[0].closes);
}

#[test]
fn a_source_that_is_down_is_not_read_and_the_next_input_is() {
    let two = json!({"name": "b", "inputs": [{"url": "rtsp://u:p@cam/b"}, {"url": "udp://spare:1"}]});
    let one = json!({"name": "a", "inputs": [{"url": "rtsp://cam/a"}]});
    let mut configuration = running(&[document(one), document(two)]);
    let down = configuration.step(Event::SourceDown("rtsp://cam".to_owned()));
    let reads: Vec<_> = down.changes.iter().map(|c| (c.closes, c.opens.as_deref())).collect();
    assert_eq!(reads, [(true, None), (true, Some("udp://spare:1"))]);
    assert_eq!(runs(&configuration), ["a", "b"]);
    let up = configuration.step(Event::SourceUp("rtsp://cam".to_owned()));
    let reads: Vec<_> = up.changes.iter().map(|c| (c.closes, c.opens.as_deref())).collect();
    assert_eq!(reads, [(false, Some("rtsp://cam/a")), (true, Some("rtsp://u:p@cam/b"))]);
}

#[test]
fn a_stream_written_on_its_own_api_starts_as_its_own() {
    let mut configuration = Configuration::default();
    let actions = configuration.step(Event::Written(stream("a")));
    assert_eq!(actions.changes, [start("a", Reason::OwnConfiguration)]);
    assert_eq!(configuration.running()["a"].named_by, NamedBy::Config);
}
