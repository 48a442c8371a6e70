//! A disk that is full.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::program::{Place, files, good, run, text};
use super::training::{Config, adapter, checkpoints, numbers, resume, train};

/// A file system of four megabytes, where the system lets one be made.
struct Small(tempfile::TempDir);

/// Its bytes.
const SIZE: usize = 4 << 20;

impl Small {
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={SIZE}"), "tmpfs", &text(dir.path())])
            .output();
        mount.is_ok_and(|out| out.status.success()).then_some(Self(dir))
    }

    /// Leaves so many bytes free.
    fn fill(&self, free: usize) {
        let pages = |bytes: &Vec<u8>| bytes.len().div_ceil(4096) * 4096;
        let used: usize = files(self.0.path()).values().map(pages).sum();
        fs::write(self.0.path().join("filler"), vec![7; SIZE - used - free]).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).output();
    }
}

fn refused(arguments: &[String]) {
    let stopped = run(arguments);
    let said = String::from_utf8_lossy(&stopped.stderr);
    assert_eq!(stopped.status.code(), Some(1), "{said}");
    assert!(said.contains("space") && said.contains("hint:"), "{said}");
}

fn litter(folder: &Path) -> Option<String> {
    files(folder).into_keys().find(|name| name.contains(".lora-eval-"))
}

#[test]
fn a_full_disk_stops_a_training_that_goes_on_when_there_is_room() {
    let Some(small) = Small::new() else {
        eprintln!("skipped: a small file system cannot be mounted here");
        return;
    };
    for (name, config) in [("text", Config::text()), ("image", Config::image("sd1"))] {
        let place = Place::new();
        let config = config.set("output.keep_last", 100);
        let whole = config.train(&place, "whole");
        let file = config.write(&place, "run.yaml");
        let out = small.0.path().join(name);
        // room for some checkpoints, not for all
        let one: usize = files(&whole.join("checkpoints")).values().map(Vec::len).sum();
        small.fill(one / 2);
        refused(&train(&file, &out));
        let saved = checkpoints(&out);
        assert!(!saved.is_empty() && saved.len() < checkpoints(&whole).len(), "{saved:?}");
        assert_eq!(litter(&out), None);
        // still full: nothing is lost by another try
        refused(&resume(&file, &out));
        assert!(checkpoints(&out).last() >= saved.last(), "{saved:?}");
        fs::remove_file(small.0.path().join("filler")).unwrap();
        good(&resume(&file, &out));
        assert!(adapter(&out) == adapter(&whole));
        assert_eq!(numbers(&out, "step", "loss"), numbers(&whole, "step", "loss"));
        fs::remove_dir_all(&out).unwrap();
    }
}

#[test]
fn without_any_room_it_says_so_before_the_first_step() {
    let Some(small) = Small::new() else {
        eprintln!("skipped: a small file system cannot be mounted here");
        return;
    };
    let place = Place::new();
    let file = Config::text().write(&place, "run.yaml");
    small.fill(0);
    refused(&train(&file, &small.0.path().join("run")));
}
