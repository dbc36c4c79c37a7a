//! The machine that something was measured on, in a line.

use std::fs;

use super::numbers::bytes;

/// Cores, memory and kernel; what cannot be told is left out.
pub fn describe() -> String {
    let mut parts = Vec::new();
    if let Ok(cores) = std::thread::available_parallelism() {
        let model = field("/proc/cpuinfo", "model name").unwrap_or_default();
        parts.push(format!("{cores} cores {model}").trim_end().to_owned());
    }
    let memory = field("/proc/meminfo", "MemTotal");
    let memory = memory.and_then(|text| text.trim_end_matches(" kB").parse::<u64>().ok());
    parts.extend(memory.map(|kib| bytes(kib << 10)));
    parts.push(std::env::consts::OS.to_owned());
    parts.join(", ")
}

/// The load average of the last minute, if the system has one.
pub fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim_start_matches([' ', '\t', ':']).trim_end().to_owned())
}
