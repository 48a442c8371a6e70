//! What must not matter: micro-batches, threads, a second time.

use super::program::{Place, good, with};
use super::training::{Config, adapter, adapter_path, apart, distance, numbers, relative, train};

fn untouched_by_chance() -> [Config; 3] {
    // rates high enough that a wrong mean would show, weights of texts of very unequal lengths
    let text = Config::text().set("run.steps", 10);
    let image = Config::image("sd1").set("output.precision", "f32");
    let regularized = image.clone().set(
        "data.regularization",
        super::program::text(&super::program::fixture("train/pictures")),
    );
    [text, image, regularized]
}

#[test]
fn micro_batches_of_four_two_and_one_are_the_same_training() {
    for config in untouched_by_chance() {
        let place = Place::new();
        let split = |batch: usize, name: &str| {
            let config = config.clone().set("run.batch_size", batch);
            config.set("run.accumulation", 4 / batch).train(&place, name)
        };
        let (four, two, one) = (split(4, "four"), split(2, "two"), split(1, "one"));
        for other in [&two, &one] {
            for key in ["loss", "held_out"] {
                let kind = if key == "loss" { "step" } else { "held_out" };
                let (ours, theirs) = (numbers(other, kind, "loss"), numbers(&four, kind, "loss"));
                assert!(relative(&ours, &theirs) < 1e-6, "{ours:?} {theirs:?}");
            }
            let (ours, theirs) =
                (numbers(other, "step", "grad_norm"), numbers(&four, "step", "grad_norm"));
            assert!(distance(&ours, &theirs) < 1e-4, "{ours:?} {theirs:?}");
            let apart = apart(&adapter_path(other), &adapter_path(&four));
            assert!(apart < 1e-3, "{}: {apart:e}", other.display());
        }
        assert_eq!(numbers(&four, "step", "weight"), numbers(&one, "step", "weight"));
    }
}

#[test]
fn a_second_time_and_with_other_threads_it_is_byte_for_byte_the_same() {
    for config in
        [Config::text(), Config::image("sd1"), Config::image("sd2"), Config::image("sdxl")]
    {
        let place = Place::new();
        let config = config.set("run.steps", 3);
        let first = config.train(&place, "run");
        let file = config.write(&place, "run.yaml");
        for (name, more) in
            [("again", &[][..]), ("one", &["--threads", "1"]), ("two", &["--threads", "2"])]
        {
            let out = place.path(name);
            good(&with(&train(&file, &out), more));
            assert!(adapter(&out) == adapter(&first), "{name}");
            assert_eq!(numbers(&out, "step", "loss"), numbers(&first, "step", "loss"), "{name}");
        }
    }
}

#[test]
fn another_seed_is_another_training() {
    for config in [Config::text(), Config::image("sd1")] {
        let place = Place::new();
        let config = config.set("run.steps", 3);
        let out = config.train(&place, "run");
        let other = config.set("run.seed", 4).train(&place, "other");
        assert!(adapter(&out) != adapter(&other));
        assert_ne!(numbers(&out, "step", "loss"), numbers(&other, "step", "loss"));
    }
}
