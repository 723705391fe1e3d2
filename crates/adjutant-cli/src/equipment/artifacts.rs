//! Answers of tools that are too large for a prompt, as files.

use std::path::PathBuf;

use adjutant::tools::{ArtifactSink, Caller, Kept};
use async_trait::async_trait;

/// Keeps answers as files below a folder, those of one run together.
pub struct Files {
    pub dir: PathBuf,
}

#[async_trait]
impl ArtifactSink for Files {
    async fn keep(&self, caller: &Caller, kept: Kept) -> Result<String, String> {
        let dir = self.dir.join(caller.run.to_string());
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
                c
            } else {
                '-'
            }
        };
        let name: String = kept.name.chars().map(plain).collect();
        let mark = adjutant::Json::from(serde_json::json!(kept.bytes))
            .fingerprint()
            .0;
        let path = dir.join(format!("{name}-{mark:016x}{}", extension(&kept.mime_type)));
        let shown = path.display().to_string();
        let write = async {
            tokio::fs::create_dir_all(&dir).await?;
            tokio::fs::write(&path, &kept.bytes).await
        };
        write.await.map_err(|error| format!("{shown}: {error}"))?;
        Ok(shown)
    }
}

fn extension(mime_type: &str) -> &'static str {
    match mime_type {
        "text/plain" => ".txt",
        "application/json" => ".json",
        mime if mime.ends_with(";base64") => ".base64",
        _ => "",
    }
}
