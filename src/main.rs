//! The program: reads the command line, calls the library, prints.

mod cli;

/// Counts what is allocated: trainings watch it.
#[global_allocator]
static ALLOCATOR: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
