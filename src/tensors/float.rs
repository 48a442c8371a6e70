//! The floating-point types of weights, and their conversion from and to f32.

use half::f16;
use half::slice::HalfFloatSliceExt as _;
use safetensors::Dtype;

/// A floating-point element type of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Float {
    /// IEEE 754 binary16.
    F16,
    /// bfloat16: f32 without its lower 16 bits.
    BF16,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
}

impl Float {
    /// The float type behind a safetensors type, if it is one of the four.
    pub fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F16 => Some(Self::F16),
            Dtype::BF16 => Some(Self::BF16),
            Dtype::F32 => Some(Self::F32),
            Dtype::F64 => Some(Self::F64),
            _ => None,
        }
    }

    /// Its name in a safetensors header.
    pub fn dtype(self) -> Dtype {
        match self {
            Self::F16 => Dtype::F16,
            Self::BF16 => Dtype::BF16,
            Self::F32 => Dtype::F32,
            Self::F64 => Dtype::F64,
        }
    }

    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F16 | Self::BF16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// Decodes little-endian `bytes` into `values` (as many elements). f64 is rounded to f32.
    pub fn decode(self, bytes: &[u8], values: &mut [f32]) {
        debug_assert_eq!(bytes.len(), values.len() * self.size());
        match self {
            Self::F16 => match bytemuck::try_cast_slice::<u8, f16>(bytes) {
                Ok(halves) => halves.convert_to_f32_slice(values),
                Err(_) => each::<2>(bytes, values, |b| f16::from_le_bytes(b).to_f32()),
            },
            Self::BF16 => {
                each::<2>(bytes, values, |b| {
                    f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)
                });
            }
            Self::F32 => each::<4>(bytes, values, f32::from_le_bytes),
            #[expect(clippy::cast_possible_truncation, reason = "rounds to the nearest f32")]
            Self::F64 => each::<8>(bytes, values, |b| f64::from_le_bytes(b) as f32),
        }
    }

    /// Encodes `values` into little-endian `bytes`, each rounded once, to nearest even.
    pub fn encode(self, values: &[f32], bytes: &mut [u8]) {
        debug_assert_eq!(bytes.len(), values.len() * self.size());
        match self {
            Self::F16 => match bytemuck::try_cast_slice_mut::<u8, f16>(bytes) {
                Ok(halves) => halves.convert_from_f32_slice(values),
                Err(_) => put::<2>(values, bytes, |v| f16::from_f32(v).to_le_bytes()),
            },
            Self::BF16 => put::<2>(values, bytes, |v| round_to_bf16(v).to_le_bytes()),
            Self::F32 => put::<4>(values, bytes, f32::to_le_bytes),
            Self::F64 => put::<8>(values, bytes, |v| f64::from(v).to_le_bytes()),
        }
    }
}

/// Round to nearest even without a branch, so that the loop over it is vectorised.
fn round_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let quiet = (bits >> 16) | 0x40;
    let is_nan = bits & 0x7fff_ffff > 0x7f80_0000;
    #[expect(clippy::cast_possible_truncation, reason = "the upper half is zero after the shift")]
    {
        (if is_nan { quiet } else { rounded }) as u16
    }
}

fn each<const N: usize>(bytes: &[u8], values: &mut [f32], decode: impl Fn([u8; N]) -> f32) {
    let (chunks, _) = bytes.as_chunks::<N>();
    for (value, chunk) in values.iter_mut().zip(chunks) {
        *value = decode(*chunk);
    }
}

fn put<const N: usize>(values: &[f32], bytes: &mut [u8], encode: impl Fn(f32) -> [u8; N]) {
    let (chunks, _) = bytes.as_chunks_mut::<N>();
    for (chunk, value) in chunks.iter_mut().zip(values) {
        *chunk = encode(*value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_rounds_as_the_half_crate_does() {
        for bits in (0..u32::MAX).step_by(65_521) {
            let value = f32::from_bits(bits);
            assert_eq!(round_to_bf16(value), half::bf16::from_f32(value).to_bits(), "{bits:#x}");
        }
    }

    #[test]
    fn every_half_survives_the_round_trip_aligned_or_not() {
        let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let mut shifted = vec![0u8];
        shifted.extend(&all);
        for float in [Float::F16, Float::BF16] {
            let mut values = vec![0.0; 1 << 16];
            float.decode(&all, &mut values);
            let mut again = vec![0.0; 1 << 16];
            float.decode(&shifted[1..], &mut again);
            let mut bytes = vec![0; all.len()];
            float.encode(&values, &mut bytes);
            for i in 0..values.len() {
                assert!(values[i] == again[i] || values[i].is_nan());
                assert!(values[i].is_nan() || bytes[2 * i..2 * i + 2] == all[2 * i..2 * i + 2]);
            }
        }
    }
}
