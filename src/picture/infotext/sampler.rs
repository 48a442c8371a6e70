/// The WebUI's schedules: label, name, and what else a sampler's name may end in.
const SCHEDULES: [&[&str]; 12] = [
    &["Automatic", "automatic"],
    &["Uniform", "uniform"],
    &["Karras", "karras"],
    &["Exponential", "exponential"],
    &["Polyexponential", "polyexponential"],
    &["SGM Uniform", "sgm_uniform", "SGMUniform"],
    &["KL Optimal", "kl_optimal"],
    &["Align Your Steps", "align_your_steps"],
    &["Simple", "simple"],
    &["Normal", "normal"],
    &["DDIM", "ddim"],
    &["Beta", "beta"],
];

/// Sampler and schedule of the fields `Sampler` and `Schedule type`.
///
/// Up to 1.8 the WebUI had one name for both, such as `DPM++ 2M Karras`; a schedule at its end counts
/// and a `Schedule type` beside it does not. The longest schedule is taken (the WebUI, which takes
/// the first of its list, makes `SGM` a part of the sampler's name). Unknown names stay as they are.
pub fn split(sampler: &str, schedule: Option<&str>) -> (String, String) {
    let names =
        || SCHEDULES.iter().flat_map(|names| names.iter().map(move |name| (*name, names[0])));
    let ending = names()
        .filter_map(|(name, label)| Some((sampler.strip_suffix(name)?.strip_suffix(' ')?, label)))
        .min_by_key(|(rest, _)| rest.len());
    if let Some((rest, label)) = ending {
        return (rest.to_owned(), label.to_owned());
    }
    let schedule = schedule.unwrap_or("Automatic");
    let label = names().find(|(name, _)| *name == schedule).map_or(schedule, |(_, label)| label);
    (sampler.to_owned(), label.to_owned())
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn old_names_are_split_and_new_ones_are_not() {
        for (sampler, schedule, expected) in [
            ("DPM++ 2M Karras", None, ("DPM++ 2M", "Karras")),
            ("DPM++ 2M SDE Exponential", None, ("DPM++ 2M SDE", "Exponential")),
            ("DPM++ 2M Karras", Some("Uniform"), ("DPM++ 2M", "Karras")),
            ("DPM++ 2M SGMUniform", None, ("DPM++ 2M", "SGM Uniform")),
            ("DPM++ 2M SGM Uniform", None, ("DPM++ 2M", "SGM Uniform")),
            ("Euler a", None, ("Euler a", "Automatic")),
            ("DDIM", Some("ddim"), ("DDIM", "DDIM")),
            ("Euler", Some("kl_optimal"), ("Euler", "KL Optimal")),
            ("Euler", Some("mine"), ("Euler", "mine")),
            ("", None, ("", "Automatic")),
        ] {
            let (sampler, schedule) = split(sampler, schedule);
            assert_eq!((sampler.as_str(), schedule.as_str()), expected);
        }
    }
}
