use super::reason::{stream, streamer};
use super::*;

const NAMES: Names<'_> =
    Names { namespace: "media", stream: Some("bunny"), streamer: Some("s1"), secret: None, placement: None, set: None };

#[test]
fn what_to_type_stands_behind_the_sentence_and_survives_a_long_one() {
    let told = |sentence: &str| advised(sentence, stream::MALFORMED, &NAMES, Declared::WithKubectl);
    assert_eq!(told("it is bad"), "it is bad. To mend it: kubectl -n media edit wst bunny");
    let long = told(&"é".repeat(5_000));
    assert!(long.len() <= MAX_MESSAGE && long.ends_with("kubectl -n media edit wst bunny"), "{long}");
    assert_eq!(advised("all is well", stream::RUNNING, &NAMES, Declared::WithKubectl), "all is well");
}

#[test]
fn the_reason_at_a_glance_is_what_is_wrong_then_what_waits_then_that_all_is_well() {
    let condition = |type_: &str, status: &str, reason: Reason| Condition {
        type_: type_.into(),
        status: status.into(),
        reason: reason.name().into(),
        message: String::new(),
        last_transition_time: time(0),
        observed_generation: None,
    };
    let glance = |told: &[(&str, Reason)]| {
        let types = ["Accepted", "Placed", "Captured"];
        let conditions: Vec<_> =
            types.iter().zip(told).map(|(type_, (s, reason))| condition(type_, s, *reason)).collect();
        leading(&conditions, &types, "Captured", stream::named).unwrap()
    };
    let accepted = ("True", stream::ACCEPTED);
    assert_eq!(glance(&[accepted, ("True", stream::PLACED), ("True", stream::RUNNING)]), "Running");
    assert_eq!(glance(&[accepted, ("True", stream::HOLDER_LOST), ("Unknown", stream::NOT_REPORTED)]), "HolderLost");
    assert_eq!(glance(&[accepted, ("True", stream::PLACED), ("Unknown", stream::NOT_REPORTED)]), "NotReported");
    assert_eq!(glance(&[accepted, ("True", stream::MAY_STILL_RUN), ("True", stream::RUNNING)]), "Running");
    assert_eq!(glance(&[accepted, ("True", stream::MAY_STILL_RUN), ("False", stream::HELD)]), "Held");
    assert_eq!(
        glance(&[("False", stream::SECRET_NOT_FOUND), ("True", stream::PLACED), ("True", stream::RUNNING)]),
        "SecretNotFound"
    );
    let ready =
        [condition("Ready", "True", streamer::POLLING), condition("ConfigAccepted", "Unknown", streamer::NOT_TOLD)];
    let well = leading(&ready, &["Ready", "ConfigAccepted"], "Ready", streamer::named);
    assert_eq!(well.as_deref(), Some("Polling"), "what cannot be told is no news");
}
