//! Advice: question in, configuration, reasons and memory plan out.

use serde::Serialize;

use super::AdviseError;
use super::choose::choose;
use super::claims::{Claim, not_followed};
use super::explain::{Reason, explain, notes};
use super::memory::MemoryPlan;
use super::network::Network;
use super::question::{Device, Question};
use super::yaml;
use crate::config::Settings;

/// What is advised, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Advice {
    /// The configuration as YAML, a reason in each line, the plan and the claims as comments.
    pub yaml: String,
    /// Each key of it with its reason.
    pub reasons: Vec<Reason>,
    /// Claims of the article that are not followed.
    pub not_followed: Vec<&'static Claim>,
    /// What the training's memory is made of.
    pub memory: MemoryPlan,
    /// What the user should know besides.
    pub notes: Vec<String>,
    /// The configuration as settings.
    #[serde(skip)]
    pub settings: Settings,
}

/// Answers a question; the same question has the same answer.
pub fn advise(question: &Question) -> Result<Advice, AdviseError> {
    check(question)?;
    let choice = choose(question);
    let reasons = explain(question, &choice);
    let not_followed = not_followed(question.task.draws());
    let notes = notes(question, &choice);
    let place = match question.device {
        Device::Cpu => "on the CPU",
        Device::Gpu => "on a GPU",
    };
    let mut head = vec![
        format!("A start for: {}, {} examples, {place}", question.task.name(), question.examples),
        "`lora-eval train FILE --lint` looks at the data first; `lora-eval doctor DIR` at the curves"
            .to_owned(),
    ];
    head.extend(notes.iter().cloned());
    let yaml = yaml::write(&head, &reasons, &choice.memory, &not_followed);
    let (settings, memory) = (choice.settings, choice.memory);
    Ok(Advice { yaml, reasons, not_followed, memory, notes, settings })
}

