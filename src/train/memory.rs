//! How much memory the process takes and may take.
//!
//! What is taken is counted by the allocator where the program has installed `peak_alloc`'s (as
//! `lora-eval` does), which does not count mapped files; elsewhere Linux is asked.

use std::fs;

use peak_alloc::PeakAlloc;

use super::TrainError;

/// What may be taken.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    limit: Option<u64>,
}

impl Memory {
    /// With this limit in bytes, or what the machine and its control group leave.
    pub fn new(limit: Option<u64>) -> Self {
        Self { limit: limit.or_else(spare) }
    }

    /// Nothing is watched.
    pub fn unlimited() -> Self {
        Self { limit: None }
    }

    /// The limit in bytes.
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// An error if more than the limit was taken since [`forget_peak`].
    pub fn check_peak(&self) -> Result<(), TrainError> {
        match (self.limit, peak()) {
            (Some(limit), Some(taken)) if taken > limit => {
                Err(TrainError::OutOfMemory { taken, limit })
            }
            _ => Ok(()),
        }
    }

    /// An error once more than the limit is taken.
    pub fn check(&self) -> Result<(), TrainError> {
        match (self.limit, taken()) {
            (Some(limit), Some(taken)) if taken > limit => {
                Err(TrainError::OutOfMemory { taken, limit })
            }
            _ => Ok(()),
        }
    }
}

fn field(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u64 = line.trim_start_matches(':').split_whitespace().next()?.parse().ok()?;
    number.checked_mul(1024)
}

/// Bytes that are taken, those of mapped files not counted.
pub fn taken() -> Option<u64> {
    match PeakAlloc.current_usage() {
        0 => field("/proc/self/status", "RssAnon"),
        counted => Some(counted as u64),
    }
}

/// The most that was taken since [`forget_peak`], where the allocator counts.
pub fn peak() -> Option<u64> {
    Some(PeakAlloc.peak_usage() as u64).filter(|peak| *peak > 0)
}

/// Starts [`peak`] anew.
pub fn forget_peak() {
    PeakAlloc.reset_peak_usage();
}

/// What is taken and what is free together, less a twentieth.
fn spare() -> Option<u64> {
    let free = field("/proc/meminfo", "MemAvailable")?;
    let of_group = fs::read_to_string("/sys/fs/cgroup/memory.max");
    let group: Option<u64> = of_group.ok().and_then(|text| text.trim().parse().ok());
    let all = free.saturating_add(taken()?);
    let all = group.map_or(all, |group| group.min(all));
    Some(all / 20 * 19)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_limit_below_what_is_taken_is_an_error_and_one_above_is_none() {
        let taken = taken().unwrap_or(0);
        assert!(taken > 0);
        assert!(Memory::new(Some(1)).check().is_err());
        assert!(Memory::new(Some(u64::MAX)).check().is_ok());
        assert!(Memory::unlimited().check().is_ok());
        assert!(Memory::new(None).limit().is_some_and(|limit| limit > taken));
    }
}
