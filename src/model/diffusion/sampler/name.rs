//! Names of samplers and of noise schedules, as the WebUI, diffusers and scripts write them.

use super::error::SamplerError;
use crate::base::hint::nearest;

/// An algorithm that goes from noise to an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// Denoising diffusion implicit models, η = 0 (Song et al., 2021).
    Ddim,
    /// Pseudo linear multistep (Liu et al., 2022): PLMS, or PNDM without Runge–Kutta steps.
    Pndm,
    /// Euler's method on the probability flow (Karras et al., 2022, algorithm 2 without churn).
    Euler,
    /// Ancestral sampling with Euler steps (k-diffusion).
    EulerAncestral,
    /// Heun's method (Karras et al., 2022): two calls a step.
    Heun,
    /// DPM-Solver++(2M) (Lu et al., 2022).
    DpmPp2m,
    /// The stochastic DPM-Solver++(2M).
    DpmPp2mSde,
    /// The stochastic DPM-Solver++(3M) (k-diffusion).
    DpmPp3mSde,
    /// The stochastic DPM-Solver++ with a midpoint: two calls a step (k-diffusion).
    DpmPpSde,
    /// `UniPC`, a multistep predictor and corrector (Zhao et al., 2023).
    UniPc,
    /// Latent consistency models (Luo et al., 2023).
    Lcm,
}

/// How noise levels are spread over the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Schedule {
    /// The configuration's own; in the WebUI the sampler's own.
    #[default]
    Automatic,
    /// Uniform in time from the first to the last timestep (diffusers: `linspace`).
    Uniform,
    /// Karras et al. (2022), ρ = 7.
    Karras,
    /// Uniform in the logarithm.
    Exponential,
    /// Polynomial in the logarithm, ρ = 1.
    Polyexponential,
    /// Uniform in time, without the last (diffusers: `trailing`).
    SgmUniform,
    /// KL-optimal (Sabour et al., 2024).
    KlOptimal,
    /// Every n-th noise level of the training.
    Simple,
    /// Uniform in time between the first and the last noise level.
    Normal,
    /// The noise levels of DDIM.
    Ddim,
    /// Quantiles of the beta distribution (Lee et al., 2024).
    Beta,
}

/// Label in the WebUI, name in scripts, class in diffusers, and other names.
type Names = (&'static str, &'static str, &'static str, &'static [&'static str]);

impl Algorithm {
    /// All algorithms.
    pub const ALL: [Self; 11] = [
        Self::Ddim,
        Self::Pndm,
        Self::Euler,
        Self::EulerAncestral,
        Self::Heun,
        Self::DpmPp2m,
        Self::DpmPp2mSde,
        Self::DpmPp3mSde,
        Self::DpmPpSde,
        Self::UniPc,
        Self::Lcm,
    ];

    const fn names(self) -> Names {
        match self {
            Self::Ddim => ("DDIM", "ddim", "DDIMScheduler", &[]),
            Self::Pndm => ("PLMS", "pndm", "PNDMScheduler", &["plms"]),
            Self::Euler => ("Euler", "euler", "EulerDiscreteScheduler", &["k_euler"]),
            Self::EulerAncestral => (
                "Euler a",
                "euler_a",
                "EulerAncestralDiscreteScheduler",
                &["euler_ancestral", "k_euler_a", "k_euler_ancestral"],
            ),
            Self::Heun => ("Heun", "heun", "HeunDiscreteScheduler", &["k_heun"]),
            Self::DpmPp2m => {
                ("DPM++ 2M", "dpmpp_2m", "DPMSolverMultistepScheduler", &["k_dpmpp_2m"])
            }
            Self::DpmPp2mSde => ("DPM++ 2M SDE", "dpmpp_2m_sde", "", &["k_dpmpp_2m_sde"]),
            Self::DpmPp3mSde => ("DPM++ 3M SDE", "dpmpp_3m_sde", "", &["k_dpmpp_3m_sde"]),
            Self::DpmPpSde => ("DPM++ SDE", "dpmpp_sde", "DPMSolverSDEScheduler", &["k_dpmpp_sde"]),
            Self::UniPc => ("UniPC", "unipc", "UniPCMultistepScheduler", &["uni_pc"]),
            Self::Lcm => ("LCM", "lcm", "LCMScheduler", &["k_lcm"]),
        }
    }

    /// Its name in the WebUI and in infotexts, without a schedule: `DPM++ 2M`.
    pub const fn webui_name(self) -> &'static str {
        self.names().0
    }

    /// Its name in suites: `dpmpp_2m`.
    pub const fn name(self) -> &'static str {
        self.names().1
    }

    /// The schedule that `Automatic` stands for in the WebUI 1.10.
    pub const fn automatic_schedule(self) -> Schedule {
        match self {
            Self::DpmPp2m | Self::DpmPpSde => Schedule::Karras,
            Self::DpmPp2mSde | Self::DpmPp3mSde => Schedule::Exponential,
            _ => Schedule::Uniform,
        }
    }

    /// Whether the WebUI computes one more noise level and leaves the last but one (before 0) out.
    pub(super) const fn discards_penultimate(self) -> bool {
        matches!(self, Self::DpmPp3mSde)
    }

    /// Its class in diffusers; empty for the stochastic DPM++ 2M, which is a setting of DPM++ 2M's,
    /// and for what diffusers lacks.
    pub(super) const fn class(self) -> &'static str {
        self.names().2
    }

    /// The algorithm of a diffusers class; `DPMSolverMultistepScheduler` is [`Self::DpmPp2m`].
    pub(super) fn of_class(class: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| !class.is_empty() && algorithm.class() == class)
    }

    fn find(name: &str) -> Option<Self> {
        let name = plain(name);
        Self::ALL.into_iter().find(|algorithm| {
            let (label, snake, class, others) = algorithm.names();
            [label, snake, class].iter().chain(others).any(|known| {
                let known = plain(known);
                !known.is_empty() && known == name
            })
        })
    }
}

