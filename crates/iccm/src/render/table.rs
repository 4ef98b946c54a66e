//! Aligned tables.

use std::io;

use super::screen::Screen;
use super::wrap::{cut, text_width};

const GAP: usize = 2;

/// Which side a column's cells line up on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows below a heading. Cells must be safe for a terminal and without newlines.
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row with as many cells as there are columns.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Writes the table; the last column is cut to the terminal's width, the others are never cut, as ids and numbers are
    /// useless in part.
    pub(crate) fn write(&self, screen: Screen, out: &mut dyn io::Write) -> io::Result<()> {
        let widths: Vec<usize> = self.columns.iter().enumerate().map(|(i, c)| self.width_of(i, c.0)).collect();
        let heading: Vec<String> = self.columns.iter().map(|c| c.0.to_owned()).collect();
        writeln!(out, "{}", screen.dim(&self.line(&heading, &widths, screen)))?;
        for row in &self.rows {
            writeln!(out, "{}", self.line(row, &widths, screen))?;
        }
        Ok(())
    }

    fn width_of(&self, column: usize, heading: &str) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| text_width(cell));
        cells.chain([text_width(heading)]).max().unwrap_or(0)
    }

    fn line(&self, cells: &[String], widths: &[usize], screen: Screen) -> String {
        let mut line = String::new();
        let last = self.columns.len().saturating_sub(1);
        for (i, cell) in cells.iter().enumerate() {
            let padding = " ".repeat(widths[i].saturating_sub(text_width(cell)));
            match self.columns[i].1 {
                Align::Right => line.extend([padding.as_str(), cell]),
                Align::Left if i == last => line.push_str(&cut_to_fit(cell, &line, screen)),
                Align::Left => line.extend([cell, padding.as_str()]),
            }
            if i != last {
                line.push_str(&" ".repeat(GAP));
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

fn cut_to_fit(cell: &str, before: &str, screen: Screen) -> String {
    match screen.width {
        // A column that has next to no room left is written whole and wraps: better than an ellipsis alone.
        Some(width) if width > text_width(before) + 8 => cut(cell, width - text_width(before)),
        _ => cell.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Table {
        let mut table = Table::new(&[("ID", Align::Left), ("TURNS", Align::Right), ("TITLE", Align::Left)]);
        table.row(vec!["a".into(), "12".into(), "Fix the parser".into()]);
        table.row(vec!["bcd".into(), "3".into(), "Write a very long title that goes on".into()]);
        table
    }

    fn written(screen: Screen) -> String {
        let mut out = Vec::new();
        example().write(screen, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_line_up() {
        let expected =
            "ID   TURNS  TITLE\na       12  Fix the parser\nbcd      3  Write a very long title that goes on\n";
        assert_eq!(written(Screen::default()), expected);
    }

    #[test]
    fn the_last_column_is_cut_to_the_terminal() {
        let expected = "ID   TURNS  TITLE\na       12  Fix the parser\nbcd      3  Write a very…\n";
        assert_eq!(written(Screen { width: Some(26), colour: false }), expected);
    }
}
