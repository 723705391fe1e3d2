//! Answers that are too large for a prompt: cut for the model, kept whole elsewhere.

use adjutant_core::ToolAnswer;
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::Caller;

/// What is kept of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// For people: the tool and what of its answer this is.
    pub name: String,
    /// What it is, such as `text/plain`.
    pub mime_type: String,
    /// The whole of it. Images and audio stay base64, as they came: `mime_type` then ends in `;base64`.
    pub bytes: Vec<u8>,
}

/// Where large answers are kept.
#[async_trait]
pub trait ArtifactSink: Send + Sync {
    /// Keeps it for the caller's run and returns where: a URI that a person or a tool can use.
    ///
    /// # Errors
    /// Why it could not be kept. The model then sees the cut answer and is told that the rest is lost.
    async fn keep(&self, caller: &Caller, kept: Kept) -> Result<String, String>;
}

/// Bytes of an answer that a model sees by default: about 8,000 tokens.
pub const DEFAULT_OUTPUT: usize = 32 * 1024;

/// Cuts an answer to about `limit` bytes, first come, first kept. Text is cut; images and the like become a line that
/// says where they are; the structured form goes if it is too large by itself, since its text says the same.
pub async fn cap(
    answer: ToolAnswer,
    limit: usize,
    tool: &str,
    caller: &Caller,
    sink: Option<&dyn ArtifactSink>,
) -> ToolAnswer {
    let structured = answer.structured_content.as_ref().map_or(0, size);
    let content: usize = answer.content.iter().map(size).sum();
    if content <= limit && structured <= limit {
        return answer;
    }
    let keeper = Keeper { tool, caller, sink };
    let mut cut = ToolAnswer {
        is_error: answer.is_error,
        ..ToolAnswer::default()
    };
    let mut left = limit;
    for block in answer.content {
        let block = keeper.fit(block, left).await;
        left = left.saturating_sub(size(&block));
        cut.content.push(block);
    }
    cut.structured_content = match answer.structured_content {
        Some(data) if structured > limit => {
            cut.content.push(keeper.set_aside(&data).await);
            None
        }
        data => data,
    };
    cut
}

fn size(value: &Value) -> usize {
    match value["text"].as_str() {
        Some(text) => text.len(),
        None => value.to_string().len(),
    }
}

struct Keeper<'a> {
    tool: &'a str,
    caller: &'a Caller,
    sink: Option<&'a dyn ArtifactSink>,
}

impl Keeper<'_> {
    /// The block itself if there is room for it, else what stands for it.
    async fn fit(&self, block: Value, room: usize) -> Value {
        if size(&block) <= room {
            return block;
        }
        if let (Some("text"), Some(text)) = (block["type"].as_str(), block["text"].as_str()) {
            return self.cut_text(text, room).await;
        }
        let (mime, data) = binary(&block);
        self.link(&mime, data).await
    }

    async fn cut_text(&self, text: &str, room: usize) -> Value {
        let shown = &text[..text.floor_char_boundary(room)];
        let place = self.keep("text/plain", text.as_bytes().to_vec()).await;
        let note = format!(
            "[cut: these are the first {} of {} bytes; {place}]",
            shown.len(),
            text.len()
        );
        let separator = if shown.is_empty() { "" } else { "\n" };
        json!({ "type": "text", "text": format!("{shown}{separator}{note}") })
    }

    /// A link in the place of something that is not text.
    async fn link(&self, mime: &str, bytes: Vec<u8>) -> Value {
        let size = bytes.len();
        let place = self.keep(mime, bytes).await;
        let text = format!("[left out: {mime}, {size} bytes; {place}]");
        json!({ "type": "text", "text": text })
    }

    async fn set_aside(&self, data: &Value) -> Value {
        self.link("application/json", data.to_string().into_bytes())
            .await
    }

    /// Says where the whole is.
    async fn keep(&self, mime: &str, bytes: Vec<u8>) -> String {
        let Some(sink) = self.sink else {
            return "the rest is not kept".to_owned();
        };
        let kept = Kept {
            name: format!("answer of {}", self.tool),
            mime_type: mime.to_owned(),
            bytes,
        };
        match sink.keep(self.caller, kept).await {
            Ok(uri) => format!("the whole is kept at {uri}"),
            Err(problem) => {
                tracing::warn!(run_id = %self.caller.run, tool = self.tool, %problem, "a large answer could not be kept");
                "the rest could not be kept".to_owned()
            }
        }
    }
}

