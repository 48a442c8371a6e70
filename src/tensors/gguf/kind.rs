//! The storage types of ggml: plain floats and blocks of quantised values.

/// How the values of a tensor are stored. Numbers and block sizes are those of `ggml.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(non_camel_case_types, reason = "the names are ggml's own")]
pub enum GgmlType {
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// The upper half of an IEEE single.
    BF16,
    /// 4 bits, one scale.
    Q4_0,
    /// 4 bits, scale and minimum.
    Q4_1,
    /// 5 bits, one scale.
    Q5_0,
    /// 5 bits, scale and minimum.
    Q5_1,
    /// 8 bits, one scale.
    Q8_0,
    /// 8 bits, scale and sum.
    Q8_1,
    /// 2 bits, nested scales.
    Q2_K,
    /// 3 bits, nested scales.
    Q3_K,
    /// 4 bits, nested scales.
    Q4_K,
    /// 5 bits, nested scales.
    Q5_K,
    /// 6 bits, nested scales.
    Q6_K,
    /// 8 bits, one f32 scale and sums.
    Q8_K,
}

/// Type, number in the file, name, values per block, bytes per block.
const TABLE: [(GgmlType, u32, &str, usize, usize); 15] = [
    (GgmlType::F32, 0, "F32", 1, 4),
    (GgmlType::F16, 1, "F16", 1, 2),
    (GgmlType::BF16, 30, "BF16", 1, 2),
    (GgmlType::Q4_0, 2, "Q4_0", 32, 18),
    (GgmlType::Q4_1, 3, "Q4_1", 32, 20),
    (GgmlType::Q5_0, 6, "Q5_0", 32, 22),
    (GgmlType::Q5_1, 7, "Q5_1", 32, 24),
    (GgmlType::Q8_0, 8, "Q8_0", 32, 34),
    (GgmlType::Q8_1, 9, "Q8_1", 32, 36),
    (GgmlType::Q2_K, 10, "Q2_K", 256, 84),
    (GgmlType::Q3_K, 11, "Q3_K", 256, 110),
    (GgmlType::Q4_K, 12, "Q4_K", 256, 144),
    (GgmlType::Q5_K, 13, "Q5_K", 256, 176),
    (GgmlType::Q6_K, 14, "Q6_K", 256, 210),
    (GgmlType::Q8_K, 15, "Q8_K", 256, 292),
];

/// Names of the numbers that ggml knows and this program does not decode.
const REFUSED: [(u32, &str); 24] = [
    (4, "Q4_2 (removed from ggml)"),
    (5, "Q4_3 (removed from ggml)"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (31, "Q4_0_4_4 (removed from ggml)"),
    (32, "Q4_0_4_8 (removed from ggml)"),
    (33, "Q4_0_8_8 (removed from ggml)"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (41, "Q1_0"),
];

impl GgmlType {
    /// The type with this number, or the name of one that is not supported.
    pub(super) fn from_number(number: u32) -> Result<Self, &'static str> {
        match TABLE.iter().find(|row| row.1 == number) {
            Some(row) => Ok(row.0),
            None => Err(REFUSED.iter().find(|row| row.0 == number).map_or("unknown", |row| row.1)),
        }
    }

    fn row(self) -> &'static (Self, u32, &'static str, usize, usize) {
        // Every variant stands in the table; a test holds that.
        TABLE.iter().find(|row| row.0 == self).unwrap_or(&TABLE[0])
    }

    /// The number that stands for it in a file.
    pub fn number(self) -> u32 {
        self.row().1
    }

    /// The name that ggml gives it.
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// Values in one block; a row holds a whole number of blocks.
    pub fn block_size(self) -> usize {
        self.row().3
    }

    /// Bytes of one block.
    pub fn block_bytes(self) -> usize {
        self.row().4
    }
}

impl std::fmt::Display for GgmlType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_types_belong_to_each_other() {
        for (kind, number, name, size, bytes) in TABLE {
            assert_eq!(GgmlType::from_number(number), Ok(kind));
            assert_eq!((kind.number(), kind.name()), (number, name));
            assert_eq!((kind.block_size(), kind.block_bytes()), (size, bytes));
        }
        assert_eq!(GgmlType::from_number(20), Err("IQ4_NL"));
        assert_eq!(GgmlType::from_number(9999), Err("unknown"));
    }

    #[test]
    fn block_bytes_follow_from_the_fields_of_a_block() {
        // ggml-common.h: an f16 scale is 2 bytes; a K block has 12 bytes of packed scales, and so on.
        let half = 2;
        assert_eq!(GgmlType::Q4_0.block_bytes(), half + 32 / 2);
        assert_eq!(GgmlType::Q5_1.block_bytes(), 2 * half + 4 + 32 / 2);
        assert_eq!(GgmlType::Q8_0.block_bytes(), half + 32);
        assert_eq!(GgmlType::Q2_K.block_bytes(), 256 / 16 + 256 / 4 + 2 * half);
        assert_eq!(GgmlType::Q3_K.block_bytes(), 256 / 8 + 256 / 4 + 12 + half);
        assert_eq!(GgmlType::Q4_K.block_bytes(), 2 * half + 12 + 256 / 2);
        assert_eq!(GgmlType::Q5_K.block_bytes(), 2 * half + 12 + 256 / 8 + 256 / 2);
        assert_eq!(GgmlType::Q6_K.block_bytes(), 256 / 2 + 256 / 4 + 256 / 16 + half);
        assert_eq!(GgmlType::Q8_K.block_bytes(), 4 + 256 + 2 * 256 / 16);
    }
}
