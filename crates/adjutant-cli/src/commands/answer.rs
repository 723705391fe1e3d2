//! `agent runs approve` and `deny`: answers to what a run asks.

use std::sync::Arc;

use adjutant::{
    Store,
    core::{Decision, RunId},
};
use clap::Args;

use crate::{
    approvals::{self, Questions},
    context::Context,
    exit::Exit,
    failure::{Failure, NO_APPROVAL_PENDING, Result},
    ids, input,
};

#[derive(Debug, Args)]
pub struct Answer {
    /// The run
    #[arg(value_name = "RUN")]
    run: String,
    /// The question's key [default: the only open question]
    #[arg(value_name = "KEY")]
    key: Option<String>,
    /// Why
    #[arg(long)]
    comment: Option<String>,
    /// Data for the agent, such as edited arguments
    #[arg(long, value_name = "JSON")]
    data: Option<String>,
}

impl Answer {
    pub async fn run(
        self,
        context: &Context,
        store: &Arc<dyn Store>,
        approved: bool,
    ) -> Result<Exit> {
        let run = ids::resolve(&**store, &self.run).await?;
        let data = self
            .data
            .as_deref()
            .map(|text| input::json_argument("--data", text))
            .transpose()?;
        let key = self.question(store, run).await?;
        let decision = Decision {
            approved,
            by: approvals::user(),
            comment: self.comment,
            data: data.unwrap_or_default(),
            expired: false,
        };
        approvals::answer(&**store, run, &key, &decision).await?;
        let word = if approved { "approved" } else { "denied" };
        if context.out.is_structured() {
            context
                .out
                .value(&serde_json::json!({ "run_id": run, "key": key, "decision": decision }))?;
        } else {
            context.out.note(&format!("{run}: {key} is {word}"));
        }
        Ok(Exit::Ok)
    }

    /// The key to answer. A question nobody has asked yet must not be answered by a slip of the finger.
    async fn question(&self, store: &Arc<dyn Store>, run: RunId) -> Result<String> {
        let questions = Questions::of(store, run).await?;
        let open: Vec<&str> = questions
            .open()
            .map(|question| question.key.as_str())
            .collect();
        let listed = if open.is_empty() {
            "none".to_owned()
        } else {
            open.join(", ")
        };
        let refused = |message: String| {
            Failure::usage(NO_APPROVAL_PENDING, message)
                .because(format!("open questions: {listed}"))
                .hint(format!(
                    "see `agent runs events {run} --types approval.requested,approval.decided`"
                ))
        };
        match (&self.key, open.as_slice()) {
            (Some(key), open) if open.contains(&key.as_str()) => Ok(key.clone()),
            (Some(key), _) => Err(refused(format!(
                "run {run} asks nothing by the key `{key}`"
            ))),
            (None, [key]) => Ok((*key).to_owned()),
            (None, []) => Err(refused(format!("run {run} asks nothing"))),
            (None, _) => Err(refused(format!(
                "run {run} asks more than one thing: name the key"
            ))),
        }
    }
}