/// The data in a block of MCP's, with its type.
fn binary(block: &Value) -> (String, Vec<u8>) {
    let mime = |value: &Value| {
        value["mimeType"]
            .as_str()
            .unwrap_or("application/octet-stream")
            .to_owned()
    };
    if let Some(data) = block["data"].as_str() {
        return (format!("{};base64", mime(block)), data.into());
    }
    let resource = &block["resource"];
    if let Some(blob) = resource["blob"].as_str() {
        return (format!("{};base64", mime(resource)), blob.into());
    }
    if let Some(text) = resource["text"].as_str() {
        return ("text/plain".to_owned(), text.into());
    }
    (
        "application/json".to_owned(),
        block.to_string().into_bytes(),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use adjutant_core::RunId;

    use super::*;

    #[derive(Default)]
    struct Shelf {
        kept: Mutex<Vec<Kept>>,
        broken: bool,
    }

    #[async_trait]
    impl ArtifactSink for Shelf {
        async fn keep(&self, _caller: &Caller, kept: Kept) -> Result<String, String> {
            if self.broken {
                return Err("full".to_owned());
            }
            let mut shelf = self.kept.lock().unwrap();
            shelf.push(kept);
            Ok(format!("artifact://{}", shelf.len()))
        }
    }

    async fn cut(answer: ToolAnswer, limit: usize, shelf: &Shelf) -> ToolAnswer {
        let caller = Caller::new("a", RunId::new());
        cap(answer, limit, "read", &caller, Some(shelf)).await
    }

    #[tokio::test]
    async fn an_answer_within_the_limit_is_left_as_it_is() {
        let shelf = Shelf::default();
        let answer = ToolAnswer::data(json!({ "a": 1 }));
        assert_eq!(cut(answer.clone(), 100, &shelf).await, answer);
        assert!(shelf.kept.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn long_text_is_cut_between_characters_and_kept_whole_and_says_where() {
        let shelf = Shelf::default();
        let text = "ä".repeat(1000);
        let answer = cut(ToolAnswer::text(text.clone()), 101, &shelf).await;
        let seen = answer.joined_text();
        assert!(seen.starts_with(&"ä".repeat(50)) && !seen.contains(&"ä".repeat(51)));
        assert!(
            seen.contains("the first 100 of 2000 bytes; the whole is kept at artifact://1"),
            "{seen}"
        );
        assert_eq!(shelf.kept.lock().unwrap()[0].bytes, text.into_bytes());
    }

    #[tokio::test]
    async fn a_large_image_becomes_a_link_and_text_after_it_stays() {
        let shelf = Shelf::default();
        let mut answer = ToolAnswer::failed("after");
        let image = json!({ "type": "image", "mimeType": "image/png", "data": "A".repeat(500) });
        answer.content.insert(0, image);
        let answer = cut(answer, 200, &shelf).await;
        assert!(answer.is_error);
        assert!(
            answer
                .joined_text()
                .contains("image/png;base64, 500 bytes; the whole is kept at artifact://1")
        );
        assert!(answer.joined_text().ends_with("after"));
    }

    #[tokio::test]
    async fn large_structured_content_goes_and_is_kept() {
        let shelf = Shelf::default();
        let data = json!({ "rows": "x".repeat(500) });
        let mut answer = ToolAnswer::text("500 rows");
        answer.structured_content = Some(data.clone());
        let answer = cut(answer, 100, &shelf).await;
        assert_eq!(answer.structured_content, None);
        assert!(
            answer
                .joined_text()
                .starts_with("500 rows\n[left out: application/json")
        );
        assert_eq!(
            shelf.kept.lock().unwrap()[0].bytes,
            data.to_string().into_bytes()
        );
    }

    #[tokio::test]
    async fn what_cannot_be_kept_is_said_to_be_lost() {
        let shelf = Shelf {
            broken: true,
            ..Shelf::default()
        };
        let answer = cut(ToolAnswer::text("x".repeat(50)), 10, &shelf).await;
        assert!(answer.joined_text().contains("could not be kept"));
    }
}
