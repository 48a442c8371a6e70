//! The part of a plan that one of several processes makes.

use std::fmt;
use std::str::FromStr;

use crate::base::terminal::printable;

/// Most shards of a run.
pub const MAX_SHARDS: u32 = 100_000;

/// Shard `I` of `N`, counted from 1.
///
/// A cell belongs to shard `I` where the first 8 bytes of its id, read as a big-endian integer, are
/// `I - 1` modulo `N`. This rule is frozen: it never changes between versions, so that processes of
/// different versions share a run without a gap. It looks at one cell alone: adding or removing cells
/// moves no other cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: u32,
    count: u32,
}

/// Why a shard cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShardError {
    /// Not `I/N`.
    #[error(
        "shard `{}`: expected I/N with I from 1 to N and N at most 100000\nhint: write `--shard 1/8` for the first of eight, or `--shard auto` in a job array",
        printable(.0)
    )]
    Form(String),
    /// `auto` outside of a job array.
    #[error(
        "shard `auto`: neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set\nhint: this is no job array; write `--shard I/N`, such as `--shard 1/8`"
    )]
    NoArray,
    /// A variable that must be set beside another.
    #[error("shard `auto`: {set} is set, but {missing} is not\nhint: {hint}")]
    Missing {
        /// The variable that is set.
        set: &'static str,
        /// The one that is not.
        missing: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// A variable that is no whole number, or lies outside of the array.
    #[error(
        "shard `auto`: {name} is `{}`: expected {expected}\nhint: write `--shard I/N`, such as `--shard 1/8`",
        printable(value)
    )]
    Variable {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        expected: String,
    },
    /// A Slurm array that is not a whole range.
    #[error(
        "shard `auto`: the array has {count} tasks, but its ids run from {low} to {high}\nhint: tasks of a partial array (`--array=3,7`) cannot tell how many shards there are; write `--shard I/N`, with the N of the whole array"
    )]
    Partial {
        /// Tasks of the array.
        count: u64,
        /// Its lowest id.
        low: u64,
        /// Its highest id.
        high: u64,
    },
}

impl Shard {
    /// The only shard: all cells.
    pub const WHOLE: Self = Self { index: 1, count: 1 };

    /// Shard `index` of `count`, counted from 1.
    pub fn new(index: u32, count: u32) -> Result<Self, ShardError> {
        if index == 0 || index > count || count > MAX_SHARDS {
            return Err(ShardError::Form(format!("{index}/{count}")));
        }
        Ok(Self { index, count })
    }

    /// The shard's number, from 1.
    pub fn index(self) -> u32 {
        self.index
    }

    /// How many shards there are.
    pub fn count(self) -> u32 {
        self.count
    }

