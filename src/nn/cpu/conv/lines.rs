//! Runs of columns that lie side by side in an image, and copies of padded lines.

/// Some columns of the batch in one line of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Where it starts in the vector.
    pub lane: usize,
    /// Its image.
    pub image: usize,
    /// Its line.
    pub line: usize,
    /// Its first column.
    pub column: usize,
    /// Columns.
    pub count: usize,
}

/// The runs of columns `first..first + lanes`, counted through `images` of (lines, columns).
pub fn runs(
    first: usize,
    lanes: usize,
    (images, lines, columns): (usize, usize, usize),
) -> impl Iterator<Item = Run> + Clone {
    let end = (first + lanes).min(images * lines * columns);
    let mut at = first;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let (line, column) = (at / columns, at % columns);
        let count = (columns - column).min(end - at);
        let (image, line) = (line / lines, line % lines);
        let run = Run { lane: at - first, image, line, column, count };
        at += count;
        Some(run)
    })
}

/// Line `y` of an image with `padding` lines of zeros above and below; nothing for a line of zeros.
pub fn line(plane: &[f32], width: usize, y: usize, padding: usize) -> Option<&[f32]> {
    let start = y.checked_sub(padding)? * width;
    plane.get(start..start + width)
}

/// Copies the pixels `start`, `start + stride`, … of a line with `padding` zeros on both sides.
pub fn copy(to: &mut [f32], line: Option<&[f32]>, (start, stride): (usize, usize), padding: usize) {
    let Some(line) = line else { return to.fill(0.0) };
    let before = padding.saturating_sub(start).div_ceil(stride).min(to.len());
    let (zeros, to) = to.split_at_mut(before);
    zeros.fill(0.0);
    let from = (start + before * stride).saturating_sub(padding).min(line.len());
    let line = &line[from..];
    let count = line.len().div_ceil(stride).min(to.len());
    let (to, zeros) = to.split_at_mut(count);
    if stride == 1 {
        to.copy_from_slice(&line[..count]);
    } else {
        for (to, value) in to.iter_mut().zip(line.iter().step_by(stride)) {
            *to = *value;
        }
    }
    zeros.fill(0.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_end_where_lines_and_the_batch_end() {
        let run = |lane, image, line, column, count| Run { lane, image, line, column, count };
        let all: Vec<Run> = runs(4, 8, (2, 2, 3)).collect();
        assert_eq!(all, [run(0, 0, 1, 1, 2), run(2, 1, 0, 0, 3), run(5, 1, 1, 0, 3)]);
        let last: Vec<Run> = runs(8, 8, (2, 2, 3)).collect();
        assert_eq!(last, [run(0, 1, 0, 2, 1), run(1, 1, 1, 0, 3)]);
    }

    #[test]
    fn a_copy_reads_zeros_outside_the_line() {
        let values = [1.0, 2.0, 3.0];
        for padding in 0..4 {
            let mut padded = vec![0.0; padding];
            padded.extend(values);
            padded.extend([0.0; 30]);
            for stride in 1..4 {
                for start in 0..6 {
                    let mut to = [9.0; 7];
                    copy(&mut to, Some(&values), (start, stride), padding);
                    let expected: Vec<f32> = (0..7).map(|i| padded[start + i * stride]).collect();
                    assert_eq!(to[..], expected, "{padding} {stride} {start}");
                }
            }
        }
    }
}
