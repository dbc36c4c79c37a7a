//! The operator's end of the feed.
