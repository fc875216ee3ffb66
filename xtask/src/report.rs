//! How results look on standard output.

use comfy_table::{CellAlignment, ContentArrangement, Table, TableComponent, presets};

/// Columns of a wrapped table that nobody looks at on a terminal.
const WIDTH: u16 = 180;

/// A table with `header`, a line under it and none between its rows; `numbers` are right-aligned columns.
pub(crate) fn table<const N: usize>(header: [&str; N], numbers: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(header);
    for component in [
        TableComponent::HorizontalLines,
        TableComponent::MiddleIntersections,
        TableComponent::LeftBorderIntersections,
        TableComponent::RightBorderIntersections,
    ] {
        table.remove_style(component);
    }
    for &number in numbers {
        if let Some(column) = table.column_mut(number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// As [`table`], for texts: cells are wrapped to the terminal, or to [`WIDTH`] where there is none.
pub(crate) fn wrapped<const N: usize>(header: [&str; N], numbers: &[usize]) -> Table {
    let mut table = table(header, numbers);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    if table.width().is_none() {
        table.set_width(WIDTH);
    }
    table
}

/// A count as people read it: `1234567.8` is `1,234,568`.
pub(crate) fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = if value < 0.0 { "-" } else { "" }.to_owned();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The middle of `values`, the upper one of two.
///
/// # Errors
/// There are none.
pub(crate) fn median(values: &[f64]) -> anyhow::Result<f64> {
    use anyhow::Context;
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().context("median of nothing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        let numbers = [0.0, 999.4, 1000.0, 1_234_567.8, -50_000.0].map(thousands);
        assert_eq!(numbers, ["0", "999", "1,000", "1,234,568", "-50,000"]);
    }
}
