//! A table as kubectl sets it: Go's tabwriter with a least width of 6 and a padding of 3.

const LEAST: usize = 6;
const PADDING: usize = 3;

/// The table's lines; the first row is the header. Nothing for a header alone.
pub(crate) fn text(rows: &[Vec<String>]) -> String {
    if rows.len() < 2 {
        return String::new();
    }
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        LEAST.max(widest + PADDING)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate();
        let cells = cells.map(|(index, (cell, width))| {
            // The last one is not padded.
            if index + 1 == columns { cell.clone() } else { format!("{cell:width$}") }
        });
        cells.collect::<String>() + "\n"
    };
    rows.iter().map(line).collect()
}
