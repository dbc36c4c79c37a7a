//! The URL of an input.

use crate::schema::{matches, rule};
use crate::secret_ref;
use kube::core::Rule;

/// Schemes that lead to a host, to a file or to another stream: something must stand behind them.
const ADDRESSED: &str = "copy|dvb|file|frip|h323|hlss?|hlss?2|https?|m4fs?|m4ss?|mixer|mosaic2?|mpts-[a-z0-9-]+|ndi|playlist|rtmps?|rtp|rtsps?|rtsp-udp|rtsp2|shoutcasts?|srt[12]?|st2110|timeshift|tshttps?|udp[123]?";
/// Schemes of devices, whose options may stand elsewhere.
const DEVICES: &str = "decklink|dektec|fake|v4l2?";
/// A URL that comes out of a Secret as a whole: its scheme is not known yet.
const FROM_SECRET: &str = "[$][{]secret:";

/// The rules for an input's `url`. They stand on the input: of an object the API server repeats no value in its
/// answer, and a URL may hold a password.
pub(crate) fn rules() -> Vec<Rule> {
    let known = format!("^(({ADDRESSED}|{DEVICES}|publish)://|{FROM_SECRET})");
    let rules = [
        rule(
            matches("self.url", &known),
            "the URL must begin with a scheme that streamers read, like rtsp://, srt://, udp://, hls://, https://, m4f://, file:// or publish://",
        ),
        rule(
            matches("!self.url", &format!("^({ADDRESSED})://$")),
            "the address is missing: write what to read behind the ://",
        ),
        rule(
            "!self.url.startsWith('publish://') || self.url == 'publish://'",
            "nothing stands behind publish://: publishers find the stream by its name",
        ),
        rule(
            matches("!self.url", r"[\s\x00-\x1f\x7f]"),
            "a URL has no spaces or control characters: write a space as %20",
        ),
        secret_ref::rule_for("self.url"),
    ];
    rules.map(|rule| rule.field_path(".url")).into()
}
