//! The URL of an input.

use crate::schema::{matches, rule};
use crate::secret_ref;
use schemars::{Schema, SchemaGenerator, json_schema};

/// The longest URL taken, in characters.
pub const MAX_URL: u32 = 2048;

/// Schemes that lead to a host, to a file or to another stream: something must stand behind them.
const ADDRESSED: &str = "copy|dvb|file|frip|h323|hlss?|hlss?2|https?|m4fs?|m4ss?|mixer|mosaic2?|mpts-[a-z0-9-]+|ndi|playlist|rtmps?|rtp|rtsps?|rtsp-udp|rtsp2|shoutcasts?|srt[12]?|st2110|timeshift|tshttps?|udp[123]?";
/// Schemes of devices, whose options may stand elsewhere.
const DEVICES: &str = "decklink|dektec|fake|v4l2?";
/// A URL that comes out of a Secret as a whole: its scheme is not known yet.
const FROM_SECRET: &str = "[$][{]secret:";

/// The schema of an input's URL. `publish://` stands for whoever publishes to the stream.
pub(crate) fn schema(_: &mut SchemaGenerator) -> Schema {
    let rules = [
        rule(
            matches(
                "self",
                &format!("^(({ADDRESSED}|{DEVICES}|publish)://|{FROM_SECRET})"),
            ),
            "the URL must begin with a scheme that streamers read, like rtsp://, srt://, udp://, hls://, https://, m4f://, file:// or publish://",
        ),
        rule(
            matches("!self", &format!("^({ADDRESSED})://$")),
            "the address is missing: write what to read behind the ://",
        ),
        rule(
            "!self.startsWith('publish://') || self == 'publish://'",
            "nothing stands behind publish://: publishers find the stream by its name",
        ),
        rule(
            matches("!self", r"[\s\x00-\x1f\x7f]"),
            "a URL has no spaces or control characters: write a space as %20",
        ),
        secret_ref::cel(),
    ];
    json_schema!({
        "type": "string", "minLength": 1, "maxLength": MAX_URL, "x-kubernetes-validations": rules,
    })
}
