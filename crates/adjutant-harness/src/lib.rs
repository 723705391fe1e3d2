//! Gives agents models and tools: journaled, budgeted, traced, and bounded.
//!
//! [`Equipped`] wraps any agent. The context that the agent then sees has [`tools`](adjutant_core::RunContext::tools),
//! [`call_tool`](adjutant_core::RunContext::call_tool) and [`generate`](adjutant_core::RunContext::generate), whatever the agent
//! is: a closure, a process on the wire, an unmodified program behind the loopback endpoint. Every call is a step: after a
//! crash no finished one is made again.
//!
//! One call goes through these rooms, in this order:
//!
//! 1. `guard`: is the run still within its own bounds, and does it go round in circles?
//! 2. `ask`: has a person to agree first?
//! 3. `purse`: is there room in every budget that pays for it? It is reserved before, settled after.
//! 4. `model` or `tool`: the step, with events and a span around it.
//!
//! [`Assistant`] is an agent that needs no code: a model, instructions, tools and other agents.

mod ask;
mod deltas;
mod equipment;
mod equipped;
mod guard;
mod host;
mod model;
mod names;
mod policy;
mod purse;
mod recorded;
mod tool;
mod trace;

mod assistant;

pub use crate::{
    assistant::{Assistant, AssistantSpec, Compaction, ContextPolicy, ToolCalls},
    equipment::{Attendant, Equipment, Estimates},
    equipped::Equipped,
    policy::{BudgetPolicy, Money, OnExceeded, Spend, ToolPolicy},
};
