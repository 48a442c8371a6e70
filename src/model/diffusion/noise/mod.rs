//! The normal random numbers that pictures start from, and that ancestral samplers add.
//!
//! A [`NoiseStream`] is one generator, seeded once. Each call of [`NoiseStream::normal`] continues
//! it, and gives bit for bit what the peer's generator gives for a tensor of that many elements:
//!
//! - [`NoiseSource::Cpu`]: `torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed))`
//!   on x86-64 with AVX2 (torch 2.15.0; its other builds differ in the last bits)
//! - [`NoiseSource::Nv`]: the WebUI's `rng_philox.Generator(seed).randn(shape)` (1.10.1), which
//!   gives what torch gives on a CUDA card; this is the WebUI's default
//!
//! How a number of values is split into calls matters: two calls for 8 values are not one for 16.

mod cephes;
mod philox;
mod torch;

use std::fmt;
use std::str::FromStr;

use crate::base::terminal::printable;
use philox::Philox;
use torch::TorchCpu;

/// Whose random numbers (the WebUI's setting "Random number generator source").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NoiseSource {
    /// torch on the CPU: Mersenne Twister and Box–Muller.
    Cpu,
    /// torch on an NVIDIA card: Philox and Box–Muller. The WebUI's `GPU` and `NV` are both this.
    Nv,
}

/// A name that is no source of noise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown source of noise `{}`, expected `cpu`, `gpu` or `nv`\nhint: `nv` (or `gpu`) gives the noise of an NVIDIA card, the WebUI's default",
    printable(.0)
)]
pub struct UnknownNoiseSource(String);

impl FromStr for NoiseSource {
    type Err = UnknownNoiseSource;

    /// `cpu`, `gpu` or `nv`, in either case.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name.to_ascii_lowercase().as_str() {
            "cpu" => Ok(Self::Cpu),
            "gpu" | "nv" => Ok(Self::Nv),
            _ => Err(UnknownNoiseSource(name.to_owned())),
        }
    }
}

impl fmt::Display for NoiseSource {
    /// As the WebUI writes it after `RNG:`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "CPU",
            Self::Nv => "NV",
        })
    }
}

/// A generator of standard normal numbers, somewhere in its sequence.
#[derive(Debug, Clone)]
pub struct NoiseStream(Generator);

#[derive(Debug, Clone)]
enum Generator {
    Cpu(Box<TorchCpu>),
    Nv(Philox),
}

impl NoiseStream {
    /// The generator of `source` at its start. torch's CPU generator sees the low 32 bits of `seed`.
    pub fn new(source: NoiseSource, seed: u64) -> Self {
        Self(match source {
            NoiseSource::Cpu => Generator::Cpu(Box::new(TorchCpu::new(seed))),
            NoiseSource::Nv => Generator::Nv(Philox::new(seed)),
        })
    }

    /// The next tensor of `count` elements, row-major.
    pub fn normal(&mut self, count: usize) -> Vec<f32> {
        match &mut self.0 {
            Generator::Cpu(torch) => torch.normal(count),
            Generator::Nv(philox) => philox.normal(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_webui() {
        for (name, source) in
            [("cpu", NoiseSource::Cpu), ("GPU", NoiseSource::Nv), ("Nv", NoiseSource::Nv)]
        {
            assert_eq!(name.parse(), Ok(source));
            assert_eq!(source.to_string().parse(), Ok(source));
        }
        let error = "cuda".parse::<NoiseSource>().unwrap_err().to_string();
        assert!(error.starts_with("unknown source of noise `cuda`"), "{error}");
    }

    #[test]
    fn numbers_are_standard_normal() {
        for source in [NoiseSource::Cpu, NoiseSource::Nv] {
            let values = NoiseStream::new(source, 3).normal(1 << 18);
            let moment = |power: i32| {
                values.iter().map(|v| f64::from(*v).powi(power)).sum::<f64>() / values.len() as f64
            };
            // four standard errors of each moment: 1, √2, √15, √96 over 512
            for (power, expected, error) in
                [(1, 0.0, 0.008), (2, 1.0, 0.011), (3, 0.0, 0.030), (4, 3.0, 0.077)]
            {
                assert!((moment(power) - expected).abs() < error, "{source} {power}");
            }
        }
    }

    #[test]
    fn a_copy_of_a_stream_goes_on_as_the_stream_does() {
        for source in [NoiseSource::Cpu, NoiseSource::Nv] {
            let mut stream = NoiseStream::new(source, 11);
            let first = stream.normal(5);
            let mut copy = stream.clone();
            let next = stream.normal(5);
            assert_ne!(first, next);
            assert_eq!(next, copy.normal(5));
        }
    }
}
