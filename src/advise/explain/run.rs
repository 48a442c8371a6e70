//! Why it learns as fast and as long as it does, in which batches.

use super::{Lines, bytes, counted, number};
use crate::advise::choose::{Choice, SHORT, SMALL};
use crate::advise::network::Network;
use crate::advise::question::{Device, Question};
use crate::config::{Length, OptimizerSettings, Warmup};

/// Adds the keys of `optimizer` and `schedule`.
pub(super) fn optimizer(lines: &mut Lines, question: &Question, choice: &Choice) {
    let OptimizerSettings {
        kind,
        learning_rate,
        text_encoder_lr,
        weight_decay,
        beta1,
        beta2,
        epsilon,
        loraplus_ratio,
        lr_scaling,
        max_grad_norm,
    } = choice.settings.optimizer;
    lines.add("optimizer.kind", kind.name(), "the usual one", "article");
    let two = matches!(&question.base.network, Network::Diffusion(shape) if shape.text.len() > 1);
    let (mut why, source) = match question.examples {
        ..SMALL => (format!("fewer than {SMALL} examples: 1e-4"), "article"),
        _ if two => ("1e-4 for a denoiser as large as XL's".to_owned(), "peer: lora-scripts"),
        _ => ("2e-4, as the rate falls along a cosine".to_owned(), "article"),
    };
    if choice.steps < SHORT {
        why.push_str("; half as much again below 100 steps (Thinking Machines, 2025)");
    }
    lines.add("optimizer.learning_rate", number(learning_rate), why, source);
    if choice.settings.adapter.text_encoder {
        let why = "a tenth: words must keep their meaning";
        let rate = number(text_encoder_lr);
        lines.add("optimizer.text_encoder_lr", rate, why, "peer: lora-scripts");
    }
    let torch = "peer: PyTorch default";
    lines.add("optimizer.weight_decay", number(weight_decay), "decoupled from the gradient", torch);
    lines.add("optimizer.beta1", number(beta1), "the gradient's mean over 10 steps", torch);
    lines.add("optimizer.beta2", number(beta2), "its square's mean over 1000 steps", torch);
    lines.add("optimizer.epsilon", number(epsilon), "keeps steps of tiny gradients small", torch);
    let why = "A and B at one rate; 16 is LoRA+'s own value";
    let ratio = number(loraplus_ratio);
    lines.add("optimizer.loraplus_ratio", ratio, why, "paper: Hayou et al., 2024");
    let why = "losses are averaged, so accumulation does not ask for another rate";
    lines.add("optimizer.lr_scaling", lr_scaling.name(), why, "paper: Malladi et al., 2022");
    let why = "one bad example cannot throw the adapter far";
    lines.add("optimizer.max_grad_norm", number(max_grad_norm), why, "peer: diffusers default");
    let schedule = &choice.settings.schedule;
    let why = "large steps first, small ones to finish";
    lines.add("schedule.kind", schedule.kind.name(), why, "article");
    let warmup = match schedule.warmup {
        Warmup::Steps(steps) => steps.to_string(),
        Warmup::Fraction(part) => number(part),
    };
    let why = format!("a twentieth of {} steps, 10 to 200: B begins at 0", choice.steps);
    lines.add("schedule.warmup", warmup, why, "house");
}

/// Adds the keys of `run`.
pub(super) fn add(lines: &mut Lines, question: &Question, choice: &Choice) {
    let run = &choice.settings.run;
    let (length, why) = match run.length {
        Length::Steps(steps) => {
            let views = steps.saturating_mul(choice.effective);
            let each = views / choice.trained.max(1);
            (counted(steps, "step"), format!("{views} views, each picture {each} times: a start"))
        }
        Length::Epochs(epochs) => (
            counted(epochs, "epoch"),
            format!("{}: a start", counted(choice.steps, "optimizer step")),
        ),
    };
    lines.add("run.length", length, format!("{why}; the held-out loss decides"), "house");
    let (why, source) = batch(question, choice);
    lines.add("run.batch_size", run.batch_size, why, source);
    let why = format!(
        "effective batch {}: 4 to 16 suits LoRA, which tolerates large ones badly",
        choice.effective
    );
    lines.add("run.accumulation", run.accumulation, why, "paper: Thinking Machines, 2025");
    lines.add("run.seed", run.seed, "the same run can be made again", "peer: lora-scripts");
    let (why, source) = if run.checkpointing {
        ("needed to fit; a fifth to a third slower", "computed")
    } else {
        ("everything fits without, and it would cost a fifth of the speed or more", "computed")
    };
    lines.add("run.checkpointing", run.checkpointing, why, source);
    let why = "out of memory never changes what is learnt without your consent";
    lines.add("run.may_shrink", run.may_shrink, why, "house");
    let why = "every tensor is shown to learn before time is spent";
    lines.add("run.prove", run.prove, why, "house");
}

/// Why the micro-batch is what it is.
fn batch(question: &Question, choice: &Choice) -> (String, &'static str) {
    let total = bytes(choice.memory.total);
    match (choice.refused, question.memory) {
        (Some(refused), Some(limit)) if choice.memory.fits() => {
            let (limit, refused) = (bytes(limit), bytes(refused));
            (format!("the largest that fits {limit}: {total}, the next {refused}"), "computed")
        }
        (_, Some(limit)) if !choice.memory.fits() => {
            (format!("{} do not hold even this: {total}", bytes(limit)), "computed")
        }
        _ if question.task.draws() && question.device == Device::Cpu => {
            ("a processor's caches hold one picture: more is no faster".to_owned(), "house")
        }
        (_, None) => (format!("needs {total}; more where there is memory for it"), "computed"),
        _ => (format!("the whole batch fits: {total}"), "computed"),
    }
}
