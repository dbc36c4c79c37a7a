//! Frames as they come in, and whether a hello may be believed. Pure.

use serde::Deserialize;
use weir_feed::frames::{Hello, OLDEST, Up, VERSION, common_version};
use weir_feed::record::StreamerId;

use crate::cluster::Identity;
use crate::text::is_name;

/// The longest instance that a hello may name: it ends in a status.
const MAX_INSTANCE: usize = 128;

/// Why a connection is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// For metrics and the log.
    pub(super) reason: &'static str,
    /// For the sidecar: it may repeat what the sidecar sent.
    pub(super) message: String,
}

fn refusal(reason: &'static str, message: impl Into<String>) -> Refusal {
    Refusal { reason, message: message.into() }
}

/// A line longer than either end accepts.
pub(super) fn too_long() -> Refusal {
    let most = weir_feed::frames::MAX_LINE >> 20;
    refusal("too_long", format!("a line of the feed has at most {most} MiB; this one is longer"))
}

/// No hello came.
pub(super) fn no_hello() -> Refusal {
    refusal("no_hello", "no hello came in time: it must be the first line")
}

/// One line after the hello.
pub(super) fn read_frame(line: &[u8]) -> Result<Up, Refusal> {
    match parse(line)? {
        Up::Hello(_) => Err(refusal("malformed", "a second hello came: it is only the first line of a connection")),
        frame => Ok(frame),
    }
}

/// The first line.
pub(super) fn read_hello(line: &[u8]) -> Result<Box<Hello>, Refusal> {
    /// What every version's hello has.
    #[derive(Deserialize)]
    struct Greeting {
        #[serde(rename = "type")]
        kind: String,
        version: Option<u32>,
        oldest: Option<u32>,
    }
    // Before the rest is read: the hello of who speaks no version of ours may look different.
    let greeting: Option<Greeting> = serde_json::from_slice(line).ok();
    if let Some(Greeting { kind, version: Some(newest), oldest }) = greeting
        && kind == "hello"
        && common_version(oldest.unwrap_or(newest), newest).is_none()
    {
        let (ours, theirs) = (versions(OLDEST, VERSION), versions(oldest.unwrap_or(newest), newest));
        let message =
            format!("this operator speaks {ours} of the feed and the sidecar {theirs}: run both from the same release");
        return Err(refusal("version", message));
    }
    match parse(line)? {
        Up::Hello(hello) => Ok(hello),
        _ => Err(refusal("malformed", "the first line of a connection must be a hello")),
    }
}

fn versions(oldest: u32, newest: u32) -> String {
    if oldest == newest { format!("version {newest}") } else { format!("versions {oldest} to {newest}") }
}

fn parse(line: &[u8]) -> Result<Up, Refusal> {
    serde_json::from_slice(line)
        .map_err(|error| refusal("malformed", format!("a line is no frame of the feed: {error}")))
}

