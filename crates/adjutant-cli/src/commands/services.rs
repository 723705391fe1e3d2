//! `agent services`: runs the project's services without a worker.

use crate::{
    context::Context, exit::Exit, failure::Result, interrupt::Interrupts, observation::Observation,
    services::Services,
};

/// Keeps the services running until it is interrupted.
pub async fn run(context: &Context) -> Result<Exit> {
    let observation = Observation::start(context)?;
    let mut interrupts = Interrupts::new()?;
    let started = tokio::select! {
        started = Services::start(context, observation.instances()) => started?,
        _ = interrupts.next() => return Ok(Exit::Ok),
    };
    let Some(services) = started else {
        context
            .out
            .note("this project has no services; name some below `services` in adjutant.yaml");
        return Ok(Exit::Ok);
    };
    let _ = interrupts.next().await;
    services.stop().await;
    Ok(Exit::Ok)
}
