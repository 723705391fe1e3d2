//! What a server says to those who bring no token: who gives tokens, and for what.

use reqwest::{Url, header};
use serde_json::json;

use super::{CONNECT, client, guard::Guard};

/// The revision that the question is asked in; servers refuse before they look at it.
const REVISION: &str = "2026-07-28";

/// Asks for the tools without a token and returns the challenge, if there is one.
pub(crate) async fn challenge(url: &Url, private: bool) -> Option<String> {
    let guard = Guard::new(url, private).ok()?;
    let client = client(url, guard).ok()?;
    let client_info = json!({ "name": "adjutant", "version": env!("CARGO_PKG_VERSION") });
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": REVISION,
        "io.modelcontextprotocol/clientInfo": client_info,
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let params = json!({ "_meta": meta });
    let ask = json!({ "jsonrpc": "2.0", "id": 0, "method": "tools/list", "params": params });
    let request = client
        .post(url.clone())
        .timeout(CONNECT)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, text/event-stream")
        .header("MCP-Protocol-Version", REVISION)
        .header("Mcp-Method", "tools/list")
        .body(ask.to_string());
    let answer = request.send().await.ok()?;
    if answer.status() != reqwest::StatusCode::UNAUTHORIZED {
        return None;
    }
    let said = answer.headers().get(header::WWW_AUTHENTICATE)?;
    said.to_str().ok().map(str::to_owned)
}