fn check(question: &Question) -> Result<(), AdviseError> {
    if question.examples == 0 {
        return Err(AdviseError::NoExamples);
    }
    if question.memory == Some(0) {
        return Err(AdviseError::NoMemory);
    }
    let (needs, others) = match (&question.base.network, question.task.draws()) {
        (Network::Decoder(_), true) => ("a base of pictures", "`instruct` and `domain`"),
        (Network::Diffusion(_), false) => {
            ("a language model", "`style`, `character` and `concept`")
        }
        _ => return Ok(()),
    };
    let (base, task) = (question.base.name.clone(), question.task);
    Err(AdviseError::OtherKind { base, task, needs, others })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::facts::BaseFacts;
    use super::super::question::Task;
    use super::*;
    use crate::config::{Every, Length, Warmup};

    const GIB: u64 = 1 << 30;

    fn question(task: Task) -> Question {
        let device = Device::Gpu;
        Question {
            task,
            examples: 40,
            tokens: None,
            device,
            memory: Some(24 * GIB),
            base: BaseFacts::usual(task),
        }
    }

    /// Every task on every device, of few and many examples, with little and much memory.
    fn questions() -> Vec<Question> {
        let mut all = Vec::new();
        for task in Task::ALL {
            for device in [Device::Cpu, Device::Gpu] {
                for examples in [1, 19, 20, 450, 200_000] {
                    for memory in [None, Some(1), Some(8), Some(24)] {
                        let tokens = [None, Some(examples as u64 * 300)];
                        for tokens in if task.draws() { &tokens[..1] } else { &tokens[..] } {
                            let memory = memory.map(|gib| gib * GIB);
                            let (tokens, base) = (*tokens, BaseFacts::usual(task));
                            all.push(Question { task, examples, tokens, device, memory, base });
                        }
                    }
                }
            }
        }
        let sdxl =
            |memory| Question { base: BaseFacts::sdxl(), memory, ..question(Task::Character) };
        all.extend([8, 12, 16, 24, 80].map(|gib| sdxl(Some(gib * GIB))));
        all
    }

    #[test]
    fn every_answer_fits_or_says_that_it_does_not() {
        for question in questions() {
            let advice = advise(&question).unwrap();
            let said = advice.notes.iter().any(|note| note.starts_with("it does not fit"));
            assert_eq!(said, !advice.memory.fits(), "{question:?}");
            let run = &advice.settings.run;
            if !advice.memory.fits() {
                assert!(run.batch_size == 1 && run.checkpointing, "{question:?}");
            }
            if question.memory.is_some_and(|memory| memory >= 24 * GIB) {
                assert!(advice.memory.fits(), "{question:?}");
            }
        }
    }

    #[test]
    fn every_answer_keeps_the_rules() {
        for question in questions() {
            let settings = advise(&question).unwrap().settings;
            let run = &settings.run;
            assert!((4..=16).contains(&(run.batch_size * run.accumulation)), "{question:?}");
            let adapter = &settings.adapter;
            let rank = adapter.rank as f64;
            let scale = adapter.alpha / if adapter.rslora { rank.sqrt() } else { rank };
            assert!((0.25..=4.0).contains(&scale), "{question:?}");
            assert_eq!(adapter.rslora, adapter.rank >= 64, "{question:?}");
            assert!((1e-4..3.1e-4).contains(&settings.optimizer.learning_rate), "{question:?}");
            assert_eq!(settings.diffusion.min_snr_gamma.is_some(), question.task.draws());
            let held_out = settings.validation.every != Every::Never;
            assert_eq!(held_out, question.examples >= 20, "{question:?}");
            assert_eq!(settings.validation.patience.is_some(), held_out);
            let Warmup::Steps(warmup) = settings.schedule.warmup else { panic!("no steps") };
            assert!((1..=200).contains(&warmup), "{question:?}");
            match settings.run.length {
                Length::Steps(steps) => {
                    assert!(warmup < steps, "{question:?}");
                    let views = steps * run.batch_size * run.accumulation;
                    assert!(views >= 1500 && views >= question.examples, "{question:?}");
                }
                Length::Epochs(epochs) => assert!((1..=3).contains(&epochs)),
            }
        }
    }

    #[test]
    fn every_line_of_the_yaml_is_read_and_has_a_source() {
        for question in questions() {
            let advice = advise(&question).unwrap();
            let read: Value = serde_saphyr::from_str(&advice.yaml).unwrap();
            for reason in &advice.reasons {
                let found = reason.key.split('.').try_fold(&read, |at, name| at.get(name)).unwrap();
                let found = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
                let value = reason.value.trim_matches('"');
                let same = found == value || found.parse::<f64>().ok() == value.parse().ok();
                assert!(same, "{}: `{value}`, read as `{found}`", reason.key);
                let line = format!(": {}  # {} [{}]", reason.value, reason.why, reason.source);
                assert!(advice.yaml.contains(&line), "{line}");
            }
            let values = advice.yaml.lines().filter(|line| !line.starts_with('#'));
            let bare =
                |line: &&str| !line.ends_with(':') && !line.is_empty() && !line.ends_with(']');
            assert_eq!(values.filter(bare).collect::<Vec<_>>(), Vec::<&str>::new());
        }
    }

    #[test]
    fn more_memory_never_means_a_smaller_micro_batch() {
        for task in Task::ALL {
            let load = |gib: u64| {
                let question = Question { memory: Some(gib * GIB), ..question(task) };
                let Settings { run, data, .. } = advise(&question).unwrap().settings;
                let size = (data.image.resolution.0, data.text.max_length);
                (size, !run.checkpointing, run.batch_size)
            };
            let loads: Vec<_> = (2..500).step_by(7).map(load).collect();
            assert!(loads.is_sorted(), "{task:?}: {loads:?}");
            let whole = loads.last().map(|load| (load.1, load.2));
            assert_eq!(whole, Some((true, if task.draws() { 4 } else { 8 })), "{task:?}");
        }
    }

    #[test]
    fn short_memory_takes_what_is_cheap_first() {
        let at = |gib: u64| {
            let base = BaseFacts::sdxl();
            let memory = Some(gib * GIB);
            advise(&Question { memory, base, ..question(Task::Character) }).unwrap().settings
        };
        let (much, little, least) = (at(160), at(24), at(8));
        assert!(!much.run.checkpointing && little.run.checkpointing && least.run.checkpointing);
        let sizes = [&much, &little, &least].map(|settings| settings.data.image.resolution.0);
        assert!(sizes[0] == 1024 && sizes.is_sorted_by(|a, b| a >= b) && sizes[2] >= 512);
        let steps = |settings: &Settings| (settings.run.length, settings.optimizer.learning_rate);
        assert_eq!(steps(&much), steps(&little), "memory does not change rate and length");
    }

    #[test]
    fn pictures_are_made_smaller_only_where_one_at_a_time_does_not_fit() {
        for task in [Task::Style, Task::Character] {
            for gib in 2..40 {
                let question = Question { memory: Some(gib * GIB), ..question(task) };
                let Settings { run, data, .. } = advise(&question).unwrap().settings;
                let shrunk = data.image.resolution.0 < 512;
                assert!(!shrunk || (run.batch_size == 1 && run.checkpointing), "{task:?}, {gib}");
            }
        }
    }

    #[test]
    fn many_tokens_raise_the_rank_and_stabilize_the_scale() {
        let adapter = |tokens: u64| {
            let tokens = Some(tokens);
            let many = Question { tokens, examples: 100_000, ..question(Task::Domain) };
            advise(&many).unwrap().settings.adapter
        };
        assert_eq!((adapter(1_000_000).rank, adapter(40_000_000).rank), (16, 32));
        let large = adapter(100_000_000);
        assert_eq!((large.rank, large.alpha, large.rslora), (128, 16.0, true));
        let question = Question { tokens: Some(u64::MAX), ..question(Task::Domain) };
        let notes = advise(&question).unwrap().notes;
        assert!(notes.iter().any(|note| note.contains("full training")), "{notes:?}");
    }

    #[test]
    fn the_largest_numbers_are_answered_too() {
        for task in Task::ALL {
            let (examples, tokens) = (usize::MAX, Some(u64::MAX));
            let mut question = Question { examples, tokens, ..question(task) };
            assert!(!advise(&question).unwrap().yaml.is_empty());
            if let Network::Decoder(shape) = &mut question.base.network {
                (shape.hidden, shape.inner, shape.vocabulary) = (1 << 24, 1 << 24, 1 << 24);
                (shape.heads, shape.head, shape.layers) = (1 << 24, 1 << 24, 4096);
                assert!(!advise(&question).unwrap().memory.fits());
            }
        }
    }

    #[test]
    fn short_runs_learn_faster_and_small_sets_slower() {
        let rate = |task, examples| {
            advise(&Question { examples, ..question(task) })
                .unwrap()
                .settings
                .optimizer
                .learning_rate
        };
        assert_eq!(rate(Task::Style, 99), 1e-4);
        assert_eq!(rate(Task::Style, 100), 2e-4);
        assert_eq!(rate(Task::Instruct, 3000), 2e-4);
        assert_eq!(rate(Task::Instruct, 50), 1.5e-4);
    }

    #[test]
    fn a_base_of_any_name_stays_one_line() {
        let mut question = question(Task::Style);
        question.base.name = "a \"b\"\n# c: \u{1b}[31m\\ é".to_owned();
        let advice = advise(&question).unwrap();
        let read: Value = serde_saphyr::from_str(&advice.yaml).unwrap();
        assert_eq!(read["base"]["model"], question.base.name.as_str());
        assert!(!advice.yaml.contains('\u{1b}'));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_hint() {
        let wrong = |change: fn(&mut Question)| {
            let mut question = question(Task::Style);
            change(&mut question);
            advise(&question).unwrap_err().to_string()
        };
        let said = [
            wrong(|question| question.examples = 0),
            wrong(|question| question.memory = Some(0)),
            wrong(|question| question.task = Task::Domain),
            wrong(|question| question.base = BaseFacts::qwen(false)),
        ];
        insta::assert_snapshot!(said.join("\n"), @r"
        0 examples: expected at least 1
        hint: count the pictures or lines that you have
        0 bytes of memory: expected at least 1
        hint: say how much the device has, in GB
        `hf:stable-diffusion-v1-5/stable-diffusion-v1-5`: task `domain` needs a language model
        hint: give another `--base`, or one of the tasks `style`, `character` and `concept`
        `hf:Qwen/Qwen2.5-1.5B`: task `style` needs a base of pictures
        hint: give another `--base`, or one of the tasks `instruct` and `domain`
        ");
    }
}
