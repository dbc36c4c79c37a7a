//! The command line of `streamer-sim`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

/// A process that keeps a streamer's habits on the `config_external` protocol.
#[derive(Debug, Clone, Parser)]
#[command(name = "streamer-sim")]
pub struct Settings {
    /// Its name: sent as `host`, and the reader at the source registry.
    #[arg(long)]
    pub hostname: String,
    /// The base URL of the backend; also STREAMER_CONFIG_EXTERNAL, FLUSSONIC_CONFIG_EXTERNAL, or what the state file says.
    #[arg(long)]
    pub config_external: Option<String>,
    /// Where its own API listens (port 0 takes a free one); without it there is none.
    #[arg(long)]
    pub api_listen: Option<SocketAddr>,
    /// The source registry that it captures from, HOST:PORT; without one it captures whatever it is told to, unseen.
    #[arg(long, env = "STREAMER_SIM_REGISTRY")]
    pub registry: Option<String>,
    /// Keeps its configuration over a restart in this file; without it, it boots empty.
    #[arg(long)]
    pub state: Option<PathBuf>,
    /// Its own configuration file: {"streams": […]}; these run even if the backend leaves them out.
    #[arg(long)]
    pub own_streams: Option<PathBuf>,
    /// The shortest pause between two polls.
    #[arg(long, default_value_t = 2000)]
    pub poll_min_ms: u64,
    /// The longest pause between two polls.
    #[arg(long, default_value_t = 3000)]
    pub poll_max_ms: u64,
    /// How long an answer of the backend may take.
    #[arg(long, default_value_t = 50_000)]
    pub timeout_ms: u64,
    /// How long after its last frame a stream's `alive` turns false.
    #[arg(long, default_value_t = 12_000)]
    pub frames_timeout_ms: u64,
    /// The habit of the sample client: stop what the plain answer leaves out, never ask by name.
    #[arg(long)]
    pub never_asks_by_name: bool,
    /// What its own API asks for: user:password.
    #[arg(long, hide_default_value = true)]
    pub edit_auth: Option<String>,
    /// A version that does not show `config_external_status`.
    #[arg(long)]
    pub no_config_external_status: bool,
    /// Where indexes in a refusal's path begin: 0 or 1, both were seen.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=1))]
    pub path_index_base: u8,
}

impl Settings {
    /// The backend by flag, then by environment in the order of the images' age, then as saved.
    pub fn backend(&self, environment: impl Fn(&str) -> Option<String>, saved: Option<String>) -> Option<String> {
        let given = self.config_external.clone();
        given
            .or_else(|| environment("STREAMER_CONFIG_EXTERNAL"))
            .or_else(|| environment("FLUSSONIC_CONFIG_EXTERNAL"))
            .or(saved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backend_comes_from_the_flag_then_the_environment_then_the_saved_state() {
        let parse = |more: &[&str]| {
            let base = ["streamer-sim", "--hostname", "s1", "--registry", "127.0.0.1:1"];
            Settings::try_parse_from(base.iter().chain(more)).unwrap()
        };
        let both = |name: &str| Some(name.to_owned());
        let old = |name: &str| (name == "FLUSSONIC_CONFIG_EXTERNAL").then(|| "old".to_owned());
        let none = |_: &str| None;
        let saved = || Some("saved".to_owned());
        let flag = parse(&["--config-external", "flag"]);
        assert_eq!(flag.backend(both, saved()).as_deref(), Some("flag"));
        let bare = parse(&[]);
        let new = bare.backend(both, saved());
        assert_eq!(new.as_deref(), Some("STREAMER_CONFIG_EXTERNAL"));
        assert_eq!(bare.backend(old, saved()).as_deref(), Some("old"));
        assert_eq!(bare.backend(none, saved()).as_deref(), Some("saved"));
        assert_eq!(bare.backend(none, None), None);
    }
}
