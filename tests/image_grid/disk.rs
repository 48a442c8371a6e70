//! Places that a picture cannot be written to, and a disk that is full.

use std::fs;
use std::process::Command;

use super::errors::PLAIN;
use super::program::{Place, bad, diffusion, files, good, grid, made, program, run, text};

#[test]
fn pictures_that_cannot_be_written_are_refused_before_they_are_drawn() {
    let place = Place::new();
    let base = diffusion("sd1");
    fs::create_dir(place.path("folder.png")).unwrap();
    let mut messages = String::new();
    for out in [None, Some("fox.jpg"), Some("fox"), Some("nowhere/fox.png"), Some("folder.png")] {
        let before = place.tree();
        let out = out.map(|out| place.text(out));
        let mut arguments = vec!["generate", "a fox", "--base", &base, "--steps", "1"];
        arguments.extend(out.iter().flat_map(|out| ["--out", out]));
        let said = bad(&arguments).replace(&place.text(""), "[dir]/");
        assert!(place.tree() == before, "{said}");
        messages.push_str(&said);
    }
    insta::assert_snapshot!(messages);
}

/// A file system of one megabyte, where the system lets one be made.
struct Small(tempfile::TempDir);

impl Small {
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs", &text(dir.path())])
            .output();
        mount.is_ok_and(|out| out.status.success()).then_some(Self(dir))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).output();
    }
}

#[test]
fn a_full_disk_stops_a_run_that_goes_on_when_there_is_room() {
    let Some(small) = Small::new() else {
        eprintln!("skipped: a small file system cannot be mounted here");
        return;
    };
    let place = Place::new();
    let suite = place.file(
        "suite.yaml",
        PLAIN.replace("strengths: [0, 1]", "strengths: [0, 1]\nseeds: [1, 2, 3, 4]"),
    );
    good(&grid("sd1", &suite, &place.text("whole")));
    let filler = small.0.path().join("filler");
    fs::write(&filler, vec![7; (1 << 20) - 64 * 1024]).unwrap();
    let out = small.0.path().join("run");
    let arguments = grid("sd1", &suite, &text(&out));
    let stopped = run(&arguments);
    let said = String::from_utf8_lossy(&stopped.stderr);
    assert_eq!(stopped.status.code(), Some(1), "{said}");
    assert!(said.contains("space") && said.contains("hint:"), "{said}");
    fs::remove_file(&filler).unwrap();
    good(&arguments);
    assert!(made(&out) == made(&place.path("whole")));

    // a single picture leaves the old one
    let old = small.0.path().join("fox.png");
    fs::write(&old, "old").unwrap();
    let used: usize = files(small.0.path()).values().map(|f| f.len().div_ceil(4096) * 4096).sum();
    let _ = fs::write(&filler, vec![7; (1 << 20) - used]);
    let base = diffusion("sd1");
    let given = ["generate", "a fox", "--steps", "1", "--base", &base, "--out", &text(&old)];
    let failed = program().args(given).output().unwrap();
    let said = String::from_utf8_lossy(&failed.stderr);
    assert_eq!(failed.status.code(), Some(1), "{said}");
    assert!(said.contains("fox.png") && said.contains("space"), "{said}");
    assert_eq!(fs::read(&old).unwrap(), b"old");
}
