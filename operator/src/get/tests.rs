use super::*;

const NOW: &str = "2026-01-02T03:04:05Z";

fn items(text: &str) -> Vec<Value> {
    serde_json::from_str(text).unwrap()
}

fn shown(resource: &str, items: &[Value], with_namespace: bool, wide: bool) -> String {
    let kind = Kind::find(resource).unwrap();
    table::text(&kind.rows(items, with_namespace, wide, NOW.parse().unwrap()))
}

fn streams() -> Vec<Value> {
    items(
        r#"[
        {"metadata": {"namespace": "media", "name": "bunny", "creationTimestamp": "2026-01-02T03:00:53Z"},
         "status": {"mediaName": "mylive/bunny", "streamer": "s1", "epoch": 7, "reason": "Running", "conditions": [
            {"type": "Accepted", "status": "True"}, {"type": "Placed", "status": "True"}, {"type": "Captured", "status": "Unknown"}]}},
        {"metadata": {"namespace": "media", "name": "a-long-name", "creationTimestamp": "2025-12-30T03:04:05Z"},
         "status": {"conditions": [{"type": "Placed", "status": "False"}], "reason": "NoStreamer"}},
        {"metadata": {"namespace": "media", "name": "new", "creationTimestamp": "2026-01-02T03:04:05Z"}}
    ]"#,
    )
}

#[test]
fn streams_look_as_kubectl_shows_them() {
    assert_eq!(
        shown("wst", &streams(), false, false),
        "\
NAME          STREAMER   PLACED   CAPTURED   REASON       AGE
bunny         s1         True     Unknown    Running      3m12s
a-long-name              False               NoStreamer   3d
new                                                       0s
"
    );
    assert_eq!(
        shown("streams.weir.dev", &streams(), true, true),
        "\
NAMESPACE   NAME          STREAMER   PLACED   CAPTURED   REASON       AGE     MEDIA NAME     EPOCH
media       bunny         s1         True     Unknown    Running      3m12s   mylive/bunny   7
media       a-long-name              False               NoStreamer   3d                     
media       new                                                       0s                     \n"
    );
}

#[test]
fn streamers_and_placements_have_their_own_columns() {
    let streamers = items(
        r#"[{"metadata": {"name": "s1", "creationTimestamp": "2025-01-02T03:04:05Z"},
             "spec": {"capacity": {"streams": 100}, "addresses": ["10.0.0.7"]},
             "status": {"roles": "ingest,transcode", "summary": "Ready,SchedulingDisabled", "reason": "Polling", "streams": 12, "sidecarVersion": "0.1.0", "lastContact": "2026-01-02T03:04:04Z"}}]"#,
    );
    let text = shown("streamer", &streamers, false, false);
    let mut lines = text.lines();
    assert!(lines.next().unwrap().starts_with("NAME   STATUS                     REASON    ROLES"), "{text}");
    let row = lines.next().unwrap();
    for cell in ["Ready,SchedulingDisabled", "ingest,transcode", "12", "100", "365d", "0.1.0"] {
        assert!(row.contains(cell), "{cell} in {row}");
    }
    let placements = items(
        r#"[{"metadata": {"name": "placement-7", "creationTimestamp": "2026-01-02T03:04:00Z"}, "spec": {"term": 5}, "status": {"streams": 3, "releasing": 0}}]"#,
    );
    assert_eq!(
        shown("wpl", &placements, false, false),
        "\
NAME          STREAMS   RELEASING   TERM   AGE
placement-7   3         0           5      5s
"
    );
}

#[test]
fn every_column_of_every_definition_can_be_evaluated() {
    for crd in weir_crds::crds() {
        Kind::find(&crd.spec.names.plural).unwrap();
    }
    let error = Kind::find("pods").err().unwrap().to_string();
    assert!(error.contains("streams, streamers"), "{error}");
}

#[test]
fn a_name_that_is_not_there_is_said_as_kubectl_says_it() {
    let kind = Kind::find("stream").unwrap();
    let (found, missing) = named(&kind, streams(), &["new".into(), "old".into()]);
    assert_eq!(found.len(), 1);
    assert_eq!(missing, ["Error from server (NotFound): streams.weir.dev \"old\" not found"]);
}

#[test]
fn nothing_is_no_table() {
    assert_eq!(shown("streams", &[], true, true), "");
}

#[test]
fn a_cell_is_one_line() {
    let event = items(r#"[{"type": "Warning", "message": "one\ntwo", "lastTimestamp": "no time"}]"#);
    let text = shown("events", &event, false, false);
    assert!(text.contains("one...") && text.contains("<invalid>") && !text.contains("two"), "{text}");
}
