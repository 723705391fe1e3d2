//! Asks a model behind any endpoint and prints its words as they come:
//!
//! ```sh
//! cargo run -p adjutant-llm --example ask -- http://127.0.0.1:11434/v1 openai llama3.2 "Why is the sky blue?"
//! ```
#![allow(clippy::print_stdout, reason = "that is what it is for")]

use std::{collections::HashMap, env, io::Write, sync::Arc};

use adjutant_core::{Message, ModelDelta, ModelRequest};
use adjutant_llm::{ModelRouter, ModelsConfig};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [base_url, wire, model, question] = arguments.as_slice() else {
        return Err("usage: ask BASE_URL WIRE MODEL QUESTION".into());
    };
    let config: ModelsConfig = serde_json::from_value(serde_json::json!({
        "providers": {"there": {"base_url": base_url, "wire": wire}},
    }))?;
    let router = ModelRouter::from_config(config, Arc::new(HashMap::new()))?;
    let request = ModelRequest {
        model: format!("there/{model}"),
        messages: vec![Message::user(question)],
        max_output_tokens: Some(200),
        ..ModelRequest::default()
    };
    let mut show = |delta: ModelDelta| {
        if let ModelDelta::Text { text } = delta {
            print!("{text}");
            // A terminal that is gone is found out by the answer's end.
            drop(std::io::stdout().flush());
        }
    };
    let routed = router
        .generate_routed(&request, Some(&mut show))
        .await
        .map_err(|error| error.to_string())?;
    let response = routed.response;
    println!(
        "\n[{} by {}, {} tokens sent, {} received]",
        response.finish_reason.as_str(),
        routed.by.name(),
        response.usage.input_tokens,
        response.usage.output_tokens
    );
    Ok(())
}
