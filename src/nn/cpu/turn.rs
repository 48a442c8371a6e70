//! Transposes of many matrices.

use rayon::prelude::*;

/// Columns that become rows together, the numbers of a cache line, and rows that are read together.
const BAND: usize = 16;
const TOGETHER: usize = 8;

/// The transposes of matrices (rows, columns) that lie one after the other.
pub fn transposes(x: &[f32], (rows, columns): (usize, usize)) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    let matrix = rows * columns;
    if matrix == 0 {
        return y;
    }
    y.par_chunks_mut(matrix).zip(x.par_chunks(matrix)).for_each(|(y, x)| {
        let bands = y.par_chunks_mut(BAND * rows).enumerate();
        bands.for_each(|(band, y)| turn_band(x, columns, band * BAND, y, rows));
    });
    y
}

/// Columns of x from `first` on as rows of y.
fn turn_band(x: &[f32], columns: usize, first: usize, y: &mut [f32], rows: usize) {
    for (block, x) in x.chunks(TOGETHER * columns).enumerate() {
        for (i, y) in y.chunks_exact_mut(rows).enumerate() {
            let y = y[block * TOGETHER..].iter_mut();
            y.zip(x.chunks_exact(columns)).for_each(|(y, line)| *y = line[first + i]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_matrix_is_turned_for_itself() {
        for (count, rows, columns) in [(1, 1, 1), (2, 3, 5), (3, 8, 16), (2, 33, 70), (0, 4, 4)] {
            let x: Vec<f32> = (0..count * rows * columns).map(|i| i as f32).collect();
            let y = transposes(&x, (rows, columns));
            for (i, y) in y.iter().enumerate() {
                let (matrix, column, row) = (i / (rows * columns), i / rows % columns, i % rows);
                assert_eq!(*y, x[(matrix * rows + row) * columns + column], "{rows} {columns}");
            }
        }
        assert!(transposes(&[], (0, 3)).is_empty());
    }
}
