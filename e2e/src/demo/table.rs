//! The picture: who captures what at this instant.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::declared::Wish;
use super::screen::{BOLD, DIM, GREEN, PLAIN, RED, YELLOW};

/// Everything that the picture shows.
#[derive(Debug, Default)]
pub struct View {
    /// By Streamer, what is to be said of it.
    pub streamers: BTreeMap<String, Standing>,
    /// By media name.
    pub streams: BTreeMap<String, Row>,
}

/// A streamer at this instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    Killed,
    /// What the operator says: `Ready`, `NotReady` …
    Says(String),
}

/// A stream at this instant.
#[derive(Debug, Default)]
pub struct Row {
    /// `None`: it is not declared any more.
    pub wish: Option<Wish>,
    /// Who reads its source.
    pub readers: BTreeSet<String>,
    /// Whom the operator's status names.
    pub placed: Option<String>,
    /// For how long nobody has read it.
    pub dark: Option<Duration>,
}

/// The picture, line by line.
pub fn table(view: &View) -> Vec<String> {
    let width = view.streams.keys().map(|name| name.chars().count()).max().unwrap_or(0).max("STREAM".len());
    let columns: Vec<(&String, usize)> =
        view.streamers.keys().map(|name| (name, name.chars().count().max(10))).collect();
    let mut lines = vec![String::new()];
    let heads = columns.iter().map(|(name, width)| format!("   {:<width$}", name.to_uppercase()));
    lines.push(format!("  {BOLD}{:<width$}{}{PLAIN}", "STREAM", heads.collect::<String>()));
    for (name, row) in &view.streams {
        let cells = columns.iter().map(|(streamer, width)| format!("   {}", cell(row, streamer, *width)));
        lines.push(format!("  {name:<width$}{}   {}", cells.collect::<String>(), note(row)));
    }
    let feet = view.streamers.iter().zip(&columns).map(|((_, standing), (_, width))| match standing {
        Standing::Killed => format!("   {RED}{:<width$}{PLAIN}", "killed"),
        Standing::Says(summary) if summary == "Ready" => format!("   {GREEN}{summary:<width$}{PLAIN}"),
        Standing::Says(summary) => format!("   {YELLOW}{summary:<width$}{PLAIN}"),
    });
    lines.push(format!("  {:<width$}{}", "", feet.collect::<String>()));
    let twice = view.streams.values().filter(|row| row.readers.len() > 1).count();
    let once = view.streams.values().filter(|row| row.readers.len() == 1).count();
    let counted = format!("● captured: {once} once, {twice} twice   ○ placed there");
    lines.push(format!("  {DIM}{counted}{PLAIN}"));
    lines
}

fn cell(row: &Row, streamer: &str, width: usize) -> String {
    let (mark, colour) = if row.readers.contains(streamer) {
        ("●", if row.readers.len() > 1 { YELLOW } else { GREEN })
    } else if row.placed.as_deref() == Some(streamer) {
        ("○", PLAIN)
    } else {
        ("·", DIM)
    };
    format!("{colour}{mark:<width$}{PLAIN}")
}

fn note(row: &Row) -> String {
    if row.readers.len() > 1 {
        return format!("{YELLOW}twice{PLAIN}");
    }
    match (row.wish, row.dark) {
        (_, _) if !row.readers.is_empty() => String::new(),
        (Some(Wish::OnDemand), _) => format!("{DIM}on demand{PLAIN}"),
        (Some(Wish::Published), _) => format!("{DIM}waits for a publisher{PLAIN}"),
        (Some(Wish::Disabled), _) => format!("{DIM}disabled{PLAIN}"),
        (None, _) => format!("{DIM}not declared any more{PLAIN}"),
        (Some(Wish::Captured), Some(dark)) => format!("{RED}dark for {:.1} s{PLAIN}", dark.as_secs_f64()),
        (Some(Wish::Captured), None) => format!("{DIM}not captured yet{PLAIN}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(wish: Wish, readers: &[&str], placed: Option<&str>) -> Row {
        let readers = readers.iter().map(|reader| (*reader).to_owned()).collect();
        Row { wish: Some(wish), readers, placed: placed.map(str::to_owned), dark: None }
    }

    #[test]
    fn the_picture_says_who_reads_what_and_what_is_the_matter_with_the_rest() {
        let view = View {
            streamers: [("m1".to_owned(), Standing::Says("Ready".to_owned())), ("m2".to_owned(), Standing::Killed)]
                .into(),
            streams: [
                ("cam/gate".to_owned(), row(Wish::Captured, &["m1"], Some("m1"))),
                ("news".to_owned(), row(Wish::Captured, &["m1", "m2"], Some("m1"))),
                ("roof".to_owned(), row(Wish::OnDemand, &[], Some("m2"))),
                (
                    "sport".to_owned(),
                    Row { dark: Some(Duration::from_millis(3_210)), ..row(Wish::Captured, &[], Some("m2")) },
                ),
            ]
            .into(),
        };
        let marks = [BOLD, DIM, GREEN, PLAIN, RED, YELLOW];
        let plain = |line: String| marks.iter().fold(line, |line, mark| line.replace(mark, "")).trim_end().to_owned();
        let lines: Vec<String> = table(&view).into_iter().map(plain).collect();
        let expected = [
            "",
            "  STREAM     M1           M2",
            "  cam/gate   ●            ·",
            "  news       ●            ●            twice",
            "  roof       ·            ○            on demand",
            "  sport      ·            ○            dark for 3.2 s",
            "             Ready        killed",
            "  ● captured: 1 once, 1 twice   ○ placed there",
        ];
        assert_eq!(lines, expected);
    }
}