    /// Whether this shard makes the cell `id`. Exactly one shard of a count owns any text; one that is
    /// not the id of a cell belongs to the first.
    pub fn owns(self, id: &str) -> bool {
        let first = id.get(..16).filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()));
        let number = first.and_then(|text| u64::from_str_radix(text, 16).ok()).unwrap_or(0);
        number % u64::from(self.count) == u64::from(self.index - 1)
    }

    /// The shard of a task of a job array, from environment variables: Slurm's `SLURM_ARRAY_TASK_ID`
    /// with `_COUNT`, `_MIN` and `_MAX`, or `JOB_COMPLETION_INDEX` of a Kubernetes Indexed Job with
    /// `JOB_COMPLETION_TOTAL`, which the job's author sets. `lookup` gives a variable's value.
    pub fn auto(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ShardError> {
        let set = |name: &str| lookup(name).filter(|value| !value.trim().is_empty());
        if let Some(id) = set("SLURM_ARRAY_TASK_ID") {
            return Self::slurm(&id, &set);
        }
        let name = "JOB_COMPLETION_INDEX";
        let Some(index) = set(name) else { return Err(ShardError::NoArray) };
        let missing = "JOB_COMPLETION_TOTAL";
        let Some(total) = set(missing) else {
            return Err(ShardError::Missing {
                set: name,
                missing,
                hint: "Kubernetes does not tell the number of completions; set JOB_COMPLETION_TOTAL in the container's `env` to the job's `completions`",
            });
        };
        let count = number(missing, &total, 1, MAX_SHARDS.into())?;
        let index = number(name, &index, 0, count - 1)?;
        Self::from_zero(index, count)
    }

    fn slurm(id: &str, set: &impl Fn(&str) -> Option<String>) -> Result<Self, ShardError> {
        let name = "SLURM_ARRAY_TASK_ID";
        let read = |variable: &'static str| match set(variable) {
            Some(value) => number(variable, &value, 0, u64::from(u32::MAX)),
            None => Err(ShardError::Missing {
                set: name,
                missing: variable,
                hint: "write `--shard I/N`, such as `--shard 1/8`",
            }),
        };
        let count = read("SLURM_ARRAY_TASK_COUNT")?;
        let (low, high) = (read("SLURM_ARRAY_TASK_MIN")?, read("SLURM_ARRAY_TASK_MAX")?);
        // A step other than 1 leaves gaps, and is seen by them.
        if high.checked_sub(low).is_none_or(|span| span + 1 != count) {
            return Err(ShardError::Partial { count, low, high });
        }
        Self::from_zero(number(name, id, low, high)? - low, count)
    }

    fn from_zero(index: u64, count: u64) -> Result<Self, ShardError> {
        match (u32::try_from(index + 1), u32::try_from(count)) {
            (Ok(index), Ok(count)) => Self::new(index, count),
            _ => Err(ShardError::Form(format!("{}/{count}", index + 1))),
        }
    }
}

fn number(name: &'static str, value: &str, low: u64, high: u64) -> Result<u64, ShardError> {
    value.trim().parse().ok().filter(|n| (low..=high).contains(n)).ok_or_else(|| {
        let expected = format!("a whole number from {low} to {high}");
        ShardError::Variable { name, value: value.to_owned(), expected }
    })
}

impl FromStr for Shard {
    type Err = ShardError;

    /// Reads `I/N`. Plain digits only.
    fn from_str(text: &str) -> Result<Self, ShardError> {
        let bad = || ShardError::Form(text.to_owned());
        let digits = |part: &str| {
            let plain = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| part.parse::<u32>().ok()).flatten()
        };
        let (index, count) = text.split_once('/').ok_or_else(bad)?;
        match (digits(index), digits(count)) {
            (Some(index), Some(count)) => Self::new(index, count).map_err(|_| bad()),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The shard of `count` that owns `id`.
    fn owner(id: &str, count: u32) -> u32 {
        let all: Vec<u32> =
            (1..=count).filter(|&i| Shard::new(i, count).unwrap().owns(id)).collect();
        assert_eq!(all.len(), 1);
        all[0]
    }

    #[test]
    fn the_rule_is_frozen() {
        // sha256 of the decimal digits 0 to 19; int(id[:16], 16) % n + 1 for n = 2, 3, 8, 64, in Python.
        let golden: [[u32; 4]; 20] = [
            [1, 1, 1, 57],
            [2, 2, 2, 34],
            [1, 2, 7, 47],
            [2, 2, 4, 12],
            [1, 2, 7, 7],
            [2, 3, 4, 44],
            [2, 1, 8, 56],
            [1, 3, 7, 15],
            [2, 1, 8, 56],
            [1, 1, 1, 1],
            [1, 1, 1, 41],
            [1, 2, 3, 19],
            [1, 1, 5, 21],
            [1, 3, 7, 7],
            [2, 2, 2, 42],
            [1, 3, 7, 55],
            [1, 3, 7, 31],
            [2, 1, 8, 24],
            [1, 2, 7, 55],
            [2, 2, 8, 24],
        ];
        for (n, expected) in golden.iter().enumerate() {
            let id = crate::base::digest::sha256(n.to_string().as_bytes());
            assert_eq!([2, 3, 8, 64].map(|count| owner(&id, count)), *expected, "{n}");
        }
    }

    #[test]
    fn texts_are_read_or_refused() {
        for text in ["1/1", "1/8", "8/8", "100000/100000", "3/5"] {
            assert_eq!(text.parse::<Shard>().unwrap().to_string(), text);
        }
        let bad = [
            "",
            "/",
            "1",
            "0/4",
            "5/4",
            "1/0",
            "-1/4",
            "+1/4",
            " 1/4",
            "1/4/4",
            "1/100001",
            "a/b",
            "1.0/4",
            "4294967297/4294967298",
        ];
        for text in bad {
            assert_eq!(text.parse::<Shard>(), Err(ShardError::Form(text.to_owned())), "{text}");
        }
        insta::assert_snapshot!("5/4".parse::<Shard>().unwrap_err().to_string());
    }

    fn auto(variables: &[(&str, &str)]) -> Result<String, String> {
        let lookup = |name: &str| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        };
        Shard::auto(lookup).map(|s| s.to_string()).map_err(|e| e.to_string())
    }

