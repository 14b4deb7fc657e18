//! Tables, ages and colour.

pub use crate::clock::spell as seconds;
use std::io::{self, IsTerminal, Write};

/// Standard output, with or without colour.
pub struct Screen {
    colour: bool,
}

/// What a word means to the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Worth a look.
    Doubtful,
    /// Needs somebody.
    Bad,
    /// Less important.
    Dim,
}

impl Screen {
    /// `auto`, `always` or `never`; `NO_COLOR` and anything that is not a terminal mean never.
    pub fn new(when: &str) -> Screen {
        let auto =
            io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Screen { colour: when == "always" || (when == "auto" && auto) }
    }

    /// Prints as it is.
    pub fn print(&mut self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Prints a line.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        self.print(&format!("{text}\n"))
    }

    /// The word, coloured if colour is wanted.
    pub fn tone(&self, tone: Tone, word: &str) -> String {
        if !self.colour {
            return word.to_owned();
        }
        let code = match tone {
            Tone::Good => 32,
            Tone::Doubtful => 33,
            Tone::Bad => 31,
            Tone::Dim => 2,
        };
        format!("\x1b[{code}m{word}\x1b[0m")
    }
}

/// A column of a table.
#[derive(Clone, Copy)]
pub struct Column {
    /// Its head.
    pub title: &'static str,
    /// Numbers stand on the right.
    pub is_number: bool,
}

/// A column of words.
pub const fn words(title: &'static str) -> Column {
    Column { title, is_number: false }
}

/// A column of numbers.
pub const fn numbers(title: &'static str) -> Column {
    Column { title, is_number: true }
}

/// Longest cell; what is longer is cut with an ellipsis.
const CELL_CHARS_MAX: usize = 60;
/// Longest cell of the last column, which pushes nothing aside: errors and sentences stand there.
const LAST_CELL_CHARS_MAX: usize = 300;

/// Rows under their heads, two blanks apart. Cells are plain text of any width.
pub fn table(columns: &[Column], rows: &[Vec<String>]) -> String {
    let cell = |(index, cell): (usize, &String)| {
        let is_last = index + 1 == columns.len();
        one_line(cell, if is_last { LAST_CELL_CHARS_MAX } else { CELL_CHARS_MAX })
    };
    let cells: Vec<Vec<String>> = rows.iter().map(|row| row.iter().enumerate().map(cell).collect()).collect();
    let mut widths: Vec<usize> = columns.iter().map(|column| column.title.len()).collect();
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let heads: Vec<String> = columns.iter().map(|column| column.title.to_owned()).collect();
    for row in std::iter::once(&heads).chain(&cells) {
        let mut line = String::new();
        for ((cell, column), width) in row.iter().zip(columns).zip(&widths) {
            let pad = " ".repeat(width - cell.chars().count());
            if !line.is_empty() {
                line.push_str("  ");
            }
            line.push_str(&if column.is_number { pad + cell } else { cell.clone() + &pad });
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Text on one line: control characters become blanks, so that a customer's name cannot move the cursor.
pub fn one_line(text: &str, chars_max: usize) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.chars().count() <= chars_max {
        return clean;
    }
    clean.chars().take(chars_max - 1).chain(['…']).collect()
}

/// `812 B`, `4.1 kB`, `2.5 MB`.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..1000 => format!("{bytes} B"),
        1000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_no_line_ends_in_blanks() {
        let rows = vec![vec!["botpress".into(), "412".into()], vec!["b2".into(), "7".into()]];
        assert_eq!(
            table(&[words("SOURCE"), numbers("IN")], &rows),
            "SOURCE     IN\nbotpress  412\nb2          7\n"
        );
    }

    #[test]
    fn customers_cannot_move_the_cursor() {
        assert_eq!(one_line("a\x1b[2Jb\nc", 60), "a [2Jb c");
        assert_eq!(one_line(&"x".repeat(70), 10), "xxxxxxxxx…");
    }

    #[test]
    fn only_the_last_column_is_long() {
        let rows = vec![vec!["x".repeat(100), "y".repeat(100)]];
        let text = table(&[words("A"), words("B")], &rows);
        let line = text.lines().nth(1).expect("a row");
        assert_eq!(line, format!("{}…  {}", "x".repeat(59), "y".repeat(100)));
    }
}
