//! Flags that every verb has.

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use lora_eval::tensors::Float;
use tracing_subscriber::EnvFilter;

/// Where to compute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// The first CUDA device where the build has one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA device.
    Cuda(usize),
}

/// A float type, or the one that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    /// What suits: for files, the type they have
    Auto,
    /// The type that each tensor has
    Keep,
    /// 32 bits
    F32,
    /// 16 bits, IEEE half
    F16,
    /// 16 bits, bfloat16
    Bf16,
}

impl Dtype {
    /// The type asked for, or `None` to keep what is there.
    pub fn float(self) -> Option<Float> {
        match self {
            Self::Auto | Self::Keep => None,
            Self::F32 => Some(Float::F32),
            Self::F16 => Some(Float::F16),
            Self::Bf16 => Some(Float::BF16),
        }
    }
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Print one JSON document on standard output and nothing else there
    #[arg(long, global = true)]
    pub json: bool,
    /// Where models run: `auto`, `cpu`, `cuda` or `cuda:N`; work on files is done on the CPU
    #[arg(long, global = true, value_name = "DEVICE", default_value = "auto", value_parser = device)]
    pub device: Device,
    /// Float type of the result; for running a model, of its weights
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "auto",
        hide_possible_values = true,
        value_name = "auto|keep|f32|f16|bf16"
    )]
    pub dtype: Dtype,
    /// Number of threads [default: one a core]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Say nothing but results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

fn device(text: &str) -> Result<Device, String> {
    match text.split_once(':') {
        None if text == "auto" => Ok(Device::Auto),
        None if text == "cpu" => Ok(Device::Cpu),
        None if text == "cuda" => Ok(Device::Cuda(0)),
        Some(("cuda", n)) => {
            n.parse().map(Device::Cuda).map_err(|_| format!("`{n}` is not the number of a device"))
        }
        _ => Err("expected `auto`, `cpu`, `cuda` or `cuda:N`".to_owned()),
    }
}

impl Global {
    /// These flags as words of a command line.
    pub fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let mut push = |word: String| words.push(word);
        match self.device {
            Device::Auto => {}
            Device::Cpu => push("--device=cpu".to_owned()),
            Device::Cuda(n) => push(format!("--device=cuda:{n}")),
        }
        if let Some(dtype) = self.dtype.to_possible_value().filter(|_| self.dtype != Dtype::Auto) {
            push(format!("--dtype={}", dtype.get_name()));
        }
        if let Some(threads) = self.threads {
            push(format!("--threads={threads}"));
        }
        let flags = [(self.json, "--json"), (self.quiet, "--quiet")];
        flags.iter().filter(|(set, _)| *set).for_each(|(_, flag)| push((*flag).to_owned()));
        (0..self.verbose).for_each(|_| push("--verbose".to_owned()));
        words
    }

    /// Sends notes and warnings to standard error.
    pub fn start_logging(&self) {
        let level = match (self.quiet, self.verbose) {
            (true, _) => "error",
            (_, 0) => "warn",
            (_, 1) => "info",
            _ => "debug",
        };
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::io::IsTerminal::is_terminal(&std::io::stderr());
        let _ = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(level))
            .with_writer(std::io::stderr)
            .with_ansi(colours)
            .with_target(false)
            .without_time()
            .try_init();
    }

    /// Where models run.
    pub fn device(&self) -> anyhow::Result<candle_core::Device> {
        let cuda = cfg!(feature = "cuda") && candle_core::utils::cuda_is_available();
        match self.device {
            Device::Cuda(n) => candle_core::Device::new_cuda(n).with_context(|| {
                format!("--device cuda:{n}\nhint: `nvidia-smi` lists the devices")
            }),
            Device::Auto if cuda => {
                Ok(candle_core::Device::new_cuda(0).unwrap_or(candle_core::Device::Cpu))
            }
            Device::Auto | Device::Cpu => Ok(candle_core::Device::Cpu),
        }
    }

    /// The type that weights are rounded to before they are used, if one was asked for.
    pub fn weights(&self) -> Option<candle_core::DType> {
        self.dtype.float().map(|float| match float {
            Float::F16 => candle_core::DType::F16,
            Float::BF16 => candle_core::DType::BF16,
            Float::F32 | Float::F64 => candle_core::DType::F32,
        })
    }

    /// Applies `--threads` and checks `--device`.
    pub fn prepare(&self) -> anyhow::Result<()> {
        if let Device::Cuda(n) = self.device
            && !cfg!(feature = "cuda")
        {
            bail!(
                "--device cuda:{n}: this build has no CUDA support\nhint: leave `--device` out, or build with `--features cuda`"
            );
        }
        if let Some(threads) = self.threads {
            rayon::ThreadPoolBuilder::new()
                .num_threads(usize::from(threads))
                .build_global()
                .context("--threads")?;
        }
        Ok(())
    }
}