/// Which Streamer the hello speaks for, and whether its instance is vouched for (then the hello is given it).
/// `identity`: whose token it is; `None` where the hello is simply believed.
pub(super) fn admit(hello: &mut Hello, identity: Option<&Identity>) -> Result<(StreamerId, bool), Refusal> {
    let claimed = StreamerId { namespace: hello.namespace.clone(), name: hello.streamer.clone() };
    // These become file names, objects and lines of the log.
    if !is_name(&claimed.namespace) || !is_name(&claimed.name) {
        return Err(refusal(
            "malformed",
            "the hello's namespace and streamer must be names as Kubernetes has them: small letters, digits, '-' and '.'",
        ));
    }
    if let Some(identity) = identity {
        if identity.streamer != claimed {
            return Err(refusal(
                "identity",
                format!(
                    "a sidecar may only be the Streamer that its token is for: the token is {}'s, the hello says {claimed}",
                    identity.streamer
                ),
            ));
        }
        if let Some(instance) = &identity.instance {
            hello.instance.clone_from(instance);
        }
    }
    if hello.instance.is_empty() || hello.instance.len() > MAX_INSTANCE {
        return Err(refusal("malformed", format!("the hello's instance must have 1 to {MAX_INSTANCE} bytes")));
    }
    let verified = identity.is_some_and(|identity| identity.instance.is_some());
    Ok((claimed, verified))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn hello() -> serde_json::Value {
        json!({
            "type": "hello", "version": VERSION, "program": "test", "namespace": "media", "streamer": "s1",
            "instance": "own-id", "synced": false, "held": [], "holds": {}, "stopped": [],
            "runs": null, "polled": null, "api": "absent"
        })
    }

    fn identity(name: &str, instance: Option<&str>) -> Identity {
        Identity {
            streamer: StreamerId { namespace: "media".into(), name: name.into() },
            instance: instance.map(Into::into),
            expires: None,
        }
    }

    fn read(value: &serde_json::Value) -> Result<Box<Hello>, Refusal> {
        read_hello(value.to_string().as_bytes())
    }

    #[test]
    fn another_version_is_named_before_anything_else_is_read() {
        let error = read(&json!({"type": "hello", "version": 7, "new": "shape"})).unwrap_err();
        assert_eq!(error.reason, "version");
        assert!(error.message.contains("version 7"), "{}", error.message);
        let error = read(&json!({"type": "hello", "version": 7, "oldest": 5, "new": "shape"})).unwrap_err();
        assert!(error.message.contains("the sidecar versions 5 to 7"), "{}", error.message);
    }

    #[test]
    fn a_newer_sidecar_that_still_speaks_our_version_is_read() {
        let mut newer = hello();
        newer["version"] = json!(VERSION + 3);
        newer["oldest"] = json!(VERSION);
        assert_eq!(read(&newer).unwrap().version, VERSION + 3);
    }

    #[test]
    fn the_first_line_is_a_hello_and_no_later_one_is() {
        assert_eq!(read(&hello()).unwrap().streamer, "s1");
        let error = read_hello(br#"{"type":"goodbye"}"#).unwrap_err();
        assert_eq!(error.message, "the first line of a connection must be a hello");
        assert_eq!(read_frame(br#"{"type":"goodbye"}"#).unwrap(), Up::Goodbye {});
        assert!(read_frame(hello().to_string().as_bytes()).is_err());
        assert_eq!(read_frame(b"{").unwrap_err().reason, "malformed");
    }

    #[test]
    fn a_token_makes_nobody_else_of_a_pod() {
        let mut hello = read(&hello()).unwrap();
        let error = admit(&mut hello, Some(&identity("s2", None))).unwrap_err();
        assert_eq!(error.reason, "identity");
        assert_eq!(
            error.message,
            "a sidecar may only be the Streamer that its token is for: the token is media/s2's, the hello says media/s1"
        );
    }

    #[test]
    fn a_pods_uid_replaces_what_the_hello_says() {
        let mut hello = read(&hello()).unwrap();
        let (streamer, verified) = admit(&mut hello, Some(&identity("s1", Some("pod-uid")))).unwrap();
        assert_eq!((streamer.to_string().as_str(), verified), ("media/s1", true));
        assert_eq!(hello.instance, "pod-uid");
    }

    #[test]
    fn without_a_pod_the_instance_is_the_sidecars_own() {
        let mut hello = read(&hello()).unwrap();
        let (_, verified) = admit(&mut hello, Some(&identity("s1", None))).unwrap();
        assert_eq!((hello.instance.as_str(), verified), ("own-id", false));
        let (_, verified) = admit(&mut hello, None).unwrap();
        assert!(!verified);
    }

    #[test]
    fn names_that_are_none_are_refused_even_where_everybody_is_believed() {
        for name in ["", "../../etc/passwd", "S1", "a\nb", "-a", "a..b"] {
            let mut hello = read(&hello()).unwrap();
            hello.streamer = name.into();
            assert_eq!(admit(&mut hello, None).unwrap_err().reason, "malformed", "{name:?}");
        }
        let mut hello = read(&hello()).unwrap();
        hello.instance = String::new();
        assert!(admit(&mut hello, None).is_err());
    }
}
