use crate::base::terminal::printable;

/// Why a sampler cannot be made or cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SamplerError {
    /// No sampler of that name.
    #[error("unknown sampler `{}`\nhint: {hint}", printable(name))]
    UnknownSampler {
        /// The name given.
        name: String,
        /// The nearest name, or all of them.
        hint: String,
    },
    /// No noise schedule of that name.
    #[error("unknown noise schedule `{}`\nhint: {hint}", printable(name))]
    UnknownSchedule {
        /// The name given.
        name: String,
        /// The nearest name, or all of them.
        hint: String,
    },
    /// The sampler's name ends in one schedule and another one is asked for.
    #[error(
        "sampler `{}` with the noise schedule `{}`: two schedules\n\
         hint: leave one of them out",
        printable(sampler),
        printable(schedule)
    )]
    TwoSchedules {
        /// The sampler's name.
        sampler: String,
        /// The schedule's name.
        schedule: String,
    },
    /// A value in the scheduler's configuration.
    #[error(
        "`{key}` in the scheduler's configuration is {found}: expected {expected}\nhint: {hint}"
    )]
    Value {
        /// The key.
        key: &'static str,
        /// The value, in backticks.
        found: String,
        /// What it may be.
        expected: String,
        /// What to do.
        hint: &'static str,
    },
    /// A sampler that cannot be had with this model or schedule.
    #[error("sampler `{sampler}` with {with}: {problem}\nhint: {hint}")]
    Combination {
        /// The sampler.
        sampler: &'static str,
        /// What it does not go with.
        with: String,
        /// Why.
        problem: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// A number of steps that the sampler cannot take.
    #[error("`{steps}` steps of `{sampler}`: expected {least} to {most}\nhint: change `steps`")]
    Steps {
        /// The sampler.
        sampler: &'static str,
        /// The steps asked for.
        steps: usize,
        /// The fewest it can take.
        least: usize,
        /// The most it can take.
        most: usize,
    },
    /// A timestep that the model was not trained on.
    #[error("timestep `{timestep}`: expected 0 to {last}\nhint: check `steps_offset` and `steps`")]
    Timestep {
        /// The timestep.
        timestep: usize,
        /// The last one trained.
        last: usize,
    },
    /// Values that do not fit together.
    #[error("{what}: expected {expected} numbers, found `{found}`\nhint: {hint}")]
    Length {
        /// What was given.
        what: &'static str,
        /// How many numbers it should have.
        expected: String,
        /// How many it has.
        found: usize,
        /// What to do.
        hint: &'static str,
    },
    /// All steps are done.
    #[error("the sampler has taken all its `{calls}` calls\nhint: stop when there is no next call")]
    Finished {
        /// How many there were.
        calls: usize,
    },
}
