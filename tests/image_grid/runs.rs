//! A grid is the same whole, resumed, killed, shared out and in smaller batches.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::program::{Place, cells, files, good, grid, made, program, psnr, with};

/// All kinds of prompts, on both sides.
pub const SUITE: &str = "
seeds: [1, 2]
strengths: [0, 0.5, 1]
defaults: {steps: 3, width: 64, height: 64}
prompts:
  - {id: fox, prompt: 'a red fox, (snow:1.2)', settings: {negative: 'blurry, [grey]'}}
  - {id: cat, group: base, prompt: a cat, settings: {width: 72, sampler: euler_a, rng: nv}}
  - {id: tag, prompt: 'a [fox:dog:0.5] <lora:style:0.5:1> in snow'}
  - {id: and, group: base, prompt: 'a fox AND snow :0.5', settings: {guidance: 1}}
";

#[test]
fn a_run_that_is_repeated_makes_nothing_and_one_that_lacks_cells_only_those() {
    for family in ["sd1", "sdxl"] {
        let place = Place::new();
        let suite = place.file("suite.yaml", SUITE);
        let arguments = grid(family, &suite, &place.text("run"));
        let (said, _) = good(&arguments);
        assert!(said.contains("24 cells, 24 made now in 8 batches"), "{said}");
        assert!(place.path("run/report.html").is_file());
        let whole = made(&place.path("run"));
        let all = cells(&place.path("run"));
        assert!(good(&arguments).0.contains("24 cells, 0 made now in 0 batches"));
        assert!(made(&place.path("run")) == whole);

        // one picture gone, one record gone, of two batches
        let gone = |prompt: &str| all.iter().find(|(_, made)| made.is(prompt, 2, 0.5)).unwrap();
        fs::remove_file(&gone("fox").1.png).unwrap();
        let id = gone("cat").0;
        fs::remove_file(place.path(&format!("run/cells/{}/{id}.json", &id[..2]))).unwrap();
        let times = |id: &str| fs::metadata(&all[id].png).unwrap().modified().unwrap();
        let kept = gone("tag").0;
        let before = times(kept);
        let (said, errors) = good(&arguments);
        assert!(said.contains("24 cells, 2 made now in 2 batches"), "{said}");
        assert!(errors.contains("the cell is made again"), "{errors}");
        assert_eq!(times(kept), before);
        assert!(made(&place.path("run")) == whole);
    }
}

#[test]
fn a_run_killed_ten_times_is_the_run_that_went_through() {
    let place = Place::new();
    let suite = place.file("suite.yaml", SUITE);
    let clock = Instant::now();
    good(&grid("sd1", &suite, &place.text("whole")));
    let life = clock.elapsed();
    let whole = made(&place.path("whole"));
    let (mut killed, mut finished, mut part) = (0, 0, 0u32);
    while killed < 10 || finished == 0 {
        let name = format!("run{finished}");
        let mut child = program();
        child.args(grid("sd1", &suite, &place.text(&name)));
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        if killed < 10 {
            part = (part * 5 + 3) % 16; // other moments each time, up to the half of its life
            sleep(life * (part + 1) / 32);
            child.kill().unwrap();
        }
        let out = child.wait_with_output().unwrap();
        let run = place.path(&name);
        if out.status.success() {
            finished += 1;
            assert!(made(&run) == whole, "{name}");
            let own = |name: &String| !name.rsplit('/').next().unwrap().starts_with(".lora-eval-");
            assert!(files(&run).keys().all(own));
        } else {
            let errors = String::from_utf8_lossy(&out.stderr);
            assert_eq!(out.status.signal(), Some(9), "{errors}");
            killed += 1;
            // what can be seen is finished
            for made in cells(&run).values() {
                made.picture();
            }
        }
    }
}

#[test]
fn shards_make_the_run_that_one_process_makes() {
    let place = Place::new();
    let suite = place.file("suite.yaml", SUITE);
    good(&grid("sdxl", &suite, &place.text("whole")));
    let arguments = grid("sdxl", &suite, &place.text("parts"));
    let start = |shard: &str| {
        let mut command = program();
        command.args(with(&arguments, &["--shard", shard]));
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children = ["1/3", "3/3", "2/3"].map(start);
    for child in children {
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
    assert!(made(&place.path("parts")) == made(&place.path("whole")));
    assert!(place.path("parts/report.html").is_file());
}

#[test]
fn smaller_batches_give_the_same_pictures() {
    for family in ["sd1", "sdxl"] {
        let place = Place::new();
        let suite = place.file("suite.yaml", SUITE);
        good(&grid(family, &suite, &place.text("whole")));
        let one = place.text("one");
        good(&with(&grid(family, &suite, &one), &["--max-batch", "2"]));
        let (whole, one) = (cells(&place.path("whole")), cells(&place.path("one")));
        assert_eq!(whole.len(), one.len());
        for made in whole.values() {
            let same = |other: &&super::program::Made| {
                ["prompt_id", "seed", "strength"].iter().all(|k| other.record[k] == made.record[k])
            };
            let other = one.values().find(same).unwrap();
            let psnr = psnr(&made.picture(), &other.picture());
            assert!(psnr >= 50.0, "{family} {}: {psnr}", made.record);
            assert_eq!(made.parameters(), other.parameters());
            assert_eq!(other.record["batch"], 1);
        }
    }
}

#[test]
fn killed_while_it_makes_its_folder_a_run_starts_again() {
    let place = Place::new();
    let suite = place.file("suite.yaml", SUITE);
    let arguments = grid("sd1", &suite, &place.text("run"));
    for milliseconds in [1, 5, 10, 20, 40] {
        let mut command = program();
        command.args(&arguments).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        sleep(Duration::from_millis(milliseconds));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(good(&arguments).0.contains("24 cells"));
}
