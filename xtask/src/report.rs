//! How results look on standard output.

use comfy_table::{CellAlignment, Table, TableComponent, presets};

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

/// The middle of `values`, the upper one of two.
///
/// # Errors
/// There are none.
#[cfg(feature = "bench")]
pub(crate) fn median(mut values: Vec<f64>) -> anyhow::Result<f64> {
    use anyhow::Context;
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().context("median of nothing")
}