    fn slurm(id: &str, count: &str, low: &str, high: &str) -> Result<String, String> {
        auto(&[
            ("SLURM_ARRAY_TASK_ID", id),
            ("SLURM_ARRAY_TASK_COUNT", count),
            ("SLURM_ARRAY_TASK_MIN", low),
            ("SLURM_ARRAY_TASK_MAX", high),
        ])
    }

    #[test]
    fn job_arrays_tell_the_shard() {
        // sbatch --array=0-7, 1-8, 10-12; a Job with completions: 4.
        assert_eq!(slurm("0", "8", "0", "7").unwrap(), "1/8");
        assert_eq!(slurm("8", "8", "1", "8").unwrap(), "8/8");
        assert_eq!(slurm("11", "3", "10", "12").unwrap(), "2/3");
        let kubernetes = [("JOB_COMPLETION_INDEX", "3"), ("JOB_COMPLETION_TOTAL", "4")];
        assert_eq!(auto(&kubernetes).unwrap(), "4/4");
        let both = [kubernetes[0], kubernetes[1], ("SLURM_ARRAY_TASK_ID", "")];
        assert_eq!(auto(&both).unwrap(), "4/4");
    }

    #[test]
    fn arrays_that_do_not_tell_are_refused() {
        let all = [
            auto(&[]),
            slurm("3", "2", "3", "7"), // --array=3,7
            slurm("4", "4", "0", "6"), // --array=0-6:2
            slurm("9", "8", "0", "7"),
            slurm("x", "8", "0", "7"),
            slurm("0", "-1", "0", "7"),
            slurm("0", "100001", "0", "100000"),
            slurm("0", "1", "1", "0"),
            auto(&[("SLURM_ARRAY_TASK_ID", "1")]),
            auto(&[("JOB_COMPLETION_INDEX", "1")]),
            auto(&[("JOB_COMPLETION_INDEX", "4"), ("JOB_COMPLETION_TOTAL", "4")]),
            auto(&[("JOB_COMPLETION_INDEX", "0"), ("JOB_COMPLETION_TOTAL", "0")]),
        ];
        let all: Vec<String> = all.into_iter().map(Result::unwrap_err).collect();
        insta::assert_snapshot!(all.join("\n"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn every_text_has_exactly_one_owner(id in "[0-9a-f]{64}|.{0,20}", count in 1u32..=64) {
            owner(&id, count);
        }

        #[test]
        fn an_owner_depends_on_the_id_alone(id in "[0-9a-f]{64}", count in 1u32..=64) {
            // The rule again, from its documentation.
            let bytes: Vec<u8> =
                (0..8).map(|i| u8::from_str_radix(&id[2 * i..2 * i + 2], 16).unwrap()).collect();
            let number = u64::from_be_bytes(bytes.try_into().unwrap());
            prop_assert_eq!(u64::from(owner(&id, count)), number % u64::from(count) + 1);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9/+ -]{0,12}|.{0,12}") {
            if let Ok(shard) = text.parse::<Shard>() {
                prop_assert!(shard.index() >= 1 && shard.index() <= shard.count());
            }
        }
    }
}