impl Schedule {
    /// All schedules.
    pub const ALL: [Self; 11] = [
        Self::Automatic,
        Self::Uniform,
        Self::Karras,
        Self::Exponential,
        Self::Polyexponential,
        Self::SgmUniform,
        Self::KlOptimal,
        Self::Simple,
        Self::Normal,
        Self::Ddim,
        Self::Beta,
    ];

    const fn names(self) -> (&'static str, &'static str, &'static [&'static str]) {
        match self {
            Self::Automatic => ("Automatic", "automatic", &[]),
            Self::Uniform => ("Uniform", "uniform", &["linspace"]),
            Self::Karras => ("Karras", "karras", &[]),
            Self::Exponential => ("Exponential", "exponential", &[]),
            Self::Polyexponential => ("Polyexponential", "polyexponential", &[]),
            Self::SgmUniform => ("SGM Uniform", "sgm_uniform", &["trailing"]),
            Self::KlOptimal => ("KL Optimal", "kl_optimal", &[]),
            Self::Simple => ("Simple", "simple", &[]),
            Self::Normal => ("Normal", "normal", &[]),
            Self::Ddim => ("DDIM", "ddim", &["ddim_uniform"]),
            Self::Beta => ("Beta", "beta", &[]),
        }
    }

    /// Its name in the WebUI and in infotexts (`Schedule type`).
    pub const fn webui_name(self) -> &'static str {
        self.names().0
    }

    /// Its name in suites: `sgm_uniform`.
    pub const fn name(self) -> &'static str {
        self.names().1
    }

    /// The schedule of a name in either program.
    pub fn parse(name: &str) -> Result<Self, SamplerError> {
        Self::find(&plain(name)).ok_or_else(|| SamplerError::UnknownSchedule {
            name: name.to_owned(),
            hint: hint(name, Self::ALL.map(Self::name)),
        })
    }

    fn find(plain_name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|schedule| schedule.spelled().any(|known| known == plain_name))
    }

    fn spelled(self) -> impl Iterator<Item = String> {
        let (label, snake, others) = self.names();
        [label, snake].into_iter().chain(others.iter().copied()).map(plain)
    }
}

/// An algorithm and a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Choice {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The schedule.
    pub schedule: Schedule,
}

impl Choice {
    /// What `sampler` (`DPM++ 2M Karras`, `dpmpp_2m_karras`, `DPM++ 2M`, the name of a diffusers
    /// class) and `schedule` (`Karras`, `karras`, or none) name. Case, spaces and underscores do not
    /// matter.
    pub fn parse(sampler: &str, schedule: Option<&str>) -> Result<Self, SamplerError> {
        let (algorithm, suffix) = split(sampler).ok_or_else(|| SamplerError::UnknownSampler {
            name: sampler.to_owned(),
            hint: hint(sampler, Algorithm::ALL.map(Algorithm::name)),
        })?;
        let given = schedule.map(Schedule::parse).transpose()?.unwrap_or_default();
        match (suffix, given) {
            (suffix, Schedule::Automatic) => Ok(Self { algorithm, schedule: suffix }),
            (Schedule::Automatic, given) => Ok(Self { algorithm, schedule: given }),
            (suffix, given) if suffix == given => Ok(Self { algorithm, schedule: given }),
            _ => Err(SamplerError::TwoSchedules {
                sampler: sampler.to_owned(),
                schedule: schedule.unwrap_or_default().to_owned(),
            }),
        }
    }

    /// `Sampler` and `Schedule type` of a WebUI infotext; samplers with timesteps of their own
    /// (DDIM, PLMS, `UniPC`) and those that have no default write `Automatic`.
    pub const fn webui_names(self) -> (&'static str, &'static str) {
        let schedule = match (self.schedule, self.algorithm.automatic_schedule()) {
            (Schedule::Automatic, Schedule::Uniform) => Schedule::Automatic,
            (Schedule::Automatic, own) => own,
            (given, _) => given,
        };
        (self.algorithm.webui_name(), schedule.webui_name())
    }
}

