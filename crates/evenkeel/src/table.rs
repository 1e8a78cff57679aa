//! Aligned columns: one line per object, two spaces between columns, no lines drawn.
//!
//! Cells are padded first and painted afterwards. Columns of numbers are aligned to the right. The last column is
//! never padded, so that a line ends where its text ends.

use crate::style::Paint;

/// How a cell looks.
type Painter = Box<dyn Fn(Paint, &str) -> String>;

/// One cell.
pub(crate) struct Cell {
    text: String,
    painter: Option<Painter>,
}

impl Cell {
    /// Painted by `painter`, which gets the padded text.
    pub(crate) fn painted(text: impl Into<String>, painter: impl Fn(Paint, &str) -> String + 'static) -> Self {
        Self { text: text.into(), painter: Some(Box::new(painter)) }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), painter: None }
    }
}

/// A table that is being filled.
pub(crate) struct Table {
    heads: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// With these column heads; one that begins with `>` is aligned to the right.
    pub(crate) fn new(heads: &[&'static str]) -> Self {
        Self { heads: heads.to_vec(), rows: Vec::new() }
    }

    /// Adds a line. It must have as many cells as there are columns.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        assert_eq!(cells.len(), self.heads.len(), "one cell for each column");
        self.rows.push(cells);
    }

    /// The table's text; each line ends with a newline. Without a row there is none, and a last column that says
    /// nothing has no head either.
    pub(crate) fn render(&self, paint: Paint) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let last = self.heads.len() - 1;
        let silent = self.rows.iter().all(|row| row[last].text.is_empty());
        let columns = if silent { last } else { last + 1 };
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].text.chars().count());
            cells.chain([self.heads[column].trim_start_matches('>').len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.heads.len()).map(width).collect();
        let mut text = String::new();
        let heads = self
            .heads
            .iter()
            .take(columns)
            .enumerate()
            .map(|(column, head)| self.pad(column, head.trim_start_matches('>'), widths[column]));
        text.push_str(&line(heads.map(|head| paint.dim(&head))));
        for row in &self.rows {
            text.push_str(&line(row.iter().enumerate().map(|(column, cell)| {
                let padded = self.pad(column, &cell.text, widths[column]);
                match &cell.painter {
                    Some(painter) => painter(paint, &padded),
                    None => padded,
                }
            })));
        }
        text
    }

    fn pad(&self, column: usize, text: &str, width: usize) -> String {
        if self.heads[column].starts_with('>') {
            format!("{text:>width$}")
        } else if column + 1 == self.heads.len() {
            text.to_owned()
        } else {
            format!("{text:<width$}")
        }
    }
}

fn line(cells: impl Iterator<Item = String>) -> String {
    let cells: Vec<String> = cells.collect();
    format!("{}\n", cells.join("  ").trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["NAME", ">COUNT", "NOTE"]);
        table.row(vec!["a".into(), "1,000".into(), "".into()]);
        table.row(vec!["longer".into(), "2".into(), "says something".into()]);
        insta::assert_snapshot!(table.render(Paint::plain()), @r"
        NAME    COUNT  NOTE
        a       1,000
        longer      2  says something
        ");
    }

    #[test]
    fn what_says_nothing_is_left_out() {
        let mut table = Table::new(&["NAME", "NOTE"]);
        assert_eq!(table.render(Paint::plain()), "");
        table.row(vec!["a".into(), "".into()]);
        assert_eq!(table.render(Paint::plain()), "NAME\na\n");
    }
}
