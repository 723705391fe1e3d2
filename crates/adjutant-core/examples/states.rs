//! Prints the run state machine as a Mermaid diagram; `cargo xtask codegen` puts it into the docs.
#![allow(clippy::print_stdout, reason = "the diagram is this program's output")]

use adjutant_core::{RunState, Transition};

fn main() {
    println!("stateDiagram-v2");
    println!("    [*] --> pending");
    for state in RunState::ALL {
        for transition in Transition::ALL {
            if let Ok(next) = state.apply(transition) {
                println!("    {state} --> {next}: {transition}");
            }
        }
        if state.is_terminal() {
            println!("    {state} --> [*]");
        }
    }
}