/// The algorithm of a name, and the schedule that the name ends in.
fn split(name: &str) -> Option<(Algorithm, Schedule)> {
    if let Some(algorithm) = Algorithm::find(name) {
        return Some((algorithm, Schedule::Automatic));
    }
    let name = plain(name);
    // `polyexponential` ends in `exponential`: every ending is tried until an algorithm is left
    Schedule::ALL.into_iter().find_map(|schedule| {
        schedule.spelled().find_map(|ending| {
            Some((Algorithm::find(name.strip_suffix(ending.as_str())?)?, schedule))
        })
    })
}

/// Lower case, `++` as `pp`, without spaces, underscores and hyphens.
fn plain(name: &str) -> String {
    name.to_lowercase().replace("++", "pp").replace([' ', '_', '-'], "")
}

fn hint<const N: usize>(name: &str, known: [&'static str; N]) -> String {
    match nearest(&name.to_lowercase(), known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("one of {}", known.map(|name| format!("`{name}`")).join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(sampler: &str, schedule: Option<&str>) -> (Algorithm, Schedule) {
        let choice = Choice::parse(sampler, schedule).unwrap();
        (choice.algorithm, choice.schedule)
    }

    #[test]
    fn names_of_the_webui_of_scripts_and_of_diffusers_mean_the_same() {
        use Algorithm::{DpmPp2m, DpmPp2mSde, DpmPpSde, EulerAncestral, Pndm, UniPc};
        let cases = [
            ("Euler a", None, EulerAncestral, Schedule::Automatic),
            ("euler_a", None, EulerAncestral, Schedule::Automatic),
            ("EulerAncestralDiscreteScheduler", None, EulerAncestral, Schedule::Automatic),
            ("DPM++ 2M Karras", None, DpmPp2m, Schedule::Karras),
            ("DPM++ 2M", Some("Karras"), DpmPp2m, Schedule::Karras),
            ("dpmpp_2m_karras", Some("automatic"), DpmPp2m, Schedule::Karras),
            ("dpmpp_2m_sde_karras", Some("karras"), DpmPp2mSde, Schedule::Karras),
            ("DPM++ SDE Polyexponential", None, DpmPpSde, Schedule::Polyexponential),
            ("dpmpp_sde_sgm_uniform", None, DpmPpSde, Schedule::SgmUniform),
            ("PLMS", None, Pndm, Schedule::Automatic),
            ("pndm", None, Pndm, Schedule::Automatic),
            ("UniPC", None, UniPc, Schedule::Automatic),
        ];
        for (sampler, schedule, algorithm, expected) in cases {
            assert_eq!(parsed(sampler, schedule), (algorithm, expected), "{sampler} {schedule:?}");
        }
    }

    #[test]
    fn every_name_and_label_is_read_back() {
        for algorithm in Algorithm::ALL {
            for schedule in Schedule::ALL {
                let label = format!("{} {}", algorithm.webui_name(), schedule.webui_name());
                let snake = format!("{}_{}", algorithm.name(), schedule.name());
                assert_eq!(parsed(&label, None), (algorithm, schedule));
                assert_eq!(parsed(&snake, None), (algorithm, schedule));
                assert_eq!(parsed(algorithm.name(), Some(schedule.name())), (algorithm, schedule));
            }
        }
    }

    #[test]
    fn unknown_names_are_errors_with_the_nearest_known_one() {
        let error = Choice::parse("dpmpp_2n", None).unwrap_err().to_string();
        assert!(
            error.contains("`dpmpp_2n`") && error.contains("did you mean `dpmpp_2m`?"),
            "{error}"
        );
        let error = Choice::parse("zzz", None).unwrap_err().to_string();
        assert!(error.contains("one of `ddim`, `pndm`"), "{error}");
        let error = Choice::parse("euler", Some("karas")).unwrap_err().to_string();
        assert!(error.contains("did you mean `karras`?"), "{error}");
        assert!(matches!(
            Choice::parse("dpmpp_2m_karras", Some("beta")),
            Err(SamplerError::TwoSchedules { .. })
        ));
        assert!(Choice::parse("", None).is_err());
        assert!(Choice::parse("karras", None).is_err());
    }

    #[test]
    fn infotexts_name_the_schedule_that_automatic_stands_for() {
        let names = |sampler| Choice::parse(sampler, None).unwrap().webui_names();
        assert_eq!(names("dpmpp_2m"), ("DPM++ 2M", "Karras"));
        assert_eq!(names("dpmpp_2m_sde"), ("DPM++ 2M SDE", "Exponential"));
        assert_eq!(names("euler_a"), ("Euler a", "Automatic"));
        assert_eq!(names("euler_karras"), ("Euler", "Karras"));
    }
}
