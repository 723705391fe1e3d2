//! The contract.

use std::sync::Arc;

use adjutant_core::{DeltaSink, ModelRequest, ModelResponse};
use async_trait::async_trait;

use crate::Result;

/// Longest answer that is taken from a provider, in bytes as they come: 32 MiB.
pub const MAX_RESPONSE_BYTES: usize = 32 << 20;

/// Something that answers as a language model. Contract:
///
/// - An answer is whole: one that broke off is an error, however much of it was seen.
/// - `deltas` sees the pieces of the answer in order, and no piece of another try: after the first one was shown, the
///   call either succeeds with this answer or fails with [`crate::ModelError::shown`].
/// - The pieces of text, joined, are the text of the answer.
/// - Dropping the future ends the request: its connection is closed, nothing of it goes on.
/// - No more than [`MAX_RESPONSE_BYTES`] of an answer are kept.
#[async_trait]
pub trait LanguageModel: Send + Sync {
    /// Asks for one answer.
    ///
    /// # Errors
    /// When there is no whole answer; says whether to ask again, and whether the provider may have charged for it.
    async fn generate(
        &self,
        request: &ModelRequest,
        deltas: Option<&mut DeltaSink<'_>>,
    ) -> Result<ModelResponse>;
}

#[async_trait]
impl<M: LanguageModel + ?Sized> LanguageModel for Box<M> {
    async fn generate(
        &self,
        request: &ModelRequest,
        deltas: Option<&mut DeltaSink<'_>>,
    ) -> Result<ModelResponse> {
        (**self).generate(request, deltas).await
    }
}

#[async_trait]
impl<M: LanguageModel + ?Sized> LanguageModel for Arc<M> {
    async fn generate(
        &self,
        request: &ModelRequest,
        deltas: Option<&mut DeltaSink<'_>>,
    ) -> Result<ModelResponse> {
        (**self).generate(request, deltas).await
    }
}
