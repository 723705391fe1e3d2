//! The helper as a program of its own, for programs that do not re-execute themselves: see
//! [`Helper`](adjutant_process::Helper).

use std::process::ExitCode;

fn main() -> ExitCode {
    adjutant_process::helper_main().unwrap_or(ExitCode::FAILURE)
}
