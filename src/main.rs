//! The `pgorch` program: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    pgorch::cli::main()
}
