//! The sidecar's end of the feed: what it holds, what it answers, when it says `released`.
